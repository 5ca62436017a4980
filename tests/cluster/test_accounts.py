"""Who guesses passwords is locked out, and what comes back on the wire tells nothing."""

import hashlib
import struct
import subprocess
import threading

import psycopg
import pytest
import trail
import wire
from conftest import ROOT
from test_keys import until

RIGHT, WRONG, OTHER = "seven-purple-otters9", "not-the-one-44", "vq8-mzr-kptw"


def log_in_by(cluster, **methods):
    """Roles log in by these methods over the network and the socket, all others as before."""
    hba = cluster.data / "pg_hba.conf"
    lines = "".join(f"host all {role} 127.0.0.1/32 {method}\nlocal all {role} {method}\n" for role, method in methods.items())
    hba.write_text(lines + hba.read_text())
    cluster.execute("SELECT pg_reload_conf()")


def password_of(role, which="second"):
    """One that no other role has."""
    return f"{RIGHT}-{hashlib.sha256((role + which).encode()).hexdigest()[:8]}"


def add(cluster, role, kind="service", method="scram-sha-256"):
    """A role that need not change its password first; returns that."""
    first, second = password_of(role, "first"), password_of(role)
    cluster.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{first}'")
    if kind != "person":
        cluster.execute(f"SELECT pci.set_account('{role}', '{kind}')", user="ann")
    else:
        cluster.execute(f"ALTER ROLE {role} PASSWORD '{second}'", user=role)
    log_in_by(cluster, **{role: method})
    return first if kind != "person" else second


def guess(cluster, role, password=WRONG, times=1, **options):
    return [wire.try_password(cluster, role, password, **options) for _ in range(times)][-1]


def is_written(cluster, role):
    return cluster.value("SELECT rolvaliduntil = '-infinity' FROM pg_roles WHERE rolname = %s", (role,)) is True


def account(cluster, role, column):
    return cluster.value(f"SELECT {column} FROM pci.accounts WHERE role = %s", (role,), user="ann")


@pytest.fixture(scope="module")
def guarded(module_cluster):
    one = module_cluster(set_up=False)
    # Such a verifier is only accepted before accounts are kept: from a restore.
    md5 = hashlib.md5(f"{RIGHT}olda".encode()).hexdigest()
    one.execute(f"CREATE ROLE olda LOGIN PASSWORD 'md5{md5}'")
    one.set_up()
    log_in_by(one, olda="md5", nobody="scram-sha-256", nonesuch="password")
    return one


@pytest.mark.parametrize("method", ["scram-sha-256", "password", "md5"])
def test_the_sixth_wrong_password_locks(guarded, method):
    name = {"scram-sha-256": "kate", "password": "carl", "md5": "olda"}[method]
    password = RIGHT if method == "md5" else add(guarded, name, "person", method)
    if method == "md5":
        guarded.execute("SELECT pci.set_account('olda', 'vendor', valid_until => now() + interval '1 day')", user="ann")
    guess(guarded, name, times=5)
    assert wire.is_in(guess(guarded, name, password)), "five are none too many, and a login forgets them"
    guess(guarded, name, times=5)
    assert account(guarded, name, "failed_logins") == 5
    guess(guarded, name)
    assert not wire.is_in(guess(guarded, name, password))
    assert account(guarded, name, "is_locked")
    until(lambda: is_written(guarded, name), "written in the role")
    assert account(guarded, name, "locked_until > now() + interval '29 min' AND locked_until < now() + interval '31 min'")
    # Now the right one, a wrong one and one of nobody look the same, byte for byte but for random bytes and the name.
    other = "nonesuch" if method == "password" else "nobody"
    seen = [shape(guess(guarded, role, tried), role) for role, tried in [(name, password), (name, WRONG), (other, WRONG)]]
    assert seen[0] == seen[1]
    if method != "md5":
        assert seen[0] == seen[2]
    assert ("R", 12) not in seen[0]
    trail.wait_for(guarded, **{"class": "AUTH"}, event=f'role "{name}": locked after wrong passwords')
    trail.wait_for(guarded, **{"class": "POLICY"}, event=f'role "{name}": locked after wrong passwords')


