"""SSH tunnels to databases: through a real sshd, as source, stream and destination."""

import contextlib
import os
import pathlib
import signal
import subprocess
import uuid
from urllib.parse import urlencode, urlsplit

from polytomic.core.api_error import ApiError
import pymysql
import pytest
import syncs
from server import until

SSH = pathlib.Path(os.environ["TIDEWAY_TEST_SSH"])
PORT = int(os.environ["TIDEWAY_TEST_SSH_PORT"])


def tunnel(key="key", **changes):
    return {
        "ssh": True,
        "ssh_host": "127.0.0.1",
        "ssh_port": PORT,
        "ssh_user": (SSH / "user").read_text().strip(),
        "ssh_private_key": (SSH / key).read_text(),
    } | changes


def sessions():
    """How often somebody has signed in."""
    return (SSH / "log").read_text().count("Accepted publickey")


def fill(source, rows=20_000):
    source.execute(f"""
        create table a (id bigint primary key, v int, name text);
        create table b (id bigint primary key, v int);
        create table c (id bigint primary key, v int);
        insert into a select n, 0, repeat('name ' || n, 20) from generate_series(1, {rows}) n;
        insert into b select n, 0 from generate_series(1, 100) n;
        insert into c select n, 0 from generate_series(1, 100) n;
    """)


def same(source, target, table, columns="id, v"):
    sql = "select count(*), sum(hashtext(({})::text)) from {}"
    return source.execute(sql.format(columns, table)) == target.execute(sql.format(columns, f"copy.{table}"))


@pytest.mark.parametrize("key", ["key", "key_rsa"])
def test_tables_and_their_changes_go_through_a_tunnel_on_both_sides(sdk, source, target, key):
    fill(source)
    before = sessions()
    origin = syncs.connect(sdk, "postgresql", source.configuration(change_detection=True, **tunnel(key)))
    copy = syncs.connect(sdk, "postgresql", target.configuration(**tunnel(key)))
    sync = syncs.make(sdk, origin, copy, {"schema": "copy", "advanced": {"hard_deletes": True}}, mode="replicate")
    syncs.run_well(sdk, sync)
    assert all(same(source, target, table) for table in "abc") and same(source, target, "a", "id, v, name")
    source.execute("update a set v = id % 10 where id % 3 = 0; delete from a where id % 7 = 0; insert into b values (1000, 1)")
    syncs.run_well(sdk, sync)
    assert all(same(source, target, table) for table in "abc")
    # A session of its own for each of the database's.
    assert sessions() - before > 6


@pytest.mark.parametrize("kind", ["MYSQL", "MARIADB"])
def test_mysql_is_written_read_and_followed_through_a_tunnel(sdk, source, target, kind):
    fill(source, rows=5000)
    url = urlsplit(os.environ[f"TIDEWAY_TEST_{kind}_URL"])
    name = f"tunnel_{uuid.uuid4().hex[:12]}"
    login = {"hostname": url.hostname, "port": url.port, "account": url.username, "passwd": url.password}
    origin = syncs.connect(sdk, "postgresql", source.configuration())
    middle = syncs.connect(sdk, "mysql", login | tunnel())
    syncs.run_well(sdk, syncs.make(sdk, origin, middle, {"schema": name}, mode="replicate"))
    back = syncs.connect(sdk, "mysql", login | tunnel() | {"dbname": name, "change_detection": True})
    copy = syncs.connect(sdk, "postgresql", target.configuration())
    sync = syncs.make(sdk, back, copy, {"schema": "copy", "advanced": {"hard_deletes": True}}, mode="replicate")
    syncs.run_well(sdk, sync)
    assert same(source, target, "a", "id, v, name")
    with pymysql.connect(host=url.hostname, port=url.port, user=url.username, password=url.password, database=name, autocommit=True) as session:
        session.cursor().execute("update a set v = 7 where id % 3 = 0")
        session.cursor().execute("delete from a where id > 4990")
    source.execute("update a set v = 7 where id % 3 = 0; delete from a where id > 4990")
    syncs.run_well(sdk, sync)
    assert same(source, target, "a", "id, v, name")


