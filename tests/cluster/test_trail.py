"""The audit trail: there before anything leaves, whatever becomes of the transaction, the session or the server."""

import os
import signal

import psycopg
import pytest
import trail
from conftest import CLEAR, VISA, VISA_2
from test_keys import until


@pytest.fixture(scope="module")
def audited(module_cluster):
    return module_cluster()


def test_a_reveal_is_on_the_disk_before_its_rows(audited):
    with audited.connect("full") as conn:
        conn.execute("SET application_name = 'till'; SET pgpci.app_user = 'k.e@example.org'")
        before = len(trail.events(audited, **{"class": "REVEAL"}))
        assert conn.execute(f"SELECT pci.reveal(card, 'chargeback 1234 of {VISA_2}') FROM payments WHERE id = 1").fetchone()[0] == VISA
        begun = trail.events(audited, **{"class": "REVEAL"})[before]
        pid = conn.info.backend_pid
    assert begun["event"] == "reveal" and begun["objects"] == ["vault default"] and "success" not in begun
    assert begun["purpose"] == "chargeback 1234 of 401288******1881"
    assert (begun["session_user"], begun["database"], begun["pid"]) == ("full", "postgres", pid)
    assert (begun["application_name"], begun["app_user"]) == ("till", "k.e@example.org")
    assert begun["client_addr"] == "127.0.0.1" and begun["client_port"] > 0 and begun["session_id"]
    ended = trail.wait_for(audited, pid=pid, revealed=1)[0]
    assert ended["success"] and ended["purpose"] == begun["purpose"]


def test_a_rollback_keeps_the_record(audited):
    with audited.connect("full", autocommit=False) as conn:
        assert len(conn.execute("SELECT pci.reveal(card) FROM payments").fetchall()) == 4
        conn.rollback()
        ended = trail.wait_for(audited, pid=conn.info.backend_pid, revealed=4)[0]
    assert ended["success"] is False


def test_a_protected_write_is_recorded_before_it_commits(audited):
    with audited.connect("full", autocommit=False) as conn:
        conn.execute("INSERT INTO payments VALUES (90, %s, 1)", (VISA_2,))
        pid = conn.info.backend_pid
        conn.commit()
        intent = trail.events(audited, pid=pid, event="COMMIT", success=None)[0]
        closed = trail.wait_for(audited, pid=pid, event="COMMIT", success=True)[0]
        assert intent["xid"] == closed["xid"]
        conn.execute("DELETE FROM payments WHERE id = 90")
        conn.commit()
        # What writes nothing protected waits for nothing.
        conn.execute("CREATE TEMP TABLE t (i int); INSERT INTO t VALUES (1)")
        conn.commit()
    assert len(trail.events(audited, pid=pid, event="COMMIT", success=None)) == 2


def test_changes_of_keys_and_policy(audited):
    audited.grant("plain", "search")
    granted = trail.wait_for(audited, **{"class": "POLICY"}, event=lambda it: "plain" in it)[0]
    assert granted["session_user"] == "ann" and granted["xid"] > 0
    trail.wait_for(audited, event="COMMIT", success=True, xid=granted["xid"])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        audited.execute("SELECT pci.reveal(card) FROM payments", user="app")
    trail.wait_for(audited, session_user="app", event="DENIED", success=False, sqlstate="42501")


def test_an_orderly_stop_ends_the_boot(fresh_cluster):
    one = fresh_cluster()
    one.restart()
    assert one.reveals() == CLEAR
    one.stop()
    kinds = [record["kind"] for record in trail.records(one)]
    assert kinds[-2:] == ["stop", "checkpoint"] and kinds.count("start") == 2 and "crash" not in kinds
    trail.assert_verifies(one)


@pytest.mark.parametrize("whom", ["postmaster", "backend", "writer"])
def test_a_crash(fresh_cluster, whom):
    one = fresh_cluster()
    with one.connect("full") as conn:
        assert len(conn.execute("SELECT pci.reveal(card) FROM payments").fetchall()) == 4
        pid = conn.info.backend_pid
        if whom == "postmaster":
            for victim in (one.postmaster, trail.writer(one)):
                os.kill(victim, signal.SIGKILL)
        elif whom == "backend":
            os.kill(pid, signal.SIGKILL)
        else:
            os.kill(trail.writer(one), signal.SIGKILL)
    if whom == "postmaster":
        until(lambda: _gone(pid), "the session ends")
        for lock in (one.data / "postmaster.pid", one.dir / f".s.PGSQL.{one.port}.lock"):
            lock.unlink(missing_ok=True)
        one.start()

    def answers():
        try:
            return one.reveals() == CLEAR
        except psycopg.Error:
            return False
    assert until(answers, "the server is back")
    assert trail.events(one, pid=pid, **{"class": "REVEAL"})
    assert any(record["kind"] == "crash" for record in trail.records(one))
    one.stop()
    trail.assert_verifies(one)


def _gone(pid):
    try:
        os.kill(pid, 0)
        return False
    except ProcessLookupError:
        return True
