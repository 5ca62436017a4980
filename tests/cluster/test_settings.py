"""Settings: the README's table is what the server has, and controls are not turned down by SQL."""

import re

import psycopg
import pytest
from conftest import ROOT

CONTEXTS = {"Restart": "postmaster", "Reload": "sighup", "Session": "user"}


def manual():
    """The rows of the README's table: name, default as written, context."""
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `(pgpci\.\w+)` \| (.*?) ?\| .*?(\w+)\. \|$", text, re.M)
    assert len(rows) >= 8
    return rows


NAMES = [name for name, _, _ in manual()]


def test_the_table_is_complete(cluster):
    there = [row[0] for row in cluster.execute("SELECT name FROM pg_settings WHERE name LIKE 'pgpci.%'")]
    assert sorted(there) == sorted(NAMES)


@pytest.mark.parametrize("name,default,when", manual(), ids=NAMES)
def test_a_row_of_the_table(cluster, name, default, when):
    context, boot, shown = cluster.execute(
        "SELECT context, boot_val, current_setting(name) FROM pg_settings WHERE name = %s", (name,))[0]
    assert context == CONTEXTS[when]
    # Nothing here is configured but where a file's place follows from another: those are empty.
    literal = re.fullmatch(r"`([^`/]+)`", default)
    if literal:
        assert shown == literal.group(1)
    else:
        assert (boot or "") == "" and shown == ""


VALUES = {"string": "'/tmp/x'", "integer": "7200", "bool": "on", "enum": "sealed", "real": "1"}


@pytest.mark.parametrize("name", NAMES)
def test_controls_are_not_turned_down_by_sql(cluster, name):
    """Neither by ALTER SYSTEM, nor for a session, a role or a database; by a superuser."""
    kind, context = cluster.execute("SELECT vartype, context FROM pg_settings WHERE name = %s", (name,))[0]
    value = "encrypt_only" if name == "pgpci.key_mode" else VALUES[kind]
    statements = [f"ALTER SYSTEM SET {name} = {value}", f"SET {name} = {value}", f"ALTER ROLE plain SET {name} = {value}",
                  f"ALTER DATABASE postgres SET {name} = {value}", f"SELECT set_config('{name}', $v${value.strip(chr(39))}$v$, false)"]
    if context == "user":
        # A session's own choice; what it gets is a matter of its capabilities.
        statements = []
        cluster.execute(f"SET {name} = {value}")
    for statement in statements:
        with pytest.raises(psycopg.Error) as caught:
            cluster.execute(statement)
        assert caught.value.sqlstate == "55P02", f"{statement}: {caught.value}"
    auto = (cluster.data / "postgresql.auto.conf").read_text()
    assert "pgpci" not in auto


def test_misspelt_settings_are_refused(cluster):
    with pytest.raises(psycopg.Error):
        cluster.execute("SET pgpci.pan_outptu = sealed")
