"""Standbys, base backups, logical replication and decoding."""

import os
import shutil
import subprocess
import time

import psycopg
import pytest
from conftest import AMEX, BIN, CLEAR, Cluster, MASKED, MASTERCARD_2, VISA, VISA_2, VISA_3, as_server

WAIT = 20


def until(condition, what, seconds=WAIT):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    pytest.fail(f"not within {seconds} s: {what}")


def copy_key(source, target):
    target.key_file.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(source.key_file, target.key_file)
    os.chmod(target.key_file, 0o600)
    owner = os.stat(target.data)
    for path in (target.key_file.parent, target.key_file):
        os.chown(path, owner.st_uid, owner.st_gid)


def base_backup(source, target, standby, *options):
    """A copy of the source by pg_basebackup, with a port and directory of its own."""
    os.chmod(target.dir, 0o755)
    if os.geteuid() == 0:
        owner = os.stat(source.data)
        os.chown(target.dir, owner.st_uid, owner.st_gid)
    subprocess.run(
        as_server([BIN / "pg_basebackup", "-h", "127.0.0.1", "-p", source.port, "-U", "postgres", "-D", target.data,
                   "-X", "stream", "--no-sync", "-c", "fast", *(["-R"] if standby else []), *options]),
        check=True, capture_output=True, timeout=120,
    )
    target.configure(f"port = {target.port}", f"unix_socket_directories = '{target.dir}'", reload=False)


def caught_up(primary, standby):
    lsn = primary.value("SELECT pg_current_wal_lsn()")
    until(lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,)), "the standby catches up")


@pytest.fixture(scope="module")
def primary(module_cluster):
    return module_cluster()


@pytest.fixture
def copies(primary):
    """Makes copies of the primary: copies(standby=True, key=True)."""
    made = []

    def make(standby=True, key=True):
        one = Cluster()
        made.append(one)
        base_backup(primary, one, standby)
        if key:
            copy_key(primary, one)
        return one.start()

    try:
        yield make
    finally:
        for one in made:
            one.destroy()


