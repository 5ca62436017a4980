"""Definitions are judged by what the catalog says of them once they are made: what keeps, orders or compares card numbers
needs search, what holds one needs export, and errors stay PostgreSQL's own."""

import psycopg
import pytest
from conftest import VISA, VISA_2

# A function that fetches stored card numbers, whose type is all that its caller shows of it.
OF = "CREATE FUNCTION of(i int) RETURNS pci.pan LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN (SELECT card FROM public.payments WHERE id = i); END $$"
PEEK = "CREATE FUNCTION peek(c pci.pan) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$"
F = "CREATE FUNCTION f() RETURNS pci.pan LANGUAGE sql VOLATILE AS 'SELECT card FROM public.payments WHERE id = 2'"
T0 = "CREATE TABLE t0 (id int)"
T = "CREATE TABLE t (id int, card pci.pan)"
TRIGGER = "CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
OPERATOR = "CREATE OPERATOR @@@ (FUNCTION = of, RIGHTARG = int)"

# Statements that prepare, and the one that needs search.
NEEDS_SEARCH = {
    "unique_index_of_a_function": ([OF, T0], "CREATE UNIQUE INDEX ON t0 (of(id))"),
    "index_of_a_function": ([OF, T0], "CREATE INDEX ON t0 (of(id))"),
    "index_of_what_a_function_gives": ([OF, T0], "CREATE INDEX ON t0 ((of(id)::text))"),
    "index_predicate_of_a_function": ([OF, T0], "CREATE INDEX ON t0 (id) WHERE of(id)::text <> ''"),
    "index_of_an_operator": ([OF, OPERATOR, T0], "CREATE INDEX ON t0 ((@@@ id))"),
    "exclusion_of_a_function": ([OF, T0], "ALTER TABLE t0 ADD EXCLUDE USING hash (of(id) WITH =)"),
    "statistics_of_a_function": ([OF, T0], "CREATE STATISTICS s (mcv, ndistinct) ON (of(id)), (of(id)::text) FROM t0"),
    "statistics_of_what_a_function_gives": ([OF, T0], "CREATE STATISTICS s ON (of(id)::text), id FROM t0"),
    "statistics_of_a_column": ([T], "CREATE STATISTICS s ON id, card FROM t"),
    "list_of_a_function": ([OF], "CREATE TABLE x (id int) PARTITION BY LIST (of(id))"),
    "range_of_a_function": ([OF], "CREATE TABLE x (id int) PARTITION BY RANGE (of(id), id)"),
    "hash_of_a_function": ([OF], "CREATE TABLE x (id int) PARTITION BY HASH (of(id))"),
    "hash_of_what_a_function_gives": ([OF], "CREATE TABLE x (id int) PARTITION BY HASH ((of(id)::text))"),
    "check_of_a_typed_table": (["CREATE TYPE ctype AS (id int, card pci.pan)", PEEK], "CREATE TABLE typed OF ctype (UNIQUE (card), CHECK (peek(card)))"),
    "generated_from_a_typed_table": (["CREATE TYPE ctype AS (id int, card pci.pan)", PEEK], "CREATE TABLE typed OF ctype (CONSTRAINT c CHECK ((typed).card::text <> ''))"),
    "check_of_a_whole_row": ([PEEK], "CREATE TABLE w4 (id int, card pci.pan UNIQUE, CHECK (peek((w4).card)))"),
    "check_of_a_row_as_json": ([], "CREATE TABLE w3 (id int, card pci.pan, CHECK (json_build_array(w3) IS NOT NULL))"),
    "check_of_a_function": ([OF, PEEK], "CREATE TABLE x (id int, CHECK (peek(of(id))))"),
    "check_of_an_operator": ([OF, OPERATOR, PEEK], "CREATE TABLE x (id int, CHECK (peek(@@@ id)))"),
    "check_by_like": ([], 'CREATE TABLE x (LIKE "full".checked INCLUDING ALL)'),
    "generated_by_a_function": ([OF], "CREATE TABLE x (id int, card pci.pan GENERATED ALWAYS AS (of(id)) STORED)"),
    "generated_text": ([OF], "CREATE TABLE x (id int, mask text GENERATED ALWAYS AS (of(id)::text) STORED)"),
    "default": ([F], "CREATE TABLE x (id int, card pci.pan DEFAULT f())"),
    "default_of_text": ([F], "CREATE TABLE x (id int, mask text DEFAULT f()::text)"),
    "set_default": ([F, T], "ALTER TABLE t ALTER card SET DEFAULT f()"),
    "add_column_default": ([F, T], "ALTER TABLE t ADD COLUMN other pci.pan DEFAULT f()"),
    "domain_default": ([F], "CREATE DOMAIN d AS pci.pan DEFAULT f()"),
    "alter_domain_default": ([F, "CREATE DOMAIN d AS pci.pan"], "ALTER DOMAIN d SET DEFAULT f()"),
    "domain_check": ([PEEK], "CREATE DOMAIN d AS pci.pan CHECK (peek(VALUE))"),
    "alter_domain_check": ([PEEK, "CREATE DOMAIN d AS pci.pan"], "ALTER DOMAIN d ADD CHECK (peek(VALUE))"),
    "domain_check_of_an_array": ([], "CREATE DOMAIN d AS pci.pan[] CHECK (VALUE[1]::text <> '')"),
    "policy": ([T], "CREATE POLICY p ON t USING (pci.last4(card) = '1111')"),
    "policy_of_writes": ([T], "CREATE POLICY p ON t FOR INSERT WITH CHECK (pci.last4(card) = '1111')"),
    "policy_of_a_subquery": ([T, T0], "CREATE POLICY p ON t0 USING (EXISTS (SELECT FROM t WHERE pci.last4(card) = '1111'))"),
    "alter_policy": ([T, "CREATE POLICY p ON t USING (id = 1)"], "ALTER POLICY p ON t USING (pci.last4(card) = '1111')"),
    "trigger_condition": ([T, TRIGGER], "CREATE TRIGGER tr AFTER UPDATE ON t FOR EACH ROW WHEN (pci.mask(NEW.card) <> '') EXECUTE FUNCTION tr()"),
    "trigger_condition_of_rows": ([T, TRIGGER], "CREATE TRIGGER tr AFTER UPDATE ON t FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION tr()"),
    "trigger_before": ([T, TRIGGER], "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION tr()"),
    "trigger_deferrable": ([T, TRIGGER], "CREATE CONSTRAINT TRIGGER tr AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tr()"),
    "rule": ([T, T0], "CREATE RULE r AS ON INSERT TO t DO ALSO INSERT INTO t0 VALUES (1)"),
    "rule_of_a_view": ([T, "CREATE VIEW v AS SELECT * FROM t"], "CREATE RULE r AS ON UPDATE TO v DO INSTEAD NOTHING"),
    "foreign_key_becomes_deferrable": (["CREATE TABLE k (card pci.pan UNIQUE)", "CREATE TABLE x (card pci.pan CONSTRAINT fk REFERENCES k (card))"],
                                       "ALTER TABLE x ALTER CONSTRAINT fk DEFERRABLE"),
    "using_a_function": ([OF, T0], "ALTER TABLE t0 ALTER id TYPE text USING of(id)::text"),
    "using_a_row": ([T], "ALTER TABLE t ALTER id TYPE text USING (t).card::text"),
    "using_an_operator": ([OF, OPERATOR, T0], "ALTER TABLE t0 ALTER id TYPE text USING (@@@ id)::text"),
}


