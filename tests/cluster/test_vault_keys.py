"""The keys of vaults: which wrapping keys a database may use, cryptoperiods, new comparison keys, life after the end."""

import base64
import threading

import psycopg
import pytest
from conftest import AMEX, CLEAR, DISCOVER, MASKED, MASTERCARD, VISA, VISA_2, VISA_3
from support.providers import until


def refused(cluster, sql, user, sqlstate, match=None, dbname="postgres"):
    with pytest.raises(psycopg.Error, match=match) as caught:
        cluster.execute(sql, user=user, dbname=dbname)
    assert caught.value.sqlstate == sqlstate, caught.value
    return caught.value


@pytest.fixture(scope="module")
def keys(module_cluster):
    one = module_cluster()
    one.execute("SELECT pci.create_vault('eu')", user="cy")
    one.execute("SELECT pci.create_vault('dark', searchable => false)", user="cy")
    for vault in ("eu", "dark"):
        for capability in ("store", "search", "reveal"):
            one.grant("full", capability, vault=vault)
    return one


# pgpci.kek_allow

INIT = "SELECT pci.init(officers => '{{ann,bob}}', custodians => '{{cy,di}}', auditors => '{{eve,fay}}', provider => '{}', kek => '{}')"


def test_a_database_uses_the_wrapping_keys_that_it_is_allowed(fresh_cluster):
    one = fresh_cluster("pgpci.kek_allow = 'postgres=local:, other=aws:arn:aws:kms:eu-west-1:111122223333:key/1'")
    assert one.reveals() == CLEAR
    one.execute("CREATE DATABASE other")
    one.execute("CREATE EXTENSION pgpci", dbname="other")
    one.execute("ALTER ROLE ann SUPERUSER", user="postgres")
    error = refused(one, INIT.format("local", ""), "ann", "42501", 'database "other" is not allowed', dbname="other")
    assert error.diag.message_hint == "pgpci.kek_allow in the configuration file has no entry other=local:."
    refused(one, INIT.format("aws", "alias/cards"), "ann", "42501", '"alias/cards" of aws', dbname="other")
    # Allowed, it is asked for.
    allowed = refused(one, INIT.format("aws", "arn:aws:kms:eu-west-1:111122223333:key/1"), "ann", "55000", dbname="other")
    assert "pgpci.aws_region" in allowed.diag.message_hint
    for sql in ("SELECT pci.create_vault('x', 'aws', 'alias/cards')", "SELECT pci.rewrap_keys('default', 'aws', 'alias/cards')"):
        refused(one, sql, "cy", "42501", "not allowed")
    assert one.value("SELECT count(*) FROM pci.vaults") == 1
    # Taken away, keys that are there are not used either.
    one.configure("pgpci.kek_allow = 'other=local:'")
    one.restart()
    for sql in ("SELECT pci.reveal(card) FROM payments", f"INSERT INTO payments VALUES (9, '{VISA_3}', 1)",
                f"SELECT id FROM payments WHERE card = '{VISA}'::text"):
        refused(one, sql, "full", "42501", 'database "postgres" is not allowed')
    assert one.execute("SELECT id, card FROM payments ORDER BY id") == MASKED
    one.configure("pgpci.kek_allow = ''")
    until(lambda: one.value("SHOW pgpci.kek_allow") == "", "the setting is read")
    assert one.reveals() == CLEAR


def test_the_list_is_the_files(keys):
    for sql in ("SET pgpci.kek_allow = 'postgres=local:'", "ALTER SYSTEM SET pgpci.kek_allow = ''", "SET pgpci.key_mode = encrypt_only",
                "ALTER SYSTEM SET pgpci.key_mode = normal"):
        with pytest.raises(psycopg.Error) as caught:
            keys.execute(sql)
        assert caught.value.sqlstate in ("55P02", "42501", "0A000"), caught.value


# Cryptoperiods.

