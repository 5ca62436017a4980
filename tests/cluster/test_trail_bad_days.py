"""The audit trail on bad days: a disk that is full or fails, a directory that is gone, processes that are killed."""

import errno
import itertools
import os
import shutil
import signal
import subprocess
import threading
import time

import psycopg
import pytest
import trail
from conftest import CLEAR, ROOT, VISA_2, VISA_3, Cluster
from test_keys import children, command_line, until


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    path = tmp_path_factory.mktemp("disk") / "disk.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, ROOT / "tests/cluster/support/disk.c", "-ldl"], check=True)
    for directory in (path.parent, path.parent.parent, path.parent.parent.parent):
        directory.chmod(0o755)
    return path


@pytest.fixture
def on_bad_disk(shim):
    """A cluster, and a function that breaks its trail's disk: 'N' or 'sync N', an errno; None heals it."""
    one = Cluster()
    control = one.dir / "disk"

    def breaks(what):
        if what is None:
            control.unlink()
        else:
            control.write_text(what)
            control.chmod(0o644)

    def before_start():
        os.environ["LD_PRELOAD"] = str(shim)
        os.environ["PGPCI_TEST_DISK"] = str(control)
    one.before_start = before_start
    # The environment is handed to a program that starts another: so it is set for all of them.
    os.environ["LD_PRELOAD"], os.environ["PGPCI_TEST_DISK"] = str(shim), str(control)
    try:
        one.start()
    finally:
        del os.environ["LD_PRELOAD"], os.environ["PGPCI_TEST_DISK"]
    try:
        yield one.set_up(), breaks
    finally:
        one.destroy()


def state(cluster):
    return cluster.value("SELECT state FROM pci.audit_status")


def assert_protected_work_stops(cluster, sqlstate):
    for user, sql in (("full", "SELECT pci.reveal(card) FROM payments"),
                      ("full", f"INSERT INTO payments VALUES (50, '{VISA_2}', 1)"),
                      ("ann", "SELECT pci.grant_access('plain', 'default', 'search')")):
        with pytest.raises(psycopg.Error) as caught:
            cluster.execute(sql, user=user)
        assert caught.value.sqlstate == sqlstate and "audit trail cannot be written" in str(caught.value), sql
    assert cluster.value("SELECT count(*) FROM payments") == 4
    # What needs no record goes on, and whoever repairs gets in.
    cluster.execute("CREATE TABLE IF NOT EXISTS unprotected (i int); INSERT INTO unprotected VALUES (1); SELECT card FROM payments")


@pytest.mark.parametrize("fault, sqlstate, shown", [
    (str(errno.ENOSPC), "53100", "disk full"),
    (str(errno.EIO), "58030", "failing"),
    (f"sync {errno.EIO}", "58030", "failing"),
])
def test_a_bad_disk(on_bad_disk, fault, sqlstate, shown):
    one, breaks = on_bad_disk
    breaks(fault)
    with pytest.raises(psycopg.Error):
        one.reveals()
    until(lambda: state(one) == shown, "the state shows it")
    assert_protected_work_stops(one, sqlstate)
    breaks(None)
    until(lambda: state(one) == "running", "it heals by itself")
    assert one.reveals() == CLEAR
    one.execute(f"INSERT INTO payments VALUES (50, '{VISA_2}', 1)", user="full")
    # What was refused is recorded, once there is room.
    assert trail.events(one, success=False, sqlstate=sqlstate)
    assert "the audit trail is written again" in one.log
    one.stop()
    trail.assert_verifies(one)


def test_allow_lets_protected_work_go_on(on_bad_disk):
    one, breaks = on_bad_disk
    one.configure("pgpci.audit_on_failure = allow")
    until(lambda: one.value("SHOW pgpci.audit_on_failure") == "allow", "the setting is read")
    changed = trail.wait_for(one, **{"class": "CONFIG"}, event="RELOAD")[0]
    assert changed["message"] == "block -> allow" and changed["objects"] == ["setting pgpci.audit_on_failure"]
    breaks(str(errno.ENOSPC))
    assert one.reveals() == CLEAR
    until(lambda: state(one) == "disk full", "the state shows it")
    assert one.reveals() == CLEAR
    breaks(None)
    trail.wait_for(one, count=2, event="reveal", success=True)


def test_events_that_found_no_room_are_counted(on_bad_disk):
    one, breaks = on_bad_disk
    breaks(str(errno.ENOSPC))
    with pytest.raises(psycopg.Error):
        one.reveals()
    until(lambda: state(one) == "disk full", "the state shows it")
    with one.connect() as conn:
        conn.execute("DO $$ BEGIN FOR i IN 1..60000 LOOP EXECUTE 'SELECT ' || i; END LOOP; END $$")
        assert conn.execute("SELECT lost > 0 FROM pci.audit_status").fetchone()[0]
    breaks(None)
    until(lambda: state(one) == "running", "it heals by itself")
    gap = until(lambda: [r for r in trail.records(one) if r["kind"] == "gap"], "the gap is recorded")[0]
    assert gap["lost"] > 0
    one.stop()
    trail.assert_verifies(one)


