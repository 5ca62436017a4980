"""Accounts that nobody uses, that are needed for a while only, and that several people use."""

import time

import psycopg
import pytest
import trail
import wire
from test_accounts import account, add, guess, is_written, travelling  # noqa: F401 (a fixture)
from test_keys import children, command_line, until

DAY = 86400


def from_everywhere(cluster, role):
    """The role logs in with its password from every address of this machine."""
    hba = cluster.data / "pg_hba.conf"
    hba.write_text(f"host all {role} 127.0.0.0/8 scram-sha-256\nlocal all {role} scram-sha-256\n" + hba.read_text())
    cluster.execute("SELECT pg_reload_conf()")


def set_account(cluster, role, kind, **limits):
    named = "".join(f", {name} => {value}" for name, value in limits.items())
    cluster.execute(f"SELECT pci.set_account('{role}', '{kind}'{named})", user="ann")


def is_in(cluster, role, password, **options):
    return wire.is_in(guess(cluster, role, password, **options))


@pytest.fixture(scope="module")
def guarded(module_cluster):
    return module_cluster()


def test_a_vendor_has_a_time(guarded):
    password = add(guarded, "rita", "service")
    for limits in [{}, {"valid_from": "now()", "valid_until": "now() - interval '1 h'"},
                   {"valid_until": "now() + '1 h'", "hours": "'8-18'"},
                   {"valid_until": "now() + '1 h'", "hours": "'08:00-18:00'", "time_zone": "'Nowhere/City'"},
                   {"valid_until": "now() + '1 h'", "sources": "'{nowhere}'"}]:
        with pytest.raises(psycopg.errors.InvalidParameterValue) as error:
            set_account(guarded, "rita", "vendor", **limits)
        assert error.value.diag.message_primary
    for sql in ["SELECT pci.set_account('rita', NULL)", "SELECT pci.set_account(NULL, 'vendor')"]:
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            guarded.execute(sql, user="ann")

    def lets_in(**limits):
        set_account(guarded, "rita", "vendor", **limits)
        return is_in(guarded, "rita", password)

    hour = "interval '1 h'"
    assert lets_in(valid_until=f"now() + {hour}")
    assert not lets_in(valid_until=f"now() - {hour}")
    assert not lets_in(valid_from=f"now() + {hour}", valid_until=f"now() + {hour} * 2")
    # From an hour ago to in an hour, and from in an hour to two hours later, as clocks show it in Chatham.
    zone = "'Pacific/Chatham'"
    span = "to_char(now() AT TIME ZONE {0} + {1} * interval '1 h', 'HH24:MI') || '-' || to_char(now() AT TIME ZONE {0} + {2} * interval '1 h', 'HH24:MI')"
    later = f"now() + {hour} * 100"
    assert lets_in(valid_until=later, hours=span.format(zone, -1, 1), time_zone=zone)
    assert not lets_in(valid_until=later, hours=span.format(zone, 1, 3), time_zone=zone)
    assert not lets_in(valid_until=later, hours=span.format("'UTC'", -1, 1), time_zone=zone), "12:45 or 13:45 away"
    assert account(guarded, "rita", "kind || (valid_until > now())::text || (hours ~ '^..:..-..:.. Pacific/Chatham$')") == "vendortruetrue"
    trail.wait_for(guarded, **{"class": "AUTH"}, event='role "rita": login refused: it is not its time')
    trail.wait_for(guarded, **{"class": "POLICY"}, session_user="ann",
                   event=lambda it: it.startswith('role "rita": account of kind vendor, until ') and "Chatham" in it)


