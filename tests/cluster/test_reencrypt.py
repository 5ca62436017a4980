"""CALL pci.reencrypt: no value is lost or doubled, whatever else happens."""

import os
import random
import signal
import threading
import time

import psycopg
import pytest
from conftest import AMEX, CLEAR, MASTERCARD, VISA
from test_key_life import cards, destroy, refused, rotate
from test_replication import until

ROWS = 3000


@pytest.fixture(scope="module")
def place(module_cluster):
    """With a table `many`, and custodians who may update it."""
    one = module_cluster()
    one.execute("CREATE EXTENSION amcheck; CREATE TABLE public.many (id int PRIMARY KEY, card pci.pan UNIQUE, note text);"
                "CREATE INDEX ON public.many USING hash (card);"
                'GRANT ALL ON many TO "full", cy')
    return one


@pytest.fixture
def many(place):
    yield fill(place)
    place.execute("TRUNCATE many")


def fill(cluster):
    cluster.execute("TRUNCATE many")
    rotate(cluster)
    with cluster.connect("full") as conn, conn.cursor().copy("COPY many (id, card) FROM STDIN") as copy:
        for i, card in enumerate(cards(ROWS)):
            copy.write_row((i, card))
    rotate(cluster)
    return cluster


def reencrypt(cluster, table="many", column="card", **options):
    with_options = "".join(f", {name} => {value}" for name, value in options.items())
    cluster.execute(f"CALL pci.reencrypt('{table}', '{column}'{with_options})", user="cy")


def outdated(cluster, table="many"):
    return cluster.value(f"SELECT count(*) FROM {table} WHERE pci.is_outdated(card)")


def values(cluster, table="many"):
    return cluster.execute(f"SELECT id, pci.reveal(card) FROM {table} ORDER BY id", user="full")


def check(cluster, expected=None):
    """All values are there, once, and every index finds them."""
    assert values(cluster) == (list(enumerate(cards(ROWS))) if expected is None else expected)
    cluster.execute("SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
                    "JOIN pg_am a ON a.oid = c.relam WHERE indrelid = 'many'::regclass AND amname = 'btree'")
    with cluster.connect("full") as conn:
        for option in ("enable_seqscan", "enable_bitmapscan"):
            conn.execute(f"SET {option} = off")
        for i in (0, 1, ROWS - 1):
            card = list(cards(1, i))[0]
            assert conn.execute("SELECT id FROM many WHERE card = %s", (card,)).fetchall() == [(i,)]


def progress(cluster, table="many"):
    return cluster.execute("SELECT * FROM pci.reencryption_progress WHERE relation = %s::regclass", (table,))


def test_all_values_take_the_newest_key(many):
    assert outdated(many) == ROWS
    reencrypt(many, batch_size=500)
    assert outdated(many) == 0
    check(many)
    done, total, values_done, by, finished = many.execute(
        "SELECT blocks_done, blocks_total, values_done, started_by, finished_at IS NOT NULL FROM pci.reencryption_progress "
        "WHERE relation = 'many'::regclass")[0]
    assert (values_done, by, finished) == (ROWS, "cy", True) and done == total > 0
    # Again it finds nothing to do.
    before = many.execute("SELECT id, ctid::text FROM many ORDER BY id")
    reencrypt(many)
    assert many.execute("SELECT id, ctid::text FROM many ORDER BY id") == before
    assert many.value("SELECT values_done FROM pci.reencryption_progress WHERE relation = 'many'::regclass") == 0
    # The old key is in use nowhere and may go.
    with many.connect("cy") as conn:
        said = []
        conn.add_notice_handler(lambda notice: said.append(notice.message_primary))
        old = conn.execute("SELECT id FROM pci.keys WHERE state = 'deactivated' AND purpose = 'data' ORDER BY version DESC LIMIT 1").fetchone()[0]
        request = conn.execute("SELECT pci.destroy_key(%s, 'replaced')", (old,)).fetchone()[0]
        conn.execute("SELECT pci.reject(%s, 'kept for other tests')", (request,))
    assert any(text.startswith("0 stored values") for text in said), said


def test_nulls_and_other_columns_stay(many):
    many.execute("INSERT INTO many VALUES (-1, NULL, 'none'); UPDATE many SET note = 'n' || id WHERE id < 100")
    before = many.execute("SELECT id, card, note FROM many ORDER BY id")
    reencrypt(many)
    assert many.execute("SELECT id, card, note FROM many ORDER BY id") == before
    assert many.value("SELECT count(*) FROM many WHERE card IS NULL") == 1


