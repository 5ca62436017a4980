"""The life of keys: states, rotation, destruction (NIST SP 800-57, PCI DSS 3.7)."""

import datetime

import psycopg
import pytest
from conftest import AMEX, CLEAR, MASKED, MASTERCARD, MASTERCARD_2, VISA, VISA_2, VISA_3

STATES = ["active", "suspended", "deactivated", "compromised", "destroyed"]
# SP 800-57 part 1, section 7.
LEGAL = {
    "active": {"suspended", "deactivated", "compromised", "destroyed"},
    "suspended": {"active", "deactivated", "compromised", "destroyed"},
    "deactivated": {"compromised", "destroyed"},
    "compromised": {"destroyed"},
    "destroyed": set(),
}
CHANGES = {"active": "resume", "suspended": "suspend", "compromised": "compromise", "destroyed": "destroy"}


@pytest.fixture(scope="module")
def life(module_cluster):
    one = module_cluster()
    one.execute("""CREATE TABLE public.kept (id int PRIMARY KEY, card pci.pan UNIQUE);
                   GRANT ALL ON kept TO "full", look, clerk""")
    return one


@pytest.fixture(autouse=True)
def ends_with_an_active_key(request):
    yield
    if "life" in request.fixturenames:
        one = request.getfixturevalue("life")
        one.execute("TRUNCATE kept")
        rotate(one)


def rotate(cluster):
    return cluster.value("SELECT pci.rotate_key('default')", user="cy")


def destroy(cluster, key, reason="worn out"):
    request = cluster.value("SELECT pci.destroy_key(%s, %s)", (key, reason), user="cy")
    cluster.execute("SELECT pci.approve(%s)", (request,), user="di")


def change(cluster, key, state):
    """What custodians do to bring a key there."""
    if state == "destroyed":
        destroy(cluster, key)
    elif state == "deactivated":
        rotate(cluster)
    else:
        cluster.execute(f"SELECT pci.{CHANGES[state]}_key(%s, 'because')", (key,), user="cy")


def state(cluster, key):
    return cluster.value("SELECT state FROM pci.keys WHERE id = %s", (key,))


def history(cluster, key):
    return cluster.execute("SELECT state, changed_by, reason FROM pci.key_history WHERE key = %s ORDER BY changed_at", (key,))


def refused(cluster, sql, user, sqlstate, match=None):
    with pytest.raises(psycopg.Error, match=match) as caught:
        cluster.execute(sql, user=user)
    assert caught.value.sqlstate == sqlstate, caught.value
    return caught.value


def store(cluster, *cards, first=1):
    with cluster.connect("full") as conn:
        for i, card in enumerate(cards, first):
            conn.execute("INSERT INTO kept VALUES (%s, %s)", (i, card))
    return cluster.value("SELECT pci.key_id(card) FROM kept WHERE id = %s", (first,))


# States.

@pytest.mark.parametrize("after", ["active", "suspended", "compromised", "destroyed"])
@pytest.mark.parametrize("before", STATES)
def test_transitions_are_those_of_the_standard(life, before, after):
    key = rotate(life)
    if before != "active":
        change(life, key, before)
    past = history(life, key)
    if after in LEGAL[before]:
        change(life, key, after)
        assert state(life, key) == after
        assert [row[0] for row in history(life, key)] == [row[0] for row in past] + [after]
    else:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            change(life, key, after)
        assert state(life, key) == before and history(life, key) == past


@pytest.mark.parametrize("before", STATES)
def test_rotation_deactivates_active_keys_only(life, before):
    key = rotate(life)
    if before != "active":
        change(life, key, before)
    rotate(life)
    assert state(life, key) == ("deactivated" if before == "active" else before)


