"""What a session waits for when keys are not in memory: one round trip to the provider, and little else."""

import os
import signal
import statistics
import threading
import time

import psycopg
import pytest
from conftest import MASTERCARD, VISA
from support import kms
from support.providers import *  # fixtures, too
from test_keys import helper
from trail import writer

VAULTS = 16
WAY = 0.3
# How long the broker waits for any answer, in seconds.
STUCK = 30
LOOK_UP = f"SELECT id FROM payments WHERE card = '{VISA}'::text"


def test_a_cold_reveal_takes_one_round_trip(aws_cluster, proxy):
    one = aws_cluster()
    times = []
    for _ in range(5):
        one.restart()
        # The helper opens its connection to KMS at its first call: that is not what is measured.
        one.execute(LOOK_UP, user="full")
        proxy.forget_calls()
        proxy.delay = WAY
        with one.connect("full") as conn:
            conn.execute("SELECT card FROM payments")
            began = time.monotonic()
            assert len(conn.execute(REVEAL).fetchall()) == 4
            times.append(time.monotonic() - began)
            assert len(proxy.decrypts()) == 2, "data key and policy key, at the same time"
            began = time.monotonic()
            assert len(conn.execute(REVEAL).fetchall()) == 4
            warm = time.monotonic() - began
        assert len(proxy.decrypts()) == 2 and warm < WAY
        proxy.delay = 0
    print(f"cold {[f'{t * 1000:.0f} ms' for t in times]} with {WAY * 1000:.0f} ms to KMS, then {warm * 1000:.1f} ms")
    # Two round trips, one after the other, would show; how little else there is beside it depends on the machine.
    assert WAY <= min(times) < 1.7 * WAY, times


def with_vaults(one, count):
    """A card in each of some vaults, whose keys are not in memory."""
    with one.connect("cy") as custodian, one.connect("ann") as officer:
        for i in range(count):
            custodian.execute(f"SELECT pci.create_vault('v{i}')")
            for capability in ("store", "search", "reveal"):
                officer.execute(f"SELECT pci.grant_access('full', 'v{i}', '{capability}')")
    approve_all(one, "bob")
    one.execute("CREATE TABLE public.many (id int PRIMARY KEY, card pci.pan); GRANT ALL ON many TO \"full\", plain")
    with one.connect("full") as conn:
        for i in range(count):
            conn.execute(f"INSERT INTO many VALUES ({i}, '{VISA}'::pci.pan('v{i}'))")
    one.restart()
    return one


@pytest.fixture
def vaults(aws_cluster):
    return with_vaults(aws_cluster(), 5)


def reveal(conn, vault):
    began = time.monotonic()
    assert conn.execute(f"SELECT pci.reveal(card) FROM many WHERE id = {vault}").fetchall() == [(VISA,)]
    return time.monotonic() - began


def test_a_cold_reveal_costs_the_round_trip_and_two_milliseconds(aws_cluster, proxy):
    """Of the whole statement, as its client sees it. One vault's key after the other, without a pause: a machine that
    idled takes many times as long for whatever it does next."""
    vaults = with_vaults(aws_cluster(), VAULTS)
    beside, warm = [], []
    with vaults.connect("full") as conn:
        for i in range(VAULTS):
            proxy.forget_calls()
            cold = reveal(conn, i)
            assert len(proxy.decrypts()) == (1 if i else 2), "the first brings the key of the policy, too"
            beside.append(cold - proxy.took())
            proxy.forget_calls()
            warm.append(reveal(conn, i))
            assert proxy.calls == []
    # The first is not counted: the login's own request may still be on its way.
    del beside[0]
    del warm[0]
    usual, more = statistics.median(warm), sorted(c - w for c, w in zip(beside, warm))
    print(f"beside the round trip: {', '.join(f'{t * 1000:.1f}' for t in beside)} ms; a warm reveal {usual * 1000:.1f} ms; "
          f"more than that: {more[0] * 1000:.1f} to {more[-1] * 1000:.1f} ms, median {statistics.median(more) * 1000:.1f} ms")
    assert more[0] <= 0.002
    # Where other work makes a warm one slow, as much again.
    assert statistics.median(more) <= max(0.002, usual), more


