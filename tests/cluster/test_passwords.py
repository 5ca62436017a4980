"""Passwords: what they must be like, what was used before, and the first one."""

import base64
import hashlib
import hmac
import os
import socket
import struct
import subprocess
import time
from statistics import median

import psycopg
import pytest
import trail
import wire
from conftest import MAJOR, as_server
from test_keys import until

GOOD = ["seven-purple-otters9", "vq8-mzr-kptw", "9xk2vbz7mwq4", "Tr0ub4dor-kiosk", "quiet4lampshade-fox", "m8-umbrella-harp"]


def scram(password, iterations=4096, salt=None):
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    mac = lambda text: hmac.new(salted, text, "sha256").digest()
    b64 = lambda it: base64.b64encode(it).decode()
    stored = hashlib.sha256(mac(b"Client Key")).digest()
    return f"SCRAM-SHA-256${iterations}:{b64(salt)}${b64(stored)}:{b64(mac(b'Server Key'))}"


def require_passwords(cluster, *roles):
    """These roles log in with SCRAM, all others as before."""
    hba = cluster.data / "pg_hba.conf"
    lines = "".join(f"host all {role} 127.0.0.1/32 scram-sha-256\nhost replication {role} 127.0.0.1/32 scram-sha-256\n" for role in roles)
    hba.write_text(lines + hba.read_text())
    cluster.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def guarded(module_cluster):
    one = module_cluster()
    one.execute("CREATE ROLE kate LOGIN; CREATE ROLE tom LOGIN; CREATE ROLE robot LOGIN; CREATE ROLE boss LOGIN CREATEROLE SUPERUSER")
    one.execute("SELECT pci.set_account('robot', 'service')", user="ann")
    require_passwords(one, "kate", "tom", "lil", "mia")
    return one


def refused(cluster, sql, user="postgres", state="22023"):
    with pytest.raises(psycopg.Error) as error:
        cluster.execute(sql, user=user)
    assert error.value.sqlstate == state, error.value
    assert error.value.diag.message_hint
    return str(error.value)


@pytest.mark.parametrize("password, why", [
    ("vq8-mzr-kpt", "too short"), ("vqx-mzr-kptw", "no digit"), ("918-274-5063", "no letter"), ("kate-vq8-mzr", "name of the role"),
    ("P@ssw0rd2026!", "too common"), ("vq8!" + "\u00ad" * 8, "too short"), ("md5" + "a" * 31, "looks like a verifier"),
    ("SCRAM-SHA-256$4096:x$y:z", "looks like a verifier"),
])
def test_rules(guarded, password, why):
    error = refused(guarded, f"ALTER ROLE kate PASSWORD '{password}'")
    assert why in error and password not in error
    assert password not in guarded.log


def test_rules_hold_for_new_roles_and_in_databases_without_the_extension(guarded):
    guarded.execute("CREATE DATABASE bare")
    for dbname in ["postgres", "bare"]:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="too short"):
            guarded.execute("CREATE ROLE weak LOGIN PASSWORD 'short1'", dbname=dbname)
    assert not guarded.value("SELECT count(*) FROM pg_roles WHERE rolname = 'weak'")


def test_a_password_is_tried_out(guarded):
    assert guarded.value("SELECT pci.check_password('vq8-mzr-kptw')", user="plain") is None
    wrong = guarded.value("SELECT pci.check_password('plain')", user="plain")
    assert [line.split(":")[0] for line in wrong.splitlines()] == ["password is too short", "password contains no digit", "password contains the name of the role"]


def test_a_file_of_banned_passwords(fresh_cluster):
    one = fresh_cluster(set_up=False)
    path = one.dir / "banned"
    path.write_text("Vq8-Mzr-kptw\n")
    path.chmod(0o644)
    one.configure(f"pgpci.banned_passwords_file = '{path}'")
    assert "too common" in refused(one, "CREATE ROLE kate PASSWORD 'vq8-mzr-kptw'")
    one.execute("CREATE ROLE kate PASSWORD '9xk2vbz7mwq4'")
    # Once a session, and again when it has changed.
    with one.connect() as conn:
        check = "SELECT pci.check_password('9xk2vbz7mwq4')"
        one.execute("CREATE EXTENSION IF NOT EXISTS pgpci")
        assert conn.execute(check).fetchone() == (None,)
        changed_later = path.stat().st_mtime + 5
        path.write_text("Vq8-Mzr-kptw\n9xk2vbz7mwq4\n")
        os.utime(path, (changed_later, changed_later))
        assert "too common" in conn.execute(check).fetchone()[0]
        path.write_text("Vq8-Mzr-kptw\n1xk2vbz7mwq4\n")
        os.utime(path, (changed_later, changed_later))
        assert "too common" in conn.execute(check).fetchone()[0], "by all signs, it is as it was"
        os.utime(path, (changed_later + 5, changed_later + 5))
        assert conn.execute(check).fetchone() == (None,)
    path.unlink()
    assert "cannot be read" in refused(one, "ALTER ROLE kate PASSWORD 'vq8-mzr-kptx'", state="58000")


