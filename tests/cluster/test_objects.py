"""Objects of pgpci change by its scripts alone; definitions that compare card numbers need search."""

import psycopg
import pytest
from conftest import VISA

# Each as superuser. Every one must be refused with 42501, and by pgpci.
# Does something once, at the first statement that it fires for.
EVENT_TRIGGER = ("CREATE FUNCTION public.once() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN IF current_setting(''my.once'', true) IS DISTINCT FROM ''1'' THEN "
                 "PERFORM set_config(''my.once'', ''1'', true); EXECUTE $q${}$q$; END IF; END'; CREATE EVENT TRIGGER once ON {} EXECUTE FUNCTION public.once(); ")

CHANGES = {
    "type_rename": "ALTER TYPE pci.pan RENAME TO card",
    "type_schema": "ALTER TYPE pci.pan SET SCHEMA public",
    "type_owner": "ALTER TYPE pci.pan OWNER TO plain",
    "type_storage": "ALTER TYPE pci.pan SET (STORAGE = main)",
    "type_send": "ALTER TYPE pci.pan SET (RECEIVE = NONE)",
    "type_analyze": "ALTER TYPE pci.pan SET (ANALYZE = NONE)",
    "schema_rename": "ALTER SCHEMA pci RENAME TO cards",
    "schema_owner": "ALTER SCHEMA pci OWNER TO plain",
    "schema_drop": "DROP SCHEMA pci CASCADE",
    "table_rename": "ALTER TABLE pci.vault RENAME TO vault2",
    "table_schema": "ALTER TABLE pci.access_grant SET SCHEMA public",
    "table_owner": "ALTER TABLE pci.key OWNER TO plain",
    "table_column": "ALTER TABLE pci.key ADD COLUMN note text",
    "table_default": "ALTER TABLE pci.vault ALTER searchable SET DEFAULT false",
    "table_constraint": "ALTER TABLE pci.access_grant DROP CONSTRAINT access_grant_pkey",
    "table_triggers": "ALTER TABLE pci.access_grant DISABLE TRIGGER ALL",
    "table_row_security": "ALTER TABLE pci.access_grant ENABLE ROW LEVEL SECURITY",
    "table_truncate": "TRUNCATE pci.installation",
    "table_trigger": "CREATE TRIGGER t BEFORE INSERT ON pci.key FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "table_rule": "CREATE RULE r AS ON INSERT TO pci.access_grant DO INSTEAD NOTHING",
    "table_policy": "CREATE POLICY p ON pci.access_grant USING (true)",
    "table_index": "CREATE UNIQUE INDEX i ON pci.key (state)",
    "column_rename": "ALTER TABLE pci.key RENAME state TO status",
    "index_rename": "ALTER INDEX pci.access_grant_pkey RENAME TO i",
    "view_rename": "ALTER VIEW pci.keys RENAME TO keys2",
    "view_replace": "CREATE OR REPLACE VIEW pci.access AS SELECT NULL::regrole AS role, ''::text AS vault, ''::text AS capability, "
                    "NULL::text[] AS purposes, now() AS valid_from, now() AS valid_until, 1 AS max_per_hour, ''::text AS granted_by, "
                    "now() AS granted_at, true AS in_force",
    "function_rename": "ALTER FUNCTION pci.reveal RENAME TO show",
    "function_schema": "ALTER FUNCTION pci.reveal SET SCHEMA public",
    "function_owner": "ALTER FUNCTION pci.grant_access OWNER TO plain",
    "function_definer": "ALTER FUNCTION pci.reveal SECURITY DEFINER",
    "function_invoker": "ALTER FUNCTION pci.grant_access SECURITY INVOKER",
    "function_path": "ALTER FUNCTION pci.grant_access SET search_path = public",
    "function_volatility": "ALTER FUNCTION pci.reveal IMMUTABLE",
    "function_support": "ALTER FUNCTION pci.mask LEAKPROOF",
    "function_replace": "CREATE OR REPLACE FUNCTION pci.mask(pci.pan) RETURNS text LANGUAGE sql AS 'SELECT ''x'''",
    "operator_owner": "ALTER OPERATOR pg_catalog.= (pci.pan, pci.pan) OWNER TO plain",
    "operator_schema": "ALTER OPERATOR pg_catalog.= (pci.pan, text) SET SCHEMA public",
    "operator_restrict": "ALTER OPERATOR pg_catalog.< (pci.pan, pci.pan) SET (RESTRICT = NONE)",
    "let_go_and_dropped": "ALTER EXTENSION pgpci DROP VIEW pci.keys; DROP VIEW pci.keys",
    "cast_let_go_and_dropped": "ALTER EXTENSION pgpci DROP CAST (pci.pan AS pci.pan); DROP CAST (pci.pan AS pci.pan)",
    "table_let_go": "ALTER EXTENSION pgpci DROP TABLE pci.access_grant",
    "taken_in": "CREATE TABLE public.mine (x int); ALTER EXTENSION pgpci ADD TABLE public.mine",
    "function_replaced_in_sql": "CREATE OR REPLACE FUNCTION pci.is_active() RETURNS boolean LANGUAGE sql RETURN true",
    "in_a_block": "DO $$ BEGIN EXECUTE 'ALTER FUNCTION pci.reveal RENAME TO show'; END $$",
    "cast_to_bytes": "CREATE CAST (pci.pan AS bytea) WITHOUT FUNCTION",
    "cast_from_bytes": "CREATE CAST (bytea AS pci.pan) WITHOUT FUNCTION",
    "cast_by_text": "CREATE CAST (pci.pan AS json) WITH INOUT",
    "cast_of_arrays": "CREATE CAST (pci.pan[] AS json) WITH INOUT",
    "cast_of_rows": "CREATE CAST (public.payments AS json) WITH INOUT",
    # What hangs on tables of ours.
    "child": "CREATE TABLE public.kid () INHERITS (pci.request)",
    "child_among_others": "CREATE TABLE public.mum (x int); CREATE TABLE public.kid () INHERITS (public.mum, pci.access_grant)",
    "child_by_alter": "CREATE TABLE public.kid (LIKE pci.request INCLUDING ALL); ALTER TABLE public.kid INHERIT pci.request",
    "parent": "CREATE TABLE public.mum (LIKE pci.vault); ALTER TABLE pci.vault INHERIT public.mum",
    "partition": "CREATE TABLE public.mum (LIKE pci.vault) PARTITION BY LIST (number); ALTER TABLE public.mum ATTACH PARTITION pci.vault DEFAULT",
    "foreign_key": "CREATE TABLE public.kid (vault text REFERENCES pci.vault (name) ON DELETE CASCADE)",
    "statistics": "CREATE STATISTICS public.s ON state, vault FROM pci.key",
    "trigger_dropped": "DROP TRIGGER protect ON pci.key",
    "trigger_disabled": "ALTER TABLE pci.key DISABLE TRIGGER protect",
    "trigger_renamed": "ALTER TRIGGER protect ON pci.key RENAME TO t",
    "trigger_not_always": "ALTER TABLE pci.key ENABLE TRIGGER protect_all",
    # What is new in our schema.
    "new_table": "CREATE TABLE pci.mine (x int)",
    "new_view": "CREATE VIEW pci.mine AS SELECT 1 AS x",
    "new_type": "CREATE TYPE pci.mine AS (x int)",
    "new_domain": "CREATE DOMAIN pci.mine AS int",
    "new_function": "CREATE FUNCTION pci.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "function_moved_in": "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION public.mine() SET SCHEMA pci",
    "table_moved_in": "CREATE TABLE public.mine (x int); ALTER TABLE public.mine SET SCHEMA pci",
    # Code that runs beneath all checks.
    "internal_function": "CREATE FUNCTION public.hex(record, text) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS 'binary_encode'",
    "internal_function_of_anything": "CREATE FUNCTION public.hex(anyelement, text) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS 'binary_encode'",
    "internal_function_of_arrays": "CREATE FUNCTION public.hexa(anyarray, text) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS 'binary_encode'",
    "internal_function_of_rows": "CREATE FUNCTION public.icmp(record, record) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'btrecordimagecmp'",
    "internal_procedure": "CREATE PROCEDURE public.pr(int) LANGUAGE internal AS 'int4out'",
    "function_in_c": "CREATE FUNCTION public.c(int) RETURNS int LANGUAGE c AS '$libdir/pgpci', 'pan_out'",
    "internal_function_behind_an_event_trigger": EVENT_TRIGGER.format("CREATE TEMPORARY TABLE trace (x int)", "ddl_command_start")
        + "CREATE FUNCTION public.hex(record, text) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS 'binary_encode'",
    "internal_function_by_an_event_trigger": EVENT_TRIGGER.format("CREATE FUNCTION public.hex(record, text) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS ''binary_encode''", "ddl_command_end")
        + "CREATE EXTENSION hstore",
    "function_replaced_in_c": "CREATE FUNCTION public.c(text) RETURNS text LANGUAGE sql AS 'SELECT $1'; CREATE OR REPLACE FUNCTION public.c(text) RETURNS text LANGUAGE internal AS 'textlen'",
    "postgresqls_function": "CREATE OR REPLACE FUNCTION pg_catalog.anytextcat(anynonarray, text) RETURNS text LANGUAGE sql STABLE STRICT AS 'SELECT $2'",
    "function_among_postgresqls": "CREATE FUNCTION pg_catalog.mine(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "operator_class": "CREATE OPERATOR CLASS public.evil FOR TYPE pci.pan USING btree AS OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 (bytea, bytea) byteacmp(bytea, bytea)",
    "operator_class_of_a_domain": "CREATE DOMAIN public.d AS pci.pan; CREATE OPERATOR CLASS public.evil FOR TYPE public.d USING btree AS OPERATOR 1 <(pci.pan, pci.pan)",
    "operator_class_in_our_family": "CREATE OPERATOR CLASS public.evil FOR TYPE uuid USING btree FAMILY pci.pan_ops AS OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 uuid_cmp(uuid, uuid)",
    "operator_family_grows": "ALTER OPERATOR FAMILY pci.pan_ops USING hash ADD FUNCTION 1 (uuid) uuid_hash(uuid)",
    "operator_family_shrinks": "ALTER OPERATOR FAMILY pci.pan_ops USING btree DROP OPERATOR 1 (pci.pan, text)",
    "operator_family_renamed": "ALTER OPERATOR FAMILY pci.pan_ops USING btree RENAME TO ops",
    "operator_family_of_another": "CREATE OPERATOR FAMILY public.f USING btree; ALTER OPERATOR FAMILY public.f USING btree ADD OPERATOR 1 < (pci.pan, pci.pan)",
    "new_operator_family": "CREATE OPERATOR FAMILY pci.f USING btree",
}
BY_PGPCI = ("not made in C, of internal code or in pg_catalog", "objects of pgpci are not changed by hand", "tables of pgpci change only through its functions",
            "casts and operator classes of pci.pan are not defined outside of pgpci")

