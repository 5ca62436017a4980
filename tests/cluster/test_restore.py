"""Dumps and COPY round trips: into a fresh cluster with the same wrapping key all is the same."""

import os
import re
import shutil

import psycopg
import pytest
from conftest import AMEX, CLEAR, DISCOVER, MASKED, MASTERCARD, VISA, VISA_2, VISA_3
from test_search import searching

TABLES = """
SET search_path = public;
CREATE TABLE child (id int PRIMARY KEY, card pci.pan REFERENCES payments (card) ON DELETE CASCADE);
CREATE TABLE parts (id int, card pci.pan) PARTITION BY HASH (card);
CREATE TABLE parts0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE bound (id int, card pci.pan('default'), cards pci.pan[]);
CREATE VIEW masked AS SELECT id, card::text FROM payments;
GRANT ALL ON child, parts, bound TO "full", look;
"""
PARTS = [(1, VISA), (2, MASTERCARD), (3, AMEX), (4, DISCOVER)]


@pytest.fixture(scope="module")
def source(module_cluster):
    one = module_cluster()
    one.execute(TABLES)
    with searching(one, "postgres"):
        one.execute("CREATE INDEX payments_hash ON payments USING hash (card)")
    with one.connect("full") as conn:
        conn.execute(f"INSERT INTO child VALUES (1, '{VISA}'), (2, '{AMEX}')")
        for row in PARTS:
            conn.execute("INSERT INTO parts VALUES (%s, %s)", row)
        conn.execute(f"INSERT INTO bound VALUES (1, '{VISA_2}', ARRAY['{VISA}', '{AMEX}']::pci.pan[])")
    return one


def give_key(source, target):
    """The wrapping key is copied by hand, outside of any dump."""
    target.key_file.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(source.key_file, target.key_file)
    os.chmod(target.key_file, 0o600)
    owner = os.stat(target.data)
    for path in (target.key_file.parent, target.key_file):
        os.chown(path, owner.st_uid, owner.st_gid)


def accept(cluster):
    assert cluster.value("SELECT pci.accept_policy()", user="ann") is False
    with pytest.raises(psycopg.Error):
        cluster.execute("SELECT pci.reveal(card) FROM payments", user="full")
    assert cluster.value("SELECT pci.accept_policy()", user="bob") is True


def give_globals(source, target):
    """Roles, their memberships and labels, as pg_dumpall carries them; the bootstrap role is there already."""
    script = source.run("pg_dumpall", "--globals-only", user="postgres").stdout
    assert "SECURITY LABEL" in script
    target.psql(re.sub(r"^CREATE ROLE postgres;$", "", script, flags=re.M))


def target_cluster(factory, source=None):
    """A cluster that waits for a restore; with the roles of the source, duties included."""
    target = factory(set_up=False, key=False)
    if source:
        give_globals(source, target)
    return target


def dump_plain(source, target, tmp):
    script = source.run("pg_dump", user="backup").stdout
    target.psql(script)


def dump_inserts(source, target, tmp):
    script = source.run("pg_dump", "--inserts", user="backup").stdout
    assert "INSERT INTO" in script
    target.psql(script)


def dump_column_inserts(source, target, tmp):
    target.psql(source.run("pg_dump", "--column-inserts", "--rows-per-insert=3", user="backup").stdout)


def dump_custom(source, target, tmp):
    source.run("pg_dump", "-Fc", "-f", tmp / "dump", user="backup")
    target.run("pg_restore", "-d", "postgres", "--exit-on-error", tmp / "dump")


def dump_directory(source, target, tmp):
    source.run("pg_dump", "-Fd", "-j", "2", "-f", tmp / "dir", user="backup")
    target.run("pg_restore", "-d", "postgres", "-j", "2", tmp / "dir")


def dump_tar_single_transaction(source, target, tmp):
    source.run("pg_dump", "-Ft", "-f", tmp / "dump", user="backup")
    target.run("pg_restore", "-d", "postgres", "--single-transaction", tmp / "dump")


def dump_schema_then_data(source, target, tmp):
    source.run("pg_dump", "-Fc", "-f", tmp / "dump", user="backup")
    target.run("pg_restore", "-d", "postgres", "--exit-on-error", "--section=pre-data", tmp / "dump")
    target.run("pg_restore", "-d", "postgres", "--exit-on-error", "--section=data", tmp / "dump")
    target.run("pg_restore", "-d", "postgres", "--exit-on-error", "--section=post-data", tmp / "dump")


