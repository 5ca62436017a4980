"""The key that signs the trail's checkpoints: wrapped as other keys are, and waited for by checkpoints alone."""

import subprocess

import trail
from conftest import BIN, as_server
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