# PostgreSQL refuses these by itself: members of an extension go with it.
DROPS = ["TYPE pci.pan", "TABLE pci.key", "VIEW pci.access", "FUNCTION pci.hash_pan(pci.pan)",
         "OPERATOR pg_catalog.= (text, pci.pan)", "CAST (pci.pan AS text)"]

FINGERPRINT = """
SELECT (SELECT array_agg((p.oid, proname, pronamespace, proowner, prosecdef, provolatile, proleakproof, proconfig)::text ORDER BY p.oid) FROM pg_proc p WHERE pronamespace = to_regnamespace('pci')),
       (SELECT array_agg((oid, relname, relowner, relhastriggers, relhasrules, relrowsecurity)::text ORDER BY oid) FROM pg_class WHERE relnamespace = to_regnamespace('pci')),
       (SELECT array_agg((typowner, typstorage, typsend, typanalyze)::text) FROM pg_type WHERE oid = to_regtype('pci.pan')),
       (SELECT array_agg((oid, oprnamespace, oprowner, oprrest)::text ORDER BY oid) FROM pg_operator WHERE to_regtype('pci.pan') IN (oprleft, oprright)),
       (SELECT count(*) FROM pg_cast WHERE to_regtype('pci.pan') IN (castsource, casttarget))
"""


