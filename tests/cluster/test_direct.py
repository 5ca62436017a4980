"""Who changes policy or keys, or approves, does it by a statement of their own: SELECT pci.f(…), and nothing around it."""

import psycopg
import pytest
from trail import wait_for

# Any change would do: granting is one.
CALL = "pci.grant_access('plain', 'default', 'search')"
REFUSED = "from within another statement"

# As officer ann; objects of another role's that she uses.
WITHIN = {
    "view": "SELECT * FROM trap.v",
    "view_column": "SELECT granted FROM trap.v",
    "view_of_a_function": "SELECT * FROM trap.report",
    "function_in_line": "SELECT trap.inlined()",
    "function_of_sql": "SELECT trap.of_sql()",
    "function_of_plpgsql": "SELECT trap.of_plpgsql()",
    "function_by_dynamic_sql": "SELECT trap.dynamic()",
    "function_by_a_cursor": "SELECT trap.by_cursor()",
    "function_by_a_loop": "SELECT trap.by_loop()",
    "function_of_a_definer": "SELECT trap.definer()",
    "function_of_rows": "SELECT * FROM trap.inlined_rows()",
    "procedure": "CALL trap.pr()",
    "operator": "SELECT 1 OPERATOR(trap.<%%>) 2",
    "cast": "SELECT ROW(1)::trap.kind::text",
    "aggregate": "SELECT trap.agg(1)",
    "trigger": "INSERT INTO trap.t VALUES (1)",
    "default": "INSERT INTO trap.d DEFAULT VALUES",
    "check": "INSERT INTO trap.c VALUES (1)",
    "policy": "SELECT * FROM trap.p",
    "rule": "INSERT INTO trap.r VALUES (1)",
    "beside_another": f"SELECT {CALL}, trap.inlined()",
    "argument": f"SELECT length({CALL}::text)",
    "with_from": f"SELECT {CALL} FROM pg_catalog.pg_database",
    "with_values": "SELECT pci.grant_access(r, 'default', 'search') FROM (VALUES ('plain'::regrole)) v(r)",
    "in_from": f"SELECT * FROM {CALL}",
    "in_where": f"SELECT 1 WHERE {CALL} IS NULL",
    "in_a_cte": f"WITH w AS (SELECT {CALL}) SELECT * FROM w",
    "beside_a_cte": f"WITH w AS (INSERT INTO trap.t2 VALUES (1)) SELECT {CALL}",
    "subquery": f"SELECT (SELECT {CALL})",
    "union": f"SELECT {CALL} UNION ALL SELECT 1",
    "do": f"DO $$ BEGIN PERFORM {CALL}; END $$",
    "do_loop": f"DO $$ DECLARE r record; BEGIN FOR r IN SELECT {CALL} LOOP NULL; END LOOP; END $$",
    "do_assign": f"DO $$ DECLARE n int; BEGIN n := {CALL}; END $$",
    "create_table_as": f"CREATE TEMPORARY TABLE kept AS SELECT {CALL}",
    "select_into": f"SELECT {CALL} INTO TEMPORARY kept",
    "explain": f"EXPLAIN (ANALYZE) SELECT {CALL}",
    "by_search_path": "SELECT grant_access('plain', 'default', 'search')",
}

TRAP = """
CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC;
CREATE VIEW trap.v AS SELECT {call} AS granted;
CREATE FUNCTION trap.inlined() RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT {call} $$;
CREATE FUNCTION trap.inlined_rows() RETURNS SETOF int LANGUAGE sql VOLATILE AS $$ SELECT {call} $$;
CREATE FUNCTION trap.of_sql() RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT {call}; SELECT 1 $$;
CREATE FUNCTION trap.of_plpgsql() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM {call}; RETURN 1; END $$;
CREATE FUNCTION trap.dynamic() RETURNS int LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN EXECUTE $q$SELECT {call}$q$ INTO n; RETURN n; END $$;
CREATE FUNCTION trap.by_cursor() RETURNS int LANGUAGE plpgsql AS $$ DECLARE c refcursor; n int; BEGIN OPEN c FOR SELECT {call}; FETCH c INTO n; RETURN n; END $$;
CREATE FUNCTION trap.by_loop() RETURNS int LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN FOR n IN EXECUTE $q$SELECT {call}$q$ LOOP NULL; END LOOP; RETURN n; END $$;
CREATE FUNCTION trap.definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT {call} $$;
CREATE PROCEDURE trap.pr() LANGUAGE plpgsql AS $$ BEGIN PERFORM {call}; END $$;
CREATE VIEW trap.report AS SELECT trap.of_plpgsql() AS n;
CREATE FUNCTION trap.both(int, int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT {call} $$;
CREATE OPERATOR trap.<%> (FUNCTION = trap.both, LEFTARG = int, RIGHTARG = int);
CREATE TYPE trap.kind AS (n int);
CREATE FUNCTION trap.as_text(trap.kind) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT {call}::text $$;
CREATE CAST (trap.kind AS text) WITH FUNCTION trap.as_text(trap.kind);
CREATE AGGREGATE trap.agg(int) (sfunc = trap.both, stype = int, initcond = '0');
CREATE TABLE trap.t (n int); CREATE TABLE trap.t2 (n int); CREATE TABLE trap.r (n int); CREATE TABLE trap.p (n int); INSERT INTO trap.p VALUES (1);
CREATE FUNCTION trap.tr() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM {call}; RETURN NEW; END $$;
CREATE TRIGGER tr BEFORE INSERT ON trap.t FOR EACH ROW EXECUTE FUNCTION trap.tr();
CREATE TABLE trap.d (n int DEFAULT {call});
CREATE FUNCTION trap.is_fine(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM {call}; RETURN true; END $$;
CREATE TABLE trap.c (n int CHECK (trap.is_fine(n)));
CREATE POLICY p ON trap.p USING (trap.is_fine(n)); ALTER TABLE trap.p ENABLE ROW LEVEL SECURITY;
CREATE RULE r AS ON INSERT TO trap.r DO ALSO SELECT {call};
GRANT ALL ON ALL TABLES IN SCHEMA trap TO PUBLIC;
"""