def shape(messages, role):
    """What a client can tell apart."""
    found = []
    for kind, body in messages:
        if kind == b"R":
            found.append(("R", struct.unpack("!I", body[:4])[0]))
        else:
            found.append((kind, body.replace(role.encode(), b"?")))
    return found


def test_an_officer_unlocks_and_nobody_else(guarded):
    guarded.execute("ALTER ROLE kate VALID UNTIL '2099-01-01 00:00:00+00'")
    until(lambda: is_written(guarded, "kate"), "written in the role")
    for user in ["postgres", "plain", "cy"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            guarded.execute("SELECT pci.unlock_account('kate')", user=user)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="own account"):
        guarded.execute("SELECT pci.unlock_account('ann')", user="ann")
    guarded.execute("SELECT pci.unlock_account('kate')", user="ann")
    # What was set meanwhile is what unlocking restores.
    assert guarded.value("SELECT rolvaliduntil = '2099-01-01 00:00:00+00' FROM pg_roles WHERE rolname = 'kate'")
    assert wire.is_in(guess(guarded, "kate", password_of("kate")))
    trail.wait_for(guarded, session_user="ann", event='role "kate": unlocked by an officer')


def test_an_officer_locks(guarded):
    password = add(guarded, "zoe")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        guarded.execute("SELECT pci.lock_account('zoe', 'left')")
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        guarded.execute("SELECT pci.lock_account('zoe', ' ')", user="ann")
    with guarded.connect("ann", autocommit=False) as conn:
        conn.execute("SELECT pci.lock_account('zoe', 'left the company')")
        conn.rollback()
    assert wire.is_in(guess(guarded, "zoe", password))
    guarded.execute("SELECT pci.lock_account('zoe', 'left the company')", user="ann")
    assert not wire.is_in(guess(guarded, "zoe", password))
    assert account(guarded, "zoe", "locked_until || ' ' || lock_reason") == "infinity left the company"
    # By other methods, too, which know of no VALID UNTIL.
    log_in_by(guarded, zoe="trust")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        guarded.connect("zoe")
    guarded.restart()
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        guarded.connect("zoe")
    guarded.execute("SELECT pci.unlock_account('zoe')", user="bob")
    guarded.connect("zoe").close()


def test_what_is_no_guess_is_not_counted(guarded):
    password = add(guarded, "moe", "person")
    for _ in range(7):
        with wire.Wire(guarded, "moe") as one:  # psql's first try, without a password
            assert one.read()[0] == b"R"
        assert not wire.is_in(guess(guarded, "moe", password, dbname="nowhere"))
    assert account(guarded, "moe", "failed_logins") == 0
    guarded.execute("ALTER ROLE moe VALID UNTIL '2001-01-01'")
    guess(guarded, "moe", times=7)
    guarded.execute("ALTER ROLE moe VALID UNTIL 'infinity'")
    assert account(guarded, "moe", "failed_logins") == 0
    assert wire.is_in(guess(guarded, "moe", password))


def test_a_stranger_does_not_lock_out_a_service(guarded):
    password = add(guarded, "till")
    guess(guarded, "till", times=6)
    assert not wire.is_in(guess(guarded, "till", password)), "that source is locked out"
    assert wire.is_in(guess(guarded, "till", password, local=True)), "another one is not"
    assert not account(guarded, "till", "is_locked")
    guarded.execute("SELECT pci.unlock_account('till')", user="ann")
    assert wire.is_in(guess(guarded, "till", password))


def test_break_glass_is_never_locked_and_only_let_in_locally(guarded):
    password = add(guarded, "glass", "break_glass")
    guess(guarded, "glass", times=12, local=True)
    assert wire.is_in(guess(guarded, "glass", password, local=True))
    assert not wire.is_in(guess(guarded, "glass", password))
    trail.wait_for(guarded, **{"class": "AUTH"}, event='role "glass": break_glass account logs in')
    assert 'break_glass account "glass" logs in' in guarded.log