def test_standby_serves_and_is_promoted(primary, copies):
    standby = copies()
    assert standby.value("SELECT pg_is_in_recovery()") is True
    assert standby.execute("SELECT id, card FROM payments ORDER BY id") == MASKED
    assert standby.reveals() == CLEAR
    assert standby.execute("SELECT id FROM payments WHERE card = %s", (AMEX,), user="look") == [(3,)]
    # What arrives later, too.
    primary.execute(f"INSERT INTO payments VALUES (70, '{VISA_3}', 1)", user="full")
    caught_up(primary, standby)
    assert standby.reveals() == CLEAR + [(70, VISA_3)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        standby.execute(f"INSERT INTO payments VALUES (71, '{VISA_2}', 1)", user="full")
    for user, sql in (("app", "SELECT pci.reveal(card) FROM payments"), ("app", f"SELECT id FROM payments WHERE card = '{VISA}'"),
                      ("postgres", "SELECT pci.reveal(card) FROM payments")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            standby.execute(sql, user=user)
    # Revoked on the primary, refused on the standby, in a session that has revealed already.
    with standby.connect("clerk") as conn:
        assert len(conn.execute("SELECT pci.reveal(card) FROM payments").fetchall()) == 5
        primary.execute("SELECT pci.revoke_access('clerk', 'default', 'reveal')", user="ann")
        caught_up(primary, standby)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT pci.reveal(card) FROM payments")
        primary.grant("clerk", "reveal")
        caught_up(primary, standby)
        assert len(conn.execute("SELECT pci.reveal(card) FROM payments").fetchall()) == 5
    # Promoted, it stores; the old primary is untouched.
    assert standby.value("SELECT pg_promote()") is True
    standby.execute(f"INSERT INTO payments VALUES (71, '{MASTERCARD_2}', 1)", user="full")
    assert standby.reveals() == CLEAR + [(70, VISA_3), (71, MASTERCARD_2)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        standby.execute(f"INSERT INTO payments VALUES (72, '{VISA}', 1)", user="full")
    primary.execute("DELETE FROM payments WHERE id = 70")
    assert primary.reveals() == CLEAR


def test_rotation_and_reencryption_with_a_standby(primary, copies):
    """A session that has revealed on the standby goes on, under the old key and the new."""
    standby = copies()
    with standby.connect("clerk") as conn:
        shown = "SELECT pci.reveal(card) FROM payments ORDER BY id"
        digits = [(card,) for _, card in CLEAR]
        assert conn.execute(shown).fetchall() == digits
        key = primary.value("SELECT pci.rotate_key('default')", user="cy")
        primary.execute(f"INSERT INTO payments VALUES (80, '{VISA_3}', 1)", user="full")
        caught_up(primary, standby)
        assert conn.execute(shown).fetchall() == [*digits, (VISA_3,)]
        primary.execute("GRANT SELECT, UPDATE ON payments TO cy")
        primary.execute("CALL pci.reencrypt('payments', 'card')", user="cy")
        caught_up(primary, standby)
        assert standby.execute("SELECT DISTINCT pci.key_id(card) FROM payments") == [(key,)]
        assert conn.execute(shown).fetchall() == [*digits, (VISA_3,)]
        assert standby.execute("SELECT id FROM payments WHERE card = %s", (AMEX,), user="look") == [(3,)]
    primary.execute("DELETE FROM payments WHERE id = 80")


def test_standby_without_the_key(primary, copies):
    standby = copies(key=False)
    assert standby.execute("SELECT id, card FROM payments ORDER BY id") == MASKED
    assert standby.value("SELECT count(*) FROM payments a JOIN payments b ON a.card = b.card", user="look") == 4
    with pytest.raises(psycopg.Error) as caught:
        standby.reveals()
    assert caught.value.sqlstate == "55000" and "pgpci key init" in caught.value.diag.message_hint
    copy_key(primary, standby)
    assert standby.reveals() == CLEAR


def test_base_backup_reveals_the_same(primary, copies):
    """Physically the same cluster: the policy stays in force, the wrapping key is not in the backup."""
    copy = copies(standby=False, key=False)
    assert not list(copy.dir.rglob("local.key"))
    with pytest.raises(psycopg.Error):
        copy.reveals()
    copy_key(primary, copy)
    assert copy.reveals() == CLEAR
    copy.execute(f"INSERT INTO payments VALUES (71, '{MASTERCARD_2}', 1)", user="full")
    assert copy.reveals()[-1] == (71, MASTERCARD_2)


# Logical replication

@pytest.fixture(scope="module")
def subscriber(module_cluster, primary):
    """Another cluster with the primary's installation, vaults and keys, and its policy accepted."""
    one = module_cluster(set_up=False, key=False)
    globals_ = primary.run("pg_dumpall", "--globals-only", user="postgres").stdout
    one.psql(globals_.replace("CREATE ROLE postgres;\n", ""))
    one.psql(primary.run("pg_dump", user="backup").stdout)
    one.execute("TRUNCATE payments")
    copy_key(primary, one)
    assert one.value("SELECT pci.accept_policy()", user="ann") is False
    assert one.value("SELECT pci.accept_policy()", user="bob") is True
    primary.execute("CREATE PUBLICATION cards FOR TABLE payments")
    primary.execute("CREATE ROLE bare LOGIN REPLICATION IN ROLE pg_read_all_data")
    return one


def subscribe(subscriber, primary, user, options=""):
    subscriber.execute(f"CREATE SUBSCRIPTION sub_{user} CONNECTION 'host=127.0.0.1 port={primary.port} user={user} dbname=postgres' "
                       f"PUBLICATION cards {options}")


def unsubscribe(subscriber, user):
    subscriber.execute(f"DROP SUBSCRIPTION sub_{user}")
    subscriber.execute("TRUNCATE payments")


@pytest.mark.parametrize("binary", ["false", "true"])
def test_logical_replication_with_export(primary, subscriber, binary):
    subscribe(subscriber, primary, "backup", f"WITH (binary = {binary})")
    try:
        until(lambda: len(subscriber.execute("SELECT id FROM payments")) == 4, "the first copy arrives")
        assert subscriber.reveals() == CLEAR
        primary.execute(f"INSERT INTO payments VALUES (80, '{VISA_3}', 1)", user="full")
        primary.execute("UPDATE payments SET amount = 7 WHERE id = 1")
        primary.execute("UPDATE payments SET card = %s WHERE id = 2", (VISA_2,), user="full")
        until(lambda: len(subscriber.execute("SELECT id FROM payments WHERE id = 80 OR (id = 2 AND pci.last4(card) = '1881')")) == 2, "changes arrive")
        expected = [(i, VISA_2 if i == 2 else card) for i, card in CLEAR] + [(80, VISA_3)]
        assert subscriber.reveals() == expected
        assert subscriber.value("SELECT amount FROM payments WHERE id = 1") == 7
        assert subscriber.execute("SELECT id FROM payments WHERE card = %s", (VISA_3,), user="look") == [(80,)]
        primary.execute("DELETE FROM payments WHERE id = 80")
        until(lambda: not subscriber.execute("SELECT 1 FROM payments WHERE id = 80"), "the deletion arrives")
    finally:
        unsubscribe(subscriber, "backup")
        primary.execute("UPDATE payments SET card = %s, amount = 100 WHERE id = 2", (dict(CLEAR)[2],), user="full")
        primary.execute("DELETE FROM payments WHERE id = 80")


@pytest.mark.parametrize("copy_data", ["true", "false"])
def test_logical_replication_without_export(primary, subscriber, copy_data):
    """Neither the first copy nor changes: a clear refusal in the publisher's log, never masks."""
    before = primary.log.count("permission denied to export")
    subscribe(subscriber, primary, "bare", f"WITH (copy_data = {copy_data})")
    try:
        primary.execute("UPDATE payments SET amount = amount + 1 WHERE id = 3")
        until(lambda: primary.log.count("permission denied to export") > before, "the publisher refuses")
        assert subscriber.value("SELECT count(*) FROM payments") == 0
        assert primary.reveals() == CLEAR
    finally:
        subscriber.execute("ALTER SUBSCRIPTION sub_bare DISABLE")
        unsubscribe(subscriber, "bare")


def test_revoked_export_stops_a_running_subscription(primary, subscriber):
    subscribe(subscriber, primary, "backup")
    try:
        until(lambda: len(subscriber.execute("SELECT id FROM payments")) == 4, "the first copy arrives")
        primary.execute("SELECT pci.revoke_access('backup', 'default', 'export')", user="ann")
        before = primary.log.count("permission denied to export")
        primary.execute(f"INSERT INTO payments VALUES (81, '{VISA_3}', 1)", user="full")
        until(lambda: primary.log.count("permission denied to export") > before, "the publisher refuses")
        assert subscriber.execute("SELECT 1 FROM payments WHERE id = 81") == []
        primary.grant("backup", "export")
        until(lambda: subscriber.execute("SELECT 1 FROM payments WHERE id = 81"), "it goes on when granted again")
        assert subscriber.reveals()[-1] == (81, VISA_3)
    finally:
        if not primary.execute("SELECT 1 FROM pci.access WHERE role = 'backup'::regrole"):
            primary.grant("backup", "export")
        unsubscribe(subscriber, "backup")
        primary.execute("DELETE FROM payments WHERE id = 81")


@pytest.mark.parametrize("function", ["get", "peek"])
def test_slot_functions(primary, function):
    primary.execute("SELECT pg_create_logical_replication_slot('decoded', 'test_decoding')")
    try:
        primary.execute("ALTER TABLE payments REPLICA IDENTITY FULL")
        primary.execute(f"INSERT INTO payments VALUES (82, '{VISA_3}', 1)", user="full")
        primary.execute("DELETE FROM payments WHERE id = 82")
        call = f"SELECT data FROM pg_logical_slot_{function}_changes('decoded', NULL, NULL)"
        for user in ("postgres", "bare_decoder"):
            if user == "bare_decoder":
                primary.execute("CREATE ROLE bare_decoder LOGIN REPLICATION")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied to export"):
                primary.execute(call, user=user)
        data = "\n".join(row[0] for row in primary.execute(call, user="backup"))
        assert data.count("pan:1:") == 2 and "424242******4242" not in data and VISA_3 not in data
    finally:
        primary.execute("SELECT pg_drop_replication_slot('decoded')")
        primary.execute("ALTER TABLE payments REPLICA IDENTITY DEFAULT; DROP ROLE IF EXISTS bare_decoder")


def test_slot_functions_leave_the_session_as_it_was(primary):
    """After decoding, an ordinary select of the same session prints masks again."""
    primary.execute("SELECT pg_create_logical_replication_slot('decoded', 'test_decoding')")
    try:
        primary.execute(f"INSERT INTO payments VALUES (83, '{VISA_3}', 1)", user="full")
        with primary.connect("backup") as conn:
            assert "pan:1:" in str(conn.execute("SELECT data FROM pg_logical_slot_get_changes('decoded', NULL, NULL)").fetchall())
            assert conn.execute("SELECT card FROM payments WHERE id = 83").fetchall() == [("424242******4242",)]
        with primary.connect("postgres") as conn:
            primary.execute("UPDATE payments SET amount = 2 WHERE id = 83")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("SELECT data FROM pg_logical_slot_get_changes('decoded', NULL, NULL)")
            assert conn.execute("SELECT card FROM payments WHERE id = 83").fetchall() == [("424242******4242",)]
    finally:
        primary.execute("SELECT pg_drop_replication_slot('decoded')")
        primary.execute("DELETE FROM payments WHERE id = 83")