def test_history_says_when_who_and_why(life):
    start = life.value("SELECT clock_timestamp()")
    key = rotate(life)
    life.execute("SELECT pci.suspend_key(%s, 'a laptop was lost')", (key,), user="di")
    life.execute("SELECT pci.resume_key(%s, 'it was found')", (key,), user="cy")
    destroy(life, key, "no more use")
    assert history(life, key) == [("active", "cy", "made"), ("suspended", "di", "a laptop was lost"),
                                  ("active", "cy", "it was found"), ("destroyed", "di", "no more use")]
    times = [row[0] for row in life.execute(
        "SELECT changed_at FROM pci.key_history WHERE key = %s ORDER BY changed_at", (key,))]
    assert start <= times[0] and times[-1] <= life.value("SELECT clock_timestamp()")
    since, by = life.execute("SELECT since, changed_by FROM pci.keys WHERE id = %s", (key,))[0]
    assert (since, by) == (times[-1], "di")


@pytest.mark.parametrize("function", ["suspend", "resume", "compromise", "destroy"])
def test_a_change_needs_a_reason_and_the_duty(life, function):
    key = rotate(life)
    refused(life, f"SELECT pci.{function}_key({key}, ' ')", "cy", "22023", "reason")
    for user in ("ann", "eve", "full", "postgres"):
        refused(life, f"SELECT pci.{function}_key({key}, 'because')", user, "42501", "pci_custodian")
    refused(life, f"SELECT pci.{function}_key(1, 'because')", "cy", "22023", "unknown")
    assert state(life, key) == "active"


def test_two_custodians_at_once_make_no_illegal_step(life):
    """The second waits for the first, and finds the state that the first left."""
    key = rotate(life)
    with life.connect("cy", autocommit=False) as first, life.connect("di", autocommit=False) as second:
        first.execute("SELECT pci.compromise_key(%s, 'seen')", (key,))
        second.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            second.execute("SELECT pci.suspend_key(%s, 'not sure')", (key,))
        second.rollback()
        first.commit()
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="compromised does not become suspended"):
            second.execute("SELECT pci.suspend_key(%s, 'not sure')", (key,))


def test_the_policy_key_stays_active(life):
    key = life.value("SELECT id FROM pci.keys WHERE purpose = 'policy'")
    for function in ("suspend", "compromise", "destroy"):
        refused(life, f"SELECT pci.{function}_key({key}, 'because')", "cy", "55000", "policy stays active")


@pytest.mark.parametrize("sql", [
    "SELECT pci.rotate_key('default')", "SELECT pci.shred_vault('default', 'because')",
    "SELECT pci.rewrap_keys('default', 'aws', 'key')", "SELECT pci.confirm_rewrap('default')",
    "SELECT pci.reencrypted(card) FROM payments", "CALL pci.reencrypt('payments', 'card')",
    "SELECT pci.note_reencryption('payments', 'card', 1, 1, 1, true)",
])
def test_keys_are_for_custodians(life, sql):
    for user in ("full", "postgres"):
        refused(life, sql, user, "42501", "pci_custodian")
    for user in ("ann", "eve"):
        refused(life, sql, user, "42501")
    with life.connect() as conn:
        conn.execute("GRANT ALL ON payments TO cy; SET ROLE cy")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="pci_custodian"):
            conn.execute(sql)


def test_a_key_is_due_before_its_cryptoperiod_ends(life):
    key = rotate(life)
    made, due, is_due = life.execute("SELECT created_at, due_at, is_due FROM pci.keys WHERE id = %s", (key,))[0]
    assert datetime.timedelta(365) <= due - made <= datetime.timedelta(366) and is_due is False
    rotate(life)
    assert life.execute("SELECT due_at, is_due FROM pci.keys WHERE id = %s", (key,)) == [(None, False)]
    assert life.value("SELECT count(*) FROM pci.keys WHERE due_at IS NOT NULL") == 1


# Rotation.

