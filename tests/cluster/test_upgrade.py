"""ALTER EXTENSION UPDATE: a chain of upgrades ends where a fresh install begins, byte for byte. And pg_upgrade."""

import itertools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest
from conftest import AMEX, BIN, CLEAR, MASKED, MASTERCARD, PG_CONFIG, ROOT, VISA, as_server, free_port

CONTROL = (ROOT / "pgpci.control").read_text()
NEWEST = re.search(r"default_version = '(.+)'", CONTROL).group(1)
NEXT = f"{NEWEST}.next"


def definition(cluster, dbname):
    """All that the extension is made of, as pg_dump writes it for pg_upgrade: member by member, with comments and
    privileges. What chance decides is cut out."""
    script = cluster.run("pg_dump", "--binary-upgrade", "--schema-only", dbname=dbname).stdout
    for chance in (
        r"(?m)^\\(?:un)?restrict (.*)$",  # against psql commands in the data
        r"binary_upgrade_set_next_\w+\('(\{?[\w/,]+\}?)'",  # OIDs, positions in the write-ahead log
        r"SET relfrozenxid = '(\d+)'",
        r"WHERE oid = '(\d+)'",
        r"binary_upgrade_create_empty_extension\(.*?'(\{[\d,]+\})'",  # tables that are dumped: see below
    ):
        script = re.sub(chance, lambda found: found[0].replace(found[1], ""), script)
    # Tables that are dumped, by name.
    dumped = cluster.execute("SELECT c::regclass::text, k FROM pg_extension, unnest(extconfig, extcondition) u(c, k) "
                             "WHERE extname = 'pgpci' ORDER BY 1", dbname=dbname)
    entries = re.split(r"(?m)^--\n(?=-- Name: )", script)
    assert len(entries) > 100 and any("FUNCTION pci.reveal" in entry for entry in entries)
    return [*sorted(entry.rstrip() for entry in entries[1:]), *map(str, dumped)]


def install(cluster, dbname, *versions):
    """Creates a database with the first version, and updates it to each of the others."""
    cluster.execute(f"CREATE DATABASE {dbname}")
    cluster.execute(f"CREATE EXTENSION pgpci VERSION '{versions[0]}'", dbname=dbname)
    for version in versions[1:]:
        cluster.execute(f"ALTER EXTENSION pgpci UPDATE TO '{version}'", dbname=dbname)
    assert cluster.value("SELECT extversion FROM pg_extension WHERE extname = 'pgpci'", dbname=dbname) == versions[-1]
    return definition(cluster, dbname)


def starts():
    """Every version with an upgrade script from it."""
    steps = [re.fullmatch(r"pgpci--(.+)--(.+)\.sql", path.name) for path in (ROOT / "sql").glob("pgpci--*--*.sql")]
    return sorted({step.group(1) for step in steps})


def test_updates_end_where_a_fresh_install_begins(cluster):
    """For every released version with an upgrade script. (While there is none, what follows shows how it will be.)"""
    fresh = install(cluster, "fresh", NEWEST)
    for number, start in enumerate(starts()):
        updated = install(cluster, f"updated{number}", start, NEWEST)
        for one, other in itertools.zip_longest(updated, fresh):
            assert one == other


# A next version that does not exist yet, made here: each step is something that its upgrade script could forget.
STEPS = {
    "comment": "COMMENT ON FUNCTION pci.mask(pci.pan) IS 'the mask';",
    "comment_of_a_table": "COMMENT ON TABLE pci.key IS 'keys';",
    "function": "CREATE FUNCTION pci.next_one() RETURNS integer LANGUAGE sql RETURN 1;",
    "function_body": "CREATE OR REPLACE FUNCTION pci.mask(pci.pan) RETURNS text LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE "
                     "AS 'MODULE_PATHNAME', 'pan_last4';",
    "cost": "ALTER FUNCTION pci.bin(pci.pan) COST 7;",
    "search_path": "ALTER FUNCTION pci.grant_access SET search_path = pg_catalog;",
    "dropped": "DROP FUNCTION pci.truncate_pan(text);",
    "privilege": "REVOKE EXECUTE ON FUNCTION pci.luhn_valid(text) FROM PUBLIC;",
    "privilege_on_a_view": "REVOKE SELECT ON pci.keys FROM PUBLIC;",
    "privilege_on_the_schema": "GRANT CREATE ON SCHEMA pci TO PUBLIC;",
    "view": "CREATE OR REPLACE VIEW pci.vaults AS SELECT number, name, provider, kek, display_first, display_last, searchable, "
            "cryptoperiod, created_by, created_at, true AS is_open FROM pci.vault;",
    "column": "ALTER TABLE pci.vault ADD COLUMN note text;",
    "default": "ALTER TABLE pci.vault ALTER searchable SET DEFAULT true;",
    "not_null": "ALTER TABLE pci.access_grant ALTER purposes SET NOT NULL;",
    "constraint": "ALTER TABLE pci.key ADD CHECK (version > 0);",
    "index": "CREATE INDEX ON pci.key (vault);",
    "table": "CREATE TABLE pci.another (id bigint PRIMARY KEY);",
    "dumped_table": "SELECT pg_catalog.pg_extension_config_dump('pci.vault', 'WHERE number > 1');",
    "type": "ALTER TYPE pci.pan SET (STORAGE = main);",
    "operator": "ALTER OPERATOR pg_catalog.< (pci.pan, pci.pan) SET (RESTRICT = NONE);",
    "operator_class": "CREATE OPERATOR CLASS pci.other_ops FOR TYPE pci.pan USING hash AS OPERATOR 1 pg_catalog.= (pci.pan, pci.pan), "
                      "FUNCTION 1 pci.pan_hash(pci.pan);",
    "cast": "CREATE CAST (pci.pan AS json) WITH INOUT;",
}


