"""Controls that are changed in files: told after a reload, and after a restart."""

import trail
from test_keys import until


def told(cluster, event, name):
    return trail.wait_for(cluster, event=event, objects=[name], **{"class": "CONFIG"})


def test_a_reload(fresh_cluster):
    one = fresh_cluster(set_up=False)
    one.configure("log_min_messages = error", "pgpci.local_key_command = 'fetch --password=geheim77'")
    (log,) = told(one, "RELOAD", "setting log_min_messages")
    assert log["message"] == "warning -> error" and log["success"]
    (command,) = told(one, "RELOAD", "setting pgpci.local_key_command")
    assert command["message"] == " -> fetch --password=********"
    hba = one.data / "pg_hba.conf"
    hba.write_text(hba.read_text() + "host all nobody all reject\n")
    one.execute("SELECT pg_reload_conf()")
    (access,) = told(one, "RELOAD", f"file {hba}")
    before, after = access["message"].split(" -> ")
    assert before.startswith("sha256 ") and after.startswith("sha256 ") and before != after
    assert "geheim77" not in str(trail.records(one))
    # What stays as it is is not told.
    count = len(trail.events(one, event="RELOAD"))
    one.execute("SELECT pg_reload_conf()")
    one.configure("work_mem = '8MB'")
    one.configure("pgpci.audit_checkpoint_interval = 2")
    told(one, "RELOAD", "setting pgpci.audit_checkpoint_interval")
    assert len(trail.events(one, event="RELOAD")) == count + 1


def test_a_restart(fresh_cluster):
    """What is turned down while the server is down is the first thing that it says."""
    one = fresh_cluster(set_up=False)
    one.restart()
    assert not trail.events(one, event="RESTART")
    one.configure("pgpci.audit_on_failure = allow", "fsync = on", reload=False)
    one.restart("immediate")
    (change,) = told(one, "RESTART", "setting pgpci.audit_on_failure")
    assert change["message"] == "block -> allow"
    (start,) = [r for r in trail.records(one) if r["kind"] == "start"][-1:]
    assert change["seq"] - start["seq"] < 5, "before anybody can log in"
    one.restart()
    one.execute("CREATE TABLE t (i int)")
    trail.wait_for(one, event="CREATE TABLE")
    assert len(told(one, "RESTART", "setting pgpci.audit_on_failure")) == 1
    one.stop()
    trail.assert_verifies(one)


def test_all_settings_of_ours(fresh_cluster):
    one = fresh_cluster(set_up=False)
    ours = {f"setting {name}" for (name,) in one.execute("SELECT name FROM pg_settings WHERE name LIKE 'pgpci.%' AND context <> 'user'")}
    file = one.dir / "data.pgpci" / "trail.controls"
    until(file.exists, "it is kept")
    kept = dict(line.split("\t") for line in file.read_text().splitlines())
    assert len(ours) > 40 and not ours - kept.keys()
    known = {name for (name,) in one.execute("SELECT name FROM pg_settings")}
    unknown = {name.removeprefix("setting ") for name in kept if name.startswith("setting ")} - known
    assert unknown <= {"event_triggers"}, "misspelt"
