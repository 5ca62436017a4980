"""pgpci.directory: outside of the data directory, and one server's alone."""

import os
import signal
import subprocess

import psycopg
import pytest
from conftest import BIN, CLEAR, as_server
from test_keys import until


def start_fails(cluster, *conf):
    """Starts a server with settings on its command line; it must not come up. The end of its log."""
    before = len(cluster.log)
    options = " ".join(f"-c {line}" for line in conf)
    # Straight to a file: a pipe would stay open if the server came up after all.
    with open(cluster.dir / "start.out", "w") as out:
        done = subprocess.run(
            as_server([BIN / "pg_ctl", "-D", cluster.data, "-l", cluster.dir / "server.log", "-o", options, "-w", "start"]),
            stdout=out, stderr=out, stdin=subprocess.DEVNULL, timeout=60,
        )
    assert done.returncode != 0, "the server started"
    return cluster.log[before:]


@pytest.fixture
def stopped(fresh_cluster):
    one = fresh_cluster(set_up=False)
    one.stop()
    return one


@pytest.mark.parametrize("inside", ["{data}", "{data}/pgpci", "{data}/base/../pgpci", "{dir}/link", "{dir}/link/made"])
def test_inside_the_data_directory_is_refused(stopped, inside):
    """Backups and pg_rewind would copy it; however the path is written."""
    os.symlink(stopped.data, stopped.dir / "link")
    path = inside.format(data=stopped.data, dir=stopped.dir)
    log = start_fails(stopped, f"pgpci.directory={path}")
    assert "pgpci.directory must not be inside the data directory" in log
    stopped.start()
    assert stopped.value("SELECT 1") == 1


def test_one_server_at_a_time(fresh_cluster):
    first = fresh_cluster()
    second = fresh_cluster(set_up=False, key=False)
    second.stop()
    shared = f"pgpci.directory={first.data}.pgpci"
    assert "another server uses pgpci.directory" in start_fails(second, shared)
    assert first.reveals() == CLEAR

    # Nothing of the first one is left to clean up: the lock goes with its last process.
    os.kill(first.postmaster, signal.SIGKILL)
    second.configure(shared.replace("=", " = '") + "'", reload=False)

    def starts():
        try:
            second.start()
            return True
        except RuntimeError:
            return False
    assert until(starts, "the lock is released")
    # Where nobody waits for dead processes, the killed one looks alive.
    for lock in (first.data / "postmaster.pid", first.dir / f".s.PGSQL.{first.port}.lock"):
        lock.unlink(missing_ok=True)
    assert "another server uses pgpci.directory" in start_fails(first)
    second.stop()
    first.start()
    assert first.reveals() == CLEAR


def test_one_that_cannot_be_made_does_not_stop_the_server(fresh_cluster):
    one = fresh_cluster("pgpci.directory = '/proc/pgpci'", set_up=False, key=False)
    assert "pgpci: directory /proc/pgpci cannot be made" in one.log
    one.execute("CREATE EXTENSION pgpci")
    with pytest.raises(psycopg.Error) as caught:
        one.create_roles().execute("SELECT pci.init('{ann,bob}', '{cy,di}', '{eve,fay}')")
    assert caught.value.sqlstate == "55000"