def children(process):
    return pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()


def test_a_tunnel_that_breaks_is_dug_again(sdk, source, target):
    fill(source, rows=300_000)
    origin = syncs.connect(sdk, "postgresql", source.configuration(**tunnel()))
    copy = syncs.connect(sdk, "postgresql", target.configuration(**tunnel()))
    sync = syncs.make(sdk, origin, copy, {"schema": "copy"}, mode="snapshot")
    started = sdk.bulk_sync.start(id=sync).data.id
    until(lambda: target.execute("select 1 from pg_stat_activity where datname = current_database() and query ilike 'copy%%'"), "rows on their way")
    # Each session has a process that watches and one that carries.
    watching = children((SSH / "pid").read_text().strip())
    carrying = [one for watcher in watching for one in children(watcher)]
    assert watching and carrying
    for process in carrying + watching:
        with contextlib.suppress(ProcessLookupError):  # the others may be gone with it
            os.kill(int(process), signal.SIGKILL)
    ended = syncs.wait(sdk, sync, started, timeout=90)
    assert ended.status == "completed", (ended.status, ended.status_message)
    assert same(source, target, "a", "id, v, name")
    log = sdk.bulk_sync.executions.get_console_logs(sync_id=sync, execution_id=started).data
    said = [entry.message for entry in log.entries]
    assert any("trying again" in message for message in said), said


def refused(sdk, configuration):
    with pytest.raises(ApiError) as answer:
        syncs.connect(sdk, "postgresql", configuration)
    assert "PRIVATE KEY" not in str(answer.value.body)
    return answer.value.body.message


def test_what_is_wrong_with_a_tunnel_is_said(sdk, source):
    config = source.configuration
    fingerprint = "SHA256:" + "A" * 43
    cases = [
        (tunnel(ssh_port=1), "nothing listens at 127.0.0.1:1"),
        (tunnel(ssh_host=None), "ssh_host is needed"),
        (tunnel(ssh_host="no-such-host.invalid"), "no address is known"),
        (tunnel(ssh_private_key=None), "ssh_private_key is needed"),
        (tunnel(ssh_private_key="nonsense"), "no private key"),
        (tunnel("key_locked"), "passphrase"),
        (tunnel("key_other"), "does not take this key"),
        (tunnel(ssh_user="nobody-at-all"), "does not take this key for user nobody-at-all"),
        (tunnel(ssh_host_key=fingerprint), "shows another key"),
        (tunnel(ssh_host_key="what"), "ssh_host_key is neither"),
        # What listens there speaks no SSH.
        (tunnel(ssh_port=config()["port"]), "does not agree on SSH"),
        (tunnel() | {"hostname": "127.0.0.2"}, "does not let"),
        (tunnel() | {"port": 1}, "127.0.0.1:1 cannot be reached from 127.0.0.1"),
        (tunnel() | {"hostname": "no-such-host.invalid"}, "cannot be reached from"),
    ]
    for changes, said in cases:
        message = refused(sdk, config(**changes))
        assert said in message, (said, message)


def test_the_command_line_knows_the_way_and_shows_the_server_s_key(source):
    def check(**changes):
        user = (SSH / "user").read_text().strip()
        how = {"sslmode": "disable", "ssh": f"{user}@127.0.0.1:{PORT}", "ssh_key": str(SSH / "key")} | changes
        done = subprocess.run([os.environ["TIDEWAY_BIN"], "check", f"{source.url}?{urlencode(how)}"], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    key = (SSH / "host_key.pub").read_text()
    fingerprint = subprocess.run(["ssh-keygen", "-l", "-f", SSH / "host_key.pub"], capture_output=True, text=True).stdout.split()[1]
    for changes in ({}, {"ssh_host_key": key}, {"ssh_host_key": fingerprint}):
        code, said = check(**changes)
        assert code == 0 and fingerprint in said, said
    code, said = check(ssh_host_key=fingerprint[:-3] + "xyz")
    assert code != 0 and "shows another key" in said and fingerprint in said, said
    code, said = check(ssh="nobody")
    assert code != 0 and "names no SSH server" in said, said
