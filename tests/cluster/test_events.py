"""What is recorded of statements, sessions and failures, and that errors stay as they are."""

import psycopg
import pytest
import trail
from conftest import AMEX, MASTERCARD, VISA, VISA_2
from test_keys import until


@pytest.fixture(scope="module")
def audited(module_cluster):
    one = module_cluster()
    one.execute("""
        SET search_path = public;
        CREATE TABLE ordinary (id int PRIMARY KEY, t text); INSERT INTO ordinary VALUES (1, 'x');
        CREATE TABLE orders (id int, card pci.pan REFERENCES payments (card));
        CREATE VIEW cards AS SELECT card FROM payments; GRANT ALL ON ordinary, orders, cards TO "full", plain, look;
        CREATE FUNCTION count_cards() RETURNS bigint LANGUAGE plpgsql AS
            'BEGIN RETURN (SELECT count(*) FROM public.payments); END';
    """)
    return one


def of(cluster, conn, **fields):
    return trail.wait_for(cluster, pid=conn.info.backend_pid, **fields)


def test_statements_on_card_numbers(audited):
    with audited.connect("full") as conn:
        conn.execute("SELECT id, card FROM payments").fetchall()
        read = of(audited, conn, event="SELECT")[0]
        assert read["class"] == "READ" and read["rows"] == 4 and read["success"]
        assert read["objects"] == ["public.payments(id,card)"] and read["statement"] == "SELECT id, card FROM payments"
        conn.execute(f"UPDATE payments SET amount = 7 WHERE id = 1; UPDATE payments SET amount = 8 WHERE id IN (2, 3)")
        first, second = of(audited, conn, event="UPDATE", count=2)
        assert (first["rows"], second["rows"]) == (1, 2) and first["xid"]
        assert second["statement"] == "UPDATE payments SET amount = 8 WHERE id IN (2, 3)"
        conn.execute("SELECT count(*) FROM cards")
        assert of(audited, conn, statement="SELECT count(*) FROM cards")[0]["objects"] == \
            ["public.cards", "public.payments(card)"]
        conn.execute("SELECT count_cards()")
        nested = of(audited, conn, statement=lambda it: it and "count(*) FROM public.payments" in it)[0]
        assert nested["objects"] == ["public.payments"]
        with conn.transaction(), conn.cursor(name="c") as cursor:
            cursor.itersize = 2
            cursor.execute("SELECT card FROM payments ORDER BY id")
            assert len(cursor.fetchall()) == 4
        assert of(audited, conn, statement=lambda it: it and "ORDER BY id" in it)[0]["rows"] == 4
        with conn.cursor().copy("COPY payments (id, card) TO STDOUT") as copy:
            assert len(list(copy)) == 4
        copied = of(audited, conn, event="COPY")[0]
        assert (copied["class"], copied["rows"], copied["objects"]) == ("COPY", 4, ["public.payments(id,card)"])
        with conn.cursor().copy("COPY payments (id, card) FROM STDIN") as copy:
            copy.write_row((77, VISA_2))
        copied = of(audited, conn, event="COPY", count=2)[1]
        assert (copied["rows"], copied["objects"]) == (1, ["public.payments(id,card)"])
        conn.execute("INSERT INTO orders VALUES (1, %s)", (VISA_2,))
        assert of(audited, conn, event="FOREIGN KEY")
        conn.execute("DELETE FROM orders; DELETE FROM payments WHERE id = 77")


