"""More is recorded of roles, schemas and tables that carry a label."""

import psycopg
import pytest
import trail
from test_events import of


@pytest.fixture(scope="module")
def audited(module_cluster):
    one = module_cluster()
    one.execute("""
        CREATE TABLE public.watched (i int); CREATE TABLE public.other (i int); CREATE SCHEMA deep; CREATE TABLE deep.one (i int);
        CREATE ROLE clerks; GRANT clerks TO clerk; CREATE TABLE public.own (i int); ALTER TABLE public.own OWNER TO owner;
        GRANT ALL ON public.watched, public.other, deep.one TO plain, clerk; GRANT USAGE ON SCHEMA deep TO plain;
    """)
    return one


def recorded(cluster, conn, sql):
    """Whether a statement is, by the next one that is for certain."""
    conn.execute(sql)
    before = len(trail.events(cluster, pid=conn.info.backend_pid, event="SET"))
    conn.execute("SET pgpci.app_user = 'x'")
    of(cluster, conn, event="SET", count=before + 1)
    return bool(trail.events(cluster, pid=conn.info.backend_pid, statement=sql))


def label(cluster, what, text="'all'", user="postgres"):
    cluster.execute(f"SECURITY LABEL FOR pgpci_audit ON {what} IS {text}", user=user)


def test_tables_and_schemas(audited):
    with audited.connect("plain") as conn:
        assert not recorded(audited, conn, "SELECT 1 FROM public.watched")
        label(audited, "TABLE public.watched")
        assert recorded(audited, conn, "SELECT 2 FROM public.watched")
        assert recorded(audited, conn, "INSERT INTO public.watched VALUES (3)")
        assert not recorded(audited, conn, "SELECT 4 FROM public.other")
        assert not recorded(audited, conn, "SELECT 5 FROM deep.one")
        label(audited, "SCHEMA deep")
        assert recorded(audited, conn, "SELECT 6 FROM deep.one")
        with conn.cursor().copy("COPY public.watched TO STDOUT") as copy:
            list(copy)
        assert of(audited, conn, event="COPY")[0]["objects"] == ["public.watched"]
        label(audited, "SCHEMA deep", "NULL")
        label(audited, "TABLE public.watched", "NULL")
        assert not recorded(audited, conn, "SELECT 7 FROM deep.one")
        assert not recorded(audited, conn, "SELECT 8 FROM public.watched")


def test_statements_that_are_prepared(audited):
    """What is known of a statement's tables is forgotten when their labels change."""
    with audited.connect("plain") as conn:
        def count(expected):
            conn.execute("SELECT 9 FROM public.watched", prepare=True)
            before = len(trail.events(audited, pid=conn.info.backend_pid, event="SET"))
            conn.execute("SET pgpci.app_user = 'x'")
            of(audited, conn, event="SET", count=before + 1)
            assert len(trail.events(audited, pid=conn.info.backend_pid, statement="SELECT 9 FROM public.watched")) == expected
        count(0), count(0), count(0)
        label(audited, "TABLE public.watched")
        count(1), count(2)
        label(audited, "TABLE public.watched", "NULL")
        count(2), count(2)
        audited.execute("ALTER TABLE public.watched ADD COLUMN card pci.pan")
        count(3), count(4)
        audited.execute("ALTER TABLE public.watched DROP COLUMN card")
        count(4)


def test_roles_and_their_members(audited):
    with audited.connect("plain") as plain, audited.connect("clerk") as clerk:
        for conn in (plain, clerk):
            assert not recorded(audited, conn, "SELECT 1 FROM public.other")
        label(audited, "ROLE plain")
        label(audited, "ROLE clerks")
        for conn in (plain, clerk):
            assert recorded(audited, conn, "SELECT 2 FROM public.other")
        label(audited, "ROLE plain", "NULL")
        assert not recorded(audited, plain, "SELECT 3 FROM public.other")
        assert recorded(audited, clerk, "SELECT 3 FROM public.other")
    # They are no part of any database.
    audited.execute("CREATE DATABASE without")
    with audited.connect("clerk", "without") as conn:
        conn.execute("SELECT 4")
        of(audited, conn, statement="SELECT 4", database="without")


def test_a_change_is_recorded_before_it_counts(audited):
    label(audited, "TABLE public.own", user="owner")
    label(audited, "TABLE public.own", "NULL", user="owner")
    down = trail.events(audited, session_user="owner", event="SECURITY LABEL", success=True)[1]
    assert down["class"] == "CONFIG" and down["xid"]
    assert trail.events(audited, event="COMMIT", xid=down["xid"], success=None)
    for what, text in (("TABLE public.own", "'none'"), ("COLUMN public.own.i", "'all'"), ("DATABASE postgres", "'all'"),
                       ("TABLE pg_catalog.pg_class", "'all'")):
        with pytest.raises(psycopg.Error) as caught:
            label(audited, what, text)
        assert caught.value.sqlstate == "22023", what
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        label(audited, "TABLE public.own", user="plain")
