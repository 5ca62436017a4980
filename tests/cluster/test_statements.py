"""Statements that end otherwise than by going well, or run where one does not look for them."""

import threading

import psycopg
import pytest
import trail
from conftest import MASTERCARD, VISA, VISA_2
from test_events import of
from wire import Wire


@pytest.fixture(scope="module")
def audited(module_cluster):
    one = module_cluster()
    one.execute("""
        SET search_path = public;
        CREATE TABLE invoices (id int PRIMARY KEY, card pci.pan, follows int REFERENCES invoices DEFERRABLE INITIALLY DEFERRED);
        CREATE FUNCTION masked(i int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
            'BEGIN RETURN (SELECT card FROM public.payments WHERE id = i); END';
        GRANT ALL ON invoices TO "full";
    """)
    return one


def test_a_constraint_that_fails_at_commit(audited):
    with audited.connect("full", autocommit=False) as conn:
        conn.execute(f"INSERT INTO invoices VALUES (1, '{VISA}', 99)")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            conn.commit()
        failed = of(audited, conn, success=False, sqlstate="23503")[0]
        assert failed["event"] == "COMMIT" and failed["objects"] == ["public.invoices"] and "invoices_follows_fkey" in failed["message"]
        assert of(audited, conn, event="INSERT", success=True)
        assert not trail.events(audited, pid=conn.info.backend_pid, event="COMMIT", success=True)


def test_the_verbs_of_merge(audited):
    merge = f"MERGE INTO invoices USING (VALUES (1, '{VISA}'), (2, '{MASTERCARD}')) v (id, card) ON invoices.id = v.id "
    with audited.connect("full") as conn:
        conn.execute(merge + "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.card::pci.pan, NULL)")
        both = of(audited, conn, event="MERGE INSERT DELETE")[0]
        assert both["class"] == "WRITE" and both["rows"] == 2 and both["objects"] == ["public.invoices(id,card,follows)"]
        conn.execute(merge + "WHEN MATCHED THEN UPDATE SET follows = 1")
        assert of(audited, conn, event="MERGE UPDATE")[0]["rows"] == 2


def test_a_cancelled_one(audited):
    with audited.connect("full") as conn:
        conn.execute("SET statement_timeout = 200")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT card, pg_sleep(10) FROM payments")
        assert of(audited, conn, success=False, sqlstate="57014")[0]["objects"] == ["public.payments(card)"]


def test_a_terminated_one(audited):
    conn = audited.connect("full")
    pid = conn.info.backend_pid
    thread = threading.Thread(target=lambda: pytest.raises(psycopg.Error, conn.execute, "SELECT card, pg_sleep(60) FROM payments"))
    thread.start()
    with audited.connect() as other:
        while not other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND query LIKE '%%pg_sleep(60)%%'", (pid,)).fetchone():
            pass
    thread.join()
    failed = trail.wait_for(audited, pid=pid, success=False, sqlstate="57P01")[0]
    assert failed["objects"] == ["public.payments(card)"]
    assert trail.wait_for(audited, pid=pid, event="LOGOUT")[0]["sqlstate"] == "57P01"


def test_a_client_that_disappears(audited):
    """In the middle of a cursor, of a transaction that wrote: the rows that left are told, and that nothing came of the rest."""
    with Wire(audited, "full", application_name="gone") as wire:
        wire.until(b"Z")
        for sql in ("BEGIN", f"INSERT INTO payments VALUES (70, '{VISA_2}', 1)", "DECLARE half CURSOR FOR SELECT card FROM payments",
                    "FETCH 2 FROM half"):
            wire.send(b"Q", sql.encode() + b"\0")
            wire.until(b"Z")
    logout = trail.wait_for(audited, application_name="gone", event="LOGOUT")[0]
    of_it = [record for record in trail.events(audited, pid=logout["pid"]) if record["event"] in ("SELECT", "INSERT", "COMMIT")]
    assert [(record["event"], record["rows"]) for record in of_it] == [("INSERT", 1), ("SELECT", 2)]
    assert of_it[-1]["seq"] < logout["seq"], "the end of the session is its last record"


def test_a_suspended_portal(audited):
    """As drivers do that fetch in portions: Execute with a limit, again and again."""
    with Wire(audited, "full") as wire:
        wire.until(b"Z")
        wire.send(b"P", b"\0SELECT card FROM payments ORDER BY id\0\0\0")
        wire.send(b"B", b"\0\0\0\0\0\0\0\0")
        for _ in range(2):
            wire.send(b"E", b"\0" + (3).to_bytes(4, "big"))
        wire.send(b"S", b"")
        assert [kind for kind, _ in wire.until(b"Z")] == [b"1", b"2", b"D", b"D", b"D", b"s", b"D", b"C", b"Z"]
    whole = "SELECT card FROM payments ORDER BY id"
    assert [record["rows"] for record in trail.wait_for(audited, statement=whole)] == [4]
    with Wire(audited, "full") as wire:
        wire.until(b"Z")
        wire.send(b"P", b"\0SELECT card FROM payments ORDER BY -id\0\0\0")
        wire.send(b"B", b"\0\0\0\0\0\0\0\0")
        wire.send(b"E", b"\0" + (3).to_bytes(4, "big"))
        wire.send(b"H", b"")
        wire.until(b"s")
    # It was never asked for the rest.
    assert [record["rows"] for record in trail.wait_for(audited, statement="SELECT card FROM payments ORDER BY -id")] == [3]


def test_what_runs_while_a_plan_is_made(audited):
    """An IMMUTABLE function is called by the planner; EXPLAIN alone is enough."""
    with audited.connect("full") as conn:
        conn.execute("EXPLAIN SELECT public.masked(1)")
        read = of(audited, conn, event="SELECT", objects=["public.payments(id,card)"])[0]
        assert read["rows"] == 1 and read["success"]


def test_what_a_definer_and_a_trigger_do(audited):
    audited.execute("""
        CREATE FUNCTION public.definer() RETURNS bigint SECURITY DEFINER LANGUAGE plpgsql AS
            'BEGIN RETURN (SELECT count(amount) FROM public.payments); END';
        CREATE TABLE public.notes (i int); GRANT INSERT ON public.notes TO plain;
        CREATE FUNCTION public.note() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS
            'BEGIN PERFORM public.definer(); RETURN NULL; END';
        CREATE TRIGGER note AFTER INSERT ON public.notes FOR EACH ROW EXECUTE FUNCTION public.note();
    """)
    with audited.connect("plain") as conn:
        conn.execute("INSERT INTO public.notes VALUES (1)")
        read = of(audited, conn, event="SELECT", objects=["public.payments(amount)"])[0]
        assert (read["session_user"], read["current_user"]) == ("plain", "postgres") and read["success"]