def test_rotation(life):
    old = store(life, VISA_2, MASTERCARD_2)
    new = rotate(life)
    assert new != old and store(life, AMEX, first=3) == new
    assert life.execute("SELECT id, pci.reveal(card) FROM kept ORDER BY id", user="full") == \
        [(1, VISA_2), (2, MASTERCARD_2), (3, AMEX)]
    for i, card in ((1, VISA_2), (3, AMEX)):
        assert life.execute("SELECT id FROM kept WHERE card = %s", (card,), user="full") == [(i,)]
    assert life.execute("SELECT id, pci.is_outdated(card) FROM kept ORDER BY id") == [(1, True), (2, True), (3, False)]
    # The same number is the same number under any key.
    refused(life, f"INSERT INTO kept VALUES (4, '{VISA_2}')", "full", "23505")
    with life.connect("full") as conn:
        conn.execute(f"CREATE TEMP TABLE other AS SELECT '{VISA_2}'::text::pci.pan AS card")
        assert conn.execute("SELECT k.id, pci.key_id(k.card) <> pci.key_id(o.card) FROM kept k JOIN other o USING (card)"
                            ).fetchall() == [(1, True)]
    assert life.reveals() == CLEAR


def test_a_session_that_stored_already_takes_the_new_key(life):
    with life.connect("full") as conn:
        conn.execute(f"INSERT INTO kept VALUES (1, '{VISA_2}')")
        new = rotate(life)
        conn.execute(f"INSERT INTO kept VALUES (2, '{VISA_3}')")
        assert conn.execute("SELECT pci.key_id(card) FROM kept WHERE id = 2").fetchone() == (new,)


def test_an_aborted_rotation_changes_nothing(life):
    before = life.execute("SELECT id, state FROM pci.keys ORDER BY id")
    with life.connect("cy", autocommit=False) as conn:
        conn.execute("SELECT pci.rotate_key('default')")
        conn.rollback()
    assert life.execute("SELECT id, state FROM pci.keys ORDER BY id") == before
    store(life, VISA_2)
    assert life.value("SELECT pci.reveal(card) FROM kept", user="full") == VISA_2


# What a state allows.

def test_a_suspended_key_opens_and_seals_nothing(life):
    key = store(life, VISA_2)
    life.execute("SELECT pci.suspend_key(%s, 'a doubt')", (key,), user="cy")
    assert life.value("SELECT pci.reveal(card) FROM kept", user="clerk") == VISA_2
    refused(life, f"INSERT INTO kept VALUES (2, '{VISA_3}')", "full", "55000", "no active key")
    life.execute("SELECT pci.resume_key(%s, 'no doubt')", (key,), user="cy")
    assert store(life, VISA_3, first=2) == key


def goes_on_without_a_key(cluster, user="look"):
    """Masks, joins and equality of values that no key opens."""
    assert cluster.execute("SELECT card, pci.last4(card) FROM kept WHERE id = 1") == [("401288******1881", "1881")]
    assert cluster.value("SELECT count(*) FROM kept a JOIN kept b USING (card) WHERE a.id = 1", user=user) == 1
    cluster.execute("REINDEX TABLE kept")
    cluster.execute("ANALYZE kept")


def test_a_compromised_key_only_reencrypts(life):
    key = store(life, VISA_2)
    with life.connect("clerk") as conn:
        assert conn.execute("SELECT pci.reveal(card) FROM kept").fetchall() == [(VISA_2,)]
        life.execute("SELECT pci.compromise_key(%s, 'seen elsewhere')", (key,), user="cy")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="key of this card number is compromised"):
            conn.execute("SELECT pci.reveal(card) FROM kept")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="compromised"):
            life.execute("SELECT pci.hash_pan(card) FROM kept", user="look")
        goes_on_without_a_key(life)
        new = rotate(life)
        assert life.execute("SELECT id FROM kept WHERE card = %s", (VISA_2,), user="full") == [(1,)]
        life.execute("GRANT ALL ON kept TO cy")
        life.execute("CALL pci.reencrypt('kept', 'card')", user="cy")
        assert life.value("SELECT pci.key_id(card) FROM kept") == new
        assert conn.execute("SELECT pci.reveal(card) FROM kept").fetchall() == [(VISA_2,)]


