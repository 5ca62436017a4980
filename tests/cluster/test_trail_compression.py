"""Files of the trail that are complete are compressed, and read as before."""

import os
import pathlib
import threading
import time

import pytest
import trail
from test_keys import until

MANY = "DO $$ BEGIN FOR i IN 1..%d LOOP EXECUTE 'SELECT ' || i; END LOOP; END $$"


def files(cluster, ending):
    return sorted(trail.directory(cluster).glob(f"*{ending}"))


def watch_compression(seen, over):
    """Notes the priorities, of the process and of its session, of each `pgpci compress` that it comes across."""
    while not over.is_set():
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if b"\0compress\0" in (process / "cmdline").read_bytes():
                    nice = int((process / "stat").read_text().rpartition(")")[2].split()[16])
                    group = process / "autogroup"
                    seen.append((nice, group.read_text().strip() if group.exists() else None))
            except OSError:
                pass  # it is gone already


def test_closed_files_are_compressed(fresh_cluster):
    one = fresh_cluster("pgpci.audit_segment_size = 1", "pgpci.audit_checkpoint_interval = 1", "pgpci.audit_scope = all")
    one.execute(MANY % 6000)
    until(lambda: len(files(one, ".gz")) > 1 and len(files(one, ".jsonl")) == 1, "they are compressed")
    until(lambda: one.value("SELECT last_seq FROM pci.audit_status") > 6000, "all is written")
    first = files(one, ".gz")[0]
    assert first.stat().st_mode & 0o777 == 0o600 and first.stat().st_size < 300_000
    assert not files(one, ".new")
    with one.connect("eve") as conn:
        seqs = [row[0] for row in conn.execute("SELECT seq FROM pci.audit_trail").fetchall()]
        assert seqs == list(range(1, len(seqs) + 1)) and len(seqs) > 6000
        assert conn.execute("SELECT verdict FROM pci.verify_audit()").fetchone()[0] == "unanchored"
    trail.assert_verifies(one)
    # A crash came before the first one's plain form went; and another before anything was written to a new one.
    one.stop()
    plain = first.with_name(first.name.removesuffix(".gz"))
    plain.write_bytes(trail.read(first))
    os.chown(plain, first.stat().st_uid, first.stat().st_gid)
    one.start()
    until(lambda: not plain.exists() and len(files(one, ".jsonl")) == 1, "it is tidied up")
    one.stop()
    trail.assert_verifies(one)
    # What was changed in a compressed file is found as well.
    first.write_bytes(first.read_bytes()[:-200])
    assert trail.verify(one)[0] in (3, 4)


def test_they_may_stay_as_they_are(fresh_cluster):
    one = fresh_cluster("pgpci.audit_segment_size = 1", "pgpci.audit_compress = off", "pgpci.audit_scope = all", set_up=False)
    one.execute(MANY % 6000)
    until(lambda: len(files(one, ".jsonl")) > 2, "segments are closed")
    one.configure("pgpci.audit_compress = on")
    # Whatever else the machine does goes first, also where Linux shares the processors among sessions.
    seen, over = [], threading.Event()
    watcher = threading.Thread(target=watch_compression, args=(seen, over))
    watcher.start()
    try:
        one.restart()
        until(lambda: files(one, ".gz"), "now they are compressed")
        until(lambda: len(files(one, ".jsonl")) == 1, "and all others")
    finally:
        over.set()
        watcher.join()
    assert seen and all(nice == 19 for nice, _ in seen), seen
    # Linux takes one such wish in a tenth of a second; segments of the usual size take longer than that.
    assert seen[0][1] is None or seen[0][1].endswith("nice 19"), seen


def test_a_range_of_time_opens_the_files_it_needs(fresh_cluster):
    """With PGPCI_RECORDS=1000000 this is the trail of a busy day."""
    count = int(os.environ.get("PGPCI_RECORDS", "100000"))
    one = fresh_cluster("pgpci.audit_segment_size = 8" if count < 1_000_000 else "pgpci.audit_segment_size = 64")
    one.configure("pgpci.audit_scope = all")
    with one.connect() as conn:
        until(lambda: conn.execute("SHOW pgpci.audit_scope").fetchone()[0] == "all", "the setting is read")
        conn.execute(MANY % (count // 2))
        # What comes while the writer is busy may have the time of a checkpoint that came in between.
        middle = conn.execute("SELECT clock_timestamp()").fetchone()[0]
        conn.execute("SELECT 'in the middle'; SELECT pg_sleep(1)")
        conn.execute(MANY % (count // 2))
    until(lambda: one.value("SELECT last_seq FROM pci.audit_status") > count, "all is written", seconds=60)
    until(lambda: len(files(one, ".jsonl")) == 1, "all is compressed", seconds=120)
    with one.connect("eve") as conn:
        query = "SELECT a.statement FROM pci.audit(%s, %s::timestamptz + interval '1 s') a WHERE a.statement = 'SELECT ''in the middle'''"
        took = []
        for _ in range(3):
            begin = time.monotonic()
            assert len(conn.execute(query, (middle, middle)).fetchall()) == 1
            took.append(time.monotonic() - begin)
    print(f"{count} records in {len(files(one, '.gz')) + 1} files: {min(took):.3f} s")
    assert min(took) < 1.5
    # A file that is not needed is not read: whatever is in it.
    last = files(one, ".gz")[-1]
    last.write_bytes(last.read_bytes()[:100_000])
    with one.connect("eve") as conn:
        assert len(conn.execute(query, (middle, middle)).fetchall()) == 1
        with pytest.raises(Exception, match="audit trail cannot be read"):
            conn.execute("SELECT count(*) FROM pci.audit_trail")
