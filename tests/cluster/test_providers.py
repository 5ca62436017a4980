"""Keys in AWS KMS (moto's server on loopback) and in an HSM (SoftHSM): what is asked of them, and when."""

import threading
import time

import psycopg
import pytest
from conftest import CLEAR, MASKED, VISA, VISA_3
from support import kms, token
from support.providers import *  # fixtures, too
from test_replication import base_backup

STORE = f"INSERT INTO payments VALUES (50, '{VISA_3}', 1)"
LOOK_UP = f"SELECT id FROM payments WHERE card = '{VISA}'::text"
WAY = 0.3


def assert_works(cluster):
    """Stores, looks up, reveals."""
    cluster.execute(STORE, user="full")
    assert cluster.execute(LOOK_UP, user="full") == [(1,)]
    assert cluster.reveals() == CLEAR + [(50, VISA_3)]
    cluster.execute("DELETE FROM payments WHERE id = 50")


def test_aws_asks_once_for_each_key(aws_cluster, proxy):
    one = aws_cluster()
    assert_works(one)
    keys = one.execute("SELECT id::text, purpose, provider, kek FROM pci.keys ORDER BY purpose")
    assert [k[1:] for k in keys] == [(p, "aws", "alias/cards") for p in ("data", "equality", "hash", "policy")]
    assert [c[0] for c in proxy.calls] == ["GenerateDataKey"] * 5, "what was just made is in memory"
    assert {c[2] for c in proxy.calls} == {kms.REGION}
    proxy.forget_calls()
    one.restart()
    assert one.execute("SELECT id, card FROM payments ORDER BY id") == MASKED
    assert proxy.calls == [], "nothing is asked for at start, and masks need no key"
    for _ in range(3):
        assert_works(one)
    by_purpose = {purpose: number for number, purpose, *_ in keys}
    assert sorted(proxy.decrypts()) == sorted(by_purpose[p] for p in ("data", "equality", "policy"))
    one.execute("SELECT pci.hash_pan(card) FROM payments", user="full")
    assert sorted(proxy.decrypts()) == sorted(by_purpose.values())
    assert len(proxy.logins) == 1, "and the key of accounts"
    assert status(one, "aws", "(provider_calls, failed_calls, cached_keys)::text") == "(5,0,5)"
    assert status(one, "aws", "ttl_left_seconds BETWEEN 3400 AND 3600 AND last_success > now() - interval '1 minute' AND last_error IS NULL")


def test_many_sessions_ask_once_for_a_cold_key(aws_cluster, proxy):
    """200 sessions at once, while the answer takes its time."""
    one = aws_cluster("max_connections = 250")
    one.restart()
    proxy.forget_calls()
    proxy.delay = WAY
    sessions = [one.connect("full") for _ in range(200)]
    gate, wrong = threading.Barrier(200), []

    def reveal(conn):
        gate.wait()
        try:
            if [row[0] for row in conn.execute(REVEAL).fetchall()] != [card for _, card in CLEAR]:
                wrong.append("wrong digits")
        except psycopg.Error as error:
            wrong.append(str(error))

    threads = [threading.Thread(target=reveal, args=(conn,)) for conn in sessions]
    try:
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    finally:
        [conn.close() for conn in sessions]
    assert not wrong, wrong[:3]
    asked = proxy.decrypts()
    print(f"200 sessions, calls: {len(asked)}")
    assert len(asked) == len(set(asked)) == 2, "the data key and the policy's"


def test_keys_in_use_are_fetched_before_they_expire(aws_cluster, proxy):
    """While KMS is far away, no session ever waits for it again."""
    one = aws_cluster("pgpci.key_cache_ttl = 5s")
    assert clear(one)
    proxy.forget_calls()
    proxy.delay = WAY
    slowest, until_then = 0, time.monotonic() + 12
    while time.monotonic() < until_then:
        with one.connect("full") as conn:
            conn.execute("SELECT 1")
            began = time.monotonic()
            conn.execute(REVEAL)
            slowest = max(slowest, time.monotonic() - began)
    asked = proxy.decrypts()
    counts = {key: asked.count(key) for key in asked}
    print(f"slowest reveal {slowest * 1000:.0f} ms, calls in 12 s with a TTL of 5 s: {counts}")
    assert slowest < WAY
    # The data key and the policy's, at 4 s, 8 s and 12 s; the equality key stored with is fetched once more.
    assert sorted(counts.values()) in ([1, 2, 2], [1, 2, 3], [1, 3, 3]), counts
    go_cold(one)


def test_a_key_that_nobody_uses_is_wiped(aws_cluster, proxy):
    one = aws_cluster("pgpci.key_cache_ttl = 2s")
    assert clear(one)
    go_cold(one)
    asked = len(proxy.decrypts())
    # Longer than a key's life: whoever fetched again without use would be seen.
    time.sleep(3)
    # The login that asks here brings the key of accounts.
    assert cached(one) <= 1 and len(proxy.decrypts()) == asked
    assert clear(one)
    assert len(proxy.decrypts()) == asked + 2


