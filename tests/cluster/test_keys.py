"""Keys go missing, helpers die, memory is read: what needs no key goes on, what needs one says so and heals."""

import base64
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import psycopg
import pytest
from conftest import BIN, CLEAR, MASKED, MASTERCARD_2, VISA, VISA_3, as_server

WAIT = 20


def until(condition, what, seconds=WAIT):
    """Polls until the condition is true; fails after a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    pytest.fail(f"not within {seconds} s: {what}")


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return None


def children(pid):
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and parent(int(p)) == pid]


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def broker(cluster):
    """The background worker that talks to the helper; None if it does not run."""
    found = [p for p in children(cluster.postmaster) if "pgpci key broker" in command_line(p)]
    return found[0] if found else None


def helper(cluster):
    """The process `pgpci keyd`; None if it does not run."""
    worker = broker(cluster)
    found = [p for p in children(worker) if "keyd" in command_line(p)] if worker else []
    return found[0] if found else None


def cached_keys(cluster):
    return cluster.value("SELECT cached_keys FROM pci.key_status")


def go_cold(cluster):
    """Waits until no unwrapped key is left in memory; needs a short pgpci.key_cache_ttl."""
    until(lambda: cached_keys(cluster) == 0, "cached keys are wiped")


def assert_key_free_work(cluster):
    """Masks, joins on stored values, ANALYZE, index builds, constraints on stored values."""
    assert cluster.execute("SELECT id, card FROM payments ORDER BY id") == MASKED
    with cluster.connect("look") as conn:
        assert conn.execute("SELECT count(*) FROM payments a JOIN payments b ON a.card = b.card").fetchone() == (4,)
        assert conn.execute("SELECT count(DISTINCT card) FROM payments").fetchone() == (4,)
        conn.execute("CREATE TABLE look.key_free AS SELECT * FROM payments; CREATE INDEX ON look.key_free (card)")
        conn.execute("DROP TABLE look.key_free")
    with cluster.connect() as conn:
        conn.execute("ANALYZE payments")
        conn.execute("REINDEX TABLE payments")
        conn.execute("VACUUM payments")


def state_of(cluster, sql, user="full"):
    with pytest.raises(psycopg.Error) as caught:
        cluster.execute(sql, user=user)
    return caught.value


STORE = f"INSERT INTO payments VALUES (50, '{VISA_3}', 1)"
REVEAL = "SELECT pci.reveal(card) FROM payments"
LOOK_UP = f"SELECT id FROM payments WHERE card = '{VISA}'::text"


@pytest.fixture(scope="module")
def cold(module_cluster):
    """Keys are forgotten after a second; sessions wait five for one."""
    return module_cluster("pgpci.key_cache_ttl = 1s", "pgpci.key_wait_timeout = 5s")


@pytest.fixture(autouse=True)
def no_leftovers(request):
    yield
    if "cold" in request.fixturenames:
        one = request.getfixturevalue("cold")
        one.execute("DELETE FROM payments WHERE id >= 50")


def test_missing_key_file_at_start(fresh_cluster):
    one = fresh_cluster("pgpci.key_cache_ttl = 1s")
    aside = one.key_file.with_suffix(".aside")
    one.stop()
    one.key_file.rename(aside)
    one.start()
    assert_key_free_work(one)
    for sql in (STORE, REVEAL, LOOK_UP):
        error = state_of(one, sql)
        assert error.sqlstate == "55000", error
        assert "wrapping key is missing" in error.diag.message_primary
        assert "pgpci key init" in error.diag.message_hint and "pgpci.local_key_file" in error.diag.message_hint
        assert VISA not in str(error) and VISA_3 not in str(error)
    assert one.execute("SELECT id, card FROM payments ORDER BY id") == MASKED
    started = one.value("SELECT pg_postmaster_start_time()")
    aside.rename(one.key_file)
    assert one.reveals() == CLEAR
    one.execute(STORE, user="full")
    assert one.reveals()[-1] == (50, VISA_3)
    assert one.value("SELECT pg_postmaster_start_time()") == started


def test_init_without_key_file(fresh_cluster):
    one = fresh_cluster(set_up=False, key=False)
    one.create_roles()
    one.execute("CREATE EXTENSION pgpci")
    error = state_of(one, "SELECT pci.init('{ann,bob}', '{cy,di}', '{eve,fay}')", user="postgres")
    assert error.sqlstate == "55000" and "pgpci key init" in error.diag.message_hint
    assert one.value("SELECT count(*) FROM pci.keys") == 0
    assert one.value("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pci\\_%'") == 0
    subprocess.run(as_server([BIN / "pgpci", "key", "init", "--pgdata", one.data]), check=True, capture_output=True)
    one.execute("SELECT pci.init('{ann,bob}', '{cy,di}', '{eve,fay}')")
    assert one.value("SELECT count(*) FROM pci.keys") == 4


def replaced(cluster, content=None, mode=0o600, owner=None):
    """Puts another file in the place of the key file; returns how to undo it."""
    aside = cluster.key_file.with_suffix(".aside")
    shutil.copy2(cluster.key_file, aside)
    os.chown(aside, os.stat(cluster.key_file).st_uid, os.stat(cluster.key_file).st_gid)
    if content is not None:
        cluster.key_file.write_bytes(content)
    os.chmod(cluster.key_file, mode)
    return lambda: aside.rename(cluster.key_file)


OTHER_KEY = b"pgpci-local-key:1:" + base64.b64encode(bytes(range(32))) + b"\n"


@pytest.mark.parametrize("content,mode,sqlstate,message,hint", [
    (OTHER_KEY, 0o600, "58000", "not the one that wrapped", "pgpci.local_key_file"),
    (None, 0o644, "58000", "refused", "0600"),
    (None, 0o640, "58000", "refused", "0600"),
    (None, 0o660, "58000", "refused", "0600"),
    (b"", 0o600, "58000", "", None),
    (b"pgpci-local-key:1:AAAA\n", 0o600, "58000", "", None),
    (b"pgpci-local-key:9:" + OTHER_KEY[18:], 0o600, "58000", "", None),
    (b"\0" * 100_000, 0o600, "58000", "", None),
], ids=["wrong_key", "mode_0644", "mode_0640", "mode_0660", "empty", "short", "future_version", "zeros"])
def test_wrong_key_file(cold, content, mode, sqlstate, message, hint):
    restore = replaced(cold, content, mode)
    try:
        go_cold(cold)
        for sql in (STORE, REVEAL, LOOK_UP):
            error = state_of(cold, sql)
            assert error.sqlstate == sqlstate, error
            assert message in error.diag.message_primary
            assert hint is None or hint in error.diag.message_hint
            assert "AAAA" not in str(error) and OTHER_KEY[18:30].decode() not in str(error)
        assert_key_free_work(cold)
    finally:
        restore()
    assert cold.reveals() == CLEAR


def test_cached_keys_serve_while_the_helper_is_killed(fresh_cluster):
    """kill -9 in a loop: reveals with cached keys never notice."""
    one = fresh_cluster()
    one.reveals()
    failures, killed, done = [], [], threading.Event()

    def reveal():
        while not done.is_set():
            try:
                if one.reveals() != CLEAR:
                    failures.append("wrong digits")
            except psycopg.Error as error:
                failures.append(str(error))

    thread = threading.Thread(target=reveal)
    thread.start()
    try:
        for _ in range(5):
            victim = helper(one)
            if victim:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
                until(lambda: helper(one) != victim, "the helper is gone")
            # Only a request starts it again: a new database key is cold.
            one.execute("SELECT 1")
    finally:
        done.set()
        thread.join()
    assert killed and not failures, failures
    assert one.value("SELECT pg_is_in_recovery()") is False
    assert "terminating any other active server processes" not in one.log


def test_cold_reveals_go_on_while_the_helper_is_killed(cold):
    """The next cold request starts a new helper; a request that was under way may fail, clearly."""
    killed = set()
    for _ in range(4):
        victim = until(lambda: (cold.reveals(), helper(cold))[1], "a helper runs")
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
        go_cold(cold)
        assert until(lambda: reveals_or_none(cold), "reveals work again") == CLEAR
    assert len(killed) == 4
    assert "terminating any other active server processes" not in cold.log


def reveals_or_none(cluster):
    try:
        return cluster.reveals()
    except psycopg.Error as error:
        assert error.sqlstate in ("57P03", "58000"), error
        return None


def test_stopped_helper_waits_are_bounded_and_cancelled(cold):
    stuck = until(lambda: (cold.reveals(), helper(cold))[1], "a helper runs")
    os.kill(stuck, signal.SIGSTOP)
    try:
        go_cold(cold)
        with cold.connect("full") as conn:
            conn.execute("SET statement_timeout = '700ms'")
            began = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled):
                conn.execute(REVEAL)
            assert time.monotonic() - began < 3
            conn.execute("SET statement_timeout = 0")
            timer = threading.Timer(0.5, conn.cancel)
            timer.start()
            began = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled):
                conn.execute(REVEAL)
            assert time.monotonic() - began < 3
            began = time.monotonic()
            with pytest.raises(psycopg.Error) as caught:
                conn.execute(REVEAL)
            assert caught.value.sqlstate == "57P03", caught.value
            assert time.monotonic() - began < 8
            assert_key_free_work(cold)
    finally:
        try:
            os.kill(stuck, signal.SIGCONT)
        except ProcessLookupError:
            pass
    assert until(lambda: reveals_or_none(cold), "reveals work again") == CLEAR


def test_killed_broker_restarts_the_server_and_loses_nothing(fresh_cluster):
    one = fresh_cluster()
    one.execute(STORE, user="full")
    one.execute("CHECKPOINT")
    one.execute(f"INSERT INTO payments VALUES (51, '{MASTERCARD_2}', 1)", user="full")
    victim = until(lambda: broker(one), "the broker runs")
    old_helper = helper(one)
    os.kill(victim, signal.SIGKILL)
    expected = CLEAR + [(50, VISA_3), (51, MASTERCARD_2)]
    assert until(lambda: broker(one) not in (None, victim), "a new broker runs")
    assert until(lambda: reveals_when_up(one), "reveals work again") == expected
    if old_helper:
        until(lambda: "keyd" not in command_line(old_helper), "the old helper died with its broker")
    assert one.value("SELECT memory FROM pci.key_status") == "Secret"


def reveals_when_up(cluster):
    try:
        return cluster.reveals()
    except psycopg.OperationalError:
        return None


def test_backend_killed_while_it_waits(cold):
    """Crash-restart resets mailbox and locks; keys are fetched again."""
    stuck = until(lambda: (cold.reveals(), helper(cold))[1], "a helper runs")
    os.kill(stuck, signal.SIGSTOP)
    try:
        go_cold(cold)
        conn = cold.connect("full")
        pid = conn.info.backend_pid
        thread = threading.Thread(target=lambda: pytest.raises(psycopg.Error, conn.execute, REVEAL))
        thread.start()
        until(lambda: cold.value("SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", (pid,)) == "Extension", "it waits for the key")
        os.kill(pid, signal.SIGKILL)
        thread.join()
    finally:
        try:
            os.kill(stuck, signal.SIGCONT)
        except ProcessLookupError:
            pass
    assert until(lambda: reveals_when_up(cold), "reveals work again") == CLEAR


def test_ttl_wipes_keys(cold):
    assert cold.reveals() == CLEAR
    calls = cold.value("SELECT provider_calls FROM pci.key_status")
    go_cold(cold)
    assert cold.reveals() == CLEAR
    assert cold.value("SELECT provider_calls FROM pci.key_status") > calls
    assert cached_keys(cold) > 0


def test_a_session_forgets_with_the_ttl(cold):
    """A session's own derived keys expire too: without a key file, an open session cannot go on."""
    with cold.connect("full") as conn:
        conn.execute(REVEAL)
        restore = replaced(cold, OTHER_KEY)
        try:
            go_cold(cold)

            def refused():
                try:
                    conn.execute(REVEAL)
                except psycopg.Error as error:
                    return error.sqlstate
            assert until(refused, "the session's key expires") == "58000"
        finally:
            restore()
        assert len(conn.execute(REVEAL).fetchall()) == 4


