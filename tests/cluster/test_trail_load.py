"""The trail under load, beside other extensions, and when it has grown old."""

import os
import subprocess
import time

import psycopg
import pytest
import trail
from conftest import CLEAR, PG_CONFIG, VISA
from test_events import of
from test_keys import until

OTHERS = ("pgaudit", "pg_stat_statements", "auto_explain")


def installed(name):
    """pgaudit is a package of its own, and there is not one for every version."""
    library = subprocess.run([PG_CONFIG, "--pkglibdir"], check=True, capture_output=True, text=True).stdout.strip()
    return os.path.exists(f"{library}/{name}.so")


@pytest.mark.parametrize("order", [(*OTHERS, "pgpci"), ("pgpci", *OTHERS)])
def test_beside_other_extensions(fresh_cluster, order):
    """Whoever is loaded first: each statement is recorded once, errors are whole, and where pgpci is last, none of them
    sees a card number."""
    order = [name for name in order if name == "pgpci" or installed(name)]
    one = fresh_cluster(f"shared_preload_libraries = '{', '.join(order)}'", "auto_explain.log_min_duration = 0",
                        "auto_explain.log_nested_statements = on", "auto_explain.log_parameter_max_length = -1",
                        *(["pgaudit.log = 'all'", "pgaudit.log_parameter = on", "pgaudit.log_relation = on"] if "pgaudit" in order else []))
    one.execute("CREATE EXTENSION pg_stat_statements")
    assert one.reveals() == CLEAR
    with one.connect("full") as conn:
        conn.execute("SELECT count(card) FROM payments WHERE amount = %s", (100,))
        conn.execute("DECLARE c CURSOR WITH HOLD FOR SELECT card FROM payments ORDER BY id")
        conn.execute("FETCH 2 FROM c")
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            conn.execute("INSERT INTO payments VALUES (1, %s, 1)", (VISA,))
        assert caught.value.diag.constraint_name == "payments_pkey" and caught.value.diag.table_name == "payments"
        of(one, conn, event="INSERT", success=False, sqlstate="23505")
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(f"DO $$ BEGIN PERFORM 1 / (id - id) FROM payments WHERE card::text <> '{VISA}'; END $$")
        assert caught.value.sqlstate == "22012"
        pid = conn.info.backend_pid
    trail.wait_for(one, pid=pid, event="LOGOUT")
    counted = [r["statement"] for r in trail.events(one, pid=pid, success=True) if "count(card)" in r.get("statement", "")]
    assert len(counted) == 1
    # One that is terminated, and a crash of a backend, with all of them loaded.
    with one.connect("full") as conn:
        pid = conn.info.backend_pid
        one.execute(f"SELECT pg_terminate_backend({pid})")
        trail.wait_for(one, pid=pid, event="LOGOUT", sqlstate="57P01")
    if order[-1] == "pgpci":
        assert VISA not in one.log
        assert VISA not in str(one.execute("SELECT query FROM pg_stat_statements"))
    assert VISA not in str(trail.records(one))
    one.stop()
    trail.assert_verifies(one)


def test_a_thousand_sessions(fresh_cluster):
    """All at protected work at the same time: one record each, nothing lost."""
    count = int(os.environ.get("PGPCI_SESSIONS", "300"))
    one = fresh_cluster(f"max_connections = {count + 100}", "pgpci.audit_buffer = 1", "shared_buffers = 32MB")
    sessions = [one.connect("full") for _ in range(count)]
    try:
        for _ in range(2):
            for conn in sessions:
                conn.pgconn.send_query(b"SELECT pci.reveal(card) FROM payments WHERE id = 1")
            for conn in sessions:
                result = conn.pgconn.get_result()
                assert result.get_value(0, 0) == VISA.encode(), result.error_message
                assert conn.pgconn.get_result() is None
    finally:
        for conn in sessions:
            conn.close()
    ended = trail.wait_for(one, count=2 * count, seconds=60, event="reveal", revealed=1)
    trail.wait_for(one, count=count, seconds=60, event="LOGOUT", session_user="full")
    assert len(ended) == 2 * count and len({record["pid"] for record in ended}) == count
    assert one.value("SELECT lost FROM pci.audit_status") == 0
    assert not [record for record in trail.records(one) if record["kind"] in ("gap", "torn")]
    one.stop()
    trail.assert_verifies(one)