def test_the_same_in_an_hsm(hsm_cluster, hsm):
    one = hsm_cluster()
    assert_works(one)
    assert (hsm.calls("C_EncryptInit"), hsm.calls("C_DecryptInit"), hsm.calls("C_Login")) == (5, 0, 1)
    one.restart()
    for _ in range(3):
        assert_works(one)
    # The fourth is that of accounts.
    assert (hsm.calls("C_DecryptInit"), hsm.calls("C_Login")) == (4, 2)
    assert status(one, "pkcs11", "(provider_calls, failed_calls, cached_keys)::text") == "(4,0,4)"


def moved(cluster, provider, kek):
    """By one custodian; not in force before it is confirmed."""
    before = cluster.execute("SELECT id, provider, kek, wrapped FROM pci.key ORDER BY id")
    assert cluster.value("SELECT pci.rewrap_keys('default', %s, %s)", (provider, kek), user="cy") is None
    assert cluster.execute("SELECT id, provider, kek, wrapped FROM pci.key ORDER BY id") == before
    assert cluster.execute("SELECT DISTINCT next_provider, next_kek, next_wrapped IS NULL FROM pci.key") == [(provider, kek, False)]
    cluster.restart()
    assert_works(cluster)
    cluster.execute("SELECT pci.confirm_rewrap('default')", user="cy")
    assert cluster.execute("SELECT DISTINCT provider, kek, next_wrapped IS NULL FROM pci.key") == [(provider, kek, True)]
    assert cluster.execute("SELECT provider, kek FROM pci.vault") == [(provider, kek)]
    cluster.restart()
    assert_works(cluster)


def test_keys_move_between_providers(fresh_cluster, proxy, hsm):
    one = set_up(fresh_cluster(*aws_settings(proxy), *hsm.settings, set_up=False), "local", "")
    bytes_before = stored(one)
    moved(one, "aws", "alias/cards")
    moved(one, "aws", "alias/cards-2")
    one.key_file.rename(one.key_file.with_suffix(".aside"))
    moved(one, "pkcs11", token.KEK)
    proxy.stop()
    one.restart()
    assert_works(one)
    assert stored(one) == bytes_before, "no row of card data was touched"
    # Back to a file is weaker: a second custodian must agree.
    one.key_file.with_suffix(".aside").rename(one.key_file)
    number = one.value("SELECT pci.rewrap_keys('default', 'local', '')", user="cy")
    assert one.value("SELECT count(*) FROM pci.key WHERE next_wrapped IS NOT NULL") == 0
    own = error_of(one, f"SELECT pci.approve({number})", user="cy")
    assert own.sqlstate == "42501", own
    one.execute(f"SELECT pci.approve({number})", user="di")
    one.execute("SELECT pci.confirm_rewrap('default')", user="di")
    hsm.remove()
    one.restart()
    assert_works(one)
    assert stored(one) == bytes_before


def test_an_interrupted_move_leaves_everything_as_it_was(fresh_cluster, proxy):
    one = set_up(fresh_cluster(*aws_settings(proxy), set_up=False), "local", "")
    keys = one.execute("SELECT * FROM pci.key ORDER BY id")
    proxy.delay = 0.2
    failed = []

    def move():
        failed.append(error_of(one, "SELECT pci.rewrap_keys('default', 'aws', 'alias/cards')", user="cy"))
    thread = threading.Thread(target=move)
    thread.start()
    until(lambda: len(proxy.calls) >= 2, "some keys are wrapped")
    proxy.stop()
    thread.join()
    assert failed[0].sqlstate == "57P03", failed
    assert "pgpci.aws_endpoint_url" in failed[0].diag.message_hint
    assert one.execute("SELECT * FROM pci.key ORDER BY id") == keys
    one.restart()
    assert_works(one)
    nothing = error_of(one, "SELECT pci.confirm_rewrap('default')", user="cy")
    assert nothing.sqlstate == "55000", nothing
    proxy.delay = 0
    proxy.start()
    one.execute("SELECT pci.rewrap_keys('default', 'aws', 'alias/cards')", user="cy")
    # Confirming proves each key first.
    proxy.stop()
    one.restart()
    away = error_of(one, "SELECT pci.confirm_rewrap('default')", user="cy")
    assert away.sqlstate == "57P03", away
    assert one.execute("SELECT DISTINCT provider FROM pci.key") == [("local",)]
    assert_works(one)
    proxy.start()
    moved(one, "aws", "alias/cards")


def test_a_promoted_standby_stores_and_reveals(aws_cluster, fresh_cluster, proxy):
    primary = aws_cluster()
    standby = fresh_cluster(start=False, set_up=False)
    base_backup(primary, standby, standby=True)
    standby.start()
    assert standby.value("SELECT pg_is_in_recovery()") is True
    assert clear(standby)
    primary.stop("immediate")
    standby.execute("SELECT pg_promote()")
    assert_works(standby)
    assert standby.value("SELECT count(*) FROM payments") == 4