def test_what_is_none_of_ours(audited):
    with audited.connect("plain") as conn:
        conn.execute("SELECT * FROM ordinary; UPDATE ordinary SET t = 'y'; SET work_mem = '8MB'; BEGIN; COMMIT")
        conn.execute("SELECT 1 / (SELECT 1)")
        pid = conn.info.backend_pid
    until(lambda: trail.events(audited, pid=pid, event="LOGOUT"), "the session ends")
    assert [record["event"] for record in trail.events(audited, pid=pid)] == ["LOGIN", "LOGOUT"]
    audited.configure("pgpci.audit_scope = 'all'")
    with audited.connect("plain") as conn:
        until(lambda: conn.execute("SHOW pgpci.audit_scope").fetchone()[0] == "all", "the setting is read")
        conn.execute("SELECT t FROM ordinary")
        assert of(audited, conn, event="SELECT", objects=["public.ordinary"])[0]["rows"] == 1
    audited.configure("pgpci.audit_scope = 'default'")


def test_what_is_remembered_of_tables_changes_with_them(fresh_cluster):
    """Names and kinds of tables are looked up once: whatever makes them others is seen."""
    one = fresh_cluster("pgpci.audit_scope = 'all'")
    one.execute(f'CREATE TABLE public.t (id int); CREATE TABLE public."c{VISA}" (id int);'
                f'GRANT ALL ON public.t, public."c{VISA}" TO "full"')
    with one.connect("full") as conn:

        def insert(table, values="(1)"):
            conn.execute(f"INSERT INTO public.{table} VALUES {values}", prepare=False)

        for _ in range(2):
            insert("t")
            insert(f'"c{VISA}"')
        hidden = "public.c411111******1111"
        assert [of(one, conn, event="INSERT", count=4)[i]["objects"] for i in range(4)] == [["public.t"], [hidden]] * 2
        assert not of(one, conn, event="INSERT", count=4)[2].get("revealed")
        one.execute("ALTER TABLE public.t RENAME TO u")
        insert("u")
        assert of(one, conn, event="INSERT", count=5)[4]["objects"] == ["public.u"]
        one.execute("ALTER SCHEMA public RENAME TO other; CREATE SCHEMA public; ALTER TABLE other.u SET SCHEMA public;"
                    "ALTER TABLE public.u ADD card pci.pan; GRANT USAGE ON SCHEMA public TO PUBLIC")
        assert not trail.events(one, pid=conn.info.backend_pid, event="COMMIT")
        insert("u", f"(2, '{VISA}')")
        assert of(one, conn, event="INSERT", count=6)[5]["objects"] == ["public.u(id,card)"]
        # It holds card numbers by now: what it intends is recorded before it commits, and that it did.
        assert of(one, conn, event="COMMIT", count=2)
        with conn.transaction():
            insert("u", "(3, NULL)")
        assert of(one, conn, event="COMMIT", count=4)


def test_transactions_are_begun_and_ended_with_words_of_the_clients(audited):
    """Which are shown to others, and are no event."""
    with audited.connect("plain") as conn, audited.connect("postgres") as other:
        for _ in range(2):
            conn.execute(f"BEGIN /* {VISA} */")
            shown = other.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (conn.info.backend_pid,)).fetchone()
            assert shown[0] == "BEGIN /* 411111******1111 */"
            conn.execute("SAVEPOINT a; ROLLBACK TO a; COMMIT")
        pid = conn.info.backend_pid
    until(lambda: trail.events(audited, pid=pid, event="LOGOUT"), "the session ends")
    assert {record["event"] for record in trail.events(audited, pid=pid)} <= {"LOGIN", "LOGOUT"}


def test_administration(audited):
    with audited.connect() as conn:
        conn.execute("SET search_path = public")
        conn.execute("CREATE ROLE tmp LOGIN PASSWORD 'secret-kiosk-77'; GRANT SELECT ON ordinary TO tmp; SET log_statement = 'none'")
        conn.execute("ALTER ROLE tmp SET work_mem = '1MB'; CREATE INDEX i ON ordinary (t); DROP INDEX i; DROP OWNED BY tmp; DROP ROLE tmp")
        made = of(audited, conn, event="CREATE ROLE")[0]
        assert made["class"] == "ROLE" and "secret" not in str(made) and "role tmp" in made["objects"]
        assert of(audited, conn, event="GRANT")[0]["class"] == "GRANT"
        assert of(audited, conn, event="SET", objects=["setting log_statement"])
        assert of(audited, conn, event="ALTER ROLE")[0]["class"] == "CONFIG"
        assert "index public.i" in of(audited, conn, event="DROP INDEX")[0]["objects"]
        assert of(audited, conn, event="DROP ROLE")[0]["success"]


