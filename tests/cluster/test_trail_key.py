"""The key that signs the trail's checkpoints: wrapped as other keys are, and waited for by checkpoints alone."""

import subprocess

import psycopg
import pytest
import trail
from conftest import BIN, CLEAR, as_server
from support import token
from support.providers import *  # fixtures, too
from test_keys import until


def key_file(cluster):
    return cluster.dir / "data.pgpci" / "trail.key"


def lines(cluster, name):
    return [line for line in key_file(cluster).read_text().splitlines() if line.startswith(f"{name} ")]


def sealed(cluster):
    return cluster.value("SELECT sealed FROM pci.audit_status")


def reason(cluster):
    return cluster.value("SELECT reason FROM pci.audit_status")


def test_it_is_wrapped(fresh_cluster):
    """Without the wrapping key nothing can be signed with what is on the disk; records go on."""
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1")
    until(lambda: sealed(one) > 0, "it is sealed")
    (vkey,) = lines(one, "vkey")
    assert vkey.split(" ")[1] in (trail.directory(one) / "trail.vkey").read_text()
    assert lines(one, "key")[0].split(" ")[2] == "local"
    aside = one.key_file.rename(one.dir / "aside")
    one.restart()
    why = until(lambda: reason(one), "it says why it is not sealed")
    assert why.startswith("checkpoints wait for the signing key: ") and why in one.log
    before = sealed(one)
    one.execute("CREATE TABLE public.t (i int)")
    trail.wait_for(one, event="CREATE TABLE", objects=lambda it: it and "public.t" in str(it))
    assert one.value("SELECT state FROM pci.audit_status") == "running" and sealed(one) == before == 0
    # An orderly stop is one without a checkpoint, too.
    one.restart()
    assert [r["kind"] for r in trail.records(one)].count("crash") == 0
    aside.rename(one.key_file)
    one.execute("SELECT pg_reload_conf()")
    until(lambda: sealed(one) > 0, "it is sealed")
    assert reason(one) is None and lines(one, "vkey") == [vkey]
    one.stop()
    trail.assert_verifies(one)


def test_before_there_is_a_wrapping_key(fresh_cluster):
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1", key=False, set_up=False)
    one.execute("CREATE EXTENSION pgpci")
    until(lambda: reason(one), "it says why it is not sealed")
    trail.wait_for(one, event="CREATE EXTENSION")
    assert not lines(one, "key") and not lines(one, "vkey")
    subprocess.run(as_server([BIN / "pgpci", "key", "init", "--pgdata", one.data]), check=True, capture_output=True)
    one.execute("SELECT pg_reload_conf()")
    until(lambda: sealed(one) > 0, "it is sealed")
    one.stop()
    trail.assert_verifies(one)


def test_another_key_in_its_place_signs_nothing(fresh_cluster):
    one, other = fresh_cluster("pgpci.audit_checkpoint_interval = 1", set_up=False), fresh_cluster(set_up=False)
    one.execute("CREATE EXTENSION pgpci")
    until(lambda: sealed(one) > 0 and lines(other, "key"), "there are keys")
    one.stop()
    text = key_file(one).read_text()
    key_file(one).write_text(text.replace(lines(one, "key")[0], lines(other, "key")[0]))
    one.start()
    until(lambda: reason(one), "it says why it is not sealed")
    assert sealed(one) == 0
    key_file(one).write_text(text)
    one.restart()
    until(lambda: sealed(one) > 0, "it is sealed")
    one.stop()
    trail.assert_verifies(one)


def test_a_node_that_only_encrypts_has_a_new_one_at_each_start(fresh_cluster):
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1", "pgpci.key_mode = encrypt_only", set_up=False)
    one.execute("CREATE EXTENSION pgpci")
    for count in (1, 2):
        until(lambda: sealed(one) > 0, "it is sealed")
        assert len(lines(one, "vkey")) == count and reason(one) is None
        one.restart()
    one.stop()
    trail.assert_verifies(one)


def public_keys(cluster):
    return (trail.directory(cluster) / "trail.vkey").read_text().split()


def test_another_key_takes_its_place(fresh_cluster, tmp_path):
    """The one before vouches for it: whoever trusts the first key verifies all."""
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1")
    until(lambda: sealed(one) > 0, "it is sealed")
    first = public_keys(one)
    before = one.value("SELECT pci.export_checkpoint()", user="eve")
    for user in ("postgres", "ann", "eve", "plain"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            one.execute("SELECT pci.rotate_audit_key()", user=user)
    one.execute("SELECT pci.rotate_audit_key()", user="cy")
    until(lambda: len(public_keys(one)) == 2, "there is another key")
    asked = trail.wait_for(one, **{"class": "KEY"}, session_user="cy", event=lambda it: "signing key" in it)[0]
    vouched = until(lambda: [r for r in trail.records(one) if r["kind"] == "key"], "it is vouched for")[0]
    assert public_keys(one)[1] in vouched["note"] and vouched["seq"] > asked["seq"]
    until(lambda: sealed(one) > vouched["seq"], "it is sealed by that one")
    assert len(lines(one, "key")) == 1 and [it.split(" ")[1] for it in lines(one, "vkey")] == public_keys(one)
    after = one.value("SELECT pci.export_checkpoint()", user="eve")
    assert one.value("SELECT verdict FROM pci.verify_audit(%s)", (after,), user="eve") == "ok"
    one.restart()
    until(lambda: sealed(one) > 0, "it is sealed after a restart")
    assert len(public_keys(one)) == 2
    one.stop()
    for name, note in (("before", before), ("after", after)):
        (tmp_path / name).write_text(note)
        done = subprocess.run([BIN / "pgpci", "verify", trail.directory(one), "--key", first[0], "--anchor", tmp_path / name], capture_output=True)
        assert done.returncode == 0, done
    trail.assert_verifies(one)


def test_it_is_wrapped_by_another_provider(fresh_cluster, hsm):
    """The key stays the same, and needs the old provider no more."""
    one = fresh_cluster("pgpci.audit_checkpoint_interval = 1", *hsm.settings)
    until(lambda: sealed(one) > 0, "it is sealed")
    keys, before = public_keys(one), lines(one, "key")
    one.configure("pgpci.audit_key = 'pkcs11:nobody'")
    why = until(lambda: reason(one), "it says why it is not")
    assert why.startswith("its signing key stays as it is: ") and lines(one, "key") == before
    one.configure(f"pgpci.audit_key = 'pkcs11:{token.KEK}'")
    until(lambda: lines(one, "key")[0].split(" ")[2] == "pkcs11", "it is wrapped anew", seconds=70)
    done = trail.wait_for(one, event="the trail's signing key is wrapped by pkcs11")[0]
    assert done["class"] == "KEY" and done["success"] and reason(one) is None
    assert trail.events(one, event="RELOAD", objects=["setting pgpci.audit_key"])
    one.key_file.rename(one.dir / "aside")
    one.restart()
    until(lambda: sealed(one) > 0, "it is sealed")
    assert public_keys(one) == keys
    one.stop()
    trail.assert_verifies(one)