def test_what_is_stored_cannot_be_weakened(guarded):
    assert "MD5" in refused(guarded, f"SET password_encryption = 'md5'; ALTER ROLE kate PASSWORD '{GOOD[0]}'")
    if guarded.value("SELECT current_setting('server_version_num')::int") >= 160000:
        assert "iterations" in refused(guarded, f"SET scram_iterations = 1; ALTER ROLE kate PASSWORD '{GOOD[0]}'")


def test_ready_made_verifiers(guarded):
    for verifier in [scram(GOOD[0]), scram(GOOD[0], iterations=1), scram(GOOD[0], salt=b"short"), "md5" + "a" * 32]:
        refused(guarded, f"ALTER ROLE kate PASSWORD '{verifier}'")
        refused(guarded, f"ALTER ROLE robot PASSWORD '{verifier}'")
    assert "ready-made" in refused(guarded, f"ALTER ROLE kate PASSWORD '{scram(GOOD[0])}'")
    guarded.configure("pgpci.service_verifiers = on")
    try:
        verifier = scram(GOOD[0])
        guarded.execute(f"ALTER ROLE robot PASSWORD '{verifier}'")
        assert "used before" in refused(guarded, f"ALTER ROLE robot PASSWORD '{verifier}'")
        assert "few iterations" in refused(guarded, f"ALTER ROLE robot PASSWORD '{scram(GOOD[1], iterations=4095)}'")
        assert "ready-made" in refused(guarded, f"ALTER ROLE kate PASSWORD '{scram(GOOD[1])}'")
    finally:
        guarded.configure("pgpci.service_verifiers = off")


def test_the_last_four_are_not_used_again(guarded):
    for password in GOOD[:4]:
        guarded.execute(f"ALTER ROLE tom PASSWORD '{password}'")
    for password in GOOD[:4]:
        assert "used before" in refused(guarded, f"ALTER ROLE tom PASSWORD '{password}'")
    # Nor are they forgotten by doing without, by another name, or by a restart.
    guarded.execute("ALTER ROLE tom PASSWORD NULL; ALTER ROLE tom RENAME TO tim")
    guarded.restart()
    assert "used before" in refused(guarded, f"ALTER ROLE tim PASSWORD '{GOOD[3]}'")
    guarded.execute(f"ALTER ROLE tim RENAME TO tom; ALTER ROLE tom PASSWORD '{GOOD[4]}'")
    guarded.execute(f"ALTER ROLE tom PASSWORD '{GOOD[5]}'")
    guarded.execute(f"ALTER ROLE tom PASSWORD '{GOOD[0]}'")


def test_a_change_takes_little_time(guarded):
    """With four to compare with: 50 ms at most."""
    guarded.execute("CREATE ROLE hal")
    taken = []
    with guarded.connect() as conn:
        for n in range(10):
            began = time.perf_counter()
            conn.execute(f"ALTER ROLE hal PASSWORD 'harbour-{n}-paper-kite'")
            taken.append(time.perf_counter() - began)
    print(f"a change of a password that four others are compared with: {1000 * median(taken[4:]):.1f} ms")
    assert median(taken[4:]) < 0.05, taken