def readable_memory(pid):
    """Everything that another process could read of this one, piece by piece."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            begin, end, flags = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
            name = line.split(None, 5)[5].strip() if len(line.split(None, 5)) > 5 else ""
            if "r" not in flags or name in ("[vvar]", "[vsyscall]"):
                continue
            begin, end = int(begin, 16), int(end, 16)
            while begin < end:
                size = min(end - begin, 1 << 24)
                try:
                    memory.seek(begin)
                    piece = memory.read(size)
                except (OSError, ValueError, OverflowError):
                    break
                yield piece
                # So that nothing hides across a cut.
                begin += size - (64 if begin + size < end else 0)


def in_memory(pid, needle):
    return any(needle in piece for piece in readable_memory(pid))


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another user's memory needs root")
def test_no_key_in_readable_memory(fresh_cluster):
    one = fresh_cluster()
    line = one.key_file.read_text().strip()
    key = base64.b64decode(line.split(":")[-1])
    assert len(key) == 32
    with one.connect("full") as conn:
        assert len(conn.execute(REVEAL).fetchall()) == 4
        conn.execute(STORE)
        conn.execute(LOOK_UP)
        conn.execute("SELECT pci.hash_pan(card) FROM payments")
        pid = conn.info.backend_pid
        wrapped = bytes(one.value("SELECT wrapped FROM pci.key WHERE purpose = 'data'"))
        for name, process in (("backend", pid), ("postmaster", one.postmaster), ("broker", broker(one))):
            for needle in (key, line.split(":")[-1].encode(), key[:16], key[16:]):
                assert not in_memory(process, needle), f"the wrapping key is readable in the {name}"
        assert in_memory(pid, wrapped), "the scan finds what is there: the wrapped key"
    status = one.execute("SELECT memory, helper, cached_keys FROM pci.key_status")
    assert status == [("Secret", "running", 5)]


def test_no_clear_digits_on_disk(fresh_cluster):
    """Neither in tables nor in the write-ahead log."""
    one = fresh_cluster()
    assert one.reveals() == CLEAR
    one.execute("CHECKPOINT")
    for path in one.data.glob("base/*/*"):
        assert VISA.encode() not in path.read_bytes()
    for path in one.data.glob("pg_wal/0*"):
        assert VISA.encode() not in path.read_bytes()


def test_helper_has_nothing_of_the_server(fresh_cluster):
    """No shared memory, no open files of the server, not dumpable."""
    one = fresh_cluster()
    pid = until(lambda: helper(one), "a helper runs")
    with open(f"/proc/{pid}/maps") as maps:
        text = maps.read()
    assert "/dev/zero" not in text and "memfd" not in text and "secretmem" not in text
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        assert str(one.data) not in target, target