@pytest.fixture(scope="module")
def place(module_cluster):
    cluster = module_cluster()
    cluster.execute('CREATE TABLE IF NOT EXISTS "full".checked (id int, card pci.pan, CHECK (pci.mask(card) <> \'\'));'
                    'GRANT SELECT ON "full".checked TO PUBLIC; GRANT USAGE ON SCHEMA "full" TO PUBLIC', user="full")
    cluster.execute("CREATE ROLE keeper LOGIN; CREATE SCHEMA keeper AUTHORIZATION keeper")
    for capability in ("store", "search"):
        cluster.grant("keeper", capability)
    return cluster


def run(cluster, role, prepare, sql):
    """The error of the statement, or None; nothing stays."""
    with cluster.connect(role, autocommit=False) as conn:
        conn.execute(f'SET LOCAL search_path = "{role}", public')
        for statement in prepare:
            conn.execute(statement)
        try:
            conn.execute(sql)
        except psycopg.Error as error:
            return error
        finally:
            conn.rollback()
    return None


@pytest.mark.parametrize("role", ["app", "postgres"])
@pytest.mark.parametrize("name", NEEDS_SEARCH)
def test_needs_search(place, name, role):
    error = run(place, role, *NEEDS_SEARCH[name])
    assert error is not None, "was not refused"
    assert (error.sqlstate, "permission denied to compare" in str(error)) == ("42501", True), error
    assert "the capability search" in error.diag.message_hint


