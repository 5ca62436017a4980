"""Card numbers and passwords on every way by which the server tells of what it does: its log with all that it can be made to
log, pg_stat_activity, pg_stat_statements, auto_explain, and the trail."""

import threading

import psycopg
import pytest
import trail
from conftest import VISA
from test_keys import until

SPACED, DASHED = "4111 1111 1111 1111", "4111-1111-1111-1111"
LOUD = ("shared_preload_libraries = 'pg_stat_statements, auto_explain, pgpci'", "log_statement = 'all'", "log_min_duration_statement = 0",
        "log_min_messages = debug1", "log_error_verbosity = verbose", "log_parameter_max_length = -1", "log_parameter_max_length_on_error = -1",
        "debug_print_parse = on", "debug_print_rewritten = on", "debug_print_plan = on", "log_line_prefix = '%m [%p] %a '", "log_connections = on",
        "auto_explain.log_min_duration = 0", "auto_explain.log_nested_statements = on", "auto_explain.log_analyze = on", "auto_explain.log_verbose = on",
        "auto_explain.log_parameter_max_length = -1", "wal_level = logical")


@pytest.fixture(scope="module")
def loud(module_cluster):
    one = module_cluster(*LOUD)
    one.execute('CREATE EXTENSION pg_stat_statements; CREATE TABLE "full".w (j jsonb, i int, n numeric)')
    one.execute('GRANT ALL ON "full".w TO "full"')
    return one


def as_bytes(text):
    """As debug_print_… prints it."""
    return " ".join(str(byte) for byte in text.encode())


def assert_nowhere(cluster, *secrets):
    found = {"log": cluster.log, "trail": str(trail.records(cluster)),
             "pg_stat_statements": str(cluster.execute("SELECT query FROM pg_stat_statements"))}
    for name, text in found.items():
        for secret in secrets:
            at = text.find(secret)
            assert at < 0, f"{name}: {text[max(0, at - 300):at + 100]}"


@pytest.mark.parametrize("card", [VISA, SPACED, DASHED])
def test_card_numbers(loud, card):
    json = f'{{"card": "{card}"'
    statements = [
        f"SELECT '{card}'::int", f"SELECT '{json}'::json", f"SELECT '{card}'::date", f"SELECT '{{{card}'::text[]", f'SELECT "{card}"',
        f"SELECT * FROM \"{card}\"", f"SELEKT '{card}'", f"SELECT 1 / (SELECT 0), '{card}' /* {card} */ -- {card}",
        f"DO $$ BEGIN RAISE NOTICE '{card}'; RAISE WARNING 'x' USING HINT = '{card}', DETAIL = '{card}'; RAISE '{card}' USING HINT = '{card}', "
        f"DETAIL = '{card}', COLUMN = '{card}', CONSTRAINT = '{card}', TABLE = '{card}', SCHEMA = '{card}', DATATYPE = '{card}'; END $$",
        f"CREATE FUNCTION \"full\".bad() RETURNS int LANGUAGE plpgsql AS 'DECLARE x text := ''{card}''; BEGIN EXECUTE ''SELEKT '' || quote_literal(x); END'",
        'SELECT "full".bad()', 'DROP FUNCTION "full".bad()', f"INSERT INTO \"full\".w (i) VALUES ('{card}')",
        f"PREPARE p AS SELECT '{card}'", "EXECUTE p", "DEALLOCATE p", f"EXPLAIN (ANALYZE, VERBOSE) SELECT '{card}' || now(), * FROM payments WHERE card = '{card}'",
        f"SET application_name = 'card {card}'", f"SET pgpci.app_user = 'card {card}'", f"SELECT pg_logical_emit_message(false, 'x', '{card}')",
        f"LISTEN \"{card}\"", f"NOTIFY x, '{card}'", f"SAVEPOINT \"{card}\"", f'CREATE TABLE "full"."{card}" ("{card}" int)', f'SELECT * FROM "full"."{card}"',
        f'DECLARE "{card}" CURSOR WITH HOLD FOR SELECT \'{card}\'', f"SELECT set_config('application_name', '{card}', false)",
        f"COMMENT ON TABLE \"full\".w IS '{card}'", f'DROP TABLE "full"."{card}"', f'GRANT SELECT ON "{card}" TO plain', "RESET application_name",
        f"SELECT pci.reveal(card, 'order {card}') FROM payments",
    ]
    with loud.connect("full") as conn:
        def run(sql, params=None):
            try:
                conn.execute(sql, params)
            except psycopg.Error as error:
                # libpq adds lines of what it was given itself.
                said = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint, error.diag.context)
                assert card not in str(said)
        for sql in statements:
            run(sql)
        for sql in ("SELECT %s::int", "SELECT %s::date", "SELECT 1 / (SELECT 0), %s::text", "SELECT %s::jsonb", "INSERT INTO payments VALUES (5, %s, 'x')"):
            run(sql, (card,))
        for target, line in (('"full".w (i)', card), ('"full".w (j)', json), ("payments (id, card)", f"x\t{card}"), ("payments", f"9\t{card}\ty")):
            with pytest.raises(psycopg.Error) as caught:
                with conn.cursor().copy(f"COPY {target} FROM STDIN") as copy:
                    copy.write(line + "\n")
            assert card not in str(caught.value)
    with pytest.raises(psycopg.Error):
        loud.connect(card, application_name=card)
    with pytest.raises(psycopg.Error):
        loud.connect("full", card)
    assert_nowhere(loud, card, as_bytes(card))


