"""Reading, verifying and keeping the audit trail."""

import psycopg
import pytest
import trail
from conftest import CLEAR
from test_keys import until


@pytest.fixture(scope="module")
def read(module_cluster):
    one = module_cluster("pgpci.audit_checkpoint_interval = 1")
    assert one.reveals() == CLEAR
    trail.wait_for(one, event="reveal", revealed=4)
    return one


def test_auditors_only(read):
    for user in ("postgres", "ann", "plain"):
        for sql in ("SELECT * FROM pci.audit_trail", "SELECT * FROM pci.audit(now(), now())", "SELECT * FROM pci.failed_logins",
                    "SELECT * FROM pci.verify_audit()", "SELECT pci.export_checkpoint()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                read.execute(sql, user=user)
    assert read.value("SELECT state FROM pci.audit_status", user="plain") == "running"


def test_what_is_read_is_what_is_written(read):
    with read.connect("eve") as conn:
        rows = conn.execute('SELECT seq, event, "session_user", objects, revealed, purpose, success, prev, hash FROM pci.audit_trail ORDER BY seq').fetchall()
    written = trail.records(read)
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    for row, record, after in zip(rows, written, written[1:]):
        assert row[2] == record.get("session_user") and row[3] == record.get("objects")
        assert row[6] == record.get("success") and row[7] == record["prev"]
        assert row[8] == after["prev"], "the hash is what the next record says of it"
    assert trail.wait_for(read, session_user="eve", event="pci.audit", **{"class": "AUDIT"})


def test_a_range_of_time(read):
    with read.connect("eve") as conn:
        one = conn.execute("SELECT time, seq FROM pci.audit_trail WHERE event = 'reveal' AND revealed = 4 LIMIT 1").fetchone()
        assert conn.execute("SELECT seq FROM pci.audit(%s, %s) WHERE event = 'reveal'", (one[0], one[0])).fetchone()[0] == one[1]
        assert conn.execute("SELECT count(*) FROM pci.audit('2001-01-01', '2001-01-02')").fetchone()[0] == 0


def test_daily_views(read):
    with pytest.raises(psycopg.Error):
        read.connect("nobody")
    trail.wait_for(read, event="LOGIN", success=False)
    with read.connect("eve") as conn:
        assert conn.execute('SELECT "session_user" FROM pci.failed_logins').fetchall() == [("nobody",)]
        assert conn.execute('SELECT "session_user", vault, revealed FROM pci.reveals_by_day').fetchall() == [("full", "vault default", 4)]
        assert conn.execute("SELECT count(*) > 10 FROM pci.privilege_changes").fetchone()[0]
        assert conn.execute("SELECT count(*) FROM pci.denied_access a WHERE a.session_user = 'nobody'").fetchone()[0]
        conn.execute("SELECT * FROM pci.after_hours_access").fetchall()
        conn.execute("SELECT * FROM pci.controls_changed").fetchall()


def test_verifying_in_sql(read, tmp_path):
    with read.connect("eve") as conn:
        until(lambda: conn.execute("SELECT sealed FROM pci.audit_status").fetchone()[0] > 0, "it is sealed")
        verdict, records, detail = conn.execute("SELECT verdict, records, detail FROM pci.verify_audit()").fetchone()
        assert (verdict, detail) == ("unanchored", None) and records > 20
        note = conn.execute("SELECT pci.export_checkpoint()").fetchone()[0]
        assert conn.execute("SELECT verdict FROM pci.verify_audit(%s)", (note,)).fetchone()[0] == "ok"
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("SELECT verdict FROM pci.verify_audit(%s)", (note.replace("\n1", "\n2", 1) + "x",))
        assert caught.value.sqlstate == "22023"
        assert conn.execute("SELECT exported > 0 FROM pci.audit_status").fetchone()[0]
    (tmp_path / "anchor").write_text(note)
    assert trail.verify(read, "--anchor", tmp_path / "anchor")[0] == 0


def test_what_was_changed_is_found(fresh_cluster):
    one = fresh_cluster("pgpci.audit_compress = off")
    one.restart()
    first = sorted(trail.directory(one).glob("*.jsonl"))[0]
    first.write_bytes(first.read_bytes().replace(b"CREATE EXTENSION", b"CREATE EXTENSIOM", 1))
    verdict, detail = one.execute("SELECT verdict, detail FROM pci.verify_audit()", user="eve")[0]
    assert verdict == "tampered" and detail.startswith("segment 1, record ")
    assert trail.verify(one)[0] == 3


def test_rotation_and_retention(fresh_cluster):
    one = fresh_cluster("pgpci.audit_segment_size = 1", "pgpci.audit_checkpoint_interval = 1", "pgpci.audit_scope = all", "pgpci.audit_compress = off",
                        "pgpci.audit_checkpoint_command = 'cat >> $PGDATA/../shipped || cat >> shipped'")
    one.execute("DO $$ BEGIN FOR i IN 1..6000 LOOP EXECUTE 'SELECT ' || i; END LOOP; END $$")
    segments = until(lambda: (found := sorted(trail.directory(one).glob("*.jsonl"))) and len(found) > 2 and found, "segments are begun")
    until(lambda: one.value("SELECT exported FROM pci.audit_status") > 4000, "checkpoints are shipped")
    one.stop()
    trail.assert_verifies(one)
    import os
    for segment in segments[:2]:
        os.utime(segment, (1, 1))
    one.start()
    until(lambda: not segments[0].exists() and not segments[1].exists(), "old segments go", seconds=30)
    assert segments[2].exists()
    gone = trail.wait_for(one, event="RETENTION")[0]
    assert gone["objects"][0] == f"segment {segments[0].name}"
    kept = next(r["seq"] for r in trail.records(one))
    assert trail.verify(one, "--archived", str(kept - 1))[0] == 6
