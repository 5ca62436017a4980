"""The audit trail, as it is on the disk."""

import gzip
import hashlib
import json
import os
import subprocess
import time

from conftest import BIN
from test_keys import children, command_line


def directory(cluster):
    return getattr(cluster, "trail", cluster.dir / "data.pgpci" / "trail")


def read(path):
    """A segment's lines, compressed or not; what was compressed since it was listed, too."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        return gzip.decompress(path.with_name(path.name + ".gz").read_bytes())


def lines(cluster):
    """All lines of all segments, in order. What has no end is being written, or was when the server crashed."""
    segments = {}
    for path in sorted(directory(cluster).glob("*.jsonl*"), reverse=True):
        if path.suffix in (".jsonl", ".gz"):
            segments[path.name.removesuffix(".gz")] = path
    for _, path in sorted(segments.items()):
        yield from read(path).split(b"\n")[:-1]


def records(cluster):
    """All records of all segments, in order."""
    found = []
    for line in lines(cluster):
        if line:
            try:
                found.append(json.loads(line))
            except ValueError:  # what a crash left
                pass
    return found


def events(cluster, **fields):
    """The events with these fields; a field that is a function is asked."""
    def is_one(record):
        return record["kind"] == "event" and all(
            value(record.get(name)) if callable(value) else record.get(name) == value
            for name, value in fields.items()
        )
    return [record for record in records(cluster) if is_one(record)]


def wait_for(cluster, count=1, seconds=10, **fields):
    """Waits until there are that many such events; returns them."""
    end = time.monotonic() + seconds
    while True:
        found = events(cluster, **fields)
        if len(found) >= count:
            return found
        assert time.monotonic() < end, f"{len(found)} events {fields} of {count}: {records(cluster)[-10:]}"
        time.sleep(0.02)


def verify(cluster, *options):
    """What `pgpci verify` says: exit code, findings."""
    path = directory(cluster)
    done = subprocess.run([BIN / "pgpci", "verify", path, "--key", path / "trail.vkey", "--json", *options],
                          capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def assert_verifies(cluster):
    """Contents, chain, numbers and signatures are as they must be, and no anchor was asked for."""
    code, found = verify(cluster)
    assert code == 6, found
    sequence = [record["seq"] for record in records(cluster)]
    odd = [(i, seq) for i, seq in enumerate(sequence, 1) if i != seq]
    assert not odd, odd[:3]


def writer(cluster):
    """The process that writes it."""
    return next(p for p in children(cluster.postmaster) if "pgpci trail writer" in command_line(p))


def fabricate(cluster, segments):
    """Replaces the trail of a stopped server by one with these events, as it may have been written before: each segment a
    list of times and events. The server goes on behind them. Nobody may hold a checkpoint of what was there."""
    def leaf(line):
        return hashlib.sha256(b"\0" + line).digest()
    home = directory(cluster)
    node = (home.parent / "trail.key").read_text().split()[1]
    owner = os.stat(home)
    for path in (*home.glob("*.jsonl*"), home.parent / "trail.checkpoint"):
        path.unlink(missing_ok=True)
    prev, peaks, seq = bytes(32), [], 0

    def line(moment, rest):
        nonlocal prev, seq
        seq += 1
        text = f'{{"v":1,"seq":{seq},"prev":"{prev.hex()}","time":"{moment}",{rest}}}'.encode()
        prev = leaf(text)
        size, subtree = 1, prev
        while peaks and peaks[-1][0] == size:
            subtree = hashlib.sha256(b"\1" + peaks.pop()[1] + subtree).digest()
            size *= 2
        peaks.append((size, subtree))
        return text + b"\n"
    moment = None
    for segment, events in enumerate(segments, 1):
        events = list(events)
        tree = ",".join(f'"{subtree.hex()}"' for _, subtree in peaks)
        head = f'"kind":"segment","segment":{segment},"origin":"pgpci/{node}","boot":1,"size":{seq},"tree":[{tree}]'
        path = home / f"{node}-{segment:010}.jsonl"
        with open(path, "wb") as file:
            file.write(line(events[0][0], head))
            for moment, event in events:
                file.write(line(moment, f'"kind":"event",{event}'))
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o600)
    with open(path, "ab") as file:
        file.write(line(moment, '"kind":"stop"'))
    return seq
