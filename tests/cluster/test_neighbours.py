"""Other libraries that look at passwords and logins, loaded beside pgpci: each says what it has to say."""

from pathlib import Path
import subprocess

import psycopg
import pytest
import wire
from conftest import PG_CONFIG
from test_accounts import account, add, guess, is_written
from test_keys import until
from test_passwords import GOOD, refused

LIBRARIES = Path(subprocess.run([PG_CONFIG, "--pkglibdir"], check=True, capture_output=True, text=True).stdout.strip())


def both_orders(name):
    if not (LIBRARIES / f"{name}.so").exists():
        return [pytest.param("", marks=pytest.mark.skip(reason=f"{name} is not installed"))]
    return [f"{name}, pgpci", f"pgpci, {name}"]


def beside(fresh_cluster, libraries, *conf):
    return fresh_cluster(f"shared_preload_libraries = '{libraries}'", *conf)


def still_guards(one):
    """What pgpci does, it does beside the other."""
    assert "too common" in refused(one, "CREATE ROLE nil PASSWORD 'Password2026!'")
    password = add(one, "kate", "person")
    assert "used before" in refused(one, f"ALTER ROLE kate PASSWORD '{password}'")
    guess(one, "kate", times=6)
    assert account(one, "kate", "is_locked")
    until(lambda: is_written(one, "kate"), "written in the role")
    one.execute("SELECT pci.unlock_account('kate')", user="ann")
    assert wire.is_in(guess(one, "kate", password))


@pytest.mark.parametrize("libraries", both_orders("passwordcheck"))
def test_passwordcheck(fresh_cluster, libraries):
    one = beside(fresh_cluster, libraries)
    still_guards(one)
    # Its own rules hold, too: it finds the name of the role in what is too short for pgpci to look for.
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="must not contain user name"):
        one.execute("CREATE ROLE vq PASSWORD 'vq8-mzr-kptw'")


@pytest.mark.parametrize("libraries", both_orders("credcheck")[:1])
def test_credcheck(fresh_cluster, libraries):
    one = beside(fresh_cluster, libraries, "credcheck.password_min_special = 3", "credcheck.max_auth_failure = 4")
    one.execute("CREATE EXTENSION credcheck")
    with pytest.raises(psycopg.Error, match="special"):
        one.execute(f"CREATE ROLE tom PASSWORD '{GOOD[2]}'")
    assert one.value("SELECT count(*) FROM pg_roles WHERE rolname = 'tom'") == 0
    one.configure("credcheck.password_min_special = 0")
    until(lambda: one.value("SHOW credcheck.password_min_special") == "0", "the setting is read")
    password = add(one, "tom", "person")
    assert "used before" in refused(one, f"ALTER ROLE tom PASSWORD '{password}'")
    # Its lock is the earlier one here; ours follows, and is written.
    guess(one, "tom", times=6)
    assert account(one, "tom", "is_locked")
    until(lambda: is_written(one, "tom"), "written in the role")
    assert not wire.is_in(guess(one, "tom", password))
    one.execute("SELECT pci.unlock_account('tom')", user="ann")
    one.execute("SELECT pg_banned_role_reset('tom')")
    assert wire.is_in(guess(one, "tom", password))
    assert "PANIC" not in one.log and "signal 11" not in one.log


@pytest.mark.parametrize("libraries", both_orders("credcheck")[1:])
def test_a_library_that_calls_nobody_after_it(fresh_cluster, libraries):
    """credcheck, as others do, forgets that somebody else may want to look at passwords: then there are none."""
    one = fresh_cluster(f"shared_preload_libraries = '{libraries}'", set_up=False)
    for sql in [f"CREATE ROLE tom PASSWORD '{GOOD[2]}'", "CREATE ROLE tom PASSWORD 'x'"]:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as error:
            one.execute(sql)
        assert "end of shared_preload_libraries" in error.value.diag.message_hint
    one.execute("CREATE ROLE tom; ALTER ROLE tom PASSWORD NULL; ALTER ROLE tom RENAME TO tim")