def test_passwords(loud):
    statements = [
        "CREATE ROLE pw PASSWORD 'geheim-a 1234'", "ALTER ROLE pw PASSWORT 'geheim-b'", "ALTER USER pw PASSWORD 'x' 'geheim-c'",
        "DO $$ BEGIN EXECUTE 'ALTER ROLE pw PASSWORD ''geheim-d 1234'''; END $$", "DO $$ BEGIN EXECUTE format('ALTER ROLE pw PASSWORD %L', 'geheim-e 1234'); END $$",
        "DO $$ BEGIN EXECUTE 'ALTER ROLE pw PASSWORD ' || quote_literal('geheim-f 1234'); END $$",
        "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1 password=geheim-g dbname=x' PUBLICATION p",
        "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (password 'geheim-h')", "ALTER ROLE pw PASSWORD 'geheim-i 1' NOSUCHOPTION",
        "CREATE FUNCTION public.chpw() RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE ''ALTER ROLE pw PASSWORD ''''geheim-j 1234''''''; END'", "SELECT public.chpw()",
        "ALTER ROLE nobody PASSWORD 'geheim-k 1234'", "SELECT 'password=geheim-l'::int", "SET app.password = 'geheim-m'", "ALTER ROLE pw SET app.password = 'geheim-n'",
        "BEGIN; ALTER ROLE pw PASSWORD 'geheim-o 1234'; SELECT 1 / 0; COMMIT",
    ]
    with loud.connect() as conn:
        for sql in statements:
            try:
                conn.execute(sql)
            except psycopg.Error as error:
                assert "geheim" not in str((error.diag.message_primary, error.diag.message_detail, error.diag.context))
            conn.rollback()
    assert_nowhere(loud, "geheim", as_bytes("geheim"))


def test_what_others_see_while_it_runs(loud):
    """pg_stat_activity: the query, and the name that the application gave itself, at its start and later."""
    with loud.connect() as other, loud.connect("full", application_name=f"till {VISA}") as conn:
        pid = conn.info.backend_pid

        def seen(column):
            return other.execute(f"SELECT {column} FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()[0]
        assert seen("application_name") == "till 411111******1111"
        conn.execute(f"SET application_name = '{DASHED}'")
        assert seen("application_name") == "4111-11**-****-1111" == conn.execute("SHOW application_name").fetchone()[0]
        conn.execute(f"SELECT set_config('application_name', 'x {VISA}', false)")
        assert seen("application_name") == "x 411111******1111"
        thread = threading.Thread(target=lambda: pytest.raises(psycopg.Error, conn.execute, f"SELECT pg_sleep(60) /* {VISA} */"))
        thread.start()
        until(lambda: "pg_sleep" in seen("query"), "it runs")
        assert seen("query") == "SELECT pg_sleep(60) /* 411111******1111 */"
        other.execute("SELECT pg_cancel_backend(%s)", (pid,))
        thread.join()