DUMPS = [dump_plain, dump_inserts, dump_column_inserts, dump_custom, dump_directory, dump_tar_single_transaction,
         dump_schema_then_data]


def assert_key_free(cluster):
    """What works with no key and no accepted policy."""
    assert cluster.execute("SELECT id, card FROM payments ORDER BY id") == MASKED
    assert cluster.execute("SELECT id, card FROM masked ORDER BY id") == MASKED
    with cluster.connect() as conn:
        assert conn.execute("SELECT count(*) FROM payments p JOIN child c ON p.card = c.card").fetchone() == (2,)
        assert conn.execute("SELECT count(*) FROM payments p JOIN parts c ON p.card = c.card AND p.id = c.id").fetchone() == (4,)
        assert conn.execute("SELECT cards::text FROM bound").fetchone() == ("{411111******1111,378282*****0005}",)
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            conn.execute("INSERT INTO payments SELECT 60, card FROM payments WHERE id = 1")
        assert caught.value.diag.message_detail == "Key (card)=(411111******1111) already exists."
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            conn.execute("INSERT INTO child SELECT 60, card FROM bound")
        conn.execute("CREATE INDEX again ON payments (card)")
        conn.execute("DROP INDEX again")
        conn.execute("ANALYZE payments")
        assert conn.execute("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'bound'::regclass AND attname = 'card'").fetchone() == ("pci.pan(1)",)


