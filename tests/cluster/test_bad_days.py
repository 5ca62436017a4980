"""What goes wrong while keys change: no room left, a backup that runs, a key command that fails."""

import contextlib
import os
import resource
import subprocess
import threading

import psycopg
import pytest
from conftest import BIN, CLEAR, Cluster, VISA_3, as_server
from support.providers import go_cold
from test_key_life import cards
from test_replication import base_backup, copy_key, until
from test_trail_disk import may_mount

ROWS = 60_000
LIMIT = 20 * 1024 * 1024


def fill(cluster):
    cluster.execute("CREATE TABLE public.many (id int PRIMARY KEY, card pci.pan, filler text); GRANT ALL ON many TO \"full\", cy")
    with cluster.connect("full") as conn, conn.cursor().copy("COPY many FROM STDIN") as copy:
        for i, card in enumerate(cards(ROWS)):
            copy.write_row((i, card, "x" * 100))


def check(cluster):
    with cluster.connect("full") as conn:
        assert conn.execute("SELECT id, pci.reveal(card) FROM many ORDER BY id").fetchall() == list(enumerate(cards(ROWS)))


def outdated(cluster):
    return cluster.value("SELECT count(*) FROM many WHERE pci.is_outdated(card)")


@contextlib.contextmanager
def limited_files(one):
    """No file grows beyond a size; WAL segments do not reach it."""
    size = one.value("SELECT pg_relation_size('many')")
    assert size < LIMIT < 1.8 * size
    one.stop()
    one.before_start = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    one.start()
    yield
    one.stop()
    one.before_start = None
    one.start()


@contextlib.contextmanager
def full_disk(one):
    """The tables are on a disk of their own that has only a few MB left; WAL is not."""
    one.stop()
    tables, ballast = one.data / "base", one.data / "base" / "ballast"
    aside = tables.rename(one.data / "base.aside")
    tables.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=700", "tmpfs", tables], check=True)
    try:
        subprocess.run(f"cp -a {aside}/. {tables}/ && chown --reference={aside} {tables} && rm -r {aside}", shell=True, check=True)
        one.start()
        disk = os.statvfs(tables)
        os.posix_fallocate(fd := os.open(ballast, os.O_CREAT | os.O_WRONLY), 0, disk.f_bavail * disk.f_frsize - (4 << 20))
        os.close(fd)
        yield
        ballast.unlink()
        one.execute("CHECKPOINT")
    finally:
        one.stop("immediate")
        subprocess.run(f"cp -a {tables} {one.data}/base.copy && umount {tables} && rmdir {tables} && mv {one.data}/base.copy {tables}",
                       shell=True, check=True)
        one.start()


@pytest.mark.parametrize("crowded", [limited_files, full_disk])
def test_no_room_left_during_reencryption(fresh_cluster, tmp_path_factory, crowded):
    if crowded is full_disk and not may_mount(tmp_path_factory):
        pytest.skip("only root may mount")
    one = fresh_cluster()
    fill(one)
    with crowded(one):
        key = one.value("SELECT pci.rotate_key('default')", user="cy")
        with pytest.raises(psycopg.Error, match="could not (extend|write)"):
            one.execute("CALL pci.reencrypt('many', 'card')", user="cy")
        left = outdated(one)
        assert 0 < left < ROWS, "some batches were done"
        progress = one.execute("SELECT blocks_done < blocks_total, finished_at IS NULL FROM pci.reencryption_progress")
        assert progress == [(True, True)]
        check(one)
        # The server is unharmed, and what needs no room goes on.
        one.execute(f"INSERT INTO payments VALUES (9, '{VISA_3}', 1)", user="full")
        assert one.value("SELECT pci.key_id(card) FROM payments WHERE id = 9") == key
        if crowded is full_disk:
            # A rotation that finds no room for its key changes nothing.
            with pytest.raises(psycopg.Error, match="could not (extend|write)"):
                for _ in range(500):
                    key = one.value("SELECT pci.rotate_key('default')", user="cy")
            check(one)
            one.execute("UPDATE payments SET card = %s::text::pci.pan WHERE id = 9", (VISA_3,), user="full")
            assert one.value("SELECT pci.key_id(card) FROM payments WHERE id = 9") == key
    one.execute("CALL pci.reencrypt('many', 'card')", user="cy")
    assert outdated(one) == 0
    check(one)


def test_rotation_during_a_base_backup(fresh_cluster):
    """The copy reveals what was stored before, under the old key and the new, and re-encrypts on."""
    one = fresh_cluster()
    fill(one)
    copy = Cluster()
    taken = []

    def back_up():
        try:
            base_backup(one, copy, False, "--max-rate=4M")
        except subprocess.CalledProcessError as error:
            taken.append(error)
    thread = threading.Thread(target=back_up)
    running = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase = 'streaming database files'"
    try:
        thread.start()
        until(lambda: one.value(running) == 1, "the backup runs")
        one.execute("SELECT pci.rotate_key('default')", user="cy")
        one.execute(f"INSERT INTO payments VALUES (9, '{VISA_3}', 1)", user="full")
        one.execute("CALL pci.reencrypt('many', 'card', max_rate => 30000)", user="cy")
        one.execute("SELECT pci.rotate_key('default')", user="cy")
        assert one.value(running) == 1, "all that was during the backup"
        thread.join()
        assert not taken, taken
        copy_key(one, copy)
        copy.start()
        assert copy.reveals() == CLEAR + [(9, VISA_3)]
        check(copy)
        copy.execute("CALL pci.reencrypt('many', 'card')", user="cy")
        assert outdated(copy) == 0
        check(copy)
    finally:
        thread.join()
        copy.destroy()


def test_the_key_comes_from_a_command(fresh_cluster):
    one = fresh_cluster()
    aside = one.key_file.with_suffix(".aside")
    one.key_file.rename(aside)
    one.configure("pgpci.key_cache_ttl = 2s", f"pgpci.local_key_command = 'cat {aside}'")
    one.restart()
    assert one.reveals() == CLEAR
    one.execute(f"INSERT INTO payments VALUES (9, '{VISA_3}', 1)", user="full")
    one.execute("SELECT pci.rotate_key('default')", user="cy")
    aside.rename(aside.with_suffix(".gone"))
    go_cold(one)
    with pytest.raises(psycopg.Error) as caught:
        one.reveals()
    assert caught.value.sqlstate in ("55000", "57P03", "58000"), caught.value
    assert "pgpci.local_key_file" in caught.value.diag.message_hint
    assert one.value("SELECT failed_calls > 0 FROM pci.key_status WHERE provider = 'local'")
    aside.with_suffix(".gone").rename(aside)
    assert one.reveals() == CLEAR + [(9, VISA_3)]
    # Another key's file is not taken for it.
    other = one.dir / "other.key"
    subprocess.run(as_server([BIN / "pgpci", "key", "init", "--file", other]), check=True, capture_output=True)
    one.configure(f"pgpci.local_key_command = 'cat {other}'")
    one.restart()
    with pytest.raises(psycopg.Error, match="not the one that wrapped"):
        one.reveals()

