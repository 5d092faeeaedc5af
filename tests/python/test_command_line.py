"""Every command, with the exit codes that `tideway --help` lists and remedies for what goes wrong."""

import json
import os
import pty
import re
import signal
import stat
import subprocess
import time

import pytest

NONE = "postgresql://u:p@no.such.host.invalid/db"


def url(database, user="tideway", password="tideway", port=None):
    configuration = database.configuration()
    return f"postgresql://{user}:{password}@127.0.0.1:{port or configuration['port']}/{database.name}?sslmode=disable"


def tideway(*arguments, **environment):
    command = [os.environ["TIDEWAY_BIN"], *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=os.environ | environment)
    assert "panicked" not in done.stderr, done.stderr
    return done


def fails(code, *words, command):
    done = tideway(*command)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    shown = (done.stdout + done.stderr).lower()
    assert "→" in shown, "no remedy"
    for word in words:
        assert word.lower() in shown, (word, shown)
    # The same for programs, in words that they can tell apart.
    told = tideway("--json", *command)
    assert told.returncode == code
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_the_help_names_every_command_and_every_code():
    text = tideway("--help").stdout
    for command in ["serve", "copy", "check", "discover", "demo", "openapi", "connection-types", "key", "doctor"]:
        assert re.search(rf"^  {command} ", text, re.MULTILINE), command
        assert tideway(command, "--help").returncode == 0
    for code in [0, 1, 2, 3, 4, 5, 6, 7, 70, 130]:
        assert re.search(rf"^  {code} ", text, re.MULTILINE), code


def test_what_cannot_be_connected_ends_with_the_code_of_its_kind(source):
    good = url(source)
    for command in ["check", "discover"]:
        assert tideway(command, good).returncode == 0
        fails(3, "password", command=[command, url(source, password="wrong")])
        fails(5, "no.such.host.invalid", command=[command, NONE])
        fails(5, "127.0.0.1:1", command=[command, url(source, port=1)])
        fails(4, "nowhere", command=[command, good.replace(source.name, "nowhere")])
        fails(2, "scheme", command=[command, "mystery://x"])
    [told] = fails(3, "password", command=["check", url(source, password="wrong")])
    assert told["error"]["kind"] == "auth" and told["error"]["field"] == "password" and told["error"]["hint"]


def test_a_copy_ends_with_the_code_of_what_went_wrong(source, target, tmp_path):
    source.execute("create table good (id int primary key); insert into good values (1); create table hidden (id int primary key)")
    folder = f"file://{tmp_path}?format=csv"
    copied = tideway("--json", "copy", url(source), folder, "--table", "public.good")
    assert copied.returncode == 0 and json.loads(copied.stdout)["rows"] == 1
    fails(4, "public.ghosts", command=["copy", url(source), folder, "--table", "public.ghosts"])
    fails(3, "password", command=["copy", url(source), url(target, password="wrong")])
    fails(5, "127.0.0.1:1", command=["copy", url(source), url(target, port=1)])
    # Some tables failed: here one whose place is taken by a view.
    target.execute("create view hidden as select 1 as id")
    [told] = fails(1, "public.hidden", command=["copy", url(source), url(target)])
    states = {table["schema"]: table.get("error", {}).get("kind") for table in told["tables"]}
    assert states["public.good"] is None and states["public.hidden"], states


def test_a_missing_grant_at_the_destination_is_told_with_the_statement_that_gives_it(source, target):
    source.execute("create table t (id int primary key)")
    target.execute("drop role if exists copier_of_tests; create role copier_of_tests login password 'copier'")
    try:
        told = fails(3, "public.t", "grant usage, create", command=["copy", url(source), url(target, "copier_of_tests", "copier")])
        assert told[0]["tables"][0]["error"]["kind"] == "permission"
    finally:
        target.execute("drop role copier_of_tests")


def test_an_interrupted_copy_cleans_up_and_says_so(source, target):
    source.execute("create table big as select n as id, repeat('x', 300) as text from generate_series(1, 2000000) n")
    process = subprocess.Popen(
        [os.environ["TIDEWAY_BIN"], "--json", "copy", url(source), url(target)], stdout=subprocess.PIPE, text=True
    )
    staged = "select count(*) from information_schema.tables where table_name like '\\_tideway\\_stage%'"
    while target.execute(staged) == [(0,)]:
        assert process.poll() is None, "it ended before it was interrupted"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert json.loads(process.stdout.read())["tables"][0]["error"]["kind"] == "cancelled"
    assert target.execute(staged) == [(0,)]


def test_a_terminal_shows_how_far_a_copy_is(source, tmp_path):
    source.execute("create table big as select n as id, repeat('x', 300) as text from generate_series(1, 300000) n")
    source.execute("analyze big")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [os.environ["TIDEWAY_BIN"], "copy", url(source), f"file://{tmp_path}?format=csv"],
        stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # The other end is closed.
    assert process.wait(60) == 0
    text = shown.decode(errors="replace")
    assert re.search(r"[1-9][\d,]* rows  [\d.]+ MB  [\d,]+ rows/s  \d+ s left", text), text[-2000:]


def test_a_server_that_cannot_start_says_why(server, tmp_path):
    data = ["--data-dir", tmp_path / "data"]
    fails(5, "address already in use", "--listen", command=["serve", *data, "--listen", f"127.0.0.1:{server.port}"])
    assert not (tmp_path / "data").exists(), "it must not touch the data of the one that listens"
    anywhere = [*data, "--listen", "127.0.0.1:0"]
    fails(2, "sqlite", "postgresql", command=["serve", *anywhere, "--database-url", "mysql://x"])
    fails(2, "32 bytes", command=["serve", *anywhere, "--encryption-key", "short"])
    fails(2, "--log", command=["--log", "tideway=loudly", "serve", *anywhere])


def test_the_documents_are_printed():
    document = json.loads(tideway("openapi").stdout)
    assert "/api/connections" in document["paths"]
    lines = tideway("--json", "connection-types").stdout.splitlines()
    assert {"postgresql", "csv"} <= {json.loads(line)["id"] for line in lines}
    assert "postgresql" in tideway("connection-types").stdout


def test_a_rotated_key_opens_what_was_kept(servers, source):
    server = servers().start()
    sdk = server.sdk()
    made = sdk.connections.create(name="kept", type="postgresql", configuration=source.configuration()).data
    rotated = tideway("--json", "key", "rotate", "--data-dir", server.data_dir)
    assert rotated.returncode == 0
    told = json.loads(rotated.stdout)
    assert told["rewrapped"] == told["total"] >= 2
    for _ in range(2):
        again = sdk.connections.update(id=made.id, name="kept", configuration=made.configuration).data
        assert again.status == "healthy"
        server.kill()
        server.start()


def test_the_doctor_finds_what_is_open_to_others(tmp_path):
    folder = tmp_path / "data"
    found = tideway("--json", "doctor", "--data-dir", folder)
    assert found.returncode == 0 and json.loads(found.stdout)["passed"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "encryption.key").chmod(0o644)
    [told] = fails(1, "chmod 600", command=["doctor", "--data-dir", folder])
    assert not told["passed"]


@pytest.mark.parametrize("flags", [["--lanes", "0"], ["--memory-mib", "0"], ["--lanes", "x"], ["--table", ""]])
def test_odd_flags_do_no_harm(source, tmp_path, flags):
    source.execute("create table t (id int primary key)")
    done = tideway("copy", url(source), f"file://{tmp_path}?format=csv", *flags)
    assert done.returncode in (0, 2, 4), (done.returncode, done.stderr)