@pytest.fixture(scope="module")
def prefix():
    """The pg_config of a PostgreSQL of its own."""
    place = Path(tempfile.mkdtemp(prefix="pgpci-lab-", dir="/tmp"))
    place.chmod(0o755)
    try:
        yield asked([ROOT / "scripts" / "prefix.sh", place / "pg"])
    finally:
        shutil.rmtree(place)


def asked(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


# `prefix` comes first: it must outlive the clusters.
@pytest.fixture(scope="module")
def lab(prefix, module_cluster):
    """A cluster where the next version is there; `lab.share`: the directory of the scripts."""
    def directories(pg_config):
        bindir, lib, share = (Path(asked([pg_config, what])) for what in ("--bindir", "--pkglibdir", "--sharedir"))
        return bindir, lib, share / "extension"

    for source, target in zip(directories(PG_CONFIG), directories(prefix)):
        for path in source.glob("pgpci*"):
            shutil.copy(path, target)
    share = directories(prefix)[2]
    (share / "pgpci.control").write_text(CONTROL.replace(NEWEST, NEXT))
    script = (share / f"pgpci--{NEWEST}.sql").read_text()
    (share / f"pgpci--{NEXT}.sql").write_text("\n".join([script, *STEPS.values()]))
    one = module_cluster(start=False)
    one.pg_config, one.share, one.numbers = prefix, share, itertools.count()
    one.start()
    one.fresh = install(one, "fresh", NEXT)
    return one


def updated(lab, steps):
    """What an upgrade script of these steps makes of the newest version."""
    (lab.share / f"pgpci--{NEWEST}--{NEXT}.sql").write_text("\n".join(steps))
    return install(lab, f"updated{next(lab.numbers)}", NEWEST, NEXT)


def test_the_next_version_differs(lab):
    assert install(lab, "before", NEWEST) != lab.fresh


def test_a_whole_upgrade_script_ends_at_a_fresh_install(lab):
    for one, other in itertools.zip_longest(updated(lab, STEPS.values()), lab.fresh):
        assert one == other


@pytest.mark.parametrize("forgotten", STEPS)
def test_whatever_an_upgrade_script_forgets_is_found(lab, forgotten):
    assert updated(lab, [step for name, step in STEPS.items() if name != forgotten]) != lab.fresh


def test_cards_survive_an_upgrade(lab):
    """In a database in use: policy in force, keys, values."""
    (lab.share / f"pgpci--{NEWEST}--{NEXT}.sql").write_text(STEPS["comment"])
    control = lab.share / "pgpci.control"
    control.write_text(CONTROL)
    try:
        lab.set_up()
    finally:
        control.write_text(CONTROL.replace(NEWEST, NEXT))
    before = lab.reveals()
    lab.execute("ALTER EXTENSION pgpci UPDATE")
    assert lab.value("SELECT extversion FROM pg_extension WHERE extname = 'pgpci'") == NEXT
    assert lab.value("SELECT pci.is_active()") is True
    assert lab.reveals() == before and len(before) == 4


# What there may be around card numbers.
USED = """
SET search_path = public;
CREATE TABLE eu (id int PRIMARY KEY, card pci.pan('eu') UNIQUE, other pci.pan); CREATE INDEX ON eu USING hash (other);
CREATE TABLE uses (card pci.pan('eu') REFERENCES eu (card) ON DELETE CASCADE);
CREATE DOMAIN eu_pan AS pci.pan('eu'); CREATE TABLE wallet (card eu_pan, cards pci.pan[]);
CREATE TABLE parts (card pci.pan) PARTITION BY HASH (card);
CREATE TABLE part_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE VIEW brands AS SELECT id, pci.brand(card) AS brand FROM payments; CREATE MATERIALIZED VIEW copies AS SELECT * FROM payments;
SECURITY LABEL FOR pgpci_audit ON TABLE eu IS 'all';
GRANT ALL ON ALL TABLES IN SCHEMA public TO "full"; GRANT SELECT ON brands, copies TO PUBLIC
"""
KEPT = [
    "SELECT oid::int FROM pg_type WHERE oid = 'pci.pan'::regtype", "SELECT name, number FROM pci.vaults ORDER BY 2",
    "SELECT id, vault, purpose, state, check_value FROM pci.keys ORDER BY 1", "SELECT key, state, changed_by FROM pci.key_history ORDER BY changed_at, 1",
    "SELECT role::text, vault, capability FROM pci.access ORDER BY 1, 2, 3", "SELECT role::text, kind FROM pci.accounts WHERE role = 'app'",
    "SELECT provider, objname, label FROM pg_seclabels WHERE provider = 'pgpci_audit' ORDER BY 1, 2",
    "SELECT * FROM brands ORDER BY 1", "SELECT id, card FROM copies ORDER BY 1",
]


@pytest.mark.skipif(not (BIN / "pg_upgrade").exists(), reason="this PostgreSQL came without pg_upgrade")
def test_pg_upgrade(fresh_cluster, tmp_path):
    """Values, keys, policy and labels go along; the policy waits for two officers, as after a restore."""
    old, new = fresh_cluster(), fresh_cluster(set_up=False, key=False)
    old.execute("SELECT pci.create_vault('eu')", user="cy")
    for capability in ("store", "search", "reveal"):
        old.grant("full", capability, vault="eu")
    old.execute("SELECT pci.set_account('app', 'service')", user="ann")
    old.execute(USED)
    with old.connect("full") as conn:
        conn.execute(f"INSERT INTO eu VALUES (1, '{VISA}', '{AMEX}'), (2, '{MASTERCARD}', '{VISA}'); INSERT INTO uses VALUES ('{VISA}');"
                     f"INSERT INTO wallet VALUES ('{VISA}', ARRAY['{AMEX}'::pci.pan]); INSERT INTO parts VALUES ('{VISA}')")
    old.execute("SELECT pci.rotate_key('eu')", user="cy")
    kept = [old.execute(sql, user="ann") for sql in KEPT]
    for one in (old, new):
        one.stop()
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o777)
        done = subprocess.run(as_server([BIN / "pg_upgrade", "-b", BIN, "-B", BIN, "-d", old.data, "-D", new.data, "-U", "postgres", "-s", place,
                                         "-p", str(free_port()), "-P", str(free_port())]), cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    shutil.copy2(old.key_file, new.key_file)
    shutil.chown(new.key_file, old.key_file.owner(), old.key_file.group())
    new.start()
    assert new.execute("SELECT id, card FROM payments ORDER BY 1") == MASKED
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="not accepted yet"):
        new.reveals()
    assert [new.value("SELECT pci.accept_policy()", user=user) for user in ("ann", "bob")] == [False, True]
    assert [new.execute(sql, user="ann") for sql in KEPT] == kept
    assert new.reveals() == CLEAR
    with new.connect("full") as conn:
        assert conn.execute("SELECT pci.reveal(card), pci.reveal(other) FROM eu ORDER BY id").fetchall() == [(VISA, AMEX), (MASTERCARD, VISA)]
        assert conn.execute("SELECT pci.reveal(card::pci.pan), pci.reveal(cards[1]) FROM wallet").fetchone() == (VISA, AMEX)
        conn.execute("SET enable_seqscan = off")
        assert conn.execute(f"SELECT id FROM eu WHERE card = '{VISA}'").fetchall() == [(1,)]
        assert conn.execute(f"SELECT id FROM eu WHERE other = '{VISA}'").fetchall() == [(2,)]
        assert conn.execute(f"SELECT card FROM parts WHERE card = '{VISA}'").fetchall() == [("411111******1111",)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute(f"INSERT INTO eu VALUES (9, '{VISA}')")
        conn.execute("DELETE FROM eu WHERE id = 1")
        assert conn.execute("SELECT count(*) FROM uses").fetchone() == (0,)
