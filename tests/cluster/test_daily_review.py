"""The views that a reviewer opens every morning (PCI DSS 10.4.1), against a day on which all of it happened."""

from datetime import datetime, timedelta, timezone

import psycopg
import pytest
import trail
from conftest import CLEAR, VISA_2


def fails(cluster, sql, user="plain", dbname="postgres", **kwargs):
    with pytest.raises(psycopg.Error):
        with cluster.connect(user, dbname, **kwargs) as conn:
            conn.execute(sql)


@pytest.fixture(scope="module")
def day(module_cluster):
    one = module_cluster("pgpci.audit_checkpoint_interval = 1")
    one.execute("ALTER ROLE plain PASSWORD 'right-kiosk-77'; CREATE ROLE leaver LOGIN")
    hba = one.data / "pg_hba.conf"
    hba.write_text("host all plain all scram-sha-256\n" + hba.read_text())
    one.configure("log_min_messages = error")
    fails(one, "", password="wrong")
    fails(one, "", user="nobody")
    fails(one, "", user="clerk", dbname="nowhere")
    fails(one, "SELECT pci.reveal(card) FROM payments", user="look")
    fails(one, "SELECT rolpassword FROM pg_authid", user="look")
    fails(one, "SELECT 1 / (SELECT 0)", user="look")
    assert one.reveals() == CLEAR
    with one.connect("clerk") as conn:
        for _ in range(5):
            conn.execute("SELECT pci.reveal(card, 'chargeback') FROM payments")
        conn.execute("SELECT pci.reveal(card, 'fraud') FROM payments WHERE id = 1")
    one.execute("ALTER ROLE leaver NOLOGIN; GRANT pg_monitor TO leaver; REVOKE ALL ON payments FROM app; GRANT ALL ON payments TO app; DROP ROLE leaver")
    one.grant("app", "search")
    one.execute("SELECT pci.revoke_access('app', 'default', 'search')", user="ann")
    for sql in ("SET log_statement = 'none'", "ALTER SYSTEM SET log_connections = off", "ALTER SYSTEM RESET log_connections"):
        one.execute(sql)
    one.execute("SECURITY LABEL FOR pgpci_audit ON TABLE payments IS 'all'; SECURITY LABEL FOR pgpci_audit ON TABLE payments IS NULL")
    one.execute("INSERT INTO payments VALUES (90, %s, 1)", (VISA_2,), user="full")
    with one.connect("eve") as conn:
        assert conn.execute("SELECT verdict FROM pci.verify_audit()").fetchone()
    trail.wait_for(one, event="pci.verify_audit")
    return one


def rows(cluster, view, columns, more=""):
    with cluster.connect("eve") as conn:
        return conn.execute(f"SELECT {columns} FROM pci.{view} a {more}").fetchall()


def test_failed_logins(day):
    found = set(rows(day, "failed_logins", "a.session_user, a.database, a.sqlstate, a.client_addr"))
    assert found == {("plain", "postgres", "28P01", "127.0.0.1"), ("nobody", "postgres", "28000", "127.0.0.1"),
                     ("clerk", "nowhere", "3D000", "127.0.0.1")}


def test_reveals_by_role_and_day(day):
    found = rows(day, "reveals_by_day", "day = current_date OR day = current_date - 1, a.session_user, vault, purposes, revealed, is_outlier", "ORDER BY 2")
    assert found == [(True, "clerk", "vault default", ["chargeback", "fraud"], 21, False), (True, "full", "vault default", None, 4, False)]