@pytest.mark.parametrize("name", CHANGES)
def test_a_superuser_is_refused(cluster, name):
    before = cluster.execute(FINGERPRINT)
    with cluster.connect(autocommit=False) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        conn.execute(CHANGES[name])
    assert any(text in str(caught.value) for text in BY_PGPCI), caught.value
    assert cluster.execute(FINGERPRINT) == before


@pytest.mark.parametrize("what", DROPS)
def test_a_superuser_cannot_drop(cluster, what):
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="because extension pgpci requires it"):
        cluster.execute(f"DROP {what} CASCADE")


def test_an_officer_is_no_exception(cluster):
    cluster.execute("ALTER ROLE ann SUPERUSER")
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="objects of pgpci"):
            cluster.execute("ALTER FUNCTION pci.reveal RENAME TO show", user="ann")
    finally:
        cluster.execute("ALTER ROLE ann NOSUPERUSER")


PLANTS = {
    "trigger": "CREATE TRIGGER t BEFORE INSERT ON pci.request FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "rule": "CREATE RULE r AS ON INSERT TO pci.access_grant DO ALSO NOTIFY x",
    "policy": "CREATE POLICY p ON pci.access_grant USING (true)",
    "child": "CREATE TABLE public.kid () INHERITS (pci.request)",
    "foreign_key": "CREATE TABLE public.kid (vault text REFERENCES pci.vault (name) ON DELETE CASCADE)",
    "function": "CREATE FUNCTION pci.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "index": "CREATE INDEX ON pci.key (state)",
}


