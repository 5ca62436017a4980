"""Where keys and digits are not: readable memory, core dumps, the data directory. And that keys are wiped."""

import base64
import ctypes
import hashlib
import hmac
import os
import re
import resource
import signal
import struct

import psycopg
import pytest
from conftest import AMEX_2, CLEAR, DISCOVER, MASTERCARD, MASTERCARD_2, VISA, VISA_2, VISA_3
from test_keys import broker, cached_keys, readable_memory, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="reading another user's memory needs root")

MEMFD_SECRET = 447


def without_memfd_secret():
    """Before the server's exec: a seccomp filter under which memfd_secret is not there, as in an older kernel."""
    class Instruction(ctypes.Structure):
        _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]

    load, jump_if_equal, give_back = 0x20, 0x15, 0x06
    enosys, allow = 0x00050000 | 38, 0x7FFF0000
    program = (Instruction * 4)(
        (load, 0, 0, 0), (jump_if_equal, 0, 1, MEMFD_SECRET), (give_back, 0, 0, enosys), (give_back, 0, 0, allow))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0 or \
            libc.prctl(set_seccomp, filter_mode, ctypes.byref(Program(4, program)), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def with_core_dumps():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def region(pid, kind):
    """The mapping that holds keys: (begin, end). kind: secret or locked."""
    with open(f"/proc/{pid}/smaps") as smaps:
        text = smaps.read()
    found = []
    for mapping in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text):
        line, flags = mapping.partition("\n")[0], re.search(r"VmFlags:(.*)", mapping)
        if kind == "secret" and "secretmem" in line or kind == "locked" and flags and \
                {"sh", "lo", "dd"} <= set(flags.group(1).split()) and "secretmem" not in line:
            begin, end = line.split()[0].split("-")
            found.append((int(begin, 16), int(end, 16)))
    assert len(found) == 1, found
    return found[0]


def read_region(pid, kind):
    begin, end = region(pid, kind)
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        memory.seek(begin)
        return memory.read(end - begin)


def check_values(cluster):
    """What tells an unwrapped key, by its purpose: the key check value kept beside the wrapped one."""
    rows = cluster.execute("SELECT purpose, check_value FROM pci.keys")
    assert len(rows) == 4
    return {bytes.fromhex(value): purpose.encode() for purpose, value in rows}


def keys_in(memory, values):
    """Every unwrapped key in there, by purpose. Keys are aligned as their slots are."""
    found = {}
    for at in range(0, len(memory) - 31, 8):
        key = memory[at:at + 32]
        if key.count(0) > 16:
            continue
        for value, purpose in values.items():
            if hmac.digest(key, b"pgpci key check value 1" + purpose, hashlib.sha256)[:8] == value:
                found[purpose] = key
    return found


def use_every_key(conn):
    assert len(conn.execute("SELECT pci.reveal(card) FROM payments").fetchall()) >= len(CLEAR)
    conn.execute(f"SELECT id FROM payments WHERE card = '{VISA}'::text")
    conn.execute("SELECT pci.hash_pan(card) FROM payments")


@pytest.fixture
def readable(fresh_cluster):
    """A server whose keys are in locked memory, which root can read: what is wiped can be seen."""
    def make(*conf):
        one = fresh_cluster(*conf, start=False)
        one.before_start = without_memfd_secret
        one.start().set_up()
        assert one.value("SELECT memory FROM pci.key_status") == "Locked"
        return one
    return make