def test_an_outlier(fresh_cluster):
    """A day on which a role reveals more than three times what it usually does."""
    one = fresh_cluster()
    one.stop()
    now = datetime.now(timezone.utc)
    counts = {("till", 5): 10, ("till", 4): 11, ("till", 3): 9, ("till", 2): 100, ("desk", 3): 2, ("desk", 2): 9}

    def reveal(role, days, count):
        event = f'"class":"REVEAL","event":"reveal","revealed":{count},"purpose":"x","success":true,"objects":["vault eu"]'
        return (f"{now - timedelta(days=days):%Y-%m-%dT%H:%M:%S.%fZ}", f'"session_user":"{role}",{event}')
    trail.fabricate(one, [[reveal(role, days, count) for (role, days), count in sorted(counts.items(), key=lambda it: -it[0][1])]])
    one.start()
    found = rows(one, "reveals_by_day", "a.session_user, revealed, is_outlier", "ORDER BY 1, day")
    assert found == [("desk", 2, False), ("desk", 9, False), ("till", 10, False), ("till", 11, False), ("till", 9, False), ("till", 100, True)]


def test_privilege_changes(day):
    found = rows(day, "privilege_changes", "a.session_user, a.class, a.event, a.objects, a.success")
    said = {(user, class_, event) for user, class_, event, _, _ in found}
    for expected in (("postgres", "ROLE", "ALTER ROLE"), ("postgres", "ROLE", "CREATE ROLE"), ("postgres", "ROLE", "DROP ROLE"),
                     ("postgres", "ROLE", "GRANT ROLE"), ("postgres", "GRANT", "REVOKE"), ("postgres", "GRANT", "GRANT")):
        assert expected in said, said
    policy = [event for user, class_, event in said if class_ == "POLICY"]
    assert any("search" in event and "app" in event for event in policy), policy
    assert not any(event == "DENIED" for event in policy)


def test_denied_access(day):
    found = rows(day, "denied_access", "a.session_user, a.class, a.event, a.sqlstate")
    assert {("look", "POLICY", "DENIED", "42501"), ("look", "READ", "SELECT", "42501"), ("plain", "AUTH", "LOGIN", "28P01"),
            ("nobody", "AUTH", "LOGIN", "28000")} <= set(found)
    assert not [row for row in found if row[3] == "22012"]


def test_after_hours(day):
    """Night and weekend are those of the session's time zone: one in which it is Sunday, or 3 o'clock; and one of noon on a working day."""
    with day.connect("eve") as conn:
        def seen(zone):
            conn.execute(f"SET TIME ZONE INTERVAL '{zone}' HOUR TO MINUTE")
            return conn.execute("SELECT a.class, a.session_user FROM pci.after_hours_access a").fetchall()
        hour, weekday = conn.execute("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')::int, extract(isodow FROM now() AT TIME ZONE 'UTC')::int").fetchone()
        night = (3 - hour) if hour < 15 else 27 - hour
        found = seen(f"{night:+03}:00")
        assert ("REVEAL", "clerk") in found and ("READ", "clerk") in found and ("WRITE", "full") in found
        noon = seen(f"{12 - hour:+03}:00")
        assert bool(noon) == (weekday > 5), noon[:3]


def test_controls_turned_down(day):
    found = rows(day, "controls_changed", "a.class, a.event, a.objects, a.message")
    said = [(class_, event, (objects or [None])[0]) for class_, event, objects, _ in found]
    for expected in (("CONFIG", "SET", "setting log_statement"), ("CONFIG", "ALTER SYSTEM", "setting log_connections"),
                     ("CONFIG", "RELOAD", "setting log_min_messages"), ("CONFIG", "SECURITY LABEL", "table payments")):
        assert expected in said, said
    assert ("CONFIG", "RELOAD", f"file {day.data}/pg_hba.conf") in said
    assert not [row for row in said if row[1].startswith("pci.")]


def test_each_look_is_recorded(day):
    with day.connect("fay") as conn:
        for view in ("failed_logins", "reveals_by_day", "privilege_changes", "denied_access", "after_hours_access", "controls_changed"):
            before = len(trail.events(day, session_user="fay", event="pci.audit"))
            conn.execute(f"SELECT * FROM pci.{view}")
            trail.wait_for(day, count=before + 1, session_user="fay", event="pci.audit")