def test_a_longer_cryptoperiod_takes_two(keys):
    period = "SELECT cryptoperiod::text FROM pci.vaults WHERE name = 'eu'"
    assert keys.value(period) == "1 year"
    assert keys.value("SELECT pci.set_cryptoperiod('eu', '90 days')", user="cy") is None
    assert keys.value(period) == "90 days"
    request = keys.value("SELECT pci.set_cryptoperiod('eu', '2 years')", user="cy")
    assert keys.value(period) == "90 days"
    assert keys.execute("SELECT kind, vault, cryptoperiod::text, requested_by FROM pci.requests WHERE id = %s", (request,)) == [
        ("lengthen cryptoperiod", "eu", "2 years", "cy")]
    refused(keys, f"SELECT pci.approve({request})", "cy", "42501", "own")
    refused(keys, f"SELECT pci.approve({request})", "ann", "42501", "pci_custodian")
    keys.execute("SELECT pci.approve(%s)", (request,), user="di")
    assert keys.value(period) == "2 years"
    for wrong in ("0", "-1 day"):
        refused(keys, f"SELECT pci.set_cryptoperiod('eu', '{wrong}')", "cy", "22023", "positive")
    refused(keys, "SELECT pci.set_cryptoperiod('eu', '1 day')", "ann", "42501", "pci_custodian")
    keys.execute("SELECT pci.set_cryptoperiod('eu', '1 year')", user="cy")


def test_custodians_are_warned_of_what_is_due(keys):
    def warnings(sql):
        heard = []
        with keys.connect("cy") as conn:
            conn.add_notice_handler(lambda d: heard.append((d.severity, d.message_primary, d.message_hint)))
            conn.execute(sql)
        return heard
    key = keys.value("SELECT id FROM pci.keys WHERE vault = 'eu' AND purpose = 'data' AND state = 'active'")
    quiet = "SELECT pci.set_cryptoperiod('dark', '1 year')"
    assert warnings(quiet) == []
    keys.execute("SELECT pci.set_cryptoperiod('eu', '20 milliseconds')", user="cy")
    until(lambda: keys.value("SELECT is_due FROM pci.keys WHERE id = %s", (key,)), "the key is due")
    (severity, message, hint), = warnings(quiet)
    assert severity == "WARNING" and message.startswith(f'key {key} of vault "eu" is to be replaced by ')
    assert hint == "SELECT pci.rotate_key('eu'), then CALL pci.reencrypt."
    assert f'key {key} of vault "eu" is to be replaced' in keys.log
    # Nobody else is bothered, and the server log has it once a session.
    keys.execute("CREATE TABLE public.due (card pci.pan('eu')); GRANT ALL ON due TO \"full\"")
    with keys.connect("full") as conn:
        heard = []
        conn.add_notice_handler(lambda d: heard.append(d.message_primary))
        for _ in range(3):
            conn.execute(f"INSERT INTO due VALUES ('{VISA}')")
    assert heard == [] and keys.log.count(f'key {key} of vault "eu" is used beyond its cryptoperiod') == 1
    request = keys.value("SELECT pci.set_cryptoperiod('eu', '1 year')", user="cy")
    keys.execute("SELECT pci.approve(%s)", (request,), user="di")
    keys.execute("SELECT pci.rotate_key('eu')", user="cy")
    assert warnings(quiet) == []


# New comparison keys.

SHOP = """
CREATE TABLE public.cards (id int PRIMARY KEY, card pci.pan('eu') UNIQUE, note text);
CREATE TABLE public.uses (id int, card pci.pan('eu') REFERENCES cards (card) ON UPDATE RESTRICT, other pci.pan);
CREATE INDEX ON public.uses USING hash (card);
CREATE TABLE public.parts (id int, card pci.pan) PARTITION BY HASH (card);
CREATE TABLE public.part_0 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.part_1 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE public.parent (id int, card pci.pan);
CREATE TABLE public.child (also pci.pan) INHERITS (public.parent);
CREATE DOMAIN public.eu_pan AS pci.pan('eu');
CREATE TABLE public.domains (id int, card public.eu_pan);
CREATE DOMAIN public.best_pan AS public.eu_pan;
CREATE TABLE public.best (id int, card public.best_pan);
CREATE TABLE public.fired (what text);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.fired VALUES (TG_OP); RETURN NULL; END$$;
CREATE TRIGGER note AFTER UPDATE ON public.cards FOR EACH STATEMENT EXECUTE FUNCTION public.note();
GRANT ALL ON ALL TABLES IN SCHEMA public TO "full"
"""
NUMBERS = [(1, VISA), (2, MASTERCARD), (3, AMEX), (4, DISCOVER), (5, VISA_2)]
COLUMNS = [("cards", "card"), ("uses", "card"), ("uses", "other"), ("parts", "card"), ("parent", "card"), ("child", "also"), ("domains", "card"),
           ("best", "card")]