@pytest.mark.parametrize("attempt", range(4))
def test_it_goes_on_after_it_was_terminated(many, attempt):
    with many.connect("cy") as conn:
        pid = conn.info.backend_pid
        failed = []

        def call():
            try:
                conn.execute("CALL pci.reencrypt('many', 'card', batch_size => 50)")
            except psycopg.Error as error:
                failed.append(error)

        running = threading.Thread(target=call)
        running.start()
        target = ROWS * random.Random(attempt).uniform(0.1, 0.8)
        until(lambda: ROWS - outdated(many) >= target or not running.is_alive(), "it comes so far")
        many.execute("SELECT pg_terminate_backend(%s)", (pid,))
        running.join(20)
    check(many)
    left = outdated(many)
    reencrypt(many)
    # It may have been at the end of its work when it was told.
    assert outdated(many) == 0 and (left == 0 or failed)
    check(many)


@pytest.mark.parametrize("whom", ["backend", "server"])
def test_it_goes_on_after_a_crash(many, whom):
    with many.connect("cy") as conn:
        running = threading.Thread(target=lambda: pytest.raises(
            psycopg.OperationalError, conn.execute, "CALL pci.reencrypt('many', 'card', batch_size => 50, max_rate => 2000)"))
        running.start()
        until(lambda: outdated(many) < ROWS, "it begins")
        if whom == "backend":
            os.kill(conn.info.backend_pid, signal.SIGKILL)
        else:
            os.kill(many.postmaster, signal.SIGKILL)
        running.join(20)
    if whom == "server":
        def starts():
            try:
                many.start()
                return True
            except RuntimeError:  # Backends of the old server still end.
                return False
        until(starts, "the server starts")

    def is_up():
        try:
            return many.value("SELECT NOT pg_is_in_recovery()")
        except psycopg.Error:
            return False
    until(is_up, "the server is back")
    assert 0 < outdated(many) < ROWS
    check(many)
    reencrypt(many)
    assert outdated(many) == 0
    check(many)


def test_writers_beside_it(many):
    """Each writer has numbers of its own, and knows what it made of them."""
    expected = dict(enumerate(cards(ROWS)))
    failed = []
    stop = threading.Event()

    def write(writer):
        chance = random.Random(writer)
        mine = {i: card for i, card in expected.items() if i % 3 == writer}
        fresh = enumerate(cards(100_000, 100_000 * (writer + 1)), 100_000 * (writer + 1))
        try:
            with many.connect("full") as conn:
                while not stop.is_set():
                    what, i = chance.random(), chance.choice(list(mine))
                    if what < 0.3:
                        i, card = next(fresh)
                        conn.execute("INSERT INTO many VALUES (%s, %s)", (i, card))
                        mine[i] = card
                    elif what < 0.5:
                        conn.execute("DELETE FROM many WHERE id = %s", (i,))
                        del mine[i]
                    elif what < 0.7:
                        _, card = next(fresh)
                        conn.execute("UPDATE many SET card = %s WHERE id = %s", (card, i))
                        mine[i] = card
                    else:
                        conn.execute("UPDATE many SET note = 'seen' WHERE id = %s", (i,))
        except psycopg.Error as error:
            failed.append(error)
        results[writer] = mine

    results = {}
    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for writer in writers:
        writer.start()
    try:
        reencrypt(many, batch_size=100, max_rate=2000)
    finally:
        stop.set()
        for writer in writers:
            writer.join(20)
    assert failed == []
    merged = {i: card for mine in results.values() for i, card in mine.items()}
    assert values(many) == sorted(merged.items())
    many.execute("SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
                 "JOIN pg_am a ON a.oid = c.relam WHERE indrelid = 'many'::regclass AND amname = 'btree'")
    # What was moved past it meanwhile, the next call finds.
    reencrypt(many)
    assert outdated(many) == 0


def test_the_rate_is_kept(many):
    started = time.monotonic()
    reencrypt(many, batch_size=100, max_rate=1500)
    assert ROWS / 1500 * 0.9 < time.monotonic() - started < ROWS / 1500 * 4
    rate = many.value("SELECT values_per_second FROM pci.reencryption_progress WHERE relation = 'many'::regclass")
    assert 300 < rate <= 1700


