"""Checkpoints on their way to another place, and what may be removed when they are there."""

import http.server
import os
import shutil
import socket
import threading
from pathlib import Path

import pytest
import trail
from conftest import ROOT
from test_keys import until

MANY = "DO $$ BEGIN FOR i IN 1..%d LOOP EXECUTE 'SELECT ' || i; END LOOP; END $$"
SMALL = ("pgpci.audit_segment_size = 1", "pgpci.audit_checkpoint_interval = 1", "pgpci.audit_scope = all")


def exported(cluster):
    return cluster.value("SELECT exported FROM pci.audit_status")


def examples():
    """The commands that the README shows."""
    lines = (ROOT / "README.md").read_text().splitlines()
    found = [line for line in lines if line.startswith("pgpci.audit_checkpoint_command = ")]
    assert len(found) == 3
    return found


def holds(cluster, path):
    """Whether all checkpoints in a file are the trail's."""
    code, found = trail.verify(cluster, "--anchor", path)
    (node,) = found["nodes"]
    assert code == 0 and {anchor["state"] for anchor in node["anchors"]} == {"holds"}, found
    return len(node["anchors"])


def test_to_a_file(fresh_cluster):
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1", )
    place = one.dir / "elsewhere"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    example = next(line for line in examples() if "cat >>" in line).replace("/mnt/worm/", f"{place}/")
    one.configure(example)
    one.execute("CREATE TABLE t (i int)")
    until(lambda: exported(one) > 0, "one is there")
    (kept,) = place.iterdir()
    count = exported(one)
    until(lambda: exported(one) > count, "and the next")
    one.stop()
    assert holds(one, kept) >= 2


def test_to_syslog(fresh_cluster):
    """A line for each, which becomes the note again."""
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1")
    sink, heard = one.dir / "log", []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(sink))
        sink.chmod(0o777)
        example = next(line for line in examples() if "logger" in line).replace("logger ", f"logger -u {sink} ")
        one.configure(example)
        listener.settimeout(20)
        heard.append(listener.recv(65536).decode())
        until(lambda: exported(one) > 0, "that is known")
    one.stop()
    assert "pgpci-checkpoint" in heard[0]
    note = heard[0][heard[0].index("pgpci/"):].rstrip("\n").replace("|", "\n")
    (one.dir / "note").write_text(note)
    assert holds(one, one.dir / "note") == 1


def test_by_http(fresh_cluster):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    answers, got = [500], []

    class Host(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(answers[-1])
            self.end_headers()

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        example = next(line for line in examples() if "curl" in line)
        url = next(word for word in example.replace("'", " ").split() if word.startswith("https://"))
        one = fresh_cluster("pgpci.audit_checkpoint_interval = 1", example.replace(url, f"http://127.0.0.1:{server.server_port}/"))
        until(lambda: len(got) > 1, "it is sent, and again")
        # It was not taken: so nothing may be removed for it.
        assert exported(one) == 0 and "pgpci.audit_checkpoint_command failed" in one.log
        answers.append(201)
        until(lambda: exported(one) > 0, "it is taken")
        one.stop()
        (one.dir / "note").write_bytes(got[-1])
        assert holds(one, one.dir / "note") == 1
    finally:
        server.shutdown()


def segments(cluster):
    return sorted(path for path in trail.directory(cluster).glob("*.jsonl*"))


def test_only_what_is_old_and_proven_is_removed(fresh_cluster):
    one = fresh_cluster(*SMALL, "pgpci.audit_retention = 1")
    one.execute(MANY % 12000)
    until(lambda: len(segments(one)) > 4, "segments are closed")
    until(lambda: one.value("SELECT sealed FROM pci.audit_status") > 12000, "all is sealed")
    until(lambda: len(list(trail.directory(one).glob("*.jsonl"))) == 1, "all is compressed")
    sealed, day = one.value("SELECT sealed FROM pci.audit_status"), 86400

    def ages(days):
        """As if the first three segments were that old; and waits until the writer has looked."""
        one.stop()
        for path in segments(one)[:3]:
            then = os.stat(path).st_mtime - days * day
            os.utime(path, (then, then))
        before = segments(one)
        one.start()
        one.execute(MANY % 10)
        looked = trail.directory(one).parent / "trail.timeline"
        looked.unlink(missing_ok=True)
        until(looked.exists, "the house is kept", seconds=30)
        return before
    # A setting of fewer than three months is not taken at its word.
    one.value("SELECT pci.export_checkpoint()", user="eve")
    assert exported(one) >= sealed
    def names(paths):
        return {path.name.removesuffix(".gz") for path in paths}
    before = ages(80)
    assert names(before) <= names(segments(one)), "not old enough"
    # Old, but what is elsewhere covers none of it.
    one.stop()
    (trail.directory(one).parent / "trail.shipped").unlink()
    before = ages(20)
    assert exported(one) == 0 and names(before) <= names(segments(one)), "not proven"
    one.value("SELECT pci.export_checkpoint()", user="eve")
    until(lambda: not names(before[:3]) & names(segments(one)), "now they go", seconds=30)
    assert names(before[3:]) <= names(segments(one))
    gone = trail.wait_for(one, event="RETENTION")[0]
    assert gone["objects"] == [f"segment {path.name}" for path in before[:3]] and gone["success"]
    assert trail.events(one, event="pci.export_checkpoint", session_user="eve")
    kept = next(record["seq"] for record in trail.records(one))
    one.stop()
    assert trail.verify(one, "--archived", str(kept - 1))[0] == 6
    assert trail.verify(one)[0] == 5


def test_what_is_elsewhere_of_one_node_proves_nothing_of_another(fresh_cluster):
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1")
    until(lambda: one.value("SELECT sealed FROM pci.audit_status") > 0, "it is sealed")
    one.value("SELECT pci.export_checkpoint()", user="eve")
    assert exported(one) > 0
    one.stop()
    home, copy = Path(f"{one.data}.pgpci"), one.dir / "copy"
    shutil.copytree(home, copy, copy_function=shutil.copy2)
    owner = os.stat(home)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    shutil.rmtree(home)
    copy.rename(home)
    one.start()
    trail.wait_for(one, event="LOGOUT")
    assert exported(one) == 0