def test_a_directory_that_is_moved_away(fresh_cluster):
    one = fresh_cluster()
    there, away = trail.directory(one), one.dir / "away"
    there.rename(away)
    with pytest.raises(psycopg.Error) as caught:
        one.reveals()
    assert caught.value.sqlstate == "58030"
    away.rename(there)
    until(lambda: state(one) == "running", "it heals by itself")
    assert one.reveals() == CLEAR
    trail.assert_verifies(one)


def test_a_trail_that_was_changed_is_not_gone_on_with(fresh_cluster):
    one = fresh_cluster()
    one.stop()
    last = sorted(trail.directory(one).glob("*.jsonl"))[-1]
    text = last.read_bytes()
    last.write_bytes(text.replace(b"CREATE EXTENSION", b"CREATE EXTENSIOM", 1))
    one.start()
    with pytest.raises(psycopg.Error) as caught:
        one.reveals()
    assert caught.value.sqlstate == "58030" and "changed" in str(caught.value)
    assert state(one) == "refusing"
    # A trail cut short, too: the last checkpoint was kept.
    one.stop()
    last.write_bytes(b"".join(text.splitlines(keepends=True)[:5]))
    one.start()
    until(lambda: state(one) == "refusing", "it is found out")
    assert "put back" in one.value("SELECT reason FROM pci.audit_status")
    one.stop()
    last.write_bytes(text)
    one.start()
    until(lambda: state(one) == "running", "it goes on")
    assert one.reveals() == CLEAR


def test_a_copy_is_another_node(fresh_cluster):
    """A copied directory does not continue the trail that it was copied from."""
    one = fresh_cluster()
    one.stop()
    home = one.dir / "data.pgpci"
    shutil.copytree(home, one.dir / "copy", copy_function=shutil.copy2)
    subprocess.run(["chown", "-R", f"--reference={home}", one.dir / "copy"], check=True)
    shutil.rmtree(home)
    (one.dir / "copy").rename(home)
    one.start()
    assert one.reveals() == CLEAR
    until(lambda: len({r["origin"] for r in trail.records(one) if r["kind"] == "segment"}) == 2, "another node")
    heads = [r for r in trail.records(one) if r["kind"] == "segment"]
    assert any("predecessor" in head for head in heads)
    one.stop()
    assert trail.verify(one)[0] in (0, 6)


@pytest.mark.parametrize("victim", ["backend", "writer", "postmaster"])
def test_intents_are_resolved_from_the_commit_log(fresh_cluster, victim):
    """Whatever is killed while transactions commit: each that committed has its record, with the true outcome. Again and
    again for some seconds, or PGPCI_ROUNDS times."""
    one = fresh_cluster(set_up=True)
    one.execute("CREATE TABLE public.many (id int, card pci.pan); GRANT ALL ON public.many TO \"full\"")
    first = one.value("SELECT pg_current_xact_id()::text::bigint")
    rounds, end = int(os.environ.get("PGPCI_ROUNDS", "0")), time.monotonic() + 11
    for round_ in itertools.count():
        if round_ >= rounds if rounds else time.monotonic() > end:
            break
        stop = threading.Event()

        def commits():
            return sum(b'"event":"COMMIT"' in line and b'"success":true' in line for line in trail.lines(one))
        before = commits()

        def load(base):
            try:
                with one.connect("full") as conn:
                    for i in range(base, base + 100_000):
                        if stop.is_set():
                            return
                        conn.execute("INSERT INTO public.many VALUES (%s, %s)", (i, VISA_3))
            except psycopg.Error:
                pass
        threads = [threading.Thread(target=load, args=(n * 1_000_000,)) for n in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: commits() > before + 100, "the load runs")
        if victim == "writer":
            os.kill(trail.writer(one), signal.SIGKILL)
        elif victim == "postmaster":
            processes = [one.postmaster, *children(one.postmaster)]
            os.kill(one.postmaster, signal.SIGKILL)
        else:
            with one.connect() as conn:
                pid = conn.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'full' LIMIT 1").fetchone()[0]
            os.kill(pid, signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join()
        if victim == "postmaster":
            until(lambda: not any(command_line(pid) for pid in processes), "all processes end")
            for lock in (one.data / "postmaster.pid", one.dir / f".s.PGSQL.{one.port}.lock"):
                lock.unlink(missing_ok=True)
            one.start()

        def back():
            try:
                crashes = sum(b'"kind":"crash"' in line for line in trail.lines(one))
                return crashes == round_ + 1 and one.value("SELECT 1") == 1
            except psycopg.Error:
                return False
        until(back, "the server is back")

    def open_intents():
        intents, closed = set(), {}
        for record in trail.events(one, **{"class": "WRITE"}):
            if record["event"] in ("COMMIT", "ROLLBACK"):
                # A number that a crash took with it is another transaction's later.
                key = record["xid"], record["session_id"]
                if "success" in record:
                    closed[key] = record["success"]
                else:
                    intents.add(key)
        return None if intents - closed.keys() else closed
    closed = until(open_intents, "all intents are closed")
    committed = {row[0] for row in one.execute("SELECT DISTINCT xmin::text::bigint FROM public.many")}
    told = {xid for (xid, _), success in closed.items() if success and xid > first}
    odd = committed ^ told
    assert not odd, [record for record in trail.records(one) if record.get("xid") in odd]
    print(f"{round_} rounds, {len(committed)} transactions committed, {len(closed) - len(committed)} others")
    one.stop()
    trail.assert_verifies(one)