def test_the_session_that_reencrypts_reveals_nothing_of_a_compromised_key(life):
    key = store(life, VISA_2)
    life.execute("SELECT pci.compromise_key(%s, 'seen elsewhere')", (key,), user="cy")
    rotate(life)
    life.execute("GRANT SELECT ON kept TO cy")
    life.grant("cy", "reveal")
    with life.connect("cy") as conn:
        assert conn.execute("SELECT pci.is_outdated(pci.reencrypted(card)) FROM kept").fetchone() == (False,)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="compromised"):
            conn.execute("SELECT pci.reveal(card) FROM kept")
        assert conn.execute("SELECT pci.reveal(pci.reencrypted(card)) FROM kept").fetchone() == (VISA_2,)
    life.execute("SELECT pci.revoke_access('cy', 'default', 'reveal')", user="ann")


def test_destroying_takes_two_and_tells_how_many_values_are_lost(life):
    store(life, VISA_2, MASTERCARD_2, VISA_3)
    key = rotate(life)
    life.execute("CREATE TABLE public.part_of (card pci.pan) PARTITION BY HASH (card);"
                 "CREATE TABLE part_0 PARTITION OF part_of FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
                 "CREATE DOMAIN card AS pci.pan; CREATE DOMAIN best AS card; CREATE TABLE public.dom (card best);"
                 "CREATE MATERIALIZED VIEW later AS SELECT card FROM kept WITH NO DATA;"
                 'GRANT ALL ON part_of, dom TO "full"')
    with life.connect("full") as conn:
        conn.execute(f"INSERT INTO part_of VALUES ('{VISA}'), ('{MASTERCARD}')")
        conn.execute(f"INSERT INTO dom VALUES ('{VISA}')")
    with life.connect("cy") as conn, life.connect("full") as temporary:
        temporary.execute(f"CREATE TEMP TABLE mine AS SELECT '{VISA}'::text::pci.pan AS card")
        said = []
        conn.add_notice_handler(lambda notice: said.append(notice.message_primary))
        request = conn.execute("SELECT pci.destroy_key(%s, 'worn out')", (key,)).fetchone()[0]
    counted = [text for text in said if text.startswith("3 stored values use the key")]
    assert len(counted) == 1 and "constants in views and defaults, replicas and backups are not counted" in counted[0], said
    assert any(f"pci.approve({request})" in text for text in said)
    # Asked is not done; nor is it one person's.
    assert state(life, key) == "active"
    for user in ("cy", "ann", "postgres"):
        refused(life, f"SELECT pci.approve({request})", user, "42501")
    assert life.execute("SELECT pci.reveal(card) FROM dom", user="full") == [(VISA,)]
    life.execute("SELECT pci.approve(%s)", (request,), user="di")
    assert state(life, key) == "destroyed"
    life.execute("DROP TABLE part_of, dom CASCADE; DROP DOMAIN best, card; DROP MATERIALIZED VIEW later")


