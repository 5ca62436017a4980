"""What no statement hook sees: replication commands, and calls of functions."""

import ctypes
import ctypes.util

import psycopg
import pytest
import trail
from psycopg import pq
from test_events import of


@pytest.fixture(scope="module")
def audited(module_cluster):
    return module_cluster()


def test_replication_commands(audited, tmp_path):
    tmp_path.chmod(0o777)
    with audited.connect("backup", replication="database") as conn:
        conn.execute("IDENTIFY_SYSTEM")
        conn.execute("CREATE_REPLICATION_SLOT one LOGICAL test_decoding")
        made = of(audited, conn, event="CREATE_REPLICATION_SLOT")[0]
        assert made["class"] == "REPLICATION" and made["statement"] == "CREATE_REPLICATION_SLOT one LOGICAL test_decoding"
        assert made["session_user"] == "backup" and made["client_addr"] == "127.0.0.1" and "success" not in made
        assert of(audited, conn, event="IDENTIFY_SYSTEM", **{"class": "REPLICATION"})
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("CREATE_REPLICATION_SLOT one LOGICAL test_decoding")
        failed = of(audited, conn, event="CREATE_REPLICATION_SLOT", success=False)[0]
        assert failed["class"] == "REPLICATION" and failed["sqlstate"] == caught.value.sqlstate == "42710"
        conn.execute("DROP_REPLICATION_SLOT one")
        of(audited, conn, event="DROP_REPLICATION_SLOT")
        pid = conn.info.backend_pid
    # What became of each: known when the next one comes, or the session ends.
    trail.wait_for(audited, pid=pid, event="LOGOUT")
    told = [(record["event"], record.get("success")) for record in trail.events(audited, pid=pid, **{"class": "REPLICATION"})]
    assert told == [
        ("IDENTIFY_SYSTEM", None), ("IDENTIFY_SYSTEM", True), ("CREATE_REPLICATION_SLOT", None), ("CREATE_REPLICATION_SLOT", True),
        ("CREATE_REPLICATION_SLOT", None), ("CREATE_REPLICATION_SLOT", False), ("DROP_REPLICATION_SLOT", None),
        ("DROP_REPLICATION_SLOT", True)]
    audited.run("pg_basebackup", "-D", tmp_path / "copy", "-X", "none", "-c", "fast", user="backup")
    taken = trail.wait_for(audited, event="BASE_BACKUP")[0]
    assert taken["session_user"] == "backup" and taken["application_name"] == "pg_basebackup"
    assert trail.wait_for(audited, event="BASE_BACKUP", success=True, pid=taken["pid"])
    assert "received replication command" not in audited.log, "whoever did not ask for such lines gets none"


def test_a_client_that_wants_them_quiet(audited):
    with audited.connect("backup", replication="database", options="-c application_name=x") as conn:
        conn.execute("SHOW log_replication_commands")
        of(audited, conn, event="SHOW", **{"class": "REPLICATION"})
    audited.execute("ALTER ROLE backup SET log_replication_commands = off")
    with audited.connect("backup", replication="database") as conn:
        conn.execute("IDENTIFY_SYSTEM")
        of(audited, conn, event="IDENTIFY_SYSTEM")


def test_functions_that_are_events(audited):
    audited.execute("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO plain; GRANT pg_signal_backend TO plain")
    with audited.connect("plain") as conn:
        conn.execute("SELECT length(pg_read_file('PG_VERSION'))")
        read = of(audited, conn, **{"class": "FUNCTION"})[0]
        assert read["objects"] == ["function pg_catalog.pg_read_file"] and read["success"]
        assert read["statement"] == "SELECT length(pg_read_file('PG_VERSION'))"
        with pytest.raises(psycopg.Error):
            conn.execute("SELECT pg_read_file('PG_VERSION'), 1 / (SELECT 0)")
        failed = of(audited, conn, success=False)[0]
        assert failed["class"] == "FUNCTION" and failed["sqlstate"] == "22012"
        # A statement that is recorded anyway is told once.
        conn.execute("SELECT pg_read_file('PG_VERSION'), count(card) FROM payments")
        both = of(audited, conn, statement=lambda it: it and "count(card)" in it)
        assert both[0]["objects"] == ["public.payments(card)", "function pg_catalog.pg_read_file"]
        conn.execute("DO $$ DECLARE t text; BEGIN t := pg_read_file('PG_VERSION'); END $$")
        of(audited, conn, statement=lambda it: it and it.startswith("DO"), **{"class": "FUNCTION"})
        conn.execute("SELECT upper('x'), now()")
        pid = conn.info.backend_pid
    trail.wait_for(audited, pid=pid, event="LOGOUT")
    assert len(trail.events(audited, pid=pid, **{"class": "FUNCTION"})) == 4