def test_what_a_person_has_used_becomes_a_machines_by_two(guarded):
    """Else one officer alone would free a person of what holds for people."""
    password = add(guarded, "otto", "person")
    for kind in ["service", "break_glass"]:
        request = guarded.value(f"SELECT pci.set_account('otto', '{kind}')", user="ann")
        assert request and account(guarded, "otto", "kind") == "person"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            guarded.execute("SELECT pci.approve(%s)", (request,), user="ann")
        guarded.execute("SELECT pci.reject(%s, 'it is a person')", (request,), user="bob")
        assert account(guarded, "otto", "kind") == "person"
    # Limits come after the kind.
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="limits"):
        guarded.execute("SELECT pci.set_account('otto', 'service', sources => '{10.0.0.0/8}')", user="ann")
    request = guarded.value("SELECT pci.set_account('otto', 'service')", user="ann")
    assert guarded.value("SELECT kind || control || role || (valid_until IS NULL) FROM pci.requests WHERE id = %s", (request,)) \
        == "set accountkindottotrue"
    guarded.execute("SELECT pci.approve(%s)", (request,), user="bob")
    assert account(guarded, "otto", "kind") == "service"
    assert wire.is_in(guess(guarded, "otto", password))
    # Back is stricter, and what nobody has used yet is anybody's: one is enough.
    assert guarded.value("SELECT pci.set_account('otto', 'person')", user="ann") is None
    guarded.execute("CREATE ROLE robbi LOGIN")
    assert guarded.value("SELECT pci.set_account('robbi', 'service', sources => '{10.0.0.0/8}')", user="ann") is None
    # Who it is about does not approve it.
    guarded.connect("bob").close()
    request = guarded.value("SELECT pci.set_account('bob', 'service')", user="ann")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="own account"):
        guarded.execute("SELECT pci.approve(%s)", (request,), user="bob")


def test_accounts_are_seen_by_officers_auditors_and_each_their_own(guarded):
    for user in ["ann", "eve"]:
        assert ("till", "service") in guarded.execute("SELECT role, kind FROM pci.accounts", user=user)
    assert guarded.value("SELECT kind FROM pci.accounts WHERE role = session_user", user="plain") == "person"
    for user in ["plain", "postgres"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            guarded.execute("SELECT role, kind FROM pci.accounts", user=user)


def test_many_at_once(guarded):
    password = add(guarded, "pat", "person")
    threads = [threading.Thread(target=guess, args=(guarded, "pat")) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert account(guarded, "pat", "is_locked")
    assert not wire.is_in(guess(guarded, "pat", password))
    refused = trail.wait_for(guarded, 60, session_user="pat", event="LOGIN", success=False)
    assert {it["sqlstate"] for it in refused} <= {"28P01", "53300"}


def test_one_source_is_heard_no_more_for_a_while(fresh_cluster):
    one = fresh_cluster("pgpci.max_failed_logins_per_source = 20")
    password = add(one, "kate", "person")
    log_in_by(one, **{f"nobody{i}": "scram-sha-256" for i in range(20)})
    for i in range(20):
        guess(one, f"nobody{i}")
    assert not wire.is_in(guess(one, "kate", password))
    assert wire.is_in(guess(one, "kate", password, local=True)), "the server itself is heard"


def test_a_lock_that_cannot_be_written_holds_through_crash_and_restart(fresh_cluster):
    one = fresh_cluster("pgpci.home_database = 'nowhere'")
    password = add(one, "kate", "person")
    guess(one, "kate", times=4)
    one.restart("immediate")
    assert account(one, "kate", "failed_logins") == 4
    guess(one, "kate", times=2)
    for how in ["immediate", "fast"]:
        assert not wire.is_in(guess(one, "kate", password))
        assert not is_written(one, "kate") and account(one, "kate", "is_locked")
        one.restart(how)
    assert not wire.is_in(guess(one, "kate", password))
    # Which is said in the log, but not again and again.
    until(lambda: 'database "nowhere" does not exist' in one.log, "it is logged")
    assert one.log.count('database "nowhere" does not exist') <= 6
    # And is written once it can be.
    one.configure("pgpci.home_database = 'postgres'")
    until(lambda: is_written(one, "kate"), "written in the role")


def test_a_lock_outlives_the_memory_of_it(fresh_cluster):
    one = fresh_cluster()
    password = add(one, "kate", "person")
    guess(one, "kate", times=6)
    until(lambda: is_written(one, "kate"), "written in the role")
    one.stop()
    # As where another server takes over.
    (one.dir / "data.pgpci" / "lockout").unlink()
    one.start()
    assert not wire.is_in(guess(one, "kate", password))
    assert account(one, "kate", "is_locked")


@pytest.fixture
def travelling(fresh_cluster, tmp_path_factory):
    """A cluster, and a function that sets its clock ahead."""
    path = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, ROOT / "tests/cluster/support/clock.c"], check=True)
    for directory in (path.parent, path.parent.parent, path.parent.parent.parent):
        directory.chmod(0o755)
    ahead = path.parent / "ahead"
    ahead.write_text("0")
    ahead.chmod(0o644)
    one = fresh_cluster(start=False)
    one.env = {"PGPCI_TEST_CLOCK": str(ahead), "LD_PRELOAD": str(path)}
    one.start().set_up()
    return one, lambda seconds: ahead.write_text(str(seconds))


