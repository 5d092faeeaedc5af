"""What no honest client sends: the answer says what is wrong with it, and the server lives on."""

import base64
import json
import socket
import time
import uuid

import pytest
import syncs
from server import API_KEY, until

BODY = {"key", "message", "status", "metadata"}
CSV = {"url": "http://127.0.0.1:1/a.csv"}


def refused(answer, status):
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    body = answer.json()
    assert set(body) == BODY and body["status"] == status, body
    assert answer.headers["x-request-id"]
    return body


def post(server, content, path="/api/connections", **options):
    return server.request("POST", path, data=content, **options)


@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("field", ["", "configuration", "surprise"])
def test_nesting_of_10_000_levels_is_refused(server, opening, closing, field):
    deep = opening * 10_000 + b"1" + closing * 10_000
    body = deep if not field else b'{"name": "a", "type": "csv", "%s": %s}' % (field.encode(), deep)
    refused(post(server, body), 400)
    refused(post(server, body, headers={"Idempotency-Key": uuid.uuid4().hex}), 400)
    assert server.ready()


def test_a_body_that_is_too_large_is_refused_however_it_comes(server):
    large = b'{"name": "%s"}' % (b"x" * 100_000_000)
    assert "body" in refused(post(server, large), 413)["message"]
    refused(post(server, iter([large])), 413)
    refused(post(server, large, headers={"Idempotency-Key": uuid.uuid4().hex}), 413)