def test_a_destroyed_key_is_gone(life):
    key = store(life, VISA_2, MASTERCARD_2)
    check = life.value("SELECT check_value FROM pci.keys WHERE id = %s", (key,))
    rotate(life)
    destroy(life, key)
    # The wrapped form; what is known of the key stays.
    assert life.execute("SELECT wrapped, next_wrapped FROM pci.key WHERE id = %s", (key,)) == [(b"", None)]
    assert life.value("SELECT check_value FROM pci.keys WHERE id = %s", (key,)) == check
    error = refused(life, "SELECT pci.reveal(card) FROM kept", "clerk", "55000", "key of this card number is destroyed")
    assert str(key) in error.diag.message_hint
    refused(life, "SELECT pci.hash_pan(card) FROM kept", "look", "55000", "destroyed")
    goes_on_without_a_key(life)
    assert life.execute("SELECT id FROM kept WHERE card = %s", (VISA_2,), user="full") == [(1,)]
    refused(life, f"INSERT INTO kept VALUES (4, '{VISA_2}')", "full", "23505")
    # Re-encryption passes over what is lost, and does the rest.
    store(life, AMEX, first=3)
    new = rotate(life)
    life.execute("GRANT ALL ON kept TO cy")
    life.execute("CALL pci.reencrypt('kept', 'card')", user="cy")
    assert life.execute("SELECT id, pci.key_id(card) FROM kept ORDER BY id") == [(1, key), (2, key), (3, new)]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_other_sessions_lose_a_destroyed_key_at_commit(life, isolation):
    key = store(life, VISA_2)
    rotate(life)
    ways = {"a statement": "SELECT pci.reveal(card) FROM kept",
            "no table": f"SELECT pci.reveal($${sealed(life)}$$::pci.pan)"}
    with life.connect("clerk") as other, life.connect("clerk", autocommit=False) as within, life.connect("di", autocommit=False) as di:
        within.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        for conn in (other, within):
            for sql in ways.values():
                assert conn.execute(sql).fetchall() == [(VISA_2,)]
        cached = life.value("SELECT cached_keys FROM pci.key_status")
        request = life.value("SELECT pci.destroy_key(%s, 'worn out')", (key,), user="cy")
        # Aborted: nothing happened.
        di.execute("SELECT pci.approve(%s)", (request,))
        assert other.execute(ways["no table"]).fetchall() == [(VISA_2,)]
        di.rollback()
        assert state(life, key) == "deactivated"
        assert life.value("SELECT state FROM pci.requests WHERE id = %s", (request,)) == "open"
        for sql in ways.values():
            assert other.execute(sql).fetchall() == [(VISA_2,)]
        assert life.value("SELECT cached_keys FROM pci.key_status") == cached
        # Approved, and used once more by another session before that commits.
        di.execute("SELECT pci.approve(%s)", (request,))
        assert other.execute(ways["a statement"]).fetchall() == [(VISA_2,)]
        di.commit()
        assert life.value("SELECT cached_keys FROM pci.key_status") == cached - 1
        for sql in ways.values():
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="destroyed"):
                other.execute(sql)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="destroyed"):
            within.execute(ways["a statement"])
        within.rollback()


def test_a_statement_that_runs_loses_a_destroyed_key(life):
    """A cursor that is open keeps no key: the next row is refused."""
    key = store(life, VISA_2, MASTERCARD_2, VISA_3)
    rotate(life)
    with life.connect("clerk", autocommit=False) as reader:
        reader.execute("DECLARE c CURSOR FOR SELECT pci.reveal(card) FROM kept ORDER BY id")
        assert reader.execute("FETCH 1 FROM c").fetchall() == [(VISA_2,)]
        destroy(life, key)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="destroyed"):
            reader.execute("FETCH 1 FROM c")


def test_a_load_that_runs_seals_nothing_with_a_destroyed_key(life):
    """COPY goes on with the key that it began with, but not with one that is no more."""
    key = rotate(life)
    with life.connect("full") as conn:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="destroyed"):
            with conn.cursor().copy("COPY kept FROM STDIN") as copy:
                copy.write(f"1\t{VISA_2}\n")
                # Sent and processed before the key goes.
                copy.write("".join(f"{i}\t{card}\n" for i, card in enumerate(cards(5000), 100)))
                destroy(life, key)
                copy.write("".join(f"{i}\t{card}\n" for i, card in enumerate(cards(5000, 5000), 10000)))
    assert life.value("SELECT count(*) FROM kept") == 0


def cards(count, first=0):
    """Numbers in a test range."""
    for i in range(first, first + count):
        body = f"411111{i:09d}"
        total = sum(int(d) if j % 2 else sum(divmod(2 * int(d), 10)) for j, d in enumerate(body))
        yield f"{body}{-total % 10}"