@pytest.mark.parametrize("sql, sqlstate, event", [
    ("SELEKT 1", "42601", "STATEMENT"),
    ("SELECT * FROM nowhere", "42P01", "SELECT"),
    ("SELECT rolpassword FROM pg_authid", "42501", "SELECT"),
    ("SELECT 1 / (SELECT 0)", "22012", "SELECT"),
    ("DROP TABLE ordinary", "42501", "DROP TABLE"),
    ("INSERT INTO ordinary VALUES (1)", "23505", "INSERT"),
    ("SELECT card = '%s' FROM payments" % VISA, "42501", "SELECT"),
])
def test_failures(audited, sql, sqlstate, event):
    with audited.connect("plain") as conn:
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(sql)
        assert caught.value.sqlstate == sqlstate
        failed = of(audited, conn, event=event, sqlstate=sqlstate, success=False)[0]
        assert failed["message"] == caught.value.diag.message_primary and VISA not in str(failed)
        assert failed["statement"].startswith(sql[:8])


def test_a_failure_that_is_caught(audited):
    with audited.connect("plain") as conn:
        conn.execute("""DO $$ BEGIN PERFORM 1 / (id - id) FROM payments; EXCEPTION WHEN OTHERS THEN NULL; END $$""")
        failed = of(audited, conn, success=False)[0]
        assert failed["event"] == "SELECT" and failed["objects"] == ["public.payments(id)"]


def test_fields_of_an_error_reach_the_application(audited):
    with audited.connect("full") as conn:
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            conn.execute("INSERT INTO payments VALUES (1, %s, 1)", (AMEX,))
        diag = caught.value.diag
        assert (diag.schema_name, diag.table_name, diag.constraint_name) == ("public", "payments", "payments_pkey")
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("DO $$ BEGIN RAISE 'no' USING ERRCODE = 'PC001', TABLE = 'tt'; END $$")
        assert caught.value.sqlstate == "PC001" and caught.value.diag.table_name == "tt" and caught.value.diag.context
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("SELECT nothing")
        assert caught.value.diag.statement_position == "8"


def test_sessions(audited):
    with audited.connect("plain") as conn:
        login = of(audited, conn, event="LOGIN")[0]
        assert login["class"] == "AUTH" and login["success"] and login["session_user"] == "plain"
        pid = conn.info.backend_pid
    logout = trail.wait_for(audited, pid=pid, event="LOGOUT")[0]
    assert logout["session_id"] == login["session_id"] and "sqlstate" not in logout
    for user, dbname, sqlstate in (("nobody", "postgres", "28000"), ("plain", "nowhere", "3D000")):
        with pytest.raises(psycopg.OperationalError):
            audited.connect(user, dbname)
        failed = trail.wait_for(audited, event="LOGIN", success=False, session_user=user, sqlstate=sqlstate)[0]
        assert failed["database"] == dbname and failed["client_addr"] == "127.0.0.1"
    with audited.connect("plain") as conn:
        pid = conn.info.backend_pid
        audited.execute(f"SELECT pg_terminate_backend({pid})")
        assert trail.wait_for(audited, pid=pid, event="LOGOUT")[0]["sqlstate"] == "57P01"