@pytest.fixture(scope="module")
def waiting(module_cluster):
    one = module_cluster(set_up=False)
    one.execute("CREATE EXTENSION pgpci")
    return one


@pytest.mark.parametrize("name", PLANTS)
def test_nothing_is_planted_before_pgpci_is_set_up(waiting, name):
    """A restore fills the tables then, but makes nothing of this kind."""
    with waiting.connect(autocommit=False) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        conn.execute(PLANTS[name])
    assert any(text in str(caught.value) for text in BY_PGPCI), caught.value


def test_other_extensions_bring_functions_in_c(cluster):
    with cluster.connect(autocommit=False) as conn:
        conn.execute("CREATE EXTENSION pg_trgm")
        assert conn.execute("SELECT similarity('a', 'a')").fetchone() == (1.0,)
        conn.rollback()


def test_our_tables_are_maintained(cluster):
    with cluster.connect() as conn:
        for sql in ("VACUUM FULL pci.key", "REINDEX TABLE pci.key", "REINDEX TABLE CONCURRENTLY pci.key", "CLUSTER pci.key USING key_pkey", "ANALYZE pci.key"):
            conn.execute(sql)
    assert cluster.value("SELECT count(*) FROM pci.keys") == 4


def test_internal_functions_in_our_schema_are_not_ours(cluster):
    """A superuser's name for PostgreSQL's own comparison of rows, beside pgpci's functions."""
    with cluster.connect(autocommit=False) as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("CREATE FUNCTION pci.same(record, record) RETURNS boolean LANGUAGE internal AS 'record_image_eq'")
            conn.execute("SELECT pci.same(ROW(a.card), ROW(b.card)) FROM payments a, payments b")
        conn.rollback()


# Definitions that compare or lay bare: (statements that prepare, the one that needs search).
TABLE = "CREATE TABLE t (id int, card pci.pan, other text)"
INDEX = "CREATE INDEX i ON t (card)"
NEEDS_SEARCH = {
    "list_partitions": ([], "CREATE TABLE x (id int, card pci.pan) PARTITION BY LIST (card)"),
    "range_partitions": ([], "CREATE TABLE x (id int, card pci.pan) PARTITION BY RANGE (card)"),
    "range_of_several": ([], "CREATE TABLE x (id int, card pci.pan) PARTITION BY RANGE (id, card)"),
    "range_of_an_expression": ([], "CREATE TABLE x (id int, card pci.pan) PARTITION BY RANGE ((card))"),
    "list_of_arrays": ([], "CREATE TABLE x (id int, cards pci.pan[]) PARTITION BY LIST (cards)"),
    "range_of_a_domain": (["CREATE DOMAIN d AS pci.pan"], "CREATE TABLE x (id int, card d) PARTITION BY RANGE (card)"),
    "sub_partitions": (["CREATE TABLE x (id int, card pci.pan) PARTITION BY RANGE (id)"],
                       "CREATE TABLE y PARTITION OF x FOR VALUES FROM (1) TO (9) PARTITION BY RANGE (card)"),
    "cluster": ([TABLE, INDEX], "CLUSTER t USING i"),
    "cluster_again": ([TABLE, INDEX, "ALTER TABLE t CLUSTER ON i"], "CLUSTER t"),
    "cluster_of_a_key": (["CREATE TABLE t (id int, card pci.pan PRIMARY KEY)"], "CLUSTER t USING t_pkey"),
    "statistics": ([TABLE], "CREATE STATISTICS s (mcv) ON card, other FROM t"),
    "statistics_of_an_expression": ([TABLE], "CREATE STATISTICS s ON (pci.last4(card)), other FROM t"),
}