@pytest.fixture(scope="module")
def trapped(module_cluster):
    one = module_cluster()
    # A regrole cannot be a constant of a definition.
    one.execute(TRAP.replace("{call}", CALL.replace("'plain'", "'plain'::text::regrole")))
    one.execute("GRANT TEMPORARY ON DATABASE postgres TO ann")
    return one


def granted(cluster):
    return cluster.value("SELECT count(*) FROM pci.access WHERE role = 'plain'::regrole")


@pytest.mark.parametrize("name", WITHIN)
def test_from_within_another_statement(trapped, name):
    with trapped.connect("ann") as conn:
        conn.execute("SET search_path = public, pci")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=REFUSED) as caught:
            conn.execute(WITHIN[name].replace("%%", "%"))
    assert caught.value.diag.message_hint == "Call it by itself: SELECT pci.grant_access(…)."
    assert granted(trapped) == 0


def test_by_a_cursor_of_the_client(trapped):
    with trapped.connect("ann", autocommit=False) as conn:
        conn.execute(f"DECLARE c CURSOR FOR SELECT {CALL}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=REFUSED):
            conn.execute("FETCH c")
        conn.rollback()


def test_by_copy(trapped):
    with trapped.connect("ann") as conn, pytest.raises(psycopg.errors.InsufficientPrivilege, match=REFUSED):
        with conn.cursor().copy(f"COPY (SELECT {CALL}) TO STDOUT") as copy:
            list(copy)


# Every function that changes policy or keys, or approves.
FUNCTIONS = {
    "grant_access": ("ann", CALL), "revoke_access": ("ann", "pci.revoke_access('full', 'default', 'store')"), "approve": ("bob", "pci.approve(1)"),
    "reject": ("bob", "pci.reject(1, 'no')"), "set_display": ("ann", "pci.set_display('default', 4, 4)"), "accept_policy": ("ann", "pci.accept_policy()"),
    "init": ("postgres", "pci.init('{ann,bob}', '{cy,di}', '{eve,fay}')"), "rotate_key": ("cy", "pci.rotate_key('default')"), "suspend_key": ("cy", "pci.suspend_key(1, 'x')"),
    "resume_key": ("cy", "pci.resume_key(1, 'x')"), "compromise_key": ("cy", "pci.compromise_key(1, 'x')"), "destroy_key": ("cy", "pci.destroy_key(1, 'x')"),
    "shred_vault": ("cy", "pci.shred_vault('default', 'x')"), "rewrap_keys": ("cy", "pci.rewrap_keys('default', 'local', '')"), "confirm_rewrap": ("cy", "pci.confirm_rewrap('default')"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_of_them(trapped, name):
    user, call = FUNCTIONS[name]
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"pci.{name} {REFUSED}"):
        trapped.execute(f"DO $$ BEGIN PERFORM {call}; END $$", user=user)
    # By itself it is refused, if at all, for what it is asked.
    with trapped.connect(user, autocommit=False) as conn:
        try:
            conn.execute(f"SELECT {call}")
        except psycopg.Error as error:
            assert REFUSED not in str(error)
        conn.rollback()


def test_it_is_recorded(trapped):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        trapped.execute("SELECT trap.of_plpgsql()", user="ann")
    wait_for(trapped, session_user="ann", event="DENIED", message="pci.grant_access from within another statement")


# By itself, however a client sends it.
DIRECT = [
    (f"SELECT {CALL}", None), (f"  select\n{CALL} AS request;", None), ("SELECT pci.grant_access(%s::regrole, %s, %s)", ("plain", "default", "search")),
    ("SELECT pci.grant_access(capability => 'search', vault => 'default', role => 'plain')", None), ("SELECT pci.grant_access(%s::text::regrole, 'default', 'search')", ("plain",)),
    (f"/* why */ SELECT PCI.Grant_Access('plain', 'default', 'search') -- now", None),
]


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("sql,params", DIRECT)
def test_by_itself(trapped, sql, params, prepare):
    with trapped.connect("ann", autocommit=False) as conn:
        for _ in range(2):
            conn.execute(sql, params, prepare=prepare)
        assert conn.execute("SELECT count(*) FROM pci.access WHERE role = 'plain'::regrole").fetchone() == (1,)
        conn.rollback()


def test_one_of_several_statements(trapped):
    trapped.psql(f"SELECT 1\\; SELECT {CALL}\\; SELECT 2;", user="ann")
    assert granted(trapped) == 1
    trapped.psql("BEGIN; SAVEPOINT a; SELECT pci.revoke_access('plain', 'default', 'search'); COMMIT;", user="ann")
    assert granted(trapped) == 0
