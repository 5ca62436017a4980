"""What is kept of a role lies in a label that anybody can read and nobody but pgpci can write."""

import re
import subprocess

import psycopg
import pytest
import trail
from conftest import BIN, as_server
from test_accounts import account, add, log_in_by, password_of
from test_passwords import GOOD
from test_restore import give_key

LABEL = "SELECT label FROM pg_shseclabel WHERE provider = 'pgpci_account' AND objoid = '{}'::regrole"


def behind_its_back(cluster, *statements):
    """As whoever has the data directory can: in a server without the library, which is not running now."""
    done = subprocess.run(
        as_server([BIN / "postgres", "--single", "-D", cluster.data, "-c", "shared_preload_libraries=", "postgres"]),
        input="".join(f"{it}\n" for it in statements), text=True, capture_output=True, timeout=60,
    )
    assert done.returncode == 0 and "ERROR" not in done.stderr, done.stderr


def give_label_of(source, target):
    return (f"UPDATE pg_shseclabel SET label = ({LABEL.format(source)}) WHERE provider = 'pgpci_account' "
            f"AND objoid = '{target}'::regrole")


def test_a_label_of_another_role_counts_for_nothing(fresh_cluster):
    one = fresh_cluster()
    password = add(one, "kate", "person")
    add(one, "glass", "break_glass")
    one.execute("SELECT pci.lock_account('glass', 'on leave')", user="ann")
    assert account(one, "kate", "kind || is_genuine") == "persontrue"
    one.stop()
    behind_its_back(one, give_label_of("glass", "kate"))
    one.start()
    # The key is at hand once somebody asked for it.
    one.execute("SELECT pci.set_account('look', 'service')", user="ann")
    assert account(one, "kate", "kind || is_genuine") == "personfalse"
    # What it would lose by stays: the lock. So does the right to repair it.
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        one.connect("kate", password=password)
    trail.wait_for(one, **{"class": "AUTH"}, event='role "kate": what is kept of the account was not written by pgpci')
    one.execute("SELECT pci.unlock_account('kate')", user="ann")
    assert account(one, "kate", "kind || is_genuine") == "persontrue"
    with one.connect("kate", password=password) as conn:
        with pytest.raises(psycopg.Error, match="must be changed"):
            conn.execute("SELECT 1")
        conn.execute(f"ALTER ROLE kate PASSWORD '{GOOD[3]}'")
        conn.execute("SELECT 1")


def test_one_bit_is_enough(fresh_cluster):
    one = fresh_cluster()
    password = add(one, "till", "service")
    one.stop()
    # The last character but one holds bits of the MAC.
    behind_its_back(one, "UPDATE pg_shseclabel SET label = overlay(label placing (CASE substr(label, length(label) - 1, 1) "
                         "WHEN 'A' THEN 'B' ELSE 'A' END) from length(label) - 1) "
                         "WHERE provider = 'pgpci_account' AND objoid = 'till'::regrole")
    one.start()
    one.execute("SELECT pci.set_account('look', 'service')", user="ann")
    assert account(one, "till", "kind || is_genuine") == "personfalse"
    with one.connect("till", password=password) as conn:
        with pytest.raises(psycopg.Error, match="must be changed"):
            conn.execute("SELECT 1")


def test_a_rename_takes_it_along(fresh_cluster):
    one = fresh_cluster()
    password = add(one, "till", "service")
    one.execute("ALTER ROLE till RENAME TO till2")
    assert account(one, "till2", "kind || is_genuine") == "servicetrue"
    log_in_by(one, till2="scram-sha-256")
    one.connect("till2", password=password).close()
    with one.connect(autocommit=False) as conn:
        conn.execute("ALTER ROLE till2 RENAME TO till3")
        conn.rollback()
    assert account(one, "till2", "kind || is_genuine") == "servicetrue"


def test_without_the_key_logins_go_on(fresh_cluster):
    one = fresh_cluster("pgpci.key_wait_timeout = '1s'")
    password = add(one, "till", "service")
    person = add(one, "kate", "person")
    one.execute("CREATE ROLE lil LOGIN PASSWORD 'first-harbour-55-kite'")
    log_in_by(one, lil="scram-sha-256")
    one.key_file.rename(one.key_file.with_suffix(".away"))
    one.restart()
    for role, its in [("till", password), ("kate", person)]:
        with one.connect(role, password=its) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    # What the label says is believed, as it stands; that nobody has proven it is said.
    assert account(one, "till", "kind || coalesce(is_genuine::text, '?')") == "service?"
    with one.connect("lil", password="first-harbour-55-kite") as conn:
        with pytest.raises(psycopg.Error, match="must be changed"):
            conn.execute("SELECT 1")
    # Nothing is written on what is not proven.
    with pytest.raises(psycopg.Error) as error:
        one.execute("SELECT pci.set_account('till', 'person')", user="ann")
    assert error.value.sqlstate == "55000"
    with pytest.raises(psycopg.Error) as error:
        one.execute("ALTER ROLE till RENAME TO till2")
    assert error.value.sqlstate == "55000"
    one.key_file.with_suffix(".away").rename(one.key_file)
    one.execute("ALTER ROLE till RENAME TO till2")
    assert account(one, "till2", "kind || is_genuine") == "servicetrue"


def test_no_statement_sets_a_label(fresh_cluster):
    one = fresh_cluster(set_up=False)
    one.execute("CREATE ROLE kate LOGIN")
    plant = "SECURITY LABEL FOR pgpci_account ON ROLE kate IS {}"
    for label in ["NULL", "'account:1:AAAA'", "'service'", "''"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as error:
            one.execute(plant.format(label))
        assert "pci.accept_policy" in error.value.diag.message_hint
    other = fresh_cluster()
    add(other, "kate", "break_glass")
    label = other.value(LABEL.format("kate"))
    # A restore might bring this one. It counts for nothing until its key is there.
    one.execute(plant.format(f"'{label}'"))
    one.set_up()
    assert (label,) not in one.execute(LABEL.format("kate"))
    assert account(one, "kate", "kind") == "person"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        one.execute(plant.format(f"'{label}'"))


def test_a_restore_brings_what_is_genuine(fresh_cluster):
    source, target = fresh_cluster(), fresh_cluster(set_up=False, key=False)
    for role in ["till", "till2"]:
        add(source, role, "service")
    add(source, "kate", "person")
    script = re.sub(r"^CREATE ROLE postgres;$", "", source.run("pg_dumpall", "--globals-only").stdout, flags=re.M)
    # Somebody makes a service of a person in the dump.
    service = source.value(LABEL.format("till"))
    kate = source.value(LABEL.format("kate"))
    assert kate in script
    target.psql(script.replace(kate, service))
    give_key(source, target)
    target.psql(source.run("pg_dump", user="backup").stdout)
    with target.connect("bob") as bob:
        told = []
        bob.add_notice_handler(lambda it: told.append(it.message_primary))
        assert target.value("SELECT pci.accept_policy()", user="ann") is False
        assert bob.execute("SELECT pci.accept_policy()").fetchone() == (True,)
    assert [it for it in told if 'role "kate"' in it]
    for role, kind in [("till", "service"), ("till2", "service"), ("kate", "person")]:
        assert account(target, role, "kind || is_genuine") == f"{kind}true"
    assert target.value(f"SELECT count(*) FROM ({LABEL.format('kate')}) l") == 0
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="used before"):
        target.execute(f"ALTER ROLE till PASSWORD '{password_of('till', 'first')}'")
