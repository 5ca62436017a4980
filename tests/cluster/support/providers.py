"""Clusters whose keys are in AWS KMS or in an HSM."""

import os
import time

import psycopg
import pytest
from conftest import CLEAR, GRANTS, PAYMENTS, SCHEMA
from support import kms, token

REVEAL = "SELECT pci.reveal(card) FROM payments ORDER BY id"


def environment(variables):
    """Servers started from now on have these; returns how to undo it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)

    def undo():
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return undo


def set_up(cluster, provider, kek):
    """Roles, pgpci with keys of this provider, grants that two officers made, and a table of payments."""
    cluster.create_roles()
    cluster.execute("CREATE EXTENSION pgpci")
    cluster.execute(
        "SELECT pci.init(officers => '{ann,bob}', custodians => '{cy,di}', auditors => '{eve,fay}', "
        "provider => %s, kek => %s)", (provider, kek))
    with cluster.connect("ann") as officer:
        for role, capabilities in GRANTS.items():
            for capability in capabilities:
                officer.execute("SELECT pci.grant_access(%s::regrole, 'default', %s)", (role, capability))
    approve_all(cluster, "bob")
    cluster.execute(SCHEMA)
    with cluster.connect("full") as conn:
        for row in PAYMENTS:
            conn.execute("INSERT INTO payments VALUES (%s, %s, 100)", row[:2])
    return cluster


def approve_all(cluster, who):
    for (number,) in cluster.execute("SELECT id FROM pci.request WHERE state = 'open' ORDER BY id"):
        cluster.execute("SELECT pci.approve(%s)", (number,), user=who)


def clear(cluster):
    return cluster.reveals() == CLEAR


def error_of(cluster, sql=REVEAL, user="full"):
    with pytest.raises(psycopg.Error) as caught:
        cluster.execute(sql, user=user)
    return caught.value


def stored(cluster):
    """Each row's place and version, and its stored bytes in their sealed form."""
    with cluster.connect("full") as conn:
        rows = conn.execute("SELECT id, ctid::text, xmin::text FROM payments ORDER BY id").fetchall()
        with conn.cursor().copy("COPY payments TO STDOUT") as copy:
            return rows, b"".join(copy)


def until(condition, what, seconds=20):
    """Polls until the condition is true; fails after a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.02)
    pytest.fail(f"not within {seconds} s: {what}")


CACHED = "SELECT DISTINCT cached_keys FROM pci.key_status"


def cached(cluster):
    return cluster.value(CACHED)


def go_cold(cluster):
    """Waits until no unwrapped key is left in memory; needs a short pgpci.key_cache_ttl."""
    # One login: each keeps the key of accounts in memory.
    with cluster.connect() as conn:
        until(lambda: conn.execute(CACHED).fetchone()[0] == 0, "cached keys are wiped")


def status(cluster, provider, column):
    return cluster.value(f"SELECT {column} FROM pci.key_status WHERE provider = %s", (provider,))


@pytest.fixture(scope="module")
def moto():
    undo = environment(kms.ENVIRONMENT)
    one = kms.Moto()
    try:
        yield one
    finally:
        one.stop()
        undo()


@pytest.fixture
def proxy(moto):
    one = kms.Proxy(moto)
    try:
        yield one
    finally:
        one.stop()


@pytest.fixture
def hsm():
    one = token.Token()
    undo = environment(one.environment)
    try:
        yield one
    finally:
        undo()
        one.destroy()


def aws_settings(proxy, *more):
    return [f"pgpci.aws_region = '{kms.REGION}'", f"pgpci.aws_endpoint_url = '{proxy.url}'", *more]


@pytest.fixture
def aws_cluster(fresh_cluster, proxy):
    """aws_cluster('conf line'): keys in KMS, through the proxy."""
    def make(*conf):
        return set_up(fresh_cluster(*aws_settings(proxy, *conf), set_up=False, key=False), "aws", "alias/cards")
    return make


@pytest.fixture
def hsm_cluster(fresh_cluster, hsm):
    def make(*conf):
        return set_up(fresh_cluster(*hsm.settings, *conf, set_up=False, key=False), "pkcs11", token.KEK)
    return make