def test_time(travelling):
    one, go = travelling
    password = add(one, "kate", "person")
    one.execute("ALTER ROLE kate VALID UNTIL '2099-01-01 00:00:00+00'")
    guess(one, "kate", times=6)
    until(lambda: is_written(one, "kate"), "written in the role")
    go(29 * 60)
    assert not wire.is_in(guess(one, "kate", password))
    go(31 * 60)
    until(lambda: wire.is_in(guess(one, "kate", password)), "unlocked by time")
    assert one.value("SELECT rolvaliduntil = '2099-01-01 00:00:00+00' FROM pg_roles WHERE rolname = 'kate'")
    trail.wait_for(one, event='role "kate": unlocked by time')
    # 90 days later, the password is too old for anything but a change.
    go(89 * 86400)
    with one.connect("kate", password=password) as conn:
        conn.execute("SELECT 1")
    go(91 * 86400)
    with one.connect("kate", password=password) as conn:
        with pytest.raises(psycopg.Error, match="too old"):
            conn.execute("SELECT 1")
        conn.execute(f"ALTER ROLE kate PASSWORD '{OTHER}'")
        conn.execute("SELECT 1")
    with one.connect("kate", password=OTHER) as conn:
        conn.execute("SELECT 1")


def test_a_person_does_not_idle(fresh_cluster):
    one = fresh_cluster()
    settings = "SELECT current_setting('idle_session_timeout'), current_setting('idle_in_transaction_session_timeout')"
    with one.connect("plain", options="-c idle_session_timeout=0") as conn:
        assert conn.execute(settings).fetchone() == ("15min", "15min")
        for sql in ["SET idle_session_timeout = 0", "SET idle_in_transaction_session_timeout = '1h'", "RESET ALL", "DISCARD ALL",
                    "SELECT set_config('idle_session_timeout', '0', false)",
                    "BEGIN; SELECT set_config('idle_in_transaction_session_timeout', '0', true); SET LOCAL idle_session_timeout = 0",
                    "ROLLBACK", "DO $$ BEGIN SET idle_session_timeout = 0; END $$"]:
            conn.execute(sql)
            assert conn.execute(settings).fetchone() == ("15min", "15min"), sql
        # Shorter is a session's own choice.
        conn.execute("SET idle_session_timeout = '1min'")
        assert conn.execute(settings).fetchone() == ("1min", "15min")
    one.configure("pgpci.idle_session_timeout = 1")
    one.execute("SELECT pci.set_account('look', 'service')", user="ann")
    until(lambda: one.value("SHOW pgpci.idle_session_timeout", user="plain") == "1s", "the setting is read")
    with one.connect("look") as service, one.connect("plain") as person, one.connect("plain", autocommit=False) as inside:
        person.execute("SET idle_session_timeout = 0")
        inside.execute("SELECT 1")
        ended = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ANY (%s)"
        pids = [person.info.backend_pid, inside.info.backend_pid]
        until(lambda: one.value(ended, (pids,)), "they are ended")
        for conn in [person, inside]:
            with pytest.raises(psycopg.Error, match="terminat"):
                conn.execute("SELECT 1")
        assert service.execute("SELECT 1").fetchone() == (1,)