@pytest.mark.parametrize("call", ["lo_put(lo_create(0), 0, 'x')", "pg_create_restore_point('x')"])
def test_functions_that_change_what_no_table_shows(audited, call):
    audited.execute("GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO plain")
    with audited.connect("plain") as conn:
        conn.execute(f"SELECT {call}")
        assert of(audited, conn, **{"class": "FUNCTION"})[0]["objects"] == ["function pg_catalog." + call.split("(")[0]]


class Argument(ctypes.Structure):
    _fields_ = [("len", ctypes.c_int), ("isint", ctypes.c_int), ("integer", ctypes.c_int), ("pad", ctypes.c_int)]


class FastPath:
    """A connection of libpq's: psycopg does not call functions without a statement."""

    def __init__(self, cluster):
        self.pq = ctypes.CDLL(ctypes.util.find_library("pq"))
        self.pq.PQconnectdb.restype = self.pq.PQfn.restype = self.pq.PQexec.restype = ctypes.c_void_p
        self.conn = ctypes.c_void_p(self.pq.PQconnectdb(
            f"host=127.0.0.1 port={cluster.port} user=postgres dbname=postgres".encode()))
        self.pid = self.pq.PQbackendPID(self.conn)

    def _status(self, result):
        result = ctypes.c_void_p(result)
        status = self.pq.PQresultStatus(result)
        self.pq.PQclear(result)
        return pq.ExecStatus(status)

    def call(self, function, *arguments):
        given = (Argument * len(arguments))(*[Argument(4, 1, value, 0) for value in arguments])
        answer, length = ctypes.create_string_buffer(64), ctypes.c_int()
        return self._status(self.pq.PQfn(self.conn, function, answer, ctypes.byref(length), 0, given, len(arguments)))

    def execute(self, sql):
        return self._status(self.pq.PQexec(self.conn, sql.encode()))

    def close(self):
        self.pq.PQfinish(self.conn)


def test_the_fast_path(audited):
    divide = audited.value("SELECT 'int4div'::regproc::oid::int")
    conn = FastPath(audited)
    assert conn.call(divide, 6, 3) == pq.ExecStatus.COMMAND_OK
    done = trail.wait_for(audited, pid=conn.pid, event="FAST PATH", success=True)[0]
    assert done["class"] == "FUNCTION" and done["objects"] == ["function pg_catalog.int4div"]
    assert conn.call(divide, 6, 0) == pq.ExecStatus.FATAL_ERROR
    failed = trail.wait_for(audited, pid=conn.pid, event="FAST PATH", success=False)[0]
    assert failed["sqlstate"] == "22012" and failed["objects"] == ["function pg_catalog.int4div"]
    # In a transaction a call is told when the next message comes, and a later failure is not its own.
    conn.execute("BEGIN")
    assert conn.call(divide, 8, 2) == pq.ExecStatus.COMMAND_OK
    assert conn.execute("SELECT 1 / (SELECT 0)") == pq.ExecStatus.FATAL_ERROR
    trail.wait_for(audited, pid=conn.pid, event="SELECT", success=False)
    conn.close()
    trail.wait_for(audited, pid=conn.pid, event="LOGOUT")
    outcomes = [record["success"] for record in trail.events(audited, pid=conn.pid, event="FAST PATH")]
    assert outcomes == [True, False, True]
