"""A disk that fills up, for real: a small tmpfs of the trail's own."""

import os
import subprocess

import psycopg
import pytest
import trail
from conftest import CLEAR, VISA_2, Cluster
from test_keys import until


def may_mount(tmp_path_factory):
    place = tmp_path_factory.mktemp("mount")
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True).returncode == 0
    if mounted:
        subprocess.run(["umount", place], check=True)
    return mounted


@pytest.fixture
def on_small_disk(tmp_path_factory):
    """A cluster whose pgpci.directory is on a disk of 12 MB, and a function that leaves so many bytes of it free."""
    if not may_mount(tmp_path_factory):
        pytest.skip("only root may mount; the same with a disk that says it is full is in test_trail_bad_days.py")
    one = Cluster()
    disk = one.dir / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=1777", "tmpfs", disk], check=True)
    one.conf += [f"pgpci.directory = '{disk}/pgpci'", f"pgpci.local_key_file = '{one.key_file}'", "pgpci.audit_segment_size = 1",
                 "pgpci.audit_checkpoint_interval = 1", "pgpci.audit_buffer = 1"]
    ballast = disk / "ballast"

    def leave(free):
        ballast.unlink(missing_ok=True)
        there = os.statvfs(disk)
        with open(ballast, "wb") as file:
            left = there.f_bavail * there.f_frsize - free
            while left > 0:
                try:
                    left -= file.write(bytes(min(left, 65536)))
                    file.flush()
                except OSError:
                    return
    try:
        one.start().trail = disk / "pgpci" / "trail"
        yield one.set_up(), leave, ballast
    finally:
        one.stop("immediate")
        subprocess.run(["umount", disk], check=True)
        one.destroy()


def status(cluster, column):
    with local(cluster) as conn:
        return conn.execute(f"SELECT {column} FROM pci.audit_status").fetchone()[0]


def local(cluster, **kwargs):
    """The administrator on the machine itself."""
    return psycopg.connect(host=str(cluster.dir), port=cluster.port, user="postgres", dbname="postgres", autocommit=True, **kwargs)


def test_a_disk_that_fills_up(on_small_disk):
    one, leave, ballast = on_small_disk
    assert status(one, "disk") == "enough"
    leave(3 << 20)
    until(lambda: status(one, "disk") == "low", "it is warned of")
    leave(400 << 10)
    until(lambda: status(one, "disk") == "critical", "it is warned of again")
    assert "the disk of the audit trail has " in one.log and "protected work will stop" in one.log
    assert one.reveals() == CLEAR, "there is room yet"
    leave(0)
    until(lambda: status(one, "state") == "disk full", "it is full")
    assert status(one, "free_bytes") < 400 << 10
    for sql in ("SELECT pci.reveal(card) FROM payments", f"INSERT INTO payments VALUES (50, '{VISA_2}', 1)"):
        with pytest.raises(psycopg.Error) as caught:
            one.execute(sql, user="full")
        assert caught.value.sqlstate == "53100"
    # Ordinary sessions fill what there is of memory with what they have to tell, and so do failures.
    one.configure("pgpci.audit_scope = all", reload=False)
    with local(one) as conn:
        conn.execute("SELECT pg_reload_conf()")
    with one.connect("plain", autocommit=True) as conn:
        until(lambda: conn.execute("SHOW pgpci.audit_scope").fetchone()[0] == "all", "the setting is read")
        conn.execute("DO $$ BEGIN FOR i IN 1..4000 LOOP EXECUTE 'SELECT ' || i; END LOOP; END $$")
        conn.execute("DO $$ BEGIN FOR i IN 1..4000 LOOP BEGIN EXECUTE 'SELECT 1 / 0'; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$")
        assert conn.execute("SELECT lost > 0 FROM pci.audit_status").fetchone()[0]
    # Whoever repairs gets in, even after a restart, and what is done is recorded once there is room.
    with local(one, application_name="repair") as conn:
        conn.execute("SET statement_timeout = 5000")
        conn.execute("CREATE TABLE public.repaired (i int)")
        pid = conn.info.backend_pid
        ballast.unlink()
    until(lambda: status(one, "state") == "running", "it heals by itself")
    for event in ("LOGIN", "CREATE TABLE", "LOGOUT"):
        assert trail.wait_for(one, pid=pid, event=event)[0]["application_name"] == "repair", event
    failure = trail.wait_for(one, event="FAILURE")[0]
    assert failure["class"] == "AUDIT" and "No space left" in failure["message"] and failure["success"] is False
    warned = [record["message"] for record in trail.wait_for(one, count=2, event="DISK SPACE")]
    assert "left" in warned[0] and "nearly full" in warned[1]
    assert any(record["kind"] == "gap" for record in trail.records(one))
    assert one.reveals() == CLEAR
    one.stop()
    trail.assert_verifies(one)


def test_a_server_that_starts_on_a_full_disk(on_small_disk):
    one, leave, ballast = on_small_disk
    one.stop()
    leave(0)
    one.start()
    until(lambda: status(one, "state") == "disk full", "it is full")
    with pytest.raises(psycopg.Error) as caught:
        one.reveals()
    assert caught.value.sqlstate == "53100"
    with local(one) as conn:
        conn.execute("CREATE TABLE public.repaired (i int)")
    ballast.unlink()
    until(lambda: status(one, "state") == "running", "it heals by itself")
    trail.wait_for(one, event="CREATE TABLE", client_addr="[local]")
    assert one.reveals() == CLEAR
    one.stop()
    trail.assert_verifies(one)
