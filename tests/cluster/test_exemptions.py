"""Weaker than PCI DSS: only by exemption, which two officers make, and which ends by itself."""

import psycopg
import pytest
import trail
import wire
from test_accounts import account, add, guess, travelling  # noqa: F401 (a fixture)
from test_passwords import GOOD, refused, scram

DAY = 86400


def approve(cluster, request):
    cluster.execute("SELECT pci.approve(%s)", (request,), user="bob")


def exempt(cluster, control, value, role=None, until="now() + interval '30 days'", reason="old terminal"):
    whose = f", role => '{role}'" if role else ""
    request = cluster.value(f"SELECT pci.exempt('{control}', {value}, {until}, '{reason}'{whose})", user="ann")
    approve(cluster, request)


@pytest.fixture(scope="module")
def guarded(module_cluster):
    return module_cluster()


def test_what_is_asked_for(guarded):
    ask = "SELECT pci.exempt('{}', {}, {}, '{}'{})"
    soon = "now() + interval '1 day'"
    for sql in [ask.format("password_max_age", 90, soon, "why", ""), ask.format("password_min_length", 12, soon, "why", ""),
                ask.format("restore", 1, soon, "why", ""), ask.format("nothing", 1, soon, "why", ""),
                ask.format("password_max_age", 0, "now() - interval '1 s'", "why", ""),
                ask.format("password_max_age", 0, "now() + interval '400 days'", "why", ""),
                ask.format("password_max_age", 0, "NULL", "why", ""), ask.format("password_max_age", 0, soon, " ", "")]:
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            guarded.execute(sql, user="ann")
    for user, whose in [("postgres", ""), ("plain", ""), ("ann", ", role => 'ann'")]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            guarded.execute(ask.format("password_max_age", 0, soon, "why", whose), user=user)
    # Nobody approves what they asked for, or what is for themselves.
    request = guarded.value(ask.format("password_max_age", 0, soon, "why", ", role => 'bob'"), user="ann")
    for user in ["ann", "bob", "plain"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            guarded.execute("SELECT pci.approve(%s)", (request,), user=user)
    assert guarded.value("SELECT control || value || role FROM pci.requests WHERE id = %s", (request,)) == "password_max_age0bob"
    assert guarded.execute("SELECT * FROM pci.exemptions", user="ann") == []
    # The settings are no way round.
    with pytest.raises(psycopg.Error):
        guarded.execute("ALTER SYSTEM SET pgpci.password_min_length = 8")


def test_shorter_passwords_of_one_role(guarded):
    guarded.execute("CREATE ROLE old LOGIN; CREATE ROLE new LOGIN")
    refused(guarded, "ALTER ROLE old PASSWORD 'vq8-mzr-k'")
    exempt(guarded, "password_min_length", 8, "old")
    guarded.execute("ALTER ROLE old PASSWORD 'vq8-mzr-k'")
    refused(guarded, "ALTER ROLE old PASSWORD 'vq8-mzr'")
    refused(guarded, "ALTER ROLE new PASSWORD 'vq8-mzr-x'")
    assert account(guarded, "old", "exemptions") == ["password_min_length=8"]
    columns = "role, control, value, reason, until > now() + interval '29 days'"
    for user in ["ann", "eve"]:
        assert guarded.execute(f"SELECT {columns} FROM pci.exemptions", user=user) == [("old", "password_min_length", 8, "old terminal", True)]
    for user in ["plain", "postgres"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            guarded.execute("SELECT * FROM pci.exemptions", user=user)
    trail.wait_for(guarded, session_user="bob", event=lambda it: it.startswith('role "old": exempt: password_min_length = 8 until '))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        guarded.execute("SELECT pci.end_exemption('password_min_length', 'old')")
    guarded.execute("SELECT pci.end_exemption('password_min_length', 'old')", user="ann")
    refused(guarded, "ALTER ROLE old PASSWORD 'vq8-mzr-y'")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        guarded.execute("SELECT pci.end_exemption('password_min_length', 'old')", user="ann")


def test_more_wrong_passwords_for_all_and_fewer_used_before(guarded):
    password = add(guarded, "kate", "person")
    exempt(guarded, "max_failed_logins", 12)
    guess(guarded, "kate", times=11)
    assert account(guarded, "kate", "failed_logins || is_locked::text") == "11false"
    assert wire.is_in(guess(guarded, "kate", password))
    guess(guarded, "kate", times=12)
    assert account(guarded, "kate", "is_locked")
    guarded.execute("SELECT pci.end_exemption('max_failed_logins')", user="bob")
    guarded.execute("SELECT pci.unlock_account('kate')", user="ann")
    guess(guarded, "kate", times=6)
    assert account(guarded, "kate", "is_locked")
    guarded.execute(f"CREATE ROLE tom PASSWORD '{GOOD[0]}'; ALTER ROLE tom PASSWORD '{GOOD[1]}'")
    exempt(guarded, "password_history", 1, "tom")
    guarded.execute(f"ALTER ROLE tom PASSWORD '{GOOD[0]}'")
    refused(guarded, f"ALTER ROLE tom PASSWORD '{GOOD[0]}'")


def test_a_person_that_may_idle(guarded):
    exempt(guarded, "idle_session_timeout", 3600, "plain")
    with guarded.connect("plain") as conn:
        assert conn.execute("SHOW idle_session_timeout").fetchone() == ("1h",)
    with guarded.connect("look") as conn:
        assert conn.execute("SHOW idle_session_timeout").fetchone() == ("15min",)


def test_a_role_has_few(guarded):
    guarded.execute("CREATE ROLE many LOGIN")
    for control, value in [("password_min_length", 8), ("password_max_age", 0), ("lockout_time", 5)]:
        exempt(guarded, control, value, "many")
    exempt(guarded, "lockout_time", 10, "many")  # in place of the one before
    request = guarded.value("SELECT pci.exempt('max_failed_logins', 11, now() + interval '1 day', 'why', 'many')", user="ann")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        approve(guarded, request)


def test_it_ends_by_itself(travelling):  # noqa: F811
    one, go = travelling
    password = add(one, "kate", "person")
    exempt(one, "password_max_age", 0, "kate", "now() + interval '100 days'")
    exempt(one, "inactivity_limit", 95, "kate", "now() + interval '100 days'")
    go(92 * DAY)
    with one.connect("kate", password=password) as conn:
        conn.execute("SELECT 1")
    go(101 * DAY)
    with one.connect("kate", password=password) as conn:
        with pytest.raises(psycopg.Error, match="too old"):
            conn.execute("SELECT 1")


def test_a_restore_has_a_time(travelling):  # noqa: F811
    one, go = travelling
    password = add(one, "kate", "person")
    stored = one.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'kate'")
    restore = f"ALTER ROLE kate PASSWORD '{scram(GOOD[2])}'"
    assert "ready-made" in refused(one, restore)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        one.execute("SELECT pci.begin_restore('2 days', 'moving')", user="ann")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        one.execute("SELECT pci.begin_restore('1 h', 'moving')")
    request = one.value("SELECT pci.begin_restore('1 h', 'moving')", user="ann")
    assert "ready-made" in refused(one, restore), "not yet"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        one.execute("SELECT pci.approve(%s)", (request,), user="ann")
    approve(one, request)
    assert one.execute("SELECT role, control FROM pci.exemptions", user="ann") == [(None, "restore")]
    # Nothing weak even now.
    for weak in [scram(GOOD[3], iterations=1), scram(GOOD[3], salt=b"short"), "md5" + "a" * 32, "SCRAM-SHA-256$4096:x$y:z"]:
        refused(one, f"ALTER ROLE kate PASSWORD '{weak}'")
    # pg_dumpall's statements, for a role that is there and one that is not; their users need not change anything.
    one.execute(restore)
    one.execute(f"CREATE ROLE lil; ALTER ROLE lil WITH LOGIN PASSWORD '{scram(GOOD[4])}'")
    for role in ["kate", "lil"]:
        trail.wait_for(one, event=f'role "{role}": ready-made verifier taken in a restore')
        assert not account(one, role, "must_change")
    with one.connect("kate", password=GOOD[2]) as conn:
        conn.execute("SELECT 1")
    one.execute(f"ALTER ROLE kate PASSWORD '{stored}'")
    one.connect("kate", password=password).close()
    go(3601)
    assert "ready-made" in refused(one, restore)
    # Or when an officer says so.
    approve(one, one.value("SELECT pci.begin_restore('1 h', 'moving on')", user="ann"))
    one.execute(restore)
    one.execute("SELECT pci.end_restore()", user="ann")
    assert "ready-made" in refused(one, restore)
    trail.wait_for(one, session_user="ann", event="all roles: exemption ended: restore")