def test_progress_is_seen_while_it_runs(many):
    with many.connect("cy") as conn:
        running = threading.Thread(target=conn.execute, args=("CALL pci.reencrypt('many', 'card', batch_size => 50, max_rate => 3000)",))
        running.start()
        seen = until(lambda: many.execute(
            "SELECT blocks_done, blocks_total, time_left > interval '0' FROM pci.reencryption_progress "
            "WHERE relation = 'many'::regclass AND finished_at IS NULL AND blocks_done > 0 AND values_done > 0"), "progress shows")
        assert 0 < seen[0][0] <= seen[0][1]
        # Beside rows of the batch nothing is locked that others want.
        modes = many.execute("SELECT DISTINCT mode FROM pg_locks WHERE pid = %s AND locktype = 'relation'", (conn.info.backend_pid,))
        assert {mode for (mode,) in modes} <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}, modes
        assert running.is_alive()
        running.join(30)
    assert many.value("SELECT finished_at IS NOT NULL FROM pci.reencryption_progress WHERE relation = 'many'::regclass")


def test_pages_split_for_who_only_stores(place):
    """A split compares stored numbers with each other; that is nothing that the writer compares."""
    place.execute("CREATE TABLE public.alone (id int, card pci.pan UNIQUE); GRANT ALL ON alone TO app")
    with place.connect("app") as conn:
        for i, card in enumerate(cards(1500)):
            conn.execute("INSERT INTO alone VALUES (%s, %s)", (i, card))
    assert place.value("SELECT count(*) FROM alone") == 1500
    assert place.value("SELECT pg_relation_size('alone_card_key') / current_setting('block_size')::int") > 5


