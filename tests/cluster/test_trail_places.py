"""The trail's directory removed, moved and made read-only under a running server; the clock set back; a database that was
promoted, restored, or put in place of another."""

import os
import shutil
import subprocess

import psycopg
import pytest
import trail
from conftest import BIN, CLEAR, ROOT, Cluster, as_server
from test_keys import until
from test_replication import base_backup, copy_key
from test_trail_bad_days import state


def refused(cluster):
    with pytest.raises(psycopg.Error) as caught:
        cluster.reveals()
    assert caught.value.sqlstate == "58030" and "audit trail cannot be written" in str(caught.value)
    # The rest goes on.
    assert cluster.value("SELECT count(card) FROM payments") == 4


def test_a_directory_that_is_removed(fresh_cluster):
    """An empty one in its place is not gone on with as if nothing was: that would hide the loss."""
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1")
    until(lambda: one.value("SELECT sealed FROM pci.audit_status") > 0, "it is sealed")
    there, owner = trail.directory(one), os.stat(one.data)
    before = trail.records(one)[0]["origin"]
    shutil.rmtree(there)
    refused(one)
    there.mkdir(mode=0o700)
    os.chown(there, owner.st_uid, owner.st_gid)
    refused(one)
    one.restart()
    assert one.reveals() == CLEAR
    begins = trail.records(one)[0]
    assert begins["kind"] == "segment" and begins["seq"] == 1 and begins["origin"] != before, "another node"
    assert begins["predecessor"].startswith(before), "it says whose end is missing"
    one.stop()
    trail.assert_verifies(one)


def test_a_read_only_directory(fresh_cluster):
    if os.geteuid() == 0:
        mounted = subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
        if not mounted:
            pytest.skip("needs mounts")
    one = fresh_cluster("pgpci.audit_segment_size = 1", "pgpci.audit_scope = all", "pgpci.audit_checkpoint_interval = 1")
    there = trail.directory(one)
    # Open files are still written; the next file cannot be made.
    there.chmod(0o500)
    many = "DO $$ BEGIN FOR i IN 1..4000 LOOP EXECUTE 'SELECT ' || i; END LOOP; END $$"
    one.execute(many)
    until(lambda: state(one) == "failing", "the next file cannot be made")
    refused(one)
    there.chmod(0o700)
    until(lambda: state(one) == "running", "it heals by itself")
    assert one.reveals() == CLEAR
    failure = trail.wait_for(one, event="FAILURE")[0]
    assert "Permission denied" in failure["message"] and failure["success"] is False
    one.stop()
    assert trail.verify(one)[0] == 6


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    path = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, ROOT / "tests/cluster/support/clock.c", "-ldl"], check=True)
    for directory in (path.parent, path.parent.parent, path.parent.parent.parent):
        directory.chmod(0o755)
    return path


def test_a_clock_that_is_set_back(clock):
    one = Cluster(["pgpci.audit_checkpoint_interval = 1"])
    ahead = one.dir / "ahead"
    ahead.write_text("7200")
    ahead.chmod(0o644)
    os.environ["LD_PRELOAD"], os.environ["PGPCI_TEST_CLOCK"] = str(clock), str(ahead)
    try:
        one.start()
    finally:
        del os.environ["LD_PRELOAD"], os.environ["PGPCI_TEST_CLOCK"]
    try:
        one.set_up()
        assert one.reveals() == CLEAR
        ahead.write_text("3600")
        assert one.reveals() == CLEAR
        back = until(lambda: [r for r in trail.records(one) if r["kind"] == "clock"], "it is recorded")[0]
        assert 3_590_000_000 < back["back"] < 3_610_000_000
        # Nothing waits for the clock to come back there.
        sealed = one.value("SELECT sealed FROM pci.audit_status")
        until(lambda: one.value("SELECT sealed FROM pci.audit_status") > sealed, "it is sealed as before")
        with one.connect("eve") as conn:
            assert conn.execute("SELECT count(*) FROM pci.audit_trail WHERE event = 'reveal' AND revealed = 4").fetchone() == (2,)
        one.stop()
        trail.assert_verifies(one)
    finally:
        one.destroy()