@pytest.mark.parametrize("name", NEEDS_SEARCH)
def test_works_with_search(place, name):
    error = run(place, "full", *NEEDS_SEARCH[name])
    assert error is None, error


# What no card number has to do with, or asks only whether there is one.
ORDINARY = {
    "statistics_of_other_columns": ([T], "CREATE STATISTICS s ON id, (id + 1) FROM t"),
    "check_not_null": ([], "CREATE TABLE x (id int, card pci.pan, CHECK (id > 0 OR card IS NOT NULL))"),
    "check_of_a_row_not_null": ([], "CREATE TABLE x (id int, card pci.pan, CHECK (x IS NOT NULL))"),
    "domain_not_null": ([], "CREATE DOMAIN d AS pci.pan CHECK (VALUE IS NOT NULL)"),
    "index_where_not_null": ([T], "CREATE UNIQUE INDEX ON t (id) WHERE card IS NOT NULL"),
    "unique_expression_of_another_column": (["CREATE TABLE x (t text, card pci.pan)", f"INSERT INTO x VALUES ('a', '{VISA}')"], "CREATE UNIQUE INDEX ON x (lower(t))"),
    "policy_of_another_column": ([T], "CREATE POLICY p ON t USING (id = 1)"),
    "policy_of_a_join": ([T, T0], "CREATE POLICY p ON t0 USING (EXISTS (SELECT FROM t JOIN public.payments USING (id) WHERE t.id = t0.id))"),
    "trigger_after": ([T, TRIGGER], "CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW WHEN (NEW.card IS NOT NULL) EXECUTE FUNCTION tr()"),
    "constraint_trigger": ([T, TRIGGER], "CREATE CONSTRAINT TRIGGER tr AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION tr()"),
    "generated_of_another_column": ([], "CREATE TABLE x (id int, card pci.pan, twice int GENERATED ALWAYS AS (id * 2) STORED)"),
    "own_function": (["CREATE FUNCTION n(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'", T0], "CREATE UNIQUE INDEX ON t0 (n(id))"),
    "rule_elsewhere": ([T0], "CREATE RULE r AS ON INSERT TO t0 DO ALSO NOTIFY x"),
    "text_becomes_pan": (["CREATE TABLE x (card text)", f"INSERT INTO x VALUES ('{VISA}')"], "ALTER TABLE x ALTER card TYPE pci.pan USING card::pci.pan"),
    "foreign_key_renamed": (["CREATE TABLE k (card pci.pan UNIQUE)", "CREATE TABLE x (card pci.pan CONSTRAINT fk REFERENCES k (card))",
                             f"INSERT INTO k VALUES ('{VISA}'); INSERT INTO x VALUES ('{VISA}')"], "ALTER TABLE x RENAME CONSTRAINT fk TO fk2"),
    "default_null": ([], "CREATE TABLE x (id int, card pci.pan DEFAULT NULL)"),
    "view": ([T], "CREATE VIEW v AS SELECT id, card, pci.brand(card) AS brand FROM t"),
}


@pytest.mark.parametrize("role", ["app", "postgres"])
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_definitions_need_nothing(place, name, role):
    error = run(place, role, *ORDINARY[name])
    assert error is None, error