@pytest.fixture
def shop(fresh_cluster):
    one = fresh_cluster()
    one.execute("SELECT pci.create_vault('eu')", user="cy")
    for capability in ("store", "search", "reveal", "export"):
        one.grant("full", capability, vault="eu")
    one.execute(SHOP)
    with one.connect("full") as conn:
        for i, card in NUMBERS:
            conn.execute("INSERT INTO cards VALUES (%s, %s)", (i, card))
            conn.execute("INSERT INTO uses VALUES (%s, %s, %s::text::pci.pan('eu'))", (i, card, card))
            conn.execute("INSERT INTO parts VALUES (%s, %s::text::pci.pan('eu')), (%s, %s)", (i, card, i + 10, card))
            conn.execute("INSERT INTO parent VALUES (%s, %s::text::pci.pan('eu'))", (i, card))
            conn.execute("INSERT INTO child VALUES (%s, %s::text::pci.pan('eu'), %s::text::pci.pan('eu'))", (i, card, card))
            conn.execute("INSERT INTO domains VALUES (%s, %s)", (i, card))
            conn.execute("INSERT INTO best VALUES (%s, %s)", (i, card))
    return one


def sealed(conn, table, column):
    conn.execute("SET pgpci.pan_output = sealed")
    rows = conn.execute(f"SELECT {column}::pci.pan FROM {table} ORDER BY id").fetchall()
    conn.execute("RESET pgpci.pan_output")
    return [hash_of(row[0]) for row in rows]


def hash_of(text):
    coded = text.removeprefix("pan:1:")
    return base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4))[18:34]