def test_the_key_comes_while_the_trail_is_written(vaults, proxy):
    """Neither waits for the other, and nothing is revealed before both are there."""
    with vaults.connect("full") as conn:
        reveal(conn, 0)
        proxy.forget_calls()
        worker = writer(vaults)
        revealed = []
        revealing = threading.Thread(target=lambda: revealed.append(reveal(conn, 1)))
        os.kill(worker, signal.SIGSTOP)
        try:
            revealing.start()
            until(lambda: proxy.times, "the key has come")
            waits = "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = %s"
            until(lambda: vaults.value(waits, (conn.info.backend_pid,)), "the session waits for the trail")
            assert not revealed
        finally:
            os.kill(worker, signal.SIGCONT)
        revealing.join()
        assert revealed and len(proxy.decrypts()) == 1


def test_who_is_refused_costs_no_call(vaults, proxy):
    """The key is asked for early, but not for everybody."""
    proxy.forget_calls()
    refused = error_of(vaults, "SELECT pci.reveal(card) FROM many", user="plain")
    assert refused.sqlstate == "42501", refused
    assert proxy.purposes() == ["policy"]


@pytest.mark.parametrize("sql,purposes", [
    (f"SELECT '{MASTERCARD}'::pci.pan::text", ["data", "equality"]),
    ("SELECT length(pci.hash_pan(card)) FROM many WHERE id = 2", ["data", "hash"]),
    ("SELECT (card::pci.pan('v3'))::text FROM many WHERE id = 2", ["data", "data", "equality"]),
], ids=["store", "hash_pan", "move"])
def test_keys_of_one_statement_are_asked_for_at_once(vaults, proxy, sql, purposes):
    with vaults.connect("full") as conn:
        # The policy is known: what it lets the session do is no reason to ask.
        reveal(conn, 0)
        proxy.forget_calls()
        proxy.delay = WAY
        assert len(conn.execute(sql).fetchall()) == 1
        proxy.delay = 0
        assert proxy.purposes() == purposes
        assert proxy.were_at_once(), proxy.times


def test_the_key_of_an_older_version_is_asked_for_with_the_policys(vaults, proxy):
    vaults.execute("SELECT pci.rotate_key('v4')", user="cy")
    vaults.restart()
    proxy.forget_calls()
    proxy.delay = WAY
    with vaults.connect("full") as conn:
        reveal(conn, 4)
    assert proxy.purposes() == ["data", "policy"]
    assert proxy.were_at_once(), proxy.times


def test_a_helper_that_answers_is_not_taken_for_a_stuck_one(aws_cluster, proxy):
    """However slow KMS is, and though at every moment something is asked."""
    one = with_vaults(aws_cluster(), 3 * 14)
    assert clear(one)
    first = helper(one)
    proxy.delay = 2.4
    failed, began = [], time.monotonic()

    def go_through(number):
        try:
            with one.connect("full") as conn:
                for vault in range(number, 3 * 14, 3):
                    reveal(conn, vault)
        except (AssertionError, psycopg.Error) as error:
            failed.append(error)
    sessions = [threading.Timer(0.8 * number, go_through, args=(number,)) for number in range(3)]
    [session.start() for session in sessions]
    [session.join() for session in sessions]
    proxy.delay = 0
    assert not failed, failed
    assert time.monotonic() - began > STUCK + 3
    assert helper(one) == first


def test_a_helper_that_hangs_is_replaced(aws_cluster):
    one = aws_cluster("pgpci.key_cache_ttl = 2s")
    hanging = until(lambda: clear(one) and helper(one), "a helper runs")
    os.kill(hanging, signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: reveals_anew(one, hanging), "another helper answers", STUCK + 15)
    print(f"replaced after {time.monotonic() - began:.0f} s")
    assert not os.path.exists(f"/proc/{hanging}")


def reveals_anew(cluster, before):
    try:
        return clear(cluster) and helper(cluster) not in (None, before)
    except psycopg.OperationalError:
        return False
