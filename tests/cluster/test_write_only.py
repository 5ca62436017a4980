"""A node that only encrypts, behind an endpoint that refuses Decrypt, and one that receives its rows and keys and decrypts."""

import threading

import psycopg
import pytest
from conftest import AMEX, DISCOVER, MASTERCARD, VISA, VISA_2, VISA_3
from support import kms
from support.providers import *  # fixtures, too
from trail import wait_for

HINT = "pgpci.key_mode is encrypt_only here."


def settle(cluster):
    """Roles and grants for a vault `edge`, unsearchable, and a table of it."""
    cluster.execute("SELECT pci.create_vault('edge', searchable => false)", user="cy")
    cluster.execute("CREATE ROLE feed LOGIN REPLICATION IN ROLE pg_read_all_data; CREATE ROLE till LOGIN")
    for role, capability in (("till", "store"), ("feed", "export"), ("full", "reveal"), ("full", "store")):
        cluster.grant(role, capability, vault="edge")
    cluster.execute("CREATE TABLE public.taken (id int PRIMARY KEY, card pci.pan('edge')); GRANT ALL ON taken TO till, \"full\"")


@pytest.fixture
def central_proxy(moto):
    one = kms.Proxy(moto)
    try:
        yield one
    finally:
        one.stop()


@pytest.fixture
def node(fresh_cluster, proxy):
    """Set up with the right to decrypt, which is taken away then."""
    def make(*conf):
        one = set_up(fresh_cluster(*aws_settings(proxy), set_up=False, key=False), "aws", "alias/cards")
        settle(one)
        proxy.fault, proxy.only = kms.DENIED, {"Decrypt", "ReEncrypt"}
        one.configure("pgpci.key_mode = encrypt_only", *conf, reload=False)
        return one
    return make


def write_only(one, proxy):
    one.restart()
    proxy.forget_calls()
    return one


def operations(proxy):
    return [operation for operation, *_ in proxy.calls]


def versions(cluster):
    return cluster.execute("SELECT version, state FROM pci.keys WHERE vault = 'edge' ORDER BY 1")


def test_it_stores_and_does_nothing_else(node, proxy):
    one = write_only(node(), proxy)
    assert proxy.calls == [], "nothing is asked for at start"
    with one.connect("till") as conn:
        conn.execute(f"INSERT INTO taken VALUES (1, '{VISA}')")
        conn.execute("INSERT INTO taken VALUES (2, %s)", (AMEX,))
        conn.execute("INSERT INTO taken VALUES (3, %s::text)", (DISCOVER,))
        with conn.cursor().copy("COPY taken FROM STDIN") as copy:
            copy.write(f"4\t{MASTERCARD}\n5\t{VISA}\n")
        assert conn.execute("SELECT card FROM taken ORDER BY id").fetchall() == [
            ("411111******1111",), ("378282*****0005",), ("601111******1117",), ("555555******4444",), ("411111******1111",)]
    # One key for all of it, made here; no hash.
    assert operations(proxy) == ["GenerateDataKey"]
    assert versions(one) == [(1, "deactivated"), (2, "active")]
    assert one.value("SELECT count(DISTINCT pci.key_id(card)) FROM taken") == 1
    assert one.execute("SELECT DISTINCT pg_column_size(card) FROM taken") == [(67,)]
    refusals = {
        f"INSERT INTO payments VALUES (9, '{VISA_3}', 1)": "searchable => false",
        f"INSERT INTO payments SELECT 9, '{VISA_3}'::text": "searchable => false",
        "SELECT pci.reveal(card) FROM taken": HINT, "SELECT pci.reveal(card) FROM payments": HINT,
        "SELECT pci.hash_pan(card) FROM payments": HINT, f"SELECT id FROM payments WHERE card = '{VISA}'::text": HINT,
        "INSERT INTO taken SELECT id + 10, card FROM payments": HINT,
    }
    for sql, hint in refusals.items():
        error = error_of(one, sql)
        assert error.sqlstate == "55000" and hint in error.diag.message_hint, (sql, error)
    for user, sql in (("cy", "SELECT pci.rewrap_keys('edge', 'aws', 'alias/cards-2')"), ("ann", "SELECT pci.grant_access('till', 'edge', 'search')")):
        error = error_of(one, sql, user)
        assert error.sqlstate == "55000" and HINT in error.diag.message_hint, (sql, error)
    denied = error_of(one, f"INSERT INTO taken VALUES (9, '{VISA}')", user="app")
    assert denied.sqlstate == "55000", denied
    assert error_of(one, f"INSERT INTO taken VALUES (9, '{VISA}')", user="clerk").sqlstate == "42501"
    # Stored values compare without a key, and masks print.
    assert one.execute("SELECT count(*) FROM payments a JOIN payments b USING (card)", user="full") == [(4,)]
    assert operations(proxy) == ["GenerateDataKey"]
    assert one.value("SELECT count(*) FROM payments") == 4


def test_each_start_and_interval_has_a_key_of_its_own(node, proxy):
    one = write_only(node("pgpci.fresh_key_interval = 3s"), proxy)
    one.execute(f"INSERT INTO taken VALUES (1, '{VISA}')", user="till")
    one.restart()
    one.execute(f"INSERT INTO taken VALUES (2, '{VISA}')", user="till")
    assert operations(proxy) == ["GenerateDataKey"] * 2
    with one.connect("till") as conn:
        number = [10]

        def renewed():
            number[0] += 1
            conn.execute("INSERT INTO taken VALUES (%s, %s)", (number[0], AMEX))
            return versions(one)[-1][0] >= 4
        until(renewed, "another key in the same session")
        go_cold(one)
        conn.execute("INSERT INTO taken VALUES (3, %s)", (AMEX,))
    assert set(operations(proxy)) == {"GenerateDataKey"}
    assert [state for _, state in versions(one)][:-1] == ["deactivated"] * (len(versions(one)) - 1) and versions(one)[-1][1] == "active"
    assert one.value("SELECT count(*) FROM taken t WHERE NOT EXISTS (SELECT FROM pci.key k WHERE k.id = pci.key_id(t.card))") == 0