@pytest.mark.parametrize("role", ["app", "postgres"])
@pytest.mark.parametrize("name", NEEDS_SEARCH)
def test_definition_needs_search(cluster, name, role):
    prepare, sql = NEEDS_SEARCH[name]
    with cluster.connect(role, autocommit=False) as conn:
        conn.execute(f'SET LOCAL search_path = "{role}", public')
        for statement in prepare:
            conn.execute(statement)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied to compare"):
            conn.execute(sql)
        conn.rollback()


@pytest.mark.parametrize("name", NEEDS_SEARCH)
def test_definition_works_with_search(cluster, name):
    prepare, sql = NEEDS_SEARCH[name]
    with cluster.connect("full", autocommit=False) as conn:
        conn.execute('SET LOCAL search_path = "full", public')
        for statement in [*prepare, sql]:
            conn.execute(statement)
        conn.rollback()


def test_cluster_of_all_tables_needs_search(cluster):
    """CLUSTER without a name takes every table of the caller's that was marked."""
    with cluster.connect("app") as conn:
        conn.execute("SET search_path = app")
        conn.execute("CREATE TABLE marked (id int, card pci.pan)")
        try:
            conn.execute("CREATE INDEX marked_card ON marked (card)")
            conn.execute(f"INSERT INTO marked SELECT g, CASE g % 2 WHEN 0 THEN '{VISA}'::pci.pan ELSE '5555555555554444' END "
                         "FROM generate_series(1, 6) g")
            before = conn.execute("SELECT array_agg(id ORDER BY ctid) FROM marked").fetchone()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("ALTER TABLE marked CLUSTER ON marked_card")
                conn.execute("CLUSTER")
            assert conn.execute("SELECT array_agg(id ORDER BY ctid) FROM marked").fetchone() == before
        finally:
            conn.execute("DROP TABLE marked")


# Node trees hold the bytes of constants.

TREES = ["debug_print_parse", "debug_print_rewritten", "debug_print_plan"]


def trees(cluster, dbname, sql):
    """What a session is sent, and what the log gains, when it asks for trees."""
    sent, before = [], len(cluster.log)
    with cluster.connect("full", dbname) as conn:
        conn.add_notice_handler(lambda d: sent.append(f"{d.message_primary}\n{d.message_detail}"))
        for setting in TREES:
            conn.execute(f"SET {setting} = on")
        conn.execute("SET client_min_messages = log")
        conn.execute(sql.encode(), prepare=False)
    return "\n".join(sent) + cluster.log[before:]


@pytest.mark.parametrize("sql", [
    f"SELECT id FROM payments WHERE card = '{VISA}'",
    f"SELECT '{VISA}'::pci.pan",
    f"PREPARE p AS SELECT '{VISA}'::pci.pan",
    f"EXPLAIN SELECT id FROM payments WHERE card = '{VISA}'",
    f"DO $$ BEGIN PERFORM '{VISA}'::pci.pan; END $$",
    f"CREATE TEMPORARY VIEW v AS SELECT '{VISA}'::pci.pan AS card",
])
def test_no_node_trees(cluster, sql):
    assert "constvalue" not in trees(cluster, "postgres", sql)


def test_node_trees_elsewhere(cluster):
    """A database without pgpci prints them: the test sees what it looks for."""
    cluster.execute("CREATE DATABASE without")
    cluster.execute("GRANT ALL ON DATABASE without TO \"full\"")
    assert trees(cluster, "without", "SELECT 'plain text'::varchar").count("constvalue") >= 3
