"""KMS and HSM on bad days: what is cached goes on, what is not says why, sessions can be cancelled, all heals by itself."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time

import psycopg
import pytest
from conftest import CLEAR, MASKED, ROOT, VISA, VISA_3
from support import kms, token
from support.providers import *  # fixtures, too
from test_keys import broker, helper

STORE = f"INSERT INTO payments VALUES (50, '{VISA_3}', 1)"
LOOK_UP = f"SELECT id FROM payments WHERE card = '{VISA}'::text"
SECRETS = (kms.ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], "TOKENSECRET", token.PIN, "99999999", VISA, VISA_3)


def assert_no_secrets(cluster, *texts):
    for text in (*map(str, texts), cluster.log, str(cluster.execute("SELECT * FROM pci.key_status"))):
        # The statement of a failed look-up is in the log as it was typed; the settings' names are not secrets.
        text = "\n".join(line for line in text.splitlines() if "STATEMENT:" not in line)
        for secret in SECRETS:
            assert secret not in text, secret


def assert_masks(cluster):
    assert cluster.execute("SELECT id, card FROM payments ORDER BY id") == MASKED


def assert_fails(cluster, sqlstate, message, hint, statements=(STORE, REVEAL, LOOK_UP)):
    for sql in statements:
        error = error_of(cluster, sql)
        assert error.sqlstate == sqlstate, error
        assert message in error.diag.message_primary, error.diag.message_primary
        assert hint in error.diag.message_hint, error.diag.message_hint
        assert_no_secrets(cluster, error)
    assert_masks(cluster)


def is_clear(cluster):
    try:
        return clear(cluster)
    except psycopg.Error:
        return False


def test_kms_down_at_start(aws_cluster, proxy):
    one = aws_cluster()
    proxy.stop()
    one.restart()
    started = one.value("SELECT pg_postmaster_start_time()")
    assert_fails(one, "57P03", "check network and endpoint of AWS KMS", "pgpci.aws_endpoint_url")
    assert status(one, "aws", "last_error LIKE '%%network and endpoint%%' AND last_failure IS NOT NULL AND failed_calls > 0")
    proxy.start()
    assert clear(one)
    assert one.value("SELECT pg_postmaster_start_time()") == started
    assert status(one, "aws", "last_success > last_failure AND last_latency_ms > 0")


def test_kms_down_later(aws_cluster, proxy):
    """Cached keys serve until their time is over; none is kept longer because KMS is away."""
    one = aws_cluster("pgpci.key_cache_ttl = 6s")
    assert clear(one)
    proxy.stop()
    began, served = time.monotonic(), 0
    while time.monotonic() < began + 20:
        try:
            assert clear(one)
            served = time.monotonic() - began
        except psycopg.Error as error:
            assert error.sqlstate == "57P03", error
            break
    print(f"cached keys served {served:.1f} s after KMS went away, with a TTL of 6 s")
    assert 2 < served < 7
    go_cold(one)
    assert_masks(one)
    proxy.start()
    assert until(lambda: is_clear(one), "reveals work again")


@pytest.mark.parametrize("fault,sqlstate,message,hint", [
    (kms.THROTTLED, "57P03", "request quota of AWS KMS", "pgpci.aws_region"),
    (kms.DISABLED, "58000", "enable the wrapping key in AWS KMS: DisabledException", "pgpci.aws_region"),
    (kms.DENIED, "58000", "allow kms:Decrypt to the server's role: AccessDeniedException", "policy in AWS KMS"),
    (kms.GARBAGE, "57P03", "not one of AWS KMS", "pgpci.aws_endpoint_url"),
    (kms.EXPIRED, "58000", "renew the server's AWS credentials", "AWS credentials"),
], ids=["throttling", "disabled", "denied", "garbage", "expired_token"])
def test_kms_says_no(aws_cluster, proxy, fault, sqlstate, message, hint):
    one = aws_cluster()
    one.restart()
    proxy.fault = fault
    assert_fails(one, sqlstate, message, hint)
    proxy.fault = None
    assert clear(one)


def test_the_wrong_region(aws_cluster, proxy):
    one = aws_cluster()
    one.configure("pgpci.aws_region = 'us-east-2'")
    one.restart()
    assert_fails(one, "55000", "check name and region of the wrapping key: NotFoundException", "pgpci.aws_region")
    one.configure(f"pgpci.aws_region = '{kms.REGION}'")
    assert until(lambda: is_clear(one), "reveals work again")


def test_another_wrapping_key_behind_the_alias(aws_cluster, moto, proxy):
    one = aws_cluster()
    one.restart()
    moto.call("UpdateAlias", AliasName="alias/cards", TargetKeyId=moto.keys[1])
    try:
        error = error_of(one)
        assert error.sqlstate == "58000", error
        assert_no_secrets(one, error)
    finally:
        moto.call("UpdateAlias", AliasName="alias/cards", TargetKeyId=moto.keys[0])
    assert clear(one)


def test_slow_kms(fresh_cluster, proxy, hsm):
    """Waits end by cancel, by statement_timeout, and by themselves; others are not held up."""
    one = set_up(fresh_cluster(*aws_settings(proxy), *hsm.settings, set_up=False, key=False), "aws", "alias/cards")
    one.execute("CREATE DATABASE other")
    one.execute("CREATE EXTENSION pgpci", dbname="other")
    one.execute("ALTER ROLE ann SUPERUSER")
    one.execute("SELECT pci.init('{}', '{}', '{}', 'pkcs11', %s)", (token.KEK,), dbname="other", user="ann")
    one.execute("SELECT pci.grant_access('full', 'default', 'store')", dbname="other", user="ann")
    one.restart()
    proxy.fault = kms.SLOW
    with one.connect("full") as conn:
        conn.execute("SET statement_timeout = '700ms'")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(REVEAL)
        assert time.monotonic() - began < 2
        conn.execute("SET statement_timeout = 0")
        timer = threading.Timer(0.5, conn.cancel)
        timer.start()
        began = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(REVEAL)
        assert time.monotonic() - began < 2
        waiting = threading.Thread(target=lambda: pytest.raises(psycopg.Error, conn.execute, REVEAL))
        waiting.start()
        # The HSM's database is served meanwhile.
        began = time.monotonic()
        assert one.value(f"SELECT '{VISA}'::pci.pan::text", user="full", dbname="other") == "411111******1111"
        assert_masks(one)
        assert time.monotonic() - began < 2 and waiting.is_alive()
        waiting.join()
    began = time.monotonic()
    error = error_of(one)
    assert error.sqlstate == "57P03", error
    assert "pgpci.key_wait_timeout" in error.diag.message_hint or "pgpci.aws_endpoint_url" in error.diag.message_hint
    assert time.monotonic() - began < 7
    proxy.fault = None
    assert until(lambda: is_clear(one), "reveals work again")


def test_the_helper_killed_in_a_loop(aws_cluster, proxy):
    """A request in each round; the server notices nothing, and no request fails that came after the kill."""
    one = aws_cluster("pgpci.key_cache_ttl = 1s")
    one.execute("SELECT 1")
    killed = set()
    for _ in range(6):
        victim = until(lambda: helper(one), "a helper runs")
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
        until(lambda: helper(one) != victim, "the helper is gone")
        go_cold(one)
        assert clear(one)
    assert len(killed) == 6
    assert "terminating any other active server processes" not in one.log


def test_postmaster_killed(aws_cluster, proxy):
    one = aws_cluster()
    one.execute(STORE, user="full")
    one.execute("CHECKPOINT")
    children = [broker(one), helper(one)]
    os.kill(one.postmaster, signal.SIGKILL)
    until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in children if pid), "broker and helper end with it")
    (one.data / "postmaster.pid").unlink(missing_ok=True)
    until(lambda: starts(one), "the server starts again")
    assert one.reveals() == CLEAR + [(50, VISA_3)]


def starts(cluster):
    try:
        return cluster.start()
    except RuntimeError:
        # Backends of the killed postmaster are still about to end.
        return None


def test_hsm_token_removed_and_back(hsm_cluster, hsm):
    one = hsm_cluster("pgpci.key_cache_ttl = 2s")
    assert clear(one)
    hsm.remove()
    go_cold(one)
    assert_fails(one, "57P03", "token", "pgpci.pkcs11_token")
    hsm.put_back()
    assert until(lambda: is_clear(one), "reveals work again")


def test_wrong_pin_is_tried_once(hsm_cluster, hsm):
    one = hsm_cluster()
    one.stop()
    hsm.write_pin("99999999")
    logins = hsm.calls("C_Login")
    one.start()
    for _ in range(4):
        assert_fails(one, "58000", "correct the PIN file", "pgpci.pkcs11_pin_file")
    assert hsm.calls("C_Login") == logins + 1, "a token locks itself after a few wrong PINs"
    hsm.write_pin(token.PIN)
    assert clear(one)
    assert_no_secrets(one)


def test_hsm_pin_file_that_others_may_read(hsm_cluster, hsm):
    one = hsm_cluster()
    one.stop()
    hsm.pin_file.chmod(0o644)
    one.start()
    assert_fails(one, "58000", "PIN file", "0600")
    hsm.pin_file.chmod(0o600)
    assert clear(one)


def test_hsm_module_missing(hsm_cluster, hsm):
    one = hsm_cluster()
    one.configure("pgpci.pkcs11_module = '/nowhere/libhsm.so'")
    one.restart()
    assert_fails(one, "55000", "install the PKCS#11 module", "pgpci.pkcs11_module")
    one.configure(f"pgpci.pkcs11_module = '{hsm.module}'")
    assert until(lambda: is_clear(one), "reveals work again")


def test_hsm_module_that_crashes(hsm_cluster, hsm):
    """It takes the helper along, again and again; the server is unharmed, and new helpers come ever more slowly."""
    source = ROOT / "crates" / "cli" / "tests" / "modules" / "broken.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-DCRASH", "-o", hsm.dir / "crash.so", source], check=True)
    one = hsm_cluster()
    one.configure(f"pgpci.pkcs11_module = '{hsm.dir}/crash.so'")
    one.restart()
    started = one.value("SELECT pg_postmaster_start_time()")
    until_then, failures = time.monotonic() + 5, 0
    while time.monotonic() < until_then:
        error = error_of(one)
        assert error.sqlstate == "57P03" and "key helper" in error.diag.message_primary, error
        failures += 1
        assert_masks(one)
    helpers = len(re.findall("key helper started", one.log))
    print(f"{failures} requests in 5 s, {helpers} helpers")
    assert 3 <= helpers <= 10, "0.1, 0.2, 0.4 … seconds apart"
    assert one.value("SELECT pg_postmaster_start_time()") == started
    assert "terminating any other active server processes" not in one.log
    one.configure(f"pgpci.pkcs11_module = '{hsm.module}'")
    assert until(lambda: is_clear(one), "reveals work again")