def assert_complete(cluster):
    """Reveals, look-ups and constraints as in the source."""
    assert cluster.reveals() == CLEAR
    assert cluster.reveals("parts") == PARTS
    assert cluster.execute("SELECT pci.reveal(card), pci.reveal(cards[2]) FROM bound", user="full") == [(VISA_2, AMEX)]
    with cluster.connect("look") as conn:
        assert conn.execute("SELECT id FROM payments WHERE card = %s", (AMEX,)).fetchall() == [(3,)]
        assert conn.execute("SELECT id FROM parts WHERE card = %s", (DISCOVER,)).fetchall() == [(4,)]
    with cluster.connect("full") as conn:
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute(f"INSERT INTO payments VALUES (61, '{VISA}', 1)")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            conn.execute(f"INSERT INTO child VALUES (61, '{VISA_3}')")
        conn.execute(f"INSERT INTO payments VALUES (61, '{VISA_3}', 1)")
    for role, sql in (("look", f"INSERT INTO payments VALUES (62, '{VISA_2}', 1)"), ("clerk", f"SELECT 1 FROM payments WHERE card = '{VISA}'"),
                      ("app", "SELECT pci.reveal(card) FROM payments"), ("plain", "COPY payments TO STDOUT")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            with cluster.connect(role) as conn:
                if sql.startswith("COPY"):
                    with conn.cursor().copy(sql) as copy:
                        list(copy)
                else:
                    conn.execute(sql)


@pytest.mark.parametrize("dump", DUMPS, ids=lambda d: d.__name__)
def test_dump_into_a_fresh_cluster(source, fresh_cluster, tmp_path, dump):
    target = target_cluster(fresh_cluster, source)
    dump(source, target, tmp_path)
    assert_key_free(target)
    assert target.value("SELECT pci.is_active()") is False
    for sql in ("SELECT pci.reveal(card) FROM payments", f"INSERT INTO payments VALUES (60, '{VISA_3}', 1)"):
        with pytest.raises(psycopg.Error) as caught:
            target.execute(sql, user="full")
        assert caught.value.sqlstate == "55000" and "accept_policy" in caught.value.diag.message_hint
    give_key(source, target)
    with pytest.raises(psycopg.Error) as caught:
        target.execute("SELECT pci.reveal(card) FROM payments", user="full")
    assert caught.value.sqlstate == "55000", "the key alone puts nothing in force"
    accept(target)
    assert_complete(target)


def test_without_the_key(source, fresh_cluster, tmp_path):
    target = target_cluster(fresh_cluster, source)
    dump_custom(source, target, tmp_path)
    assert target.value("SELECT pci.accept_policy()", user="ann") is False
    with pytest.raises(psycopg.Error) as caught:
        target.execute("SELECT pci.accept_policy()", user="bob")
    assert caught.value.sqlstate == "55000" and "pgpci key init" in caught.value.diag.message_hint
    with pytest.raises(psycopg.Error) as caught:
        target.execute("SELECT pci.reveal(card) FROM payments", user="full")
    assert caught.value.sqlstate == "55000"
    assert_key_free(target)


def test_accepting_needs_two_officers(source, fresh_cluster, tmp_path):
    target = target_cluster(fresh_cluster, source)
    dump_custom(source, target, tmp_path)
    give_key(source, target)
    for _ in range(3):
        assert target.value("SELECT pci.accept_policy()", user="ann") is False
    for role in ("postgres", "cy", "eve", "full"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            target.execute("SELECT pci.accept_policy()", user=role)
    assert target.value("SELECT pci.is_active()") is False
    assert target.value("SELECT pci.accept_policy()", user="bob") is True


def test_dumpall(source, fresh_cluster):
    script = source.run("pg_dumpall", user="postgres", check=False)
    assert script.returncode != 0 and "permission denied to export" in script.stderr
    source.grant("postgres", "export")
    source.grant("postgres", "search")
    try:
        script = source.run("pg_dumpall", user="postgres").stdout
    finally:
        source.execute("SELECT pci.revoke_access('postgres', 'default', 'export')", user="ann")
        source.execute("SELECT pci.revoke_access('postgres', 'default', 'search')", user="ann")
    target = target_cluster(fresh_cluster)
    # The role postgres is there already, that is all that fails.
    restored = target.run("psql", "-X", "-q", input=script)
    errors = [line for line in restored.stderr.splitlines() if "ERROR" in line]
    assert len(errors) == 1 and 'role "postgres" already exists' in errors[0], errors
    assert_key_free(target)
    give_key(source, target)
    accept(target)
    assert_complete(target)


@pytest.mark.parametrize("options", [[], ["--inserts"], ["-Fc"], ["-t", "payments"], ["-a"]], ids=lambda o: "".join(o) or "plain")
@pytest.mark.parametrize("role", ["postgres", "reader"])
def test_dump_without_export_fails_loudly(source, role, options):
    """Never masks that look like a dump."""
    source.execute("DO $$ BEGIN CREATE ROLE reader LOGIN IN ROLE pg_read_all_data; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    done = source.run("pg_dump", *options, user=role, check=False, input=b"")
    assert b"411111******1111" not in done.stdout
    assert done.returncode != 0
    assert b"permission denied to export sealed card numbers" in done.stderr


def test_dump_holds_no_digits_and_no_masks_of_values(source):
    script = source.run("pg_dump", user="backup").stdout
    assert "pan:1:" in script and "411111******1111" not in script
    for _, card in CLEAR:
        assert card not in script


@pytest.mark.parametrize("options", ["", "(FORMAT csv)", "(FORMAT binary)"])
def test_copy_round_trip(source, options):
    with source.connect("full") as conn:
        conn.execute('CREATE TABLE "full".back (LIKE payments INCLUDING ALL)')
        try:
            with conn.cursor().copy(f"COPY payments TO STDOUT {options}") as copy:
                data = b"".join(bytes(b) for b in copy)
            assert VISA.encode() not in data and b"411111*" not in data
            with conn.cursor().copy(f'COPY "full".back FROM STDIN {options}') as copy:
                copy.write(data)
            assert conn.execute('SELECT id, pci.reveal(card) FROM "full".back ORDER BY id').fetchall() == CLEAR
            assert conn.execute('SELECT count(*) FROM "full".back JOIN payments USING (id, card)').fetchone() == (4,)
        finally:
            conn.execute('DROP TABLE "full".back')


def test_copy_round_trip_by_a_file_of_the_server(source):
    path = source.dir / "copied"
    source.execute("GRANT pg_write_server_files, pg_read_server_files TO \"full\"")
    with source.connect("full") as conn:
        conn.execute("CREATE TEMPORARY TABLE back (LIKE payments)")
        conn.execute(f"COPY payments TO '{path}'")
        conn.execute(f"COPY back FROM '{path}'")
        assert conn.execute("SELECT id, pci.reveal(card) FROM back ORDER BY id").fetchall() == CLEAR


def test_restore_over_a_live_policy_is_refused(source):
    """Rows of the policy arrive only where none is in force."""
    script = source.run("pg_dump", "-a", "-t", "pci.access_grant", "-t", "pci.key", user="backup").stdout
    before = source.execute("SELECT role::text, capability, granted_at FROM pci.access_grant ORDER BY 1, 2")
    done = source.psql(script, check=False)
    assert done.returncode != 0
    assert source.execute("SELECT role::text, capability, granted_at FROM pci.access_grant ORDER BY 1, 2") == before