def test_nothing_of_ours_shows_a_card_number(audited):
    """In the log, in pg_stat_activity, in what the client is told, in the trail."""
    audited.configure("log_statement = 'all'")
    with audited.connect("full") as conn, audited.connect() as other:
        until(lambda: conn.execute("SHOW log_statement").fetchone()[0] == "all", "the setting is read")
        before = len(audited.log)
        shown = "SELECT query FROM pg_stat_activity WHERE pid = %s"

        def activity():
            return other.execute(shown, (conn.info.backend_pid,)).fetchone()[0]
        conn.execute(f"SELECT '{VISA}'", prepare=False)
        assert activity() == "SELECT '411111******1111'"
        conn.execute(f"SELECT '{VISA}', %s", (MASTERCARD,))
        assert VISA not in activity()
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(f"SELECT '{VISA}'::int")
        assert "411111******1111" in caught.value.diag.message_primary
        assert VISA not in activity()
        with pytest.raises(psycopg.Error):
            conn.execute(f"SELEKT '{MASTERCARD}'")
        assert MASTERCARD not in activity()
        other.execute("CREATE ROLE hidden PASSWORD 'very secret kiosk 7'; DROP ROLE hidden")
        conn.execute(f"SELECT 1 /* {VISA} */", prepare=True)
        conn.execute(f"SELECT 1 /* {VISA} */", prepare=True)
    log = until(lambda: (text := audited.log[before:]).count("SELEKT") and text, "it is logged")
    assert VISA not in log and "411111******1111" in log and "very secret" not in log
    audited.configure("log_statement = 'none'")
    assert VISA not in str(trail.records(audited)) and "very secret" not in str(trail.records(audited))
    trail.assert_verifies(audited)


def test_prepared_statements_in_turn(audited):
    """A text that was looked through is not taken for another that lies in its place, however often both come."""
    clean, secret = "SELECT 1 /* the orders of a very late day */", f"SELECT 1 /* {VISA} by telephone */"
    assert len(clean) == len(secret)
    with audited.connect("plain") as conn, audited.connect() as other:
        for sql in [clean, secret] * 2 + [clean] * 3 + [secret, clean, secret]:
            conn.execute(sql, prepare=True)
            shown = other.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (conn.info.backend_pid,)).fetchone()[0]
            assert shown == sql.replace(VISA, "411111******1111")


@pytest.mark.parametrize("encoding, sent, written", [
    ("LATIN1", "Gr\u00fc\u00dfe", "Gr\u00fc\u00dfe"),
    ("SQL_ASCII", "Gr\u00fc\u00dfe", "Gr\u00fc\u00dfe"),
    ("EUC_JP", "\u65e5\u672c", "\u65e5\u672c"),
])
def test_texts_of_other_encodings(audited, encoding, sent, written):
    name = encoding.lower()
    audited.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    with audited.connect(dbname=name, client_encoding="UTF8") as conn:
        conn.execute(f"SELECT '{sent}' AS greeting")
        assert of(audited, conn, statement=lambda it: it and f"'{written}'" in it)


def test_bytes_that_are_no_text(audited):
    """One record that every reader parses, whatever comes."""
    sql = b"SELECT 'a\nb\"c', '\xff\xfe', '\x01'"
    done = audited.run("psql", "-X", "-q", dbname="sql_ascii", input=sql, PGCLIENTENCODING="SQL_ASCII")
    assert done.returncode == 0
    record = trail.wait_for(audited, database="sql_ascii", statement=lambda it: it and "a\nb" in it)[0]
    assert record["statement"] == "SELECT 'a\nb\"c', '\\xff\\xfe', '\x01'"


def test_a_long_statement_is_cut(audited):
    with audited.connect() as conn:
        sql = "SELECT length('" + "x" * 20_000_000 + "')"
        conn.execute(sql)
        record = of(audited, conn, statement=lambda it: it and it.startswith("SELECT length('xxx"))[0]
        assert record["statement_bytes"] == len(sql) and len(record["statement"]) == 8192


