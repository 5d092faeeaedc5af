"""Where connections may lead to: `serve --outbound public-only`, and what is never connected to."""

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

from polytomic.core.api_error import ApiError
import pytest
import syncs

ENDPOINT = os.environ["TIDEWAY_TEST_S3_ENDPOINT"]


def refused(sdk, kind, configuration):
    with pytest.raises(ApiError) as answer:
        syncs.connect(sdk, kind, configuration)
    return answer.value.body.message


def bucket(endpoint):
    return {
        "auth_mode": "access_key_and_secret",
        "aws_access_key_id": os.environ["TIDEWAY_TEST_S3_ACCESS_KEY"],
        "aws_secret_access_key": os.environ["TIDEWAY_TEST_S3_SECRET_KEY"],
        "s3_bucket_name": os.environ["TIDEWAY_TEST_S3_BUCKET"],
        "s3_bucket_region": "us-east-1",
        "endpoint": endpoint,
    }


@pytest.fixture
def web():
    """A server that counts who comes; `/to?place` leads elsewhere."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            if self.path.startswith("/to?"):
                self.send_response(302)
                self.send_header("Location", self.path[4:])
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/csv")
            self.end_headers()
            self.wfile.write(b"id,name\n1,a\n")

        def log_message(self, *_):
            pass

    seen = []
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, seen
    server.shutdown()


def test_strangers_reach_public_networks_only(servers, source, target, web):
    port, seen = web
    strict = servers(OUTBOUND="public-only", OUTBOUND_ALLOW="127.0.0.2/32").start().sdk()
    for host in ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1"]:
        message = refused(strict, "postgresql", source.configuration(hostname=host))
        assert "no public address" in message, message
    for host in ["127.0.0.1", "localhost", "[::1]"]:
        message = refused(strict, "csv", {"url": f"http://{host}:{port}/a.csv"})
        assert "no public address" in message, message
    assert "no public address" in refused(strict, "s3", bucket(ENDPOINT))
    # The name is not public either, whatever the store says of it.
    refused(strict, "s3", bucket(f"http://localhost:{urlsplit(ENDPOINT).port}"))
    assert not seen

    allowed = servers(OUTBOUND="public-only", OUTBOUND_ALLOW="127.0.0.0/8,::1").start().sdk()
    source.execute("create table a (id int primary key)")
    origin, copy = (syncs.connect(allowed, "postgresql", one.configuration()) for one in (source, target))
    syncs.run_well(allowed, syncs.make(allowed, origin, copy, {"schema": "copy"}, mode="snapshot"))
    syncs.connect(allowed, "csv", {"url": f"http://localhost:{port}/a.csv"})
    syncs.connect(allowed, "s3", bucket(ENDPOINT))
    assert seen


def test_where_machines_keep_their_secrets_nobody_is_led(sdk, source, web):
    port, seen = web
    for address in ["169.254.169.254", "::ffff:169.254.169.254", "100.100.100.200", "fd00:ec2::254"]:
        message = refused(sdk, "postgresql", source.configuration(hostname=address))
        assert "never connected to" in message, message
        written = f"[{address}]" if ":" in address else address
        message = refused(sdk, "csv", {"url": f"http://{written}/latest/meta-data"})
        assert "never connected to" in message, message
        message = refused(sdk, "csv", {"url": f"http://127.0.0.1:{port}/to?http://{written}/latest/meta-data"})
        assert "never connected to" in message, message
        message = refused(sdk, "s3", bucket(f"http://{written}"))
        assert "never connected to" in message, message
    assert len(seen) == 4