@pytest.mark.parametrize(
    "body, field",
    [
        ({"name": 5}, "name"),
        ({"configuration": []}, "configuration"),
        ({"configuration": None}, "configuration"),
        ({"validate": "yes"}, "validate"),
        ({"policies": ["no id"]}, "policies"),
        ({"organization_id": "no id"}, "organization_id"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_type_and_an_unknown_field_are_named(server, body, field):
    whole = {"name": "a", "type": "csv", "configuration": CSV, "validate": False}
    answer = refused(server.request("POST", "/api/connections", json=whole | body), 400)
    assert field in answer["message"]


def test_a_body_of_any_other_shape_is_refused(server):
    for body in [b"null", b"5", b'"text"', b"[]", b"[{}]", b"{", b"\xef\xbb\xbf{}", b"{} {}", b'{"a": NaN}', b'{"a": "\xff"}', b'{"name": "\\ud800"}']:
        refused(post(server, body), 400)


def test_a_number_of_any_size_is_refused_or_kept(server):
    for number in ["1e400", "-1e400", "9" * 400, "1" + "0" * 30]:
        body = b'{"name": "a", "type": "postgresql", "configuration": {"port": %s}}' % number.encode()
        answer = post(server, body)
        assert answer.status_code in (400, 422), (number, answer.text)


def test_text_with_a_nul_is_refused_and_a_backslash_before_u0000_is_kept(server):
    for path in ["/api/connections/%00", "/api/connection_types/%00", "/api/jobs/exportlogs/%00", "/api/connections/x%00y/schemas/a"]:
        refused(server.request("GET", path), 404)
    refused(server.request("GET", "/api/events?type=%00"), 422)
    refused(server.request("GET", "/api/bulk/syncs?page_token=%00"), 400)
    text = r"a\u0000"
    body = {"name": text, "type": "csv", "configuration": CSV, "validate": False}
    assert server.request("POST", "/api/connections", json=body).json()["data"]["name"] == text


def test_paths_that_are_no_text_are_not_found(server):
    for path in ["/api/connections/%ff%fe", "/api/connections/%", "/api/connections/..%2f..%2fetc", "/api/bulk/syncs/%F0%9F%8C%8A"]:
        refused(server.request("GET", path), 404)


def test_query_strings_that_make_no_sense_are_refused(server):
    for query in ["limit=x", "limit=-1", "limit=99999999999999999999", "active=perhaps", "page_token=%ff"]:
        refused(server.request("GET", f"/api/bulk/syncs?{query}"), 400)


def test_tampered_page_tokens_are_refused(server, sdk, source, target):
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    source.execute("create table t (id int primary key)")
    for number in range(3):
        syncs.make(sdk, *connections, {"schema": f"s{number}"})
    page = server.request("GET", "/api/bulk/syncs?limit=2").json()
    token = page["pagination"]["next_page_token"]
    rest = server.request("GET", f"/api/bulk/syncs?limit=50&page_token={token}").json()
    assert not {one["id"] for one in page["data"]} & {one["id"] for one in rest["data"]}
    known = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    forged = [known | change for change in [{"list": "executions"}, {"v": 99}, {"id": "x"}, {"at": "now"}]]
    tokens = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in forged]
    for tampered in [*tokens, token[:-3], token + "A", "x", "%F0%9F%8C%8A", "A" * 5000]:
        refused(server.request("GET", f"/api/bulk/syncs?page_token={tampered}"), 400)
    executions = f"/api/bulk/syncs/{rest['data'][0]['id']}/executions"
    refused(server.request("GET", f"{executions}?page_token={token}"), 400)


def test_odd_headers_do_no_harm(server):
    me = lambda **headers: server.request("GET", "/api/me", headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert me(Content_Type="text/plain; charset=utf-16").status_code == 200
    assert me(X_Request_Id="mine-1").headers["x-request-id"] == "mine-1"
    assert me(Accept="image/png", Accept_Encoding="br").status_code == 200
    assert me(X_Polytomic_Version="").status_code == 200
    for wrong in ["2025-09-18 ", "latest", "2025-09-18, 2024-02-08", "é"]:
        answer = me(X_Polytomic_Version=wrong.encode("latin-1"))
        assert answer.status_code in (200, 400), wrong
    for key in ["short", "x" * 256, "with space", "sl/ash", "é" * 8]:
        refused(post(server, b"{}", headers={"Idempotency-Key": key.encode("latin-1")}), 400)
    for authorization in ["Bearer", "Bearer ", "bearer " + "x" * 5000, "Basic " + base64.b64encode(b"\xff\xff").decode(), "Basic =", f"Token {API_KEY}"]:
        refused(server.request("GET", "/api/me", token=None, headers={"Authorization": authorization}), 401)


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /api/me HTTP/1.1\r\n\r\n",
        "GET /api/me HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST /api/connections HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST /api/connections HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "GET http://elsewhere.example/api/me HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "\x00\x01\x02\r\n\r\n",
        "GET /" + "a" * 100_000 + " HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n" + "".join(f"x-{n}: {n}\r\n" for n in range(500)) + "\r\n",
    ],
    ids=["no host", "two lengths", "negative length", "no chunk", "absolute", "asterisk", "no text", "long path", "many headers"],
)
def test_what_is_hardly_http_does_not_harm_the_server(server, request_text):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request_text.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        status = connection.recv(100).split(b" ")[1:2]
        assert not status or not status[0].startswith(b"5"), status
    assert server.ready()


def test_a_client_that_goes_away_finds_the_outcome_when_it_comes_back(server):
    """With a key that names the request, the first outcome stands even if nobody heard it."""
    content = json.dumps({"name": "heard", "type": "csv", "configuration": CSV, "validate": False}).encode()
    key = uuid.uuid4().hex
    head = f"POST /api/connections HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\nIdempotency-Key: {key}\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode() + content)

    def heard():
        # At most it is still being worked on, which a client is to try again.
        answer = post(server, content, headers={"Idempotency-Key": key})
        return answer if answer.status_code != 409 else None

    answer = until(heard, "the first request's outcome", 10)
    assert answer.status_code == 200, answer.text


def test_answers_are_for_the_one_who_asked_and_run_nothing(server):
    for path, policy in [("/api/me", "default-src 'none'"), ("/openapi.json", "default-src 'none'"), ("/docs/", "default-src 'self'")]:
        headers = server.request("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"].startswith(policy), path
    assert server.request("GET", "/api/me").headers["cache-control"] == "no-store"
    # Nothing lets a page of another origin read an answer.
    answer = server.request("GET", "/api/me", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_a_method_that_is_none_of_the_path_s_is_refused(server):
    for method in ["PUT", "DELETE", "TRACE"]:
        refused(server.request(method, "/api/me"), 405)


def head(path, length, key="none"):
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: tideway",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer_on(connection):
    """One answer's head and body, read off a connection that stays open."""
    text = b""
    while b"\r\n\r\n" not in text:
        more = connection.recv(65536)
        assert more, f"the connection ended after {text!r}"
        text += more
    top, _, body = text.partition(b"\r\n\r\n")
    top = top.decode().lower()
    length = int(next(line for line in top.split("\r\n") if line.startswith("content-length:")).split(":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return top, json.loads(body)


def connect(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_a_refusal_that_overtakes_the_body_leaves_the_connection_in_use(server):
    body = b'{"name": "late", "type": "csv"}'
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(head("/api/connections", len(body)))
            time.sleep(0.3)
            connection.sendall(body)
            top, problem = answer_on(connection)
            assert problem["status"] == 401 and "connection: close" not in top
        connection.sendall(head("/api/connections", len(body), API_KEY) + body)
        assert answer_on(connection)[1]["status"] != 401


def test_a_refusal_does_not_wait_for_a_body_that_never_comes(server):
    with connect(server) as connection:
        connection.sendall(head("/api/connections", 50_000_000) + b"{")
        top, problem = answer_on(connection)
        assert problem["status"] == 401 and "connection: close" in top
    assert server.ready()
