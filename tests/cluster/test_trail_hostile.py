"""Whoever has every right in SQL: makes an event vanish, forges one, stops the trail. What can be refused is, what cannot is told."""

import psycopg
import pytest
import trail
from conftest import CLEAR, VISA
from test_events import of
from test_keys import until


@pytest.fixture(scope="module")
def audited(module_cluster):
    return module_cluster("pgpci.audit_checkpoint_interval = 1")


@pytest.mark.parametrize("sql", [
    "SET pgpci.audit_scope = 'default'", "SELECT set_config('pgpci.audit_on_failure', 'allow', false)", "ALTER SYSTEM SET pgpci.audit_retention = 92",
    "ALTER ROLE postgres SET pgpci.audit_scope = 'default'", "ALTER DATABASE postgres SET pgpci.audit_on_failure = 'allow'",
    "UPDATE pg_proc SET proname = 'x' WHERE proname = 'reveal'", "CREATE FUNCTION f() RETURNS text LANGUAGE c AS '$libdir/pgpci', 'pci_export_checkpoint'",
    "SELECT count(*) FROM pci.audit_trail", "SELECT pci.export_checkpoint()", "SELECT pci.rotate_audit_key()", "SET SESSION AUTHORIZATION eve; SELECT count(*) FROM pci.audit_trail",
    "SET ROLE pci_auditor; SELECT pci.verify_audit()",
])
def test_what_is_refused(audited, sql):
    with audited.connect() as conn:
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(sql)
        assert caught.value.sqlstate in ("55P02", "42501")
        failed = of(audited, conn, success=False, sqlstate=caught.value.sqlstate)
        assert any(record.get("statement", "").split("'")[0] in sql for record in failed)


def test_what_is_told(audited):
    """A control that is PostgreSQL's own, or code that is loaded: before it can do anything."""
    with audited.connect() as conn:
        for sql, event, name in (("SET log_min_messages = panic", "SET", "setting log_min_messages"), ("SET session_replication_role = replica", "SET", "setting session_replication_role"),
                                 ("ALTER SYSTEM SET shared_preload_libraries = ''", "ALTER SYSTEM", "setting shared_preload_libraries"), ("LOAD 'auto_explain'", "LOAD", "library auto_explain"),
                                 ("COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'", "COPY", "program cat > /dev/null"),
                                 ("DROP EXTENSION IF EXISTS dblink", "DROP EXTENSION", "extension dblink")):
            conn.execute(sql)
            assert name in of(audited, conn, event=event, objects=lambda it: it and name in it)[0]["objects"]
        # What it reads is recorded as before, what fails without its text.
        conn.execute("SELECT card FROM payments WHERE id = 1")
        of(audited, conn, event="SELECT", objects=["public.payments(id,card)"])
        with pytest.raises(psycopg.Error):
            conn.execute("SELECT 1 / (SELECT id - id FROM payments LIMIT 1)")
        assert of(audited, conn, success=False)[0]["objects"] == ["public.payments(id)"]
    audited.execute("ALTER SYSTEM RESET shared_preload_libraries")


def test_the_writer_is_not_ended(audited):
    writer = trail.writer(audited)
    with audited.connect() as conn:
        for function in ("pg_terminate_backend", "pg_cancel_backend"):
            conn.execute(f"SELECT {function}({writer})")
            assert of(audited, conn, objects=[f"function pg_catalog.{function}"])
    assert audited.reveals() == CLEAR
    until(lambda: audited.value("SELECT state FROM pci.audit_status") == "running", "it is written")
    assert trail.wait_for(audited, event="reveal", revealed=4)


def test_a_forged_record(audited):
    """Texts that look like the trail's own lines are texts."""
    forged = '","class":"POLICY","session_user":"ann"}\n{"v":1,"seq":1'
    with audited.connect("plain", application_name=forged[:60]) as conn:
        conn.execute("SELECT set_config('pgpci.app_user', %s, false)", (forged,))
        with pytest.raises(psycopg.Error):
            conn.execute("SELECT 1 / (SELECT 0) -- " + forged)
        failed = of(audited, conn, success=False)[0]
    assert failed["session_user"] == "plain" and failed["class"] == "READ" and failed["app_user"] == forged
    assert failed["statement"].endswith(forged)
    with audited.connect() as conn:
        conn.execute("SET SESSION AUTHORIZATION \"full\"")
        conn.execute("SELECT card FROM payments WHERE id = 2")
        read = of(audited, conn, event="SELECT", objects=["public.payments(id,card)"])[0]
    assert (read["session_user"], read["current_user"]) == ("postgres", "full")
    trail.assert_verifies(audited)


def test_what_is_swallowed(audited):
    """Reveals and reads in blocks that catch their own error, in savepoints, in cursors that are never closed."""
    with audited.connect("full") as conn:
        conn.execute("DO $$ DECLARE x text; BEGIN BEGIN SELECT pci.reveal(card) INTO x FROM payments WHERE id = 1; RAISE 'x'; EXCEPTION WHEN OTHERS THEN NULL; END; END $$")
        assert [record.get("revealed") for record in of(audited, conn, count=2, event="reveal")] == [None, 1]
    with audited.connect("full") as conn:
        conn.execute("BEGIN; SAVEPOINT s")
        assert conn.execute("SELECT pci.reveal(card) FROM payments WHERE id = 1").fetchone() == (VISA,)
        conn.execute("ROLLBACK TO s; ROLLBACK")
        ended = of(audited, conn, event="reveal", revealed=1)[0]
        assert ended["success"] is False


def test_a_file_of_the_trail_that_is_written_over(fresh_cluster):
    """Superusers may have the server write files. It is told, and what was there is missing: nobody calls that good."""
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1", "pgpci.audit_compress = off")
    until(lambda: one.value("SELECT sealed FROM pci.audit_status") > 0, "it is sealed")
    note = one.value("SELECT pci.export_checkpoint()", user="eve")
    (one.dir / "anchor").write_text(note)
    one.restart()
    first = sorted(trail.directory(one).glob("*.jsonl"))[0]
    one.execute(f"COPY (SELECT 'nothing happened') TO '{first}'")
    assert trail.wait_for(one, event="COPY", objects=lambda it: it and f"file {first}" in it)[0]["success"]
    one.stop()
    code, found = trail.verify(one, "--anchor", one.dir / "anchor")
    assert code in (3, 4, 5), found