def test_maintenance_of_what_a_searcher_made(place):
    """Partitions and copies of indexes are made by whoever maintains the table."""
    with place.connect("app") as conn:
        conn.execute("SET search_path = app")
        place.execute("SELECT pci.grant_access('app', 'default', 'search')", user="ann")
        conn.execute("CREATE TABLE kept (id int, card pci.pan, CHECK (pci.mask(card) <> '')) PARTITION BY RANGE (id); CREATE INDEX ON kept (pci.last4(card));"
                     "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
                     "CREATE TRIGGER tr BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION keep()")
        place.execute("SELECT pci.revoke_access('app', 'default', 'search')", user="ann")
        try:
            conn.execute("CREATE TABLE kept1 PARTITION OF kept FOR VALUES FROM (1) TO (9)")
            conn.execute(f"INSERT INTO kept VALUES (1, '{VISA}')")
            conn.execute("REINDEX TABLE CONCURRENTLY kept1")
            conn.execute("VACUUM FULL kept1")
        finally:
            conn.execute("DROP TABLE kept")


# A constant lies in the catalogs in its sealed form: statements that prepare, and the one that needs export.
PAN = f"'{VISA}'::pci.pan"
CONSTANTS = {
    "view": ([], f"CREATE VIEW v AS SELECT {PAN} AS card"),
    "view_replaced": (["CREATE VIEW v AS SELECT NULL::pci.pan AS card"], f"CREATE OR REPLACE VIEW v AS SELECT {PAN} AS card"),
    "view_of_an_array": ([], f"CREATE VIEW v AS SELECT ARRAY['{VISA}', '{VISA_2}']::pci.pan[] AS cards"),
    "view_with_a_cte": ([], f"CREATE VIEW v AS WITH w AS (SELECT {PAN} AS card) SELECT * FROM w"),
    "materialized_view": ([], f"CREATE MATERIALIZED VIEW v AS SELECT {PAN} AS card WITH NO DATA"),
    "default": ([], f"CREATE TABLE x (card pci.pan DEFAULT '{VISA}')"),
    "set_default": (["CREATE TABLE x (card pci.pan)"], f"ALTER TABLE x ALTER card SET DEFAULT '{VISA}'"),
    "check": ([], f"CREATE TABLE x (card pci.pan, CHECK (card <> {PAN}))"),
    "index": ([T], f"CREATE INDEX ON t (id) WHERE card = {PAN}"),
    "function": ([], f"CREATE FUNCTION g() RETURNS pci.pan LANGUAGE sql RETURN {PAN}"),
    "function_in_a_block": ([], f"CREATE FUNCTION g() RETURNS pci.pan LANGUAGE sql BEGIN ATOMIC; SELECT 1; SELECT {PAN}; END"),
    "procedure_writes": ([T], f"CREATE PROCEDURE g() LANGUAGE sql BEGIN ATOMIC; UPDATE t SET card = {PAN}; END"),
    "argument": ([], f"CREATE FUNCTION g(c pci.pan DEFAULT {PAN}) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    "domain_default": ([], f"CREATE DOMAIN d AS pci.pan DEFAULT {PAN}"),
    "domain_check": ([], f"CREATE DOMAIN d AS pci.pan CHECK (VALUE <> {PAN})"),
    "policy": ([T], f"CREATE POLICY p ON t USING (card = {PAN})"),
    "rule": ([T], f"CREATE RULE r AS ON DELETE TO t WHERE OLD.card = {PAN} DO INSTEAD NOTHING"),
    "trigger": ([T, TRIGGER], f"CREATE TRIGGER tr AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.card = {PAN}) EXECUTE FUNCTION tr()"),
    "list_bound": (["CREATE TABLE x (card pci.pan) PARTITION BY LIST (card)"], f"CREATE TABLE x1 PARTITION OF x FOR VALUES IN ('{VISA}')"),
    "range_bound": (["CREATE TABLE x (card pci.pan) PARTITION BY RANGE (card)"], f"CREATE TABLE x1 PARTITION OF x FOR VALUES FROM (MINVALUE) TO ('{VISA}')"),
    "attached_bound": (["CREATE TABLE x (card pci.pan) PARTITION BY LIST (card)", "CREATE TABLE x1 (card pci.pan)"], f"ALTER TABLE x ATTACH PARTITION x1 FOR VALUES IN ('{VISA}')"),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_needs_export(place, name):
    error = run(place, "keeper", *CONSTANTS[name])
    assert error is not None, "was not refused"
    assert (error.sqlstate, "permission denied to export" in str(error)) == ("42501", True), error
    assert run(place, "full", *CONSTANTS[name]) is None


def test_a_view_shows_the_stored_form_to_nobody(place):
    """Whoever may store makes a constant of any guess, and would read its equality hash in the catalog."""
    for role in ("app", "postgres"):
        error = run(place, role, [], f"CREATE VIEW v AS SELECT {PAN} AS card")
        assert error is not None and "permission denied to export" in str(error)


# Errors are those of a database without pgpci.

SAME = [
    "CREATE STATISTICS s ON a FROM x NATURAL JOIN y", "CREATE STATISTICS s ON a, b FROM (SELECT 1) x", "CREATE STATISTICS s ON a FROM generate_series(1, 2) a",
    "CREATE STATISTICS s ON a FROM t, t", "CREATE STATISTICS s ON a, b FROM nosuch", "CREATE STATISTICS s ON a, nosuch FROM t", "CREATE STATISTICS s ON a, b FROM nos.uch",
    "CREATE FUNCTION f(nosuch) RETURNS int LANGUAGE c AS 'x', 'y'", "CREATE FUNCTION f(nosuch) RETURNS int LANGUAGE internal AS 'x'",
    "CREATE FUNCTION nos.f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE FUNCTION f(int) RETURNS int LANGUAGE nosuch AS 'SELECT 1'",
    "CREATE FUNCTION f(t.a%TYPE) RETURNS t.a%TYPE LANGUAGE sql AS 'SELECT $1'", "CREATE FUNCTION h(i int) RETURNS int LANGUAGE internal", "CREATE FUNCTION h2(i int) RETURNS int AS 'x'",
    "CREATE CAST (nosuch AS int) WITHOUT FUNCTION", "CREATE CAST (int AS nosuch) WITHOUT FUNCTION", "CREATE CAST (t AS int) WITH FUNCTION nosuch(t)",
    "CREATE TRIGGER tr BEFORE INSERT ON nosuch FOR EACH ROW EXECUTE FUNCTION nosuch()", "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.nosuch > 1) EXECUTE FUNCTION nosuch()",
    "CREATE RULE r AS ON SELECT TO nosuch DO INSTEAD SELECT 1", "CREATE POLICY p ON nosuch USING (true)", "CREATE POLICY p ON t USING (nosuch)",
    "CREATE INDEX ON nosuch (i)", "CREATE INDEX ON t (nosuch)", "CREATE INDEX ON t USING nosuch (a)", "CREATE INDEX ON t ((nosuch(a)))", "CREATE UNIQUE INDEX ON t (b)",
    "CREATE TABLE u (i nosuch)", "CREATE TABLE u (i nos.uch)", "CREATE TABLE u (i t.a%TYPE)", "CREATE TABLE u (c int, CHECK (nosuch.c > 0))", "CREATE TABLE u (LIKE nosuch)", "CREATE TABLE u () INHERITS (nosuch)",
    "CREATE TABLE u OF nosuch", "CREATE TABLE u (i int, j int) PARTITION BY LIST (nosuch)", "CREATE TABLE u (i int) PARTITION BY LIST (i, i)", "CREATE TABLE u (i int) PARTITION BY nosuch (i)",
    "CREATE TABLE u PARTITION OF p FOR VALUES FROM (1) TO ('x')", "CREATE TABLE u PARTITION OF nosuch DEFAULT", "ALTER TABLE p ATTACH PARTITION nosuch FOR VALUES FROM (5) TO (6)",
    "ALTER TABLE p ATTACH PARTITION t FOR VALUES FROM (5) TO (6)", "ALTER TABLE nosuch ATTACH PARTITION t DEFAULT", "ALTER TABLE p DETACH PARTITION t",
    "ALTER TABLE t ALTER nosuch TYPE text", "ALTER TABLE t ALTER b TYPE nosuch", "ALTER TABLE t ALTER a TYPE int USING nosuch", "ALTER TABLE t ALTER a TYPE int USING a::int",
    "ALTER TABLE t ALTER a TYPE int USING (SELECT 1)", "ALTER TABLE t ALTER a TYPE int USING nosuch(a)", "ALTER TABLE t ALTER a TYPE int USING 'x'::int", "ALTER TABLE t ALTER a TYPE int USING z, ADD z int",
    "ALTER TABLE nosuch ALTER a TYPE int USING 1", "ALTER TABLE v ALTER a TYPE text USING a", "ALTER TABLE t VALIDATE CONSTRAINT nosuch", "ALTER TABLE t ALTER CONSTRAINT nosuch DEFERRABLE",
    "ALTER TABLE t ADD UNIQUE (nosuch)", "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES t (b)", "ALTER TABLE t ADD CHECK (nosuch > 1)", "ALTER TABLE t ADD EXCLUDE USING gist (a WITH =)",
    "ALTER TABLE t ADD COLUMN z int GENERATED ALWAYS AS (nosuch) STORED", "CREATE DOMAIN d AS nosuch", "CREATE DOMAIN d AS int CHECK (nosuch > 1)",
    "CLUSTER nosuch", "CLUSTER t", "CLUSTER t USING nosuch", "CLUSTER v", "REFRESH MATERIALIZED VIEW nosuch", "REFRESH MATERIALIZED VIEW v", "TRUNCATE v, nosuch",
    "DROP ROLE public", "ALTER ROLE public PASSWORD 'x'", "GRANT public TO postgres", "CREATE ROLE x IN ROLE public", "CREATE ROLE x IN ROLE nosuch", "DROP EXTENSION nosuch", "ALTER FUNCTION nosuch() SET SCHEMA nosuch",
    "CREATE OPERATOR CLASS o FOR TYPE nosuch USING btree AS OPERATOR 1 <", "ALTER OPERATOR FAMILY nosuch USING btree ADD OPERATOR 1 < (int, int)", "SECURITY LABEL FOR pgpci ON DATABASE nosuch IS 'x'",
]
SCENE = ("CREATE SCHEMA same; CREATE TABLE same.t (id int PRIMARY KEY, a text UNIQUE, b int); INSERT INTO same.t VALUES (1, 'x', 1), (2, 'y', 1);"
         "CREATE VIEW same.v AS SELECT * FROM same.t; CREATE TABLE same.p (i int, j int) PARTITION BY RANGE (i)")
FIELDS = ["sqlstate", "message_primary", "message_detail", "message_hint", "statement_position", "schema_name", "table_name", "column_name",
          "datatype_name", "constraint_name", "source_function", "severity"]


@pytest.fixture(scope="module")
def twins(place):
    cluster = place
    cluster.execute("CREATE DATABASE bare")
    for dbname in ("bare", "postgres"):
        cluster.execute(SCENE, dbname=dbname)
    return cluster


@pytest.mark.parametrize("sql", SAME)
def test_errors_are_those_of_a_database_without_pgpci(twins, sql):
    def said(dbname):
        seen = []
        with twins.connect(dbname=dbname, autocommit=False) as conn:
            conn.add_notice_handler(seen.append)
            conn.execute("SET LOCAL search_path = same")
            try:
                conn.execute(sql)
            except psycopg.Error as error:
                seen.append(error.diag)
            conn.rollback()
        return [[getattr(diag, field) for field in FIELDS] for diag in seen]

    bare = said("bare")
    assert said("postgres") == bare
    assert bare, "it was meant to say something"


def test_a_number_of_the_list_fails_without_harm(twins):
    """The server goes on with the session that tried."""
    with twins.connect() as conn:
        conn.execute("SET search_path = same")
        pid = conn.info.backend_pid
        for sql in SAME[:4]:
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                conn.execute(sql)
        assert conn.execute("SELECT pg_backend_pid()").fetchone() == (pid,)


def test_no_lock_is_taken_by_who_does_not_own_the_table(place):
    with place.connect("full", autocommit=False) as reader, place.connect("plain") as other:
        reader.execute("SELECT count(*) FROM payments")
        other.execute("SET lock_timeout = '5s'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
            other.execute("ALTER TABLE payments ALTER card TYPE text USING card::text")
        reader.rollback()