def test_a_promoted_standby_has_a_trail_of_its_own(fresh_cluster):
    """It begins where the standby began; the primary's last checkpoint is named if it was brought along."""
    primary, standby = fresh_cluster("pgpci.audit_checkpoint_interval = 1"), Cluster()
    try:
        until(lambda: primary.value("SELECT sealed FROM pci.audit_status") > 0, "it is sealed")
        base_backup(primary, standby, standby=True)
        copy_key(primary, standby)
        note = primary.value("SELECT pci.export_checkpoint()", user="eve")
        kept = standby.dir / "data.pgpci" / "trail.checkpoint"
        kept.write_text(note)
        owner = os.stat(standby.data)
        os.chown(kept, owner.st_uid, owner.st_gid)
        standby.start()
        assert standby.reveals() == CLEAR
        head = trail.records(standby)[0]
        assert head["predecessor"] == note and head["seq"] == 1
        assert head["origin"] != trail.records(primary)[0]["origin"]
        until(lambda: (standby.dir / "data.pgpci" / "trail.timeline").exists(), "it knows where it is", seconds=30)
        standby.execute("SELECT pg_promote()")
        told = trail.wait_for(standby, event="TIMELINE", seconds=30)[0]
        assert told["class"] == "REPLICATION" and told["message"].startswith("timeline 2 follows timeline 1")
        standby.execute("INSERT INTO payments VALUES (80, '4012888888881881', 1)", user="full")
        assert {record["origin"] for record in trail.records(standby) if record["kind"] == "segment"} == {head["origin"]}
        standby.stop()
        trail.assert_verifies(standby)
        # Both in one place: the successor's word binds its predecessor.
        primary.stop()
        for path in trail.directory(standby).glob("*.jsonl*"):
            shutil.copy(path, trail.directory(primary))
        keys = ["--key", trail.directory(standby) / "trail.vkey"]
        code, found = trail.verify(primary, *map(str, keys))
        verdicts = {one["node"]: one["verdict"] for one in found["nodes"]}
        assert code == 6 and verdicts[trail.records(primary)[0]["origin"].removeprefix("pgpci/")] in ("ok", "unanchored")
        assert "ok" in verdicts.values()
    finally:
        standby.destroy()


def test_a_restore_to_an_earlier_time(fresh_cluster):
    """In place, with the trail as it is: what was undone is still told, and that it was."""
    one = fresh_cluster("wal_level = replica", "archive_mode = on", "archive_command = 'cp %p %P'".replace("%P", "../archived-%f"))
    copy = one.dir / "copy"
    subprocess.run(as_server([BIN / "pg_basebackup", "-h", "127.0.0.1", "-p", one.port, "-U", "postgres", "-D", copy, "-X", "none",
                              "--no-sync", "-c", "fast"]), check=True, capture_output=True)
    until(lambda: (one.dir / "data.pgpci" / "trail.timeline").exists(), "it knows where it is", seconds=30)
    one.execute("SELECT pg_create_restore_point('before')")
    one.execute("INSERT INTO payments VALUES (81, '4012888888881881', 1)", user="full")
    one.execute("SELECT pg_switch_wal()")
    until(lambda: one.value("SELECT last_archived_wal IS NOT NULL FROM pg_stat_archiver"), "it is archived")
    until(lambda: not list((one.data / "pg_wal" / "archive_status").glob("*.ready")), "all is archived")
    one.stop()
    shutil.rmtree(one.data)
    copy.rename(one.data)
    one.configure("restore_command = 'cp ../archived-%f %p'", "recovery_target_name = 'before'", "recovery_target_action = promote", reload=False)
    (one.data / "recovery.signal").touch()
    one.start()
    until(lambda: not one.value("SELECT pg_is_in_recovery()"), "it is restored", seconds=60)
    assert one.reveals() == CLEAR
    told = trail.wait_for(one, event="TIMELINE", seconds=30)[0]
    assert told["message"].startswith("timeline 2 follows timeline 1")
    assert trail.events(one, event="INSERT", session_user="full", statement=lambda it: it and "81" in it), "what was undone was recorded"
    one.stop()
    trail.assert_verifies(one)