def test_keys_are_wiped_when_their_time_is_over(readable):
    one = readable("pgpci.key_cache_ttl = 3s")
    values = check_values(one)
    with one.connect("full") as conn:
        use_every_key(conn)
        memory = read_region(one.postmaster, "locked")
        assert sorted(keys_in(memory, values)) == [b"data", b"equality", b"hash", b"policy"]
        found = keys_in(memory, values).values()
        # The session stays, idle: what it derived goes too.
        until(lambda: cached_keys(one) <= 1, "cached keys are wiped, but for that of accounts, which logins ask for")

        def wiped():
            memory = read_region(one.postmaster, "locked")
            return not any(key[:16] in memory or key[16:] in memory for key in found)
        assert until(wiped, "no half of a key is left")
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_destroyed_key_is_wiped_at_once(readable):
    """In the slot, and where a session that stays idle has it ready."""
    one = readable()
    values = check_values(one)
    with one.connect("full") as conn:
        use_every_key(conn)
        key = keys_in(read_region(one.postmaster, "locked"), values)[b"data"]
        number = one.value("SELECT id FROM pci.keys WHERE purpose = 'data'")
        number = one.value(f"SELECT pci.destroy_key({number}, 'lost')", user="cy")
        one.execute(f"SELECT pci.approve({number})", user="di")
        memory = read_region(one.postmaster, "locked")
        assert key[:16] not in memory and key[16:] not in memory
        assert sorted(keys_in(memory, values)) == [b"equality", b"hash", b"policy"]


def test_keys_are_wiped_at_shutdown(readable):
    """A session that does not end keeps the postmaster, and so the memory, there to be read."""
    one = readable()
    values = check_values(one)
    conn = one.connect("full")
    use_every_key(conn)
    postmaster, stuck, keeper = one.postmaster, conn.info.backend_pid, broker(one)
    found = keys_in(read_region(postmaster, "locked"), values)
    assert len(found) == 4
    os.kill(stuck, signal.SIGSTOP)
    try:
        os.kill(postmaster, signal.SIGINT)
        until(lambda: not os.path.exists(f"/proc/{keeper}"), "the broker ends")
        memory = read_region(postmaster, "locked")
        assert not [purpose for purpose, key in found.items() if key[:16] in memory or key[16:] in memory]
    finally:
        os.kill(stuck, signal.SIGCONT)
    until(lambda: not os.path.exists(f"/proc/{postmaster}"), "the server ends")


def test_locked_memory_stays_out_of_core_dumps(readable):
    one = readable()
    with open(f"/proc/{one.postmaster}/smaps") as smaps:
        assert smaps.read().count("/dev/zero") >= 1
    region(one.postmaster, "locked")


def test_secret_memory_cannot_be_read(fresh_cluster):
    """By nobody: root reads other pages of the same process, and gets an error for these."""
    one = fresh_cluster()
    with one.connect("full") as conn:
        use_every_key(conn)
        for pid in (one.postmaster, broker(one), conn.info.backend_pid):
            begin, end = region(pid, "secret")
            assert sum(map(len, readable_memory(pid))) > 1 << 20
            with open(f"/proc/{pid}/mem", "rb", 0) as memory:
                for address in range(begin, end, 4096):
                    memory.seek(address)
                    with pytest.raises(OSError):
                        memory.read(16)


COPIED, BOUND, LITERAL = [VISA_2, MASTERCARD_2], [VISA_3, AMEX_2], "6011000990139424"


@pytest.fixture(scope="module")
def known(module_cluster):
    """A server with memfd_secret whose unwrapped keys are known: it ran without before, and they were read then."""
    one = module_cluster(start=False)
    one.before_start = without_memfd_secret
    one.start().set_up()
    with one.connect("full") as conn:
        use_every_key(conn)
        keys = keys_in(read_region(one.postmaster, "locked"), check_values(one))
    assert len(keys) == 4
    one.stop()
    one.before_start = with_core_dumps
    one.start()
    assert one.value("SELECT memory FROM pci.key_status") == "Secret"
    wrapping = one.key_file.read_text().strip().split(":")[-1]
    one.secrets = {"wrapping key": base64.b64decode(wrapping), "wrapping key in base64": wrapping.encode(),
                   **{f"{purpose.decode()} key": key for purpose, key in keys.items()}}
    one.wrapped = bytes(one.value("SELECT wrapped FROM pci.key WHERE purpose = 'data'"))
    with one.connect("full") as conn:
        with conn.cursor().copy("COPY payments FROM STDIN") as copy:
            for row in enumerate(COPIED, 100):
                copy.write_row((*row, 1))
        for row in enumerate(BOUND, 200):
            conn.execute("INSERT INTO payments VALUES (%s, %s, 1)", row)
        assert conn.execute("SELECT count(*) FROM payments").fetchone() == (len(CLEAR) + 4,)
    return one