def own_address():
    """One of this machine's that is not its loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        try:
            it.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return it.getsockname()[0]


def test_a_password_crosses_a_network_encrypted_only(fresh_cluster):
    address = own_address()
    one = fresh_cluster("listen_addresses = '*'", "ssl = off")
    subprocess.run(as_server(["openssl", "req", "-new", "-x509", "-nodes", "-subj", "/CN=test", "-days", "2",
                              "-keyout", one.data / "server.key", "-out", one.data / "server.crt"]), check=True, capture_output=True)
    (one.data / "server.key").chmod(0o600)
    hba = one.data / "pg_hba.conf"
    hba.write_text(hba.read_text() + f"host all all {address}/32 trust\n")
    one.execute("CREATE ROLE kate LOGIN; CREATE ROLE sam LOGIN")
    one.configure("ssl = on")
    ways = {"host": address, "port": one.port, "user": "postgres", "dbname": "postgres", "autocommit": True}

    def change(password, **way):
        with psycopg.connect(**{**ways, **way}) as conn:
            conn.execute("SET application_name = 'far'")
            conn.execute(f"ALTER ROLE kate PASSWORD '{password}'")

    for refused_here in [lambda: change(GOOD[0], sslmode="disable"),
                         lambda: psycopg.connect(**ways, sslmode="disable").execute(f"SELECT pci.check_password('{GOOD[0]}')")]:
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification) as error:
            refused_here()
        assert "sslmode=require" in error.value.diag.message_hint
    assert one.value("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'kate'")
    change(GOOD[1], sslmode="require")
    # Nobody listens on the machine itself: over its loopback and socket it is taken as it is.
    change(GOOD[2], host="127.0.0.1", sslmode="disable")
    change(GOOD[3], host=str(one.dir))
    # No password is in a verifier, nor where there is none.
    with psycopg.connect(**ways, sslmode="disable") as conn:
        conn.execute("ALTER ROLE kate PASSWORD NULL; ALTER ROLE sam VALID UNTIL 'infinity'")
    # Where something else encrypts the way, it may be said so; that is recorded as any control's change is.
    one.configure("pgpci.require_encrypted_passwords = off")
    until(lambda: one.value("SHOW pgpci.require_encrypted_passwords") == "off", "read")
    change(GOOD[4], sslmode="disable")


def test_what_is_undone_was_never_used(guarded):
    with guarded.connect(autocommit=False) as conn:
        conn.execute(f"CREATE ROLE nil; ALTER ROLE nil PASSWORD '{GOOD[1]}'")
        conn.rollback()
        conn.execute(f"CREATE ROLE nil; SAVEPOINT s; ALTER ROLE nil PASSWORD '{GOOD[1]}'; ROLLBACK TO s")
        conn.execute(f"ALTER ROLE nil PASSWORD '{GOOD[1]}'")
        conn.rollback()


def test_the_history_cannot_be_read_or_written_by_hand(guarded):
    label = guarded.value("SELECT label FROM pg_shseclabel WHERE provider = 'pgpci_account' AND objoid = 'tom'::regrole")
    assert label.startswith("account:1:") and "SCRAM" not in label
    raw = base64.urlsafe_b64decode(label[10:] + "==")
    stored = guarded.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'tom'")
    assert base64.b64decode(stored.split(":")[2]) not in raw
    for sql in ["SECURITY LABEL FOR pgpci_account ON ROLE tom IS NULL", "SECURITY LABEL FOR pgpci_account ON ROLE tom IS 'x'",
                "DELETE FROM pg_shseclabel WHERE objoid = 'tom'::regrole"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            guarded.execute(sql, user="boss")


def test_a_failed_statement_says_nothing_of_another_role(guarded):
    label = "SELECT label FROM pg_shseclabel WHERE provider = 'pgpci_account' AND objoid = 'tom'::regrole"
    before = guarded.value(label)
    guarded.execute("DO $$ BEGIN CREATE ROLE tom; EXCEPTION WHEN OTHERS THEN NULL; END $$; ALTER TABLE payments RENAME TO p; ALTER TABLE p RENAME TO payments")
    assert guarded.value(label) == before


def test_nobody_without_the_right_learns_what_was_used(guarded):
    for password in [GOOD[0], GOOD[5], "something-else-77"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as error:
            guarded.execute(f"ALTER ROLE tom PASSWORD '{password}'", user="plain")
        assert "used before" not in str(error.value)


def test_the_first_password_is_changed_before_anything_else(guarded):
    first, second = "first-harbour-55-kite", "second-harbour-55-kite"
    guarded.execute(f"CREATE ROLE lil LOGIN PASSWORD '{first}'")
    with guarded.connect("lil", password=first) as conn:
        for sql in ["SELECT 1", "TABLE payments", "DO $$ BEGIN END $$", "COPY payments TO STDOUT", "CREATE TABLE t (i int)", "SET ROLE postgres",
                    "ALTER ROLE lil PASSWORD NULL", f"ALTER ROLE lil PASSWORD '{second}' CONNECTION LIMIT 3", "PREPARE p AS SELECT 1",
                    f"ALTER ROLE tom PASSWORD '{second}'"]:
            with pytest.raises(psycopg.Error) as error:
                conn.execute(sql)
            assert error.value.sqlstate == "28000", sql
        conn.execute("BEGIN; SHOW server_version; SET extra_float_digits = 3; COMMIT")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="used before"):
            conn.execute(f"ALTER ROLE lil PASSWORD '{first}'")
        # Not before it is certain.
        conn.execute(f"BEGIN; SAVEPOINT s; ALTER ROLE lil PASSWORD '{second}'; ROLLBACK TO s; COMMIT")
        with pytest.raises(psycopg.Error, match="must be changed"):
            conn.execute("SELECT 1")
        conn.execute(f"ALTER USER CURRENT_USER PASSWORD '{second}'")
        assert conn.execute("SELECT 1").fetchone() == (1,)
    with guarded.connect("lil", password=second) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    trail.wait_for(guarded, session_user="lil", event=lambda it: "its own password changed" in it)


@pytest.mark.parametrize("how", ["simple", "extended", "fast path", "replication"])
def test_a_reset_is_a_first_password_by_every_way_in(guarded, how):
    guarded.execute("DROP ROLE IF EXISTS mia; CREATE ROLE mia LOGIN" + " REPLICATION" * (how == "replication"))
    guarded.execute(f"ALTER ROLE mia PASSWORD '{GOOD[2]}'")
    if how == "replication":
        for database in ["true", "database"]:
            got = wire.try_password(guarded, "mia", GOOD[2], replication=database)
            refusal = wire.fields(got[-1][1])
            assert not wire.is_in(got) and refusal["C"] == "28000"
            assert ("pci.set_account" if MAJOR == 15 else "ALTER ROLE") in refusal["H"]
        return
    with wire.Wire(guarded, "mia") as one:
        assert wire.is_in(one.log_in(GOOD[2]))
        if how == "simple":
            got = one.query("SELECT pg_backend_pid()")
        elif how == "extended":
            one.send(b"P", b"\0SELECT pg_backend_pid()\0\0\0")
            one.send(b"B", b"\0\0\0\0\0\0\0\0")
            one.send(b"E", b"\0\0\0\0\0")
            one.send(b"S", b"")
            got = one.to_end()
        else:
            function = guarded.value("SELECT 'pg_backend_pid()'::regprocedure::oid::int")
            one.send(b"F", struct.pack("!IHHH", function, 0, 0, 0))
            got = one.to_end()
        errors = [wire.fields(body) for kind, body in got if kind == b"E"]
        assert [error["C"] for error in errors] == ["28000"] and not [1 for kind, _ in got if kind in b"DV"]
        assert not [1 for kind, _ in one.query(f"ALTER ROLE mia PASSWORD '{GOOD[3]}'") if kind == b"E"]
        assert [1 for kind, _ in one.query("SELECT pg_backend_pid()") if kind == b"D"]


def test_a_service_need_not(guarded):
    require_passwords(guarded, "robot")
    guarded.execute(f"ALTER ROLE robot PASSWORD '{GOOD[4]}'")
    with guarded.connect("robot", password=GOOD[4]) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_given_password_is_nobody_elses(guarded):
    guarded.execute("CREATE ROLE una LOGIN PASSWORD 'lamp-harbour-55-kite'")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="given to another"):
        guarded.execute("CREATE ROLE dua LOGIN PASSWORD 'lamp-harbour-55-kite'")
    guarded.execute("ALTER ROLE una PASSWORD 'lamp-harbour-56-kite'; CREATE ROLE dua LOGIN PASSWORD 'lamp-harbour-55-kite'")


def test_only_an_officer_says_what_an_account_is(guarded):
    for user, sql in [("postgres", "SELECT pci.set_account('kate', 'service')"), ("plain", "SELECT pci.set_account('kate', 'service')"),
                      ("ann", "SELECT pci.set_account('ann', 'service')")]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            guarded.execute(sql, user=user)
    refused(guarded, "SELECT pci.set_account('kate', 'robot')", user="ann")


def test_a_password_that_is_too_young(fresh_cluster):
    one = fresh_cluster("pgpci.password_min_age = '1 h'")
    one.execute(f"CREATE ROLE kate LOGIN PASSWORD '{GOOD[0]}'")
    # Somebody else gave it: it may be changed, and then not for a while.
    one.execute(f"ALTER ROLE kate PASSWORD '{GOOD[1]}'", user="kate")
    refused(one, f"ALTER ROLE kate PASSWORD '{GOOD[2]}'", user="kate", state="55000")
    one.execute(f"ALTER ROLE kate PASSWORD '{GOOD[2]}'")


def test_roles_travel_with_a_dump_of_the_cluster(fresh_cluster):
    one, two = fresh_cluster(), fresh_cluster(set_up=False)
    one.execute(f"CREATE ROLE kate LOGIN PASSWORD '{GOOD[0]}'; ALTER ROLE kate PASSWORD '{GOOD[1]}'")
    dump = one.run("pg_dumpall", "--globals-only").stdout
    # Who restores into a cluster of its own has verifiers to restore.
    two.psql("\n".join(line for line in dump.splitlines() if line != "CREATE ROLE postgres;"))
    label = "SELECT label FROM pg_shseclabel WHERE provider = 'pgpci_account' AND objoid = 'kate'::regrole"
    # What the first cluster's is now may be newer: its worker notes since when it knows the role.
    assert f"'{two.value(label)}'" in dump and one.value(label)