def check(one):
    with one.connect("full") as conn:
        for table, column in COLUMNS:
            assert conn.execute(f"SELECT pci.reveal({column}) FROM {table} WHERE id < 10 ORDER BY id").fetchall() == sorted(
                [(card,) for _, card in NUMBERS] * (2 if table == "parent" else 1),
                key=lambda row: [card for _, card in NUMBERS].index(row[0])), (table, column)
        conn.execute("SET enable_seqscan = off")
        assert conn.execute("SELECT id FROM cards WHERE card = %s", (AMEX,)).fetchall() == [(3,)]
        assert conn.execute("SELECT id FROM uses WHERE card = %s::text", (AMEX,)).fetchall() == [(3,)]
        for table in ("domains", "best"):
            assert conn.execute(f"SELECT id FROM {table} WHERE card = %s", (AMEX,)).fetchall() == [(3,)]
        conn.execute("RESET enable_seqscan")
        assert conn.execute("SELECT count(*) FROM cards c JOIN uses u ON u.card = c.card AND u.other = c.card "
                            "JOIN parts p ON p.card = c.card JOIN parent q ON q.card = c.card").fetchone() == (10,)
        # Of vault default, in the same columns: untouched.
        assert conn.execute("SELECT id FROM parts WHERE card = %s", (AMEX,)).fetchall() == [(13,)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("INSERT INTO cards VALUES (9, %s)", (VISA,))
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            conn.execute("INSERT INTO uses VALUES (9, %s)", (VISA_3,))
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            conn.execute("DELETE FROM cards WHERE id = 1")
    one.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
    for index in ("cards_pkey", "cards_card_key"):
        one.execute(f"SELECT bt_index_check('{index}', true)")


def test_a_new_comparison_key(shop):
    with shop.connect("full") as conn:
        before = {(t, c): set(sealed(conn, t, c)) for t, c in COLUMNS}
        others = sealed(conn, "payments", "card")
    check(shop)
    key = shop.value("SELECT pci.rekey_equality('eu')", user="cy")
    check(shop)
    with shop.connect("full") as conn:
        for (table, column), old in before.items():
            of_default = set(sealed(conn, table, column)) & old
            # The plain partitioned table holds five values of vault default, too.
            assert len(of_default) == (5 if table == "parts" else 0), (table, column)
        assert sealed(conn, "payments", "card") == others
    assert shop.execute("SELECT version, state, id = %s FROM pci.keys WHERE vault = 'eu' AND purpose = 'equality' ORDER BY 1", (key,)) == [
        (1, "deactivated", False), (2, "active", True)]
    assert shop.value("SELECT count(*) FROM fired") == 0, "triggers of the table are not its business"
    # The old key is not needed any more.
    old = shop.value("SELECT id FROM pci.keys WHERE vault = 'eu' AND purpose = 'equality' AND version = 1")
    request = shop.value("SELECT pci.destroy_key(%s, 'replaced')", (old,), user="cy")
    shop.execute("SELECT pci.approve(%s)", (request,), user="di")
    shop.restart()
    check(shop)


def test_rekeying_is_all_or_nothing(shop):
    with shop.connect("full") as conn:
        before = sealed(conn, "cards", "card")
    with shop.connect("cy", autocommit=False) as conn:
        conn.execute("SELECT pci.rekey_equality('eu')")
        conn.rollback()
    with shop.connect("full") as conn:
        assert sealed(conn, "cards", "card") == before
    check(shop)


def test_rekeying_waits_for_writers_and_they_for_it(shop):
    """A value that was made before is not stored after."""
    with shop.connect("full", autocommit=False) as writer, shop.connect("cy", autocommit=False) as custodian:
        writer.execute(f"INSERT INTO cards VALUES (6, '{VISA_3}')")
        custodian.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            custodian.execute("SELECT pci.rekey_equality('eu')")
        custodian.rollback()
        writer.commit()
    failed = []

    def late():
        try:
            with shop.connect("full") as conn:
                conn.execute("PREPARE p(int, pci.pan) AS INSERT INTO uses (id, other) VALUES ($1, $2)")
                ready.set()
                locked.wait()
                conn.execute("EXECUTE p(7, '6200000000000005'::pci.pan('eu'))")
        except psycopg.Error as error:
            failed.append(error)

    ready, locked = threading.Event(), threading.Event()
    with shop.connect("cy", autocommit=False) as custodian:
        thread = threading.Thread(target=late)
        thread.start()
        ready.wait()
        custodian.execute("SELECT pci.rekey_equality('eu')")
        locked.set()
        until(lambda: shop.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1, "the writer waits")
        custodian.commit()
        thread.join()
    assert [error.sqlstate for error in failed] == ["40001"], failed
    assert shop.value("SELECT count(*) FROM uses WHERE id = 7") == 0
    assert shop.execute("SELECT id FROM cards WHERE card = %s", (VISA_3,), user="full") == [(6,)]
    shop.execute("DELETE FROM cards WHERE id = 6")
    check(shop)


def test_who_may_rekey_and_what(keys):
    for user in ("ann", "full", "postgres"):
        refused(keys, "SELECT pci.rekey_equality('eu')", user, "42501", "pci_custodian")
    refused(keys, "SELECT pci.rekey_equality('nowhere')", "cy", "22023", "no vault")
    refused(keys, "SELECT pci.rekey_equality('dark')", "cy", "0A000")
    refused(keys, "SELECT pci.rehashed(card) FROM payments", "full", "42501", "needs a member of pci_custodian")


def test_a_compromised_comparison_key_is_replaced(shop):
    key = shop.value("SELECT id FROM pci.keys WHERE vault = 'eu' AND purpose = 'equality'")
    shop.execute("SELECT pci.compromise_key(%s, 'seen')", (key,), user="cy")
    refused(shop, f"SELECT id FROM cards WHERE card = '{VISA}'", "full", "55000")
    refused(shop, f"INSERT INTO cards VALUES (9, '{VISA_3}')", "full", "55000")
    shop.execute("SELECT pci.rekey_equality('eu')", user="cy")
    check(shop)


def test_a_shredded_vault_takes_new_values(fresh_cluster):
    one = fresh_cluster()
    one.execute("SELECT pci.create_vault('eu')", user="cy")
    for capability in ("store", "search", "reveal"):
        one.grant("full", capability, vault="eu")
    one.execute("CREATE TABLE public.eu (id int, card pci.pan('eu')); GRANT ALL ON eu TO \"full\"")
    request = one.value("SELECT pci.shred_vault('default', 'the contract ended')", user="cy")
    one.execute("SELECT pci.approve(%s)", (request,), user="di")
    refused(one, f"INSERT INTO payments VALUES (9, '{VISA_3}', 1)", "full", "55000")
    # The other vault does not need it.
    one.execute(f"INSERT INTO eu VALUES (1, '{VISA}')", user="full")
    assert one.execute("SELECT id FROM eu WHERE card = %s", (VISA,), user="full") == [(1,)]
    one.execute("SELECT pci.rotate_key('default')", user="cy")
    assert one.execute("SELECT purpose, version, state FROM pci.keys WHERE vault = 'default' ORDER BY 1, 2") == [
        ("data", 1, "destroyed"), ("data", 2, "active"), ("equality", 1, "destroyed"), ("equality", 2, "active"),
        ("hash", 1, "destroyed"), ("hash", 2, "active")]
    with one.connect("full") as conn:
        # The number is there already, under the hash of a key that is no more.
        conn.execute(f"INSERT INTO payments VALUES (9, '{VISA}', 1)")
        assert conn.execute("SELECT id FROM payments WHERE card = %s", (VISA,)).fetchall() == [(9,)]
        assert conn.execute("SELECT pci.reveal(card) FROM payments WHERE id = 9").fetchall() == [(VISA,)]
        assert len(conn.execute("SELECT pci.hash_pan(card) FROM payments WHERE id = 9").fetchone()[0]) == 32
        assert conn.execute("SELECT id, card FROM payments WHERE id < 9 ORDER BY id").fetchall() == MASKED
    error = refused(one, "SELECT pci.reveal(card) FROM payments WHERE id = 1", "full", "55000", "destroyed")
    assert "pci.keys" in error.diag.message_hint


# What custodians call has the rights of a superuser, and touches tables of everybody.

WITNESS = """BEGIN
    INSERT INTO app.seen SELECT place, current_user;
    BEGIN GRANT pci_officer TO plain; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN DELETE FROM pci.access_grant; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN INSERT INTO pci.key_event VALUES (1, 'active', 'plain'); EXCEPTION WHEN OTHERS THEN NULL; END;
END"""


@pytest.fixture
def trap(keys):
    """A table of app's with code of app's in all places that a write or a plan comes by."""
    with keys.connect("app") as conn:
        conn.execute("CREATE TABLE app.seen (place text, who text); GRANT ALL ON app.seen TO PUBLIC; GRANT USAGE ON SCHEMA app TO PUBLIC")
        conn.execute(f"CREATE FUNCTION app.witness(place text) RETURNS void LANGUAGE plpgsql AS $f${WITNESS}$f$")
        for name in ("checked", "indexed", "folded"):
            conn.execute(f"CREATE FUNCTION app.{name}(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS "
                         f"$f$BEGIN PERFORM app.witness('{name}'); RETURN 1; END$f$")
        conn.execute("CREATE FUNCTION app.triggered() RETURNS trigger LANGUAGE plpgsql AS "
                     "$f$BEGIN PERFORM app.witness('triggered'); RETURN NULL; END$f$")
        conn.execute("CREATE TABLE app.trap (id int CHECK (app.checked(id) = 1), card pci.pan)")
        conn.execute("CREATE INDEX ON app.trap (app.indexed(id), card); CREATE INDEX ON app.trap (app.folded(1), id)")
        conn.execute(f"INSERT INTO app.trap VALUES (1, '{VISA}')")
        conn.execute("CREATE TRIGGER tr AFTER UPDATE ON app.trap FOR EACH ROW EXECUTE FUNCTION app.triggered()")
        conn.execute("ALTER TABLE app.trap ENABLE ALWAYS TRIGGER tr")
        conn.execute("CREATE POLICY nothing ON app.trap USING (false); ALTER TABLE app.trap ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        conn.execute("TRUNCATE app.seen")
    yield keys
    keys.execute("DROP TABLE app.trap, app.seen; DROP FUNCTION app.witness, app.checked, app.indexed, app.folded, app.triggered")


def assert_harmless(keys, before):
    seen = keys.execute("SELECT DISTINCT who FROM app.seen")
    assert not {who for who, in seen} - {"app"}, seen
    assert keys.value("SELECT pg_has_role('plain', 'pci_officer', 'member')") is False
    assert keys.execute("SELECT count(*), (SELECT count(*) FROM pci.key_event WHERE key = 1) FROM pci.access_grant") == [(before, 0)]


def test_rekey_gives_the_owners_of_tables_no_rights(trap):
    before = trap.value("SELECT count(*) FROM pci.access_grant")
    trap.execute("SELECT pci.rekey_equality('default')", user="cy")
    assert {place for place, in trap.execute("SELECT place FROM app.seen")} >= {"checked", "indexed", "triggered"}
    assert_harmless(trap, before)
    # And row security keeps no row from it.
    trap.execute("ALTER TABLE app.trap DISABLE ROW LEVEL SECURITY; GRANT SELECT ON app.trap TO \"full\"", user="app")
    assert trap.execute("SELECT p.id FROM app.trap t JOIN payments p ON t.card = p.card", user="full") == [(1,)]


def test_destroy_key_runs_nobodys_code(trap):
    before = trap.value("SELECT count(*) FROM pci.access_grant")
    key = trap.value("SELECT pci.key_id(card) FROM payments WHERE id = 1")
    trap.execute("SELECT pci.destroy_key(%s, 'to see what uses it')", (key,), user="cy")
    assert trap.execute("SELECT * FROM app.seen") == []
    assert_harmless(trap, before)
    # All are counted, whatever row security says to others.
    assert trap.execute("SELECT relation::text, uses FROM pci.key_usage(%s) WHERE uses > 0 ORDER BY 1", (key,)) == [("app.trap", 1), ("payments", 4)]