def halves(secret):
    return {secret[:16], secret[16:32]} if len(secret) == 32 else {secret}


def dump(cluster, pid):
    """The core dump of a process that is told to abort."""
    with open("/proc/sys/kernel/core_pattern") as pattern:
        if pattern.read().strip() != "core":
            pytest.skip("core dumps of this machine go elsewhere")
    path = cluster.data / "core"
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGABRT)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the process is dumped")
    found = until(lambda: list(cluster.data.glob("core*")), "the core dump is there")
    content = found[0].read_bytes()
    found[0].unlink()
    until(lambda: answers(cluster), "the server is back")
    return memory_of(content)


def memory_of(core):
    """The memory in a core dump (ELF, its PT_LOAD segments), without the registers: those hold what was last computed
    with, and the manual says so."""
    assert core[:5] == b"\x7fELF\x02"
    table, = struct.unpack_from("<Q", core, 32)
    size, count = struct.unpack_from("<HH", core, 54)
    pieces = []
    for number in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", core, table + number * size)
        if kind == 1:
            pieces.append(core[offset:offset + length])
    return b"".join(pieces)


def answers(cluster):
    try:
        return cluster.value("SELECT 1")
    except psycopg.OperationalError:
        return None


def test_core_dump_of_a_session_that_used_every_key(known):
    conn = known.connect("full")
    use_every_key(conn)
    conn.execute("INSERT INTO payments VALUES (300, %s, 1)", (LITERAL,))
    core = dump(known, conn.info.backend_pid)
    assert known.wrapped in core, "the scan finds what is there"
    assert not [name for name, secret in known.secrets.items() if any(half in core for half in halves(secret))]


def test_core_dump_of_a_session_that_read_masks(known):
    """It holds all of the shared buffers: tables, indexes and write-ahead log."""
    with known.connect("full") as conn:
        use_every_key(conn)
        conn.execute("DELETE FROM payments WHERE id >= 400")
        with conn.cursor().copy("COPY payments FROM STDIN") as copy:
            copy.write_row((400, "5200828282828210", 1))
    conn = known.connect("plain")
    assert conn.execute("SELECT card FROM payments WHERE id = 400").fetchone() == ("520082******8210",)
    core = dump(known, conn.info.backend_pid)
    assert b"520082******8210" in core, "the scan finds what is there"
    digits = [VISA, MASTERCARD, DISCOVER, *COPIED, *BOUND, "5200828282828210"]
    assert not [card for card in digits if card.encode() in core]
    assert not [name for name, secret in known.secrets.items() if any(half in core for half in halves(secret))]


def test_nothing_in_the_data_directory(known):
    """Tables, indexes, statistics, write-ahead log, the server's log: neither keys nor digits."""
    known.execute("ANALYZE; CHECKPOINT")
    digits = [card.encode() for _, card in CLEAR] + [card.encode() for card in COPIED + BOUND]
    needles = {name: secret for name, secret in known.secrets.items()} | {d.decode(): d for d in digits}
    # Packed as integers, in either order: no cheaper disguise either.
    needles |= {f"{d.decode()} packed {order}": int(d).to_bytes(8, order) for d in digits for order in ("little", "big")}
    seen = set()
    for path in [*known.data.rglob("*"), known.dir / "server.log"]:
        if path.is_file():
            content = path.read_bytes()
            seen |= {name for name, needle in needles.items() if needle in content}
            seen |= {"wrapped"} if known.wrapped in content else set()
    assert seen == {"wrapped"}