def sealed(cluster):
    """The value of `kept` as the role backup sees it."""
    cluster.execute("GRANT SELECT ON kept TO backup")
    with cluster.connect("backup") as conn:
        conn.execute("SET pgpci.pan_output = sealed")
        return conn.execute("SELECT card FROM kept").fetchone()[0]


def test_shredding_a_vault(fresh_cluster):
    one = fresh_cluster()
    rotate(one)
    one.execute(f"INSERT INTO payments VALUES (9, '{VISA_3}', 1)", user="full")
    with one.connect("full") as conn:
        assert len(conn.execute("SELECT pci.reveal(card) FROM payments").fetchall()) == 5
        request = one.value("SELECT pci.shred_vault('default', 'the contract ended')", user="cy")
        assert one.execute("SELECT DISTINCT state FROM pci.keys WHERE vault = 'default' ORDER BY 1") == [("active",), ("deactivated",)]
        one.execute("SELECT pci.approve(%s)", (request,), user="di")
        assert one.execute("SELECT DISTINCT state, vault FROM pci.keys ORDER BY 1") == [("active", None), ("destroyed", "default")]
        assert one.value("SELECT count(*) FROM pci.key WHERE wrapped <> '' AND vault = 1") == 0
        for sql in ("SELECT pci.reveal(card) FROM payments", f"INSERT INTO payments VALUES (10, '{VISA_2}', 1)",
                    f"SELECT id FROM payments WHERE card = '{VISA}'::text", "SELECT pci.hash_pan(card) FROM payments"):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                conn.execute(sql)
        assert conn.execute("SELECT id, card FROM payments WHERE id < 9 ORDER BY id").fetchall() == MASKED
        assert conn.execute("SELECT count(*) FROM payments a JOIN payments b USING (card)").fetchone() == (5,)
    one.restart()
    refused(one, "SELECT pci.reveal(card) FROM payments", "full", "55000", "destroyed")
    one.execute("VACUUM pci.key")


def test_a_standby_learns_of_a_destroyed_key(fresh_cluster):
    from test_replication import base_backup, caught_up, copy_key
    primary, standby = fresh_cluster(), fresh_cluster(start=False)
    base_backup(primary, standby, standby=True)
    copy_key(primary, standby)
    standby.start()
    key = primary.value("SELECT pci.key_id(card) FROM payments WHERE id = 1")
    with standby.connect("clerk") as conn:
        assert len(conn.execute("SELECT pci.reveal(card) FROM payments").fetchall()) == 4
        rotate(primary)
        destroy(primary, key)
        caught_up(primary, standby)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="destroyed"):
            conn.execute("SELECT pci.reveal(card) FROM payments")


# Other wrapping keys: what a local key file shows of it. (tests/kms has the rest.)

@pytest.mark.parametrize("provider,kek,sqlstate", [
    ("nowhere", "key", "55000"), ("aws", "", None), ("pkcs11", "none", None),
])
def test_a_rewrap_that_fails_changes_nothing(life, provider, kek, sqlstate):
    before = life.execute("SELECT * FROM pci.key ORDER BY id")
    with pytest.raises(psycopg.Error) as caught:
        life.execute("SELECT pci.rewrap_keys('default', %s, %s)", (provider, kek), user="cy")
    assert caught.value.sqlstate in ({sqlstate} if sqlstate else {"55000", "57P03", "58000", "22023"}), caught.value
    assert life.execute("SELECT * FROM pci.key ORDER BY id") == before
    refused(life, "SELECT pci.confirm_rewrap('default')", "cy", "55000", "no rewrap")
    refused(life, "SELECT pci.rewrap_keys('nowhere', 'aws', 'key')", "cy", "22023", "no vault")
    assert life.reveals() == CLEAR