def test_a_key_outlives_the_transaction_that_needed_it_first(node, proxy):
    one = write_only(node(), proxy)
    with one.connect("till", autocommit=False) as conn:
        conn.execute(f"INSERT INTO taken VALUES (1, '{VISA}')")
        one.execute(f"INSERT INTO taken VALUES (2, '{AMEX}')", user="till")
        conn.rollback()
    with one.connect("till", autocommit=False) as conn:
        conn.execute("SAVEPOINT s")
        conn.execute(f"INSERT INTO taken VALUES (3, '{VISA}')")
        conn.execute("ROLLBACK TO s")
        conn.execute(f"INSERT INTO taken VALUES (4, '{VISA}')")
        conn.commit()
    assert one.execute("SELECT id FROM taken ORDER BY id") == [(2,), (4,)]
    assert one.value("SELECT count(*) FROM taken t JOIN pci.key k ON k.id = pci.key_id(t.card)") == 2
    assert operations(proxy) == ["GenerateDataKey"]


def test_many_sessions_make_one_key(node, proxy):
    one = write_only(node(), proxy)
    proxy.delay = 0.3
    gate, wrong = threading.Barrier(8), []

    def store(i):
        with one.connect("till") as conn:
            gate.wait()
            try:
                conn.execute("INSERT INTO taken VALUES (%s, %s)", (i, VISA_2))
            except psycopg.Error as error:
                wrong.append(error)

    threads = [threading.Thread(target=store, args=(i,)) for i in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong, wrong
    assert operations(proxy) == ["GenerateDataKey"]
    assert one.value("SELECT count(*) FROM taken") == 8


def test_the_provider_away(node, proxy):
    """A clear error, and it heals; what has a key goes on."""
    one = write_only(node("pgpci.key_wait_timeout = 2s"), proxy)
    proxy.stop()
    error = error_of(one, f"INSERT INTO taken VALUES (1, '{VISA}')", user="till")
    assert error.sqlstate == "57P03" and "pci.key_status" in error.diag.message_hint, error
    proxy.start()
    one.execute(f"INSERT INTO taken VALUES (1, '{VISA}')", user="till")
    proxy.stop()
    one.execute(f"INSERT INTO taken VALUES (2, '{VISA}')", user="till")
    assert one.value("SELECT count(*) FROM taken") == 2


def test_another_cluster_reveals_and_looks_up(node, proxy, central_proxy, fresh_cluster):
    edge = node()
    # The centre starts as a copy: same installation, vaults and keys so far.
    centre = fresh_cluster(*aws_settings(central_proxy), set_up=False, key=False)
    proxy.fault = None
    globals_ = edge.run("pg_dumpall", "--globals-only").stdout
    centre.psql(globals_.replace("CREATE ROLE postgres;\n", ""))
    edge.grant("backup", "export", vault="edge")
    centre.psql(edge.run("pg_dump", user="backup").stdout)
    for officer, done in (("ann", False), ("bob", True)):
        assert centre.value("SELECT pci.accept_policy()", user=officer) is done
    proxy.fault = kms.DENIED
    write_only(edge, proxy)
    edge.execute("CREATE PUBLICATION edge FOR TABLE taken, pci.key")
    centre.execute(f"CREATE SUBSCRIPTION edge CONNECTION 'host=127.0.0.1 port={edge.port} user=feed dbname=postgres' "
                   "PUBLICATION edge WITH (copy_data = false)")
    with centre.connect("full") as reader, edge.connect("till") as till:
        assert reader.execute("SELECT pci.reveal(card) FROM taken").fetchall() == []
        for i, card in enumerate((VISA, AMEX, VISA_3), 1):
            till.execute("INSERT INTO taken VALUES (%s, %s)", (i, card))
        until(lambda: centre.value("SELECT count(*) FROM taken") == 3, "rows arrive", 60)
        # In a session that knew nothing of the key.
        assert reader.execute("SELECT pci.reveal(card) FROM taken ORDER BY id").fetchall() == [(VISA,), (AMEX,), (VISA_3,)]
        edge.restart()
        edge.execute("INSERT INTO taken VALUES (4, %s)", (MASTERCARD,), user="till")
        until(lambda: centre.value("SELECT count(*) FROM taken") == 4, "rows under another key arrive", 60)
        assert reader.execute("SELECT pci.reveal(card) FROM taken WHERE id = 4").fetchall() == [(MASTERCARD,)]
        assert versions(centre) == versions(edge) == [(1, "deactivated"), (2, "deactivated"), (3, "active")]
        # In a searchable vault they are found.
        reader.execute("CREATE TABLE \"full\".found (id int, card pci.pan('default'))")
        reader.execute("INSERT INTO found SELECT id, card FROM taken")
        for card, i in ((VISA, 1), (AMEX, 2), (MASTERCARD, 4)):
            assert reader.execute("SELECT id FROM found WHERE card = %s", (card,)).fetchall() == [(i,)]
        assert reader.execute("SELECT f.id FROM found f JOIN payments p USING (card) ORDER BY 1").fetchall() == [(1,), (2,), (4,)]
    assert set(operations(proxy)) == {"GenerateDataKey"}, "the node never asks to decrypt"
    wait_for(centre, session_user="full", event='move to vault "default"', objects=["vault edge"])
    centre.execute("DROP SUBSCRIPTION edge")