def test_the_writer_gathers_what_nobody_waits_for(fresh_cluster):
    """It is not woken for each record, and they are on the disk in time all the same."""
    one = fresh_cluster("pgpci.audit_scope = 'all'")

    def sleeps():
        with open(f"/proc/{trail.writer(one)}/status") as status:
            return int(next(line for line in status if line.startswith("voluntary_ctxt_switches")).split()[1])

    with one.connect("plain") as conn:
        before, since, count = sleeps(), time.monotonic(), 0
        while time.monotonic() - since < 2:
            conn.execute("SELECT 1")
            count += 1
        took, slept = time.monotonic() - since, sleeps() - before
        # Every 20 ms, and a few for each of ten syncs a second.
        assert slept / took < 150 < count / took, (slept, count)
        conn.execute("SELECT 'the last one'")
        since = time.monotonic()
        until(lambda: any(b"the last one" in line for line in trail.lines(one)), "it is written")
        # 200 ms are promised where the disk syncs at once; reading all takes its time, too.
        assert time.monotonic() - since < 1
        assert len(trail.events(one, pid=conn.info.backend_pid, statement="SELECT 1")) == count
    assert one.value("SELECT lost FROM pci.audit_status") == 0


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
def test_a_hundred_megabytes(fresh_cluster, encoding):
    """With all that makes a parser stumble, and a card number at its end."""
    size = int(os.environ.get("PGPCI_MEGABYTES", "30")) << 20
    one = fresh_cluster(set_up=False)
    one.execute("CREATE EXTENSION pgpci")
    one.execute(f"CREATE DATABASE long TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    odd = b"\n\r\t\\ \"'' ; -- \x01 \xf0\x9f\x92\xb3 " + (b"\xff\xfe" if encoding == "SQL_ASCII" else b"")
    sql = b"SELECT length('" + odd * (size // len(odd)) + b" %s')" % VISA.encode()
    with one.connect(dbname="long", client_encoding=encoding) as conn:
        conn.execute("SET log_statement = 'all'")
        before = time.monotonic()
        result = conn.pgconn.exec_(sql)
        took = time.monotonic() - before
        assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
        record = of(one, conn, statement=lambda it: it and it.startswith("SELECT length("))[0]
        assert record["statement_bytes"] == len(sql) and len(record["statement"].encode()) <= 8192 and record["success"]
        # And one that fails, as whole.
        result = conn.pgconn.exec_(sql.replace(b"SELECT", b"SELEKT", 1))
        assert result.status == psycopg.pq.ExecStatus.FATAL_ERROR
        failed = of(one, conn, event="STATEMENT", success=False)[0]
        assert failed["statement_bytes"] == len(sql)
    print(f"{len(sql) >> 20} MB: {took:.1f} s")
    # Each line of the trail is JSON for any reader; the log has no digits of it.
    assert len(trail.records(one)) == sum(1 for line in trail.lines(one) if line)
    found = subprocess.run(["grep", "-c", "-a", VISA, one.dir / "server.log"], capture_output=True, text=True)
    assert found.stdout.strip() == "0"
    one.stop()
    trail.assert_verifies(one)


def grow(cluster, count, files):
    """Puts so many records into as many files, in front of what the server writes from now on: a trail that has grown old."""
    read = '"class":"READ","event":"SELECT","statement":"SELECT 1","rows":1,"success":true'
    one = ("2026-01-02T03:04:05.000000Z", f'"session_user":"app",{read}')
    return trail.fabricate(cluster, ([one] * (count // files) for _ in range(files)))


def test_an_old_trail_costs_no_more(fresh_cluster):
    """As many files as 100 million records have. What a statement costs does not depend on what was written before; the
    writer holds the roots of a few dozen subtrees of it, and opens the last file. With PGPCI_RECORDS=5000000 it is that many."""
    count = int(os.environ.get("PGPCI_RECORDS", "200000"))
    young, old = (fresh_cluster("pgpci.audit_scope = all", "pgpci.audit_compress = off") for _ in range(2))
    old.stop()
    last = grow(old, count, 640)
    begin = time.monotonic()
    old.start()
    assert old.reveals() == CLEAR
    started = time.monotonic() - begin
    assert old.value("SELECT last_seq FROM pci.audit_status") > last

    def statements(cluster):
        with cluster.connect() as conn:
            begin = time.monotonic()
            conn.execute("DO $$ BEGIN FOR i IN 1..20000 LOOP EXECUTE 'SELECT ' || i; END LOOP; END $$")
            return time.monotonic() - begin

    def reveals(cluster):
        with cluster.connect("full") as conn:
            begin = time.monotonic()
            for _ in range(100):
                conn.execute("SELECT pci.reveal(card) FROM payments WHERE id = 1")
            return time.monotonic() - begin
    took = {(what.__name__, name): [] for what in (statements, reveals) for name in ("young", "old")}
    for _ in range(5):
        for name, cluster in (("young", young), ("old", old)):
            for what in (statements, reveals):
                took[what.__name__, name].append(what(cluster))
    best = {key: min(times) for key, times in took.items()}
    memory = [int(open(f"/proc/{trail.writer(one)}/statm").read().split()[1]) for one in (young, old)]
    print(f"{count} records: started in {started:.2f} s; {best}; resident pages of the writer {memory}")
    # What grew with the trail would grow a thousandfold; what else the machine does may double it.
    assert best["statements", "old"] < 4 * best["statements", "young"]
    assert best["reveals", "old"] < 4 * best["reveals", "young"]
    assert memory[1] < memory[0] + 2048
    with old.connect("eve") as conn:
        begin = time.monotonic()
        assert conn.execute("SELECT count(*) > 1 FROM pci.audit(now() - interval '1 hour', now()) WHERE event = 'reveal'").fetchone()[0]
        print(f"the last hour of it: {time.monotonic() - begin:.2f} s")
    old.stop()
    assert trail.verify(old)[0] == 6