def test_its_session_ends_with_it(guarded):
    password = add(guarded, "stan", "person")
    set_account(guarded, "stan", "vendor", valid_until="now() + interval '3 s'")
    with guarded.connect("stan", password=password) as conn:
        # An error stops all timers of a session.
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("TABLE nowhere")
        pid = conn.info.backend_pid
        until(lambda: not guarded.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", (pid,)), "it is ended")
        with pytest.raises(psycopg.Error, match="terminat"):
            conn.execute("SELECT 1")


def test_a_session_of_a_person_has_a_length(fresh_cluster):
    one = fresh_cluster("pgpci.max_session_length = '2s'")
    password = add(one, "kate", "person")
    robot = add(one, "till", "service")
    with one.connect("kate", password=password) as conn, one.connect("till", password=robot) as service:
        began = time.monotonic()
        with pytest.raises(psycopg.Error, match="terminat"):
            while time.monotonic() < began + 20:
                conn.execute("SELECT pg_sleep(0.1)")
        assert time.monotonic() > began + 1.5
        assert service.execute("SELECT 1").fetchone() == (1,)


def test_where_from(guarded):
    password = add(guarded, "lena", "person")
    from_everywhere(guarded, "lena")
    set_account(guarded, "lena", "person", sources="'{127.0.0.2, 10.0.0.0/8}'")
    assert account(guarded, "lena", "sources") == ["127.0.0.2/32", "10.0.0.0/8"]
    assert is_in(guarded, "lena", password, source="127.0.0.2")
    assert not is_in(guarded, "lena", password, source="127.0.0.3")
    assert not is_in(guarded, "lena", password, local=True)
    # Nobody locks it from elsewhere.
    guess(guarded, "lena", times=8, source="127.0.0.3")
    assert account(guarded, "lena", "failed_logins") == 0
    assert is_in(guarded, "lena", password, source="127.0.0.2")
    set_account(guarded, "lena", "person", sources="'{local}'")
    assert is_in(guarded, "lena", password, local=True) and not is_in(guarded, "lena", password, source="127.0.0.2")
    trail.wait_for(guarded, **{"class": "AUTH"}, event='role "lena": login refused: it does not come from there')


def test_one_account_of_two_people(guarded):
    password, service = add(guarded, "dora", "person"), add(guarded, "shop", "service")
    for role in ["dora", "shop"]:
        from_everywhere(guarded, role)
    event = 'role "{}": used from several sources'
    guarded.configure("pgpci.shared_use_window = 0")
    until(lambda: guarded.value("SHOW pgpci.shared_use_window") == "0", "the setting is read")
    for role, its in [("dora", password), ("shop", service)]:
        with wire.Wire(guarded, role) as first:
            assert wire.is_in(first.log_in(its))
            # The same machine by another way is one place.
            assert is_in(guarded, role, its)
        until(lambda: not any(f": {role} " in command_line(it) for it in children(guarded.postmaster)), "they are gone")
        assert is_in(guarded, role, its, source="127.0.0.2"), "one after the other"
    assert account(guarded, "dora", "shared_use") == 0
    for role, its in [("dora", password), ("shop", service)]:
        with wire.Wire(guarded, role) as first:
            assert wire.is_in(first.log_in(its))
            assert is_in(guarded, role, its, source="127.0.0.3"), "at once: told, not refused"
    trail.wait_for(guarded, **{"class": "AUTH"}, event=event.format("dora"))
    assert account(guarded, "dora", "shared_use || (shared_at > now() - interval '1 min')::text") == "1true"
    assert not trail.events(guarded, event=event.format("shop"))
    guarded.configure("pgpci.shared_use_window = 5")
    until(lambda: guarded.value("SHOW pgpci.shared_use_window") == "5min", "the setting is read")
    assert is_in(guarded, "dora", password, source="127.0.0.4"), "soon after each other"
    assert account(guarded, "dora", "shared_use") == 2


def test_locking_ends_sessions(guarded):
    password = add(guarded, "fred", "person")
    gone = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'fred'"
    with guarded.connect("fred", password=password) as conn, guarded.connect("ann", autocommit=False) as ann:
        ann.execute("SELECT pci.lock_account('fred', 'left')")
        ann.rollback()
        assert conn.execute("SELECT 1").fetchone() == (1,)
        ann.execute("SELECT pci.lock_account('fred', 'left', end_sessions => false)")
        ann.commit()
        assert conn.execute("SELECT 1").fetchone() == (1,)
        ann.execute("SELECT pci.lock_account('fred', 'left')")
        ann.commit()
        until(lambda: guarded.value(gone) == 0, "the session is ended")
        with pytest.raises(psycopg.Error, match="terminat"):
            conn.execute("SELECT 1")
    assert not is_in(guarded, "fred", password)


def test_what_nobody_uses_is_disabled(travelling):  # noqa: F811
    one, go = travelling
    passwords = {"kate": add(one, "kate", "person"), "idle": add(one, "idle", "person"),
                 "till": add(one, "till", "service"), "glass": add(one, "glass", "break_glass")}
    one.execute("CREATE ROLE never LOGIN")
    for role in ["kate", "till"]:
        assert is_in(one, role, passwords[role])
    # The catalog is not written at each login, but soon after the first.
    label = "SELECT label FROM pg_shseclabel WHERE provider = 'pgpci_account' AND objoid = 'kate'::regrole"
    until(lambda: one.value("SELECT last_login IS NOT NULL FROM pci.accounts WHERE role = 'kate'", user="ann"), "seen")
    # In an hour at the latest everybody is kept.
    go(3700)
    until(lambda: one.value("SELECT count(*) FROM pg_shseclabel WHERE provider = 'pgpci_account' AND objoid = 'never'::regrole") == 1, "never is kept")
    before = one.value(label)
    assert is_in(one, "kate", passwords["kate"])
    one.restart()
    go(80 * DAY)
    got = guess(one, "kate", passwords["kate"])
    assert [wire.fields(body)["M"] for kind, body in got if kind == b"N"][0].startswith("the password must be changed by ")
    until(lambda: one.value(label) != before, "the label has the login of that day")
    for user in ["ann", "bob", "postgres"]:
        one.connect(user).close()
    go(92 * DAY)
    # At once, and by every method; then it is written.
    assert not is_in(one, "idle", passwords["idle"])
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        one.connect("never")
    until(lambda: is_written(one, "idle") and is_written(one, "never"), "they are disabled")
    assert account(one, "idle", "is_locked || lock_reason") == "trueno login for too long"
    trail.wait_for(one, event='role "never": disabled: no login for too long')
    assert is_in(one, "till", passwords["till"]) and is_in(one, "glass", passwords["glass"], local=True)
    assert not is_written(one, "glass") and not is_written(one, "kate") and not is_written(one, "postgres")
    # As where another server takes over: what the labels say is less than a day behind.
    one.stop()
    (one.dir / "data.pgpci" / "lockout").unlink()
    one.start()
    one.connect("kate", password=passwords["kate"]).close()
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        one.connect("never")
    # An officer lets it in again, and for as long.
    one.execute("SELECT pci.unlock_account('never')", user="ann")
    one.connect("never").close()
    one.configure("pgpci.disable_inactive_services = on")
    go(200 * DAY)
    assert not is_in(one, "till", passwords["till"])


def test_an_old_password_has_a_grace(travelling):  # noqa: F811
    one, go = travelling
    one.configure("pgpci.password_grace = 5")
    password = add(one, "kate", "person")
    go(89 * DAY)
    assert is_in(one, "kate", password)
    go(94 * DAY)
    with one.connect("kate", password=password) as conn:
        with pytest.raises(psycopg.Error, match="too old"):
            conn.execute("SELECT 1")
    go(96 * DAY)
    assert not is_in(one, "kate", password)