def test_a_parallel_query_is_one(audited):
    audited.execute("CREATE TABLE public.big AS SELECT i, NULL::pci.pan AS card FROM generate_series(1, 20000) i; GRANT ALL ON public.big TO plain")
    with audited.connect("plain") as conn:
        conn.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2")
        plan = str(conn.execute("EXPLAIN (ANALYZE) SELECT count(i) FROM public.big").fetchall())
        assert "Workers Launched: 2" in plan
        conn.execute("SELECT count(i) FROM public.big")
        of(audited, conn, statement="SELECT count(i) FROM public.big")
        pid = conn.info.backend_pid
    trail.wait_for(audited, pid=pid, event="LOGOUT")
    assert len(trail.events(audited, pid=pid, statement="SELECT count(i) FROM public.big")) == 1


def test_two_phase_commit(fresh_cluster):
    one = fresh_cluster("max_prepared_transactions = 5")
    with one.connect("full") as conn:
        conn.execute("BEGIN")
        conn.execute("INSERT INTO payments VALUES (60, %s, 1)", (VISA_2,))
        conn.execute("PREPARE TRANSACTION 'later'")
        intent = of(one, conn, event="PREPARE TRANSACTION", success=None)[0]
        assert of(one, conn, event="PREPARE TRANSACTION", success=True, xid=intent["xid"])
    with one.connect("full") as conn:
        conn.execute("COMMIT PREPARED 'later'")
        assert of(one, conn, event="COMMIT PREPARED")[0]["objects"] == ["transaction later"]
    one.stop()
    trail.assert_verifies(one)


def test_other_extensions_get_redacted_text(fresh_cluster):
    one = fresh_cluster("shared_preload_libraries = 'pg_stat_statements, auto_explain, pgpci'", "auto_explain.log_min_duration = 0",
                        set_up=False)
    one.execute("CREATE EXTENSION pg_stat_statements")
    one.execute(f"CREATE ROLE x PASSWORD 'very secret kiosk 7'; SELECT '{VISA}'; COMMENT ON ROLE x IS '{MASTERCARD}'")
    with one.connect() as conn:
        conn.execute(f"SELECT %s /* {VISA} */", ("a",), prepare=True)
        conn.execute(f"SELECT %s /* {VISA} */", ("a",), prepare=True)
    kept = str(one.execute("SELECT query FROM pg_stat_statements")) + one.log
    for secret in (VISA, MASTERCARD, "very secret"):
        assert secret not in kept
    assert "411111******1111" in kept and "555555******4444" in kept


def test_failures_that_are_not_logged(fresh_cluster):
    one = fresh_cluster("log_min_messages = panic")
    one.execute("ALTER ROLE plain PASSWORD 'right-kiosk-77'")
    hba = one.data / "pg_hba.conf"
    hba.write_text("host all plain all scram-sha-256\n" + hba.read_text())
    with one.connect("full") as conn:
        with pytest.raises(psycopg.Error):
            conn.execute("SELECT 1 / amount FROM payments WHERE amount - amount = 0 / (id - id)")
        failed = of(one, conn, success=False)[0]
        assert failed["objects"] == ["public.payments(id,amount)"] and "sqlstate" not in failed
        with pytest.raises(psycopg.Error):
            conn.execute("SELEKT 1")
        of(one, conn, event="STATEMENT", success=False)
        conn.execute("BEGIN; SELECT 1; ROLLBACK")
        pid = conn.info.backend_pid
    trail.wait_for(one, pid=pid, event="LOGOUT")
    assert len(trail.events(one, pid=pid, success=False)) == 2
    one.execute("SELECT pg_reload_conf()")

    def refused():
        try:
            one.connect("plain", password="wrong").close()
        except psycopg.OperationalError:
            return trail.events(one, event="LOGIN", success=False, session_user="plain")
    assert "sqlstate" not in until(refused, "the login fails")[0]


def test_a_transaction_may_choose_its_isolation_first(audited):
    """What a session looks up for its record begins no snapshot: SET TRANSACTION must come before any."""
    for user in ("app", "postgres", "ann"):
        with audited.connect(user) as conn:
            conn.execute("BEGIN")
            conn.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE")
            assert conn.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
