"""What an operator and a load balancer ask of a server, none of it needing a key."""

import requests


def test_it_is_alive_and_ready(base_url):
    for path in ["/healthz", "/readyz"]:
        assert requests.get(base_url + path, timeout=5).status_code == 200, path


def test_metrics_speak_prometheus(base_url):
    answer = requests.get(base_url + "/metrics", timeout=5)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    samples = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    assert samples, "no metric at all"
    for line in samples:
        name, value = line.rsplit(" ", 1)
        assert name.startswith("tideway_"), line
        float(value)


def test_the_document_describes_the_api(base_url):
    document = requests.get(base_url + "/openapi.json", timeout=5).json()
    assert document["openapi"].startswith("3.")
    assert "get" in document["paths"]["/api/connection_types"]


def test_the_api_itself_wants_a_key(server):
    assert server.request("GET", "/api/me", token=None).status_code == 401
    assert server.request("GET", "/api/me", token="wrong").status_code == 401
    assert server.request("GET", "/api/me").status_code == 200


def test_an_unknown_path_is_not_found(server):
    assert server.request("GET", "/api/no-such-thing").status_code == 404


def test_a_killed_server_comes_back_on_its_data(own_server):
    before = own_server.sdk().identity.get()
    own_server.kill()
    assert not own_server.ready()
    own_server.start()
    assert own_server.sdk().identity.get() == before
    own_server.stop()