# Other tables: statements that make one named t (and more), the values of t.
PAIR = f"CREATE TABLE public.t (id int PRIMARY KEY, card pci.pan UNIQUE); INSERT INTO t VALUES (1, '{VISA}'), (2, '{AMEX}');"
TABLES = {
    "child": PAIR + "CREATE TABLE public.u (id int, card pci.pan REFERENCES t (card)); INSERT INTO u SELECT * FROM t",
    "cascade": PAIR + "CREATE TABLE public.u (id int, card pci.pan REFERENCES t (card) ON UPDATE CASCADE); INSERT INTO u SELECT * FROM t",
    "deferred": PAIR + "CREATE TABLE public.u (id int, card pci.pan REFERENCES t (card) DEFERRABLE INITIALLY DEFERRED); INSERT INTO u SELECT * FROM t",
    "itself": PAIR + "ALTER TABLE t ADD other pci.pan REFERENCES t (card); UPDATE t SET other = card",
    "partitions": "CREATE TABLE public.t (id int, card pci.pan) PARTITION BY HASH (card);"
                  "CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
                  "CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY LIST (id);"
                  f"CREATE TABLE t2 PARTITION OF t1 DEFAULT; INSERT INTO t VALUES (1, '{VISA}'), (2, '{AMEX}')",
    "inheritance": "CREATE TABLE public.t (id int, card pci.pan); CREATE TABLE t0 () INHERITS (t);"
                   f"INSERT INTO t VALUES (1, '{VISA}'); INSERT INTO t0 VALUES (2, '{AMEX}')",
    "vault": f"CREATE TABLE public.t (id int, card pci.pan('default')); INSERT INTO t VALUES (1, '{VISA}'), (2, '{AMEX}')",
    "domain": "CREATE DOMAIN public.d AS pci.pan NOT NULL; CREATE TABLE public.t (id int, card d);"
              f"INSERT INTO t VALUES (1, '{VISA}'), (2, '{AMEX}')",
    "empty": "CREATE TABLE public.t (id int, card pci.pan)",
    "names": 'CREATE SCHEMA "S p"; CREATE TABLE public.t (id int, "c a" pci.pan, card pci.pan GENERATED ALWAYS AS ("c a") STORED);'
             f"INSERT INTO t VALUES (1, '{VISA}'), (2, '{AMEX}')",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_kinds(place, name):
    place.grant("postgres", "search")
    if name == "itself":
        # Whether the old number or a new one is looked for cannot be told: that is a comparison.
        place.grant("cy", "search")
        place.grant("cy", "store")
    try:
        place.execute(TABLES[name])
        place.execute('GRANT ALL ON ALL TABLES IN SCHEMA public TO cy, "full"; GRANT ALL ON SCHEMA postgres TO cy, "full";'
                      'GRANT ALL ON ALL TABLES IN SCHEMA postgres TO cy, "full"')
        rotate(place)
        reencrypt(place, "t", "c a" if name == "names" else "card")
        assert outdated(place, "t") == 0
        assert values(place, "t") == ([] if name == "empty" else [(1, VISA), (2, AMEX)])
        if place.value("SELECT to_regclass('u') IS NOT NULL"):
            reencrypt(place, "u")
            assert outdated(place, "u") == 0 and values(place, "u") == [(1, VISA), (2, AMEX)]
            refused(place, "DELETE FROM t; SET CONSTRAINTS ALL IMMEDIATE", "postgres", "23503")
    finally:
        place.execute('DROP TABLE IF EXISTS t, u CASCADE; DROP DOMAIN IF EXISTS d; DROP SCHEMA IF EXISTS "S p"')
        if name == "itself":
            for capability in ("search", "store"):
                place.execute("SELECT pci.revoke_access('cy', 'default', %s)", (capability,), user="ann")
        place.execute("SELECT pci.revoke_access('postgres', 'default', 'search')", user="ann")


@pytest.mark.parametrize("action", ["RESTRICT", "SET NULL", "SET DEFAULT"])
def test_a_foreign_key_that_would_lose_values_is_refused(place, action):
    place.grant("postgres", "search")
    try:
        place.execute(PAIR + f"CREATE TABLE public.u (id int, card pci.pan REFERENCES t (card) ON UPDATE {action}); INSERT INTO u SELECT * FROM t;"
                      'GRANT ALL ON t, u TO cy, "full"')
        rotate(place)
        refused(place, "CALL pci.reencrypt('t', 'card')", "cy", "55000", "ON UPDATE")
        reencrypt(place, "u")
        assert values(place, "t") == values(place, "u") == [(1, VISA), (2, AMEX)]
    finally:
        place.execute("DROP TABLE IF EXISTS t, u CASCADE")
        place.execute("SELECT pci.revoke_access('postgres', 'default', 'search')", user="ann")


# Of operators that would fit better than PostgreSQL's own, were an operand of another type: left, right, result, the real one.
OPERATORS = [("oid", "regclass", "boolean", "="), ("oid", "oid", "boolean", "="), ("text", "bigint", "text", "||"),
             ("bigint", "text", "text", "||"), ("float8", "int", "float8", "/"), ("float8", "numeric", "float8", "-"), ("name", "text", "boolean", "="),
             ('"char"', "text", "boolean", "="), ("tid", "text", "boolean", ">="), ("tid", "text", "boolean", "<"), ("bigint", "int", "boolean", ">"),
             ("bigint", "int", "boolean", "="), ("int", "int", "boolean", "<"), ("int", "int", "int", "/"), ("bigint", "bigint", "bigint", "/")]


def test_no_code_of_others_runs_with_a_custodians_rights(many):
    """Operators in schema public, where somebody may create: what CALL reads is of PostgreSQL's own types."""
    many.execute("GRANT CREATE ON SCHEMA public TO plain")
    try:
        with many.connect("plain") as conn:
            for i, (left, right, result, name) in enumerate(OPERATORS):
                conn.execute(f"CREATE FUNCTION public.f{i}({left}, {right}) RETURNS {result} LANGUAGE plpgsql AS "
                             f"$$ BEGIN RAISE EXCEPTION 'as %: {name}', current_user; END $$;"
                             f"CREATE OPERATOR public.{name} (FUNCTION = public.f{i}, LEFTARG = {left}, RIGHTARG = {right})")
        reencrypt(many, batch_size=500, max_rate=1_000_000)
        assert outdated(many) == 0
    finally:
        many.execute("REVOKE CREATE ON SCHEMA public FROM plain; DROP OWNED BY plain; GRANT ALL ON payments TO plain")


@pytest.mark.parametrize("sql,sqlstate", [
    ("CALL pci.reencrypt('pci.requests', 'reason')", "42809"), ("CALL pci.reencrypt('many', 'note')", "42883"),
    ("CALL pci.reencrypt('many', 'nothing')", "42703"), ("CALL pci.reencrypt('many', 'card', 0)", "22023"),
    ("CALL pci.reencrypt('many', 'card', max_rate => 0)", "22023"), ("CALL pci.reencrypt('payments', 'card')", "42501"),
])
def test_wrong_calls(place, sql, sqlstate):
    place.execute("REVOKE ALL ON payments FROM cy")
    refused(place, sql, "cy", sqlstate)
    assert place.reveals() == CLEAR
