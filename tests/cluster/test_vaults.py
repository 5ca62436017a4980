"""Several vaults in a database: values, columns, comparands and capabilities of each."""

import psycopg
import pytest
from conftest import AMEX, DISCOVER, MASTERCARD, MASTERCARD_2, VISA, VISA_2, VISA_3
from trail import events, records, wait_for

EU_GRANTS = {
    "eu_app": {"eu": ["store"]},
    "eu_look": {"eu": ["search"]},
    "eu_full": {"eu": ["store", "search", "reveal", "export"]},
    "dark_app": {"dark": ["store"]},
    # May build in one vault and compare in the other.
    "mixed": {"eu": ["store"], "default": ["search"]},
    "world": {v: ["store", "search", "reveal", "export"] for v in ("default", "eu", "us", "dark")},
}
TABLES = """
SET search_path = public;
CREATE TABLE eu (id int PRIMARY KEY, card pci.pan('eu') UNIQUE);
CREATE TABLE us (id int PRIMARY KEY, card pci.pan('us'));
CREATE TABLE dark (id int PRIMARY KEY, card pci.pan('dark'));
CREATE TABLE mixture (id int PRIMARY KEY, card pci.pan);
CREATE TABLE texts (id int, number text);
GRANT ALL ON eu, us, dark, mixture, texts, payments TO PUBLIC;
"""
MASK = {VISA: "411111******1111", MASTERCARD: "555555******4444", AMEX: "378282*****0005"}


@pytest.fixture(scope="module")
def vaults(module_cluster):
    one = module_cluster()
    assert one.value("SELECT pci.create_vault('eu')", user="cy") == 2
    assert one.value("SELECT pci.create_vault('us', display_first => 4, display_last => 0)", user="di") == 3
    assert one.value("SELECT pci.create_vault('dark', searchable => false)", user="cy") == 4
    for role, grants in EU_GRANTS.items():
        one.execute(f"CREATE ROLE {role} LOGIN")
        for vault, capabilities in grants.items():
            for capability in capabilities:
                one.grant(role, capability, vault=vault)
    one.execute(TABLES)
    return one


@pytest.fixture(autouse=True)
def empties(vaults):
    yield
    vaults.execute("TRUNCATE eu, us, dark, mixture, texts")


def refused(cluster, sql, user, sqlstate="42501", match=None, params=None, options=None):
    with cluster.connect(user, options=options) as conn, pytest.raises(psycopg.Error, match=match) as caught:
        conn.execute(sql, params)
    assert caught.value.sqlstate == sqlstate, caught.value
    assert VISA not in str(caught.value)
    return caught.value


def vault_of(cluster, table, where="true"):
    return [row[0] for row in cluster.execute(
        f"SELECT v.name FROM {table} t JOIN pci.key k ON k.id = pci.key_id(t.card) JOIN pci.vault v ON v.number = k.vault "
        f"WHERE {where} ORDER BY t.id")]


# Making vaults.

def test_a_vault_has_keys_of_its_own(vaults):
    assert vaults.execute("SELECT number, name, provider, display_first, display_last, searchable, created_by FROM pci.vaults ORDER BY 1") == [
        (1, "default", "local", 6, 4, True, "postgres"), (2, "eu", "local", 6, 4, True, "cy"),
        (3, "us", "local", 4, 0, True, "di"), (4, "dark", "local", 6, 4, False, "cy")]
    keys = vaults.execute("SELECT vault, purpose, version, state FROM pci.keys WHERE vault IN ('eu', 'dark') ORDER BY 1, 2")
    assert keys == [("dark", "data", 1, "active"), ("eu", "data", 1, "active"), ("eu", "equality", 1, "active"), ("eu", "hash", 1, "active")]


@pytest.mark.parametrize("arguments,sqlstate", [
    ("'eu'", "42710"), ("''", "22023"), ("'7'", "22023"), ("' x'", "22023"), ("repeat('x', 64)", "22023"), ("NULL", "22004"),
    ("'x', display_first => 9", "22023"), ("'x', display_last => 5", "22023"), ("'x', searchable => NULL", "22004"),
    ("'x', provider => 'aws'", "22023"), ("'x', provider => 'nobody', kek => 'x'", "55000")])
def test_what_cannot_be_made(vaults, arguments, sqlstate):
    refused(vaults, f"SELECT pci.create_vault({arguments})", "cy", sqlstate)
    assert vaults.value("SELECT count(*) FROM pci.vaults") == 4
    assert vaults.value("SELECT count(*) FROM pci.key WHERE vault > 4") == 0


@pytest.mark.parametrize("user", ["ann", "eve", "full", "postgres"])
def test_custodians_make_vaults(vaults, user):
    refused(vaults, "SELECT pci.create_vault('x')", user, match="pci_custodian")


def test_the_display_rule_is_the_vaults(vaults):
    with vaults.connect("world") as conn:
        conn.execute(f"INSERT INTO us VALUES (1, '{VISA}'), (2, '{AMEX}')")
        assert conn.execute("SELECT card FROM us ORDER BY id").fetchall() == [("4111************",), ("3782***********",)]
    request = vaults.value("SELECT pci.set_display('us', 8, 4)", user="ann")
    vaults.execute("SELECT pci.approve(%s)", (request,), user="bob")
    with vaults.connect("world") as conn:
        conn.execute(f"INSERT INTO us VALUES (3, '{VISA}'), (4, '{AMEX}')")
        # Never beyond the brand's limit.
        assert conn.execute("SELECT card FROM us WHERE id > 2 ORDER BY id").fetchall() == [("41111111****1111",), (MASK[AMEX],)]
    vaults.execute("SELECT pci.set_display('us', 4, 0)", user="ann")


def test_capabilities_are_a_vaults(vaults):
    vaults.execute(f"INSERT INTO eu VALUES (1, '{VISA}')", user="eu_app")
    assert refused(vaults, "SELECT pci.reveal(card) FROM eu", "full").diag.message_hint == \
        "An officer runs SELECT pci.grant_access('full', 'eu', 'reveal')."
    assert vaults.execute("SELECT pci.reveal(card) FROM eu", user="eu_full") == [(VISA,)]
    refused(vaults, "SELECT pci.reveal(card) FROM payments", "eu_full", match='vault "default"')
    refused(vaults, "SELECT pci.hash_pan(card) FROM eu", "full", match='vault "eu"')
    for user, table, vault in (("full", "eu", "eu"), ("eu_full", "payments", "default")):
        with vaults.connect(user) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege,
                                                         match=f'export sealed card numbers of vault "{vault}"'):
            with conn.cursor().copy(f"COPY {table} TO STDOUT") as copy:
                list(copy)
        refused(vaults, f"SELECT card FROM {table}", user, options="-c pgpci.pan_output=sealed", match=f'vault "{vault}"')


def test_hashes_are_a_vaults(vaults):
    with vaults.connect("world") as conn:
        conn.execute(f"INSERT INTO eu VALUES (1, '{VISA}')")
        conn.execute(f"INSERT INTO mixture VALUES (1, '{VISA}')")
        one, other = conn.execute("SELECT pci.hash_pan(e.card), pci.hash_pan(m.card) FROM eu e, mixture m").fetchone()
        assert len(one) == len(other) == 32 and one != other


def test_rotation_is_a_vaults(vaults):
    with vaults.connect("world") as conn:
        conn.execute(f"INSERT INTO eu VALUES (1, '{VISA}')")
        before = vaults.value("SELECT pci.key_id(card) FROM payments WHERE id = 1")
        key = vaults.value("SELECT pci.rotate_key('eu')", user="cy")
        conn.execute(f"INSERT INTO eu VALUES (2, '{AMEX}')")
        conn.execute(f"INSERT INTO mixture VALUES (2, '{AMEX}')")
        assert conn.execute("SELECT pci.key_id(card) = %s FROM eu ORDER BY id", (key,)).fetchall() == [(False,), (True,)]
        assert conn.execute("SELECT pci.key_id(card) = %s FROM mixture", (before,)).fetchall() == [(True,)]
        assert conn.execute("SELECT pci.reveal(card) FROM eu ORDER BY id").fetchall() == [(VISA,), (AMEX,)]
    vaults.execute("GRANT ALL ON eu TO cy")
    vaults.execute("CALL pci.reencrypt('eu', 'card')", user="cy")
    assert vaults.execute("SELECT DISTINCT pci.key_id(card) FROM eu") == [(key,)]
    assert vaults.execute("SELECT id FROM eu WHERE card = %s", (VISA,), user="eu_look") == [(1,)]


def test_rewrap_is_a_vaults(vaults):
    forms = "SELECT vault, next_wrapped IS NULL FROM pci.key WHERE purpose <> 'policy' GROUP BY 1, 2 ORDER BY 1"
    vaults.execute("SELECT pci.rewrap_keys('us', 'local', '')", user="cy")
    assert vaults.execute(forms) == [(1, True), (2, True), (3, False), (4, True)]
    vaults.execute("SELECT pci.confirm_rewrap('us')", user="cy")
    assert vaults.execute(forms) == [(1, True), (2, True), (3, True), (4, True)]


# Digits on their way to a column.

def literal(conn, table, i, card):
    conn.execute(f"INSERT INTO {table} VALUES ({i}, '{card}')")


def text_literal(conn, table, i, card):
    conn.execute(f"INSERT INTO {table} VALUES ({i}, '{card}'::text)")


def parameter(conn, table, i, card):
    conn.execute(f"INSERT INTO {table} VALUES (%s, %s)", (i, card))


def text_parameter(conn, table, i, card):
    conn.execute(f"INSERT INTO {table} VALUES (%s, %s::text)", (i, card))


def prepared(conn, table, i, card):
    """In transactions of their own: the value is made at each execution, the literal at PREPARE."""
    conn.execute(f"PREPARE p{i} AS INSERT INTO {table} VALUES ({i}, '{card}')")
    conn.execute(f"EXECUTE p{i}")


def generic(conn, table, i, card):
    conn.execute("SET plan_cache_mode = force_generic_plan")
    conn.execute(f"PREPARE g{i}(int, text) AS INSERT INTO {table} VALUES ($1, $2)")
    conn.execute(f"EXECUTE g{i}({i}, '{card}')")


def copied(conn, table, i, card):
    with conn.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        copy.write(f"{i}\t{card}\n")


def copied_binary(conn, table, i, card):
    with conn.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        copy.write_row((i, card))


def selected(conn, table, i, card):
    conn.execute(f"INSERT INTO {table} SELECT {i}, number FROM (VALUES ('{card}'::text)) x(number)")


def updated(conn, table, i, card):
    conn.execute(f"INSERT INTO {table} VALUES ({i})")
    conn.execute(f"UPDATE {table} SET card = '{card}' WHERE id = {i}")


def by_function(conn, table, i, card):
    """A cached plan of plpgsql holds the literal of an earlier transaction."""
    conn.execute(f"CREATE FUNCTION pg_temp.f(i int) RETURNS void LANGUAGE plpgsql AS "
                 f"$$BEGIN INSERT INTO {table} VALUES (i, '{card}'); END$$")
    for _ in range(7):
        conn.execute(f"SELECT pg_temp.f({i})")
        conn.execute(f"DELETE FROM {table} WHERE id = {i}")
    conn.execute(f"SELECT pg_temp.f({i})")


def by_variable(conn, table, i, card):
    conn.execute(f"DO $$ DECLARE c pci.pan('{table}') := '{card}'; BEGIN INSERT INTO {table} VALUES ({i}, c); END $$")


def upserted(conn, table, i, card):
    conn.execute(f"INSERT INTO {table} VALUES ({i}, '{card}') ON CONFLICT (id) DO UPDATE SET card = '{card}'")


def merged(conn, table, i, card):
    conn.execute(f"MERGE INTO {table} t USING (VALUES ({i})) v(id) ON t.id = v.id "
                 f"WHEN NOT MATCHED THEN INSERT VALUES ({i}, '{card}')")


WAYS = [literal, text_literal, parameter, text_parameter, prepared, generic, copied, copied_binary, selected, updated, by_function,
        by_variable, upserted, merged]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("user", ["eu_app", "world"])
def test_digits_go_to_the_vault_of_their_column(vaults, way, user):
    """With `store` there and nothing else, or with every right on every vault."""
    with vaults.connect(user) as conn:
        way(conn, "eu", 1, VISA)
    assert vault_of(vaults, "eu") == ["eu"]
    assert vaults.execute("SELECT card, pci.reveal(card) FROM eu", user="eu_full") == [(MASK[VISA], VISA)]
    assert vaults.execute("SELECT id FROM eu WHERE card = %s", (VISA,), user="eu_look") == [(1,)]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("user", ["app", "look", "eu_look", "plain", "mixed_up"])
def test_store_on_the_vault_is_needed(vaults, way, user):
    """Not on another one."""
    table = "eu"
    if user == "mixed_up":
        user, table = "eu_app", "us"
    with vaults.connect(user) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        way(conn, table, 1, VISA)
    assert vaults.value(f"SELECT count(card) FROM {table}") == 0


@pytest.mark.parametrize("way", [w for w in WAYS if w is not by_variable], ids=lambda way: way.__name__)
@pytest.mark.parametrize("user", ["eu_app", "eu_full", "mixed"])
def test_digits_without_a_vault_go_to_the_default(vaults, way, user):
    """So who may store elsewhere only keeps none in a plain column; and no value that holds no digits."""
    with vaults.connect(user) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege, match='in vault "default"'):
        way(conn, "mixture", 1, VISA)
    assert vaults.value("SELECT count(card) FROM mixture") == 0
    vaults.execute("TRUNCATE mixture")
    with vaults.connect("app") as conn:
        way(conn, "mixture", 1, VISA)
    assert vault_of(vaults, "mixture") == ["default"]


def test_a_plain_column_takes_values_of_any_vault(vaults):
    with vaults.connect("world") as conn:
        conn.execute(f"INSERT INTO mixture VALUES (1, '{VISA}'), (2, '{VISA}'::pci.pan('eu')), (3, '{VISA}'::text::pci.pan('us')), "
                     f"(4, ('{VISA}'::pci.pan)::pci.pan('dark'))")
        assert vault_of(vaults, "mixture") == ["default", "eu", "us", "dark"]
        assert conn.execute("SELECT pci.reveal(card) FROM mixture").fetchall() == [(VISA,)] * 4
        # Values of different vaults are never equal.
        assert conn.execute("SELECT count(DISTINCT card) FROM mixture").fetchone() == (4,)
        assert conn.execute("SELECT id FROM mixture WHERE card = %s", (VISA,)).fetchall() == [(1,)]
    vaults.execute(f"INSERT INTO mixture VALUES (5, '{AMEX}'::pci.pan('eu'))", user="eu_app")
    assert vault_of(vaults, "mixture", "t.id = 5") == ["eu"]


def test_a_dump_names_vaults_by_number(vaults):
    sql = vaults.run("pg_dump", "--schema-only", "-t", "eu").stdout
    assert "card pci.pan(2)" in sql
    assert vaults.value("SELECT format_type('pci.pan'::regtype, 2)") == "pci.pan(2)"


# Moving.

MOVES = {
    "insert": "INSERT INTO us SELECT id, card FROM eu",
    "cast": "INSERT INTO mixture SELECT id, card::pci.pan('us') FROM eu",
    "update": "UPDATE us SET card = e.card FROM eu e WHERE e.id = us.id",
    "create": "CREATE TABLE pg_temp.moved AS SELECT id, card::pci.pan('us') AS card FROM eu",
    "plpgsql": "DO $$ DECLARE c pci.pan; BEGIN SELECT card INTO c FROM eu; INSERT INTO us VALUES (7, c); END $$",
    "parameter": "DO $$ DECLARE c pci.pan; BEGIN SELECT card INTO c FROM eu; EXECUTE 'INSERT INTO us VALUES (7, $1)' USING c; END $$",
}


MOVERS = {
    "without_reveal": [("us", "store"), ("us", "search"), ("eu", "search")],
    "without_store": [("eu", "reveal"), ("eu", "search"), ("us", "search")],
    "for_a_purpose": [("us", "store"), ("us", "search"), ("eu", "search"), ("eu", "reveal")],
    "mover": [("us", "store"), ("us", "search"), ("eu", "search"), ("eu", "reveal")],
}


@pytest.fixture(scope="module")
def moving_roles(vaults):
    """With all that a move takes but one thing."""
    for role, grants in MOVERS.items():
        vaults.execute(f"CREATE ROLE {role} LOGIN")
        for vault, capability in grants:
            limits = {"purposes": "'{chargeback}'"} if role == "for_a_purpose" and capability == "reveal" else {}
            vaults.grant(role, capability, vault=vault, **limits)
    return vaults


@pytest.fixture
def movers(moving_roles):
    moving_roles.execute(f"INSERT INTO eu VALUES (1, '{VISA}')", user="eu_app")
    moving_roles.execute(f"INSERT INTO us VALUES (1, '{AMEX}')", user="world")
    return moving_roles


@pytest.mark.parametrize("move", MOVES)
def test_a_stored_value_moves_by_the_door(movers, move):
    for user, match in (("without_reveal", 'reveal card numbers of vault "eu"'), ("for_a_purpose", "for this purpose"),
                        ("without_store", 'store card numbers in vault "us"')):
        refused(movers, MOVES[move], user, match=match)
    assert movers.value("SELECT count(*) FROM us WHERE id = 7 OR pci.last4(card) <> ''") == 0
    move_of_one = {"session_user": "mover", "event": 'move to vault "us"', "objects": ["vault eu"]}
    before = len(events(movers, **move_of_one))
    with movers.connect("mover") as conn:
        conn.execute(MOVES[move].replace("INSERT INTO us SELECT id", "INSERT INTO us SELECT id + 6"))
    # That it begins, and how many there were.
    begun, ended = wait_for(movers, before + 2, **move_of_one)[before:]
    assert "revealed" not in begun and ended["revealed"] == 1
    assert VISA not in movers.log + str(records(movers))
    assert movers.execute("SELECT id, pci.reveal(card) FROM eu", user="eu_full") == [(1, VISA)]
    if "INTO us" in MOVES[move]:
        assert movers.execute("SELECT pci.reveal(card) FROM us WHERE id = 7", user="world") == [(VISA,)]
        assert movers.execute("SELECT id FROM us WHERE card = %s", (VISA,), user="world") == [(7,)]


def test_what_the_transaction_made_moves_without_reveal(movers):
    with movers.connect("without_reveal", autocommit=False) as conn:
        conn.execute(f"INSERT INTO us VALUES (8, ('{VISA}'::pci.pan)::pci.pan('us'))")
        conn.commit()
    # What it stored before is stored.
    with movers.connect("eu_full", autocommit=False) as conn:
        conn.execute(f"INSERT INTO mixture VALUES (1, '{VISA}'::pci.pan('eu'))")
        conn.commit()
    refused(movers, "INSERT INTO us SELECT 9, card FROM mixture", "without_reveal", match="reveal")


def test_sealing_anew_is_no_making(movers):
    """What a custodian re-encrypts was there before: it does not move without reveal, and what moved is stored."""
    movers.execute("SELECT pci.rotate_key('eu')", user="cy")
    for vault, capability in (("us", "store"), ("us", "search"), ("eu", "search")):
        movers.grant("cy", capability, vault=vault)
    refused(movers, "DO $$ DECLARE c pci.pan; BEGIN SELECT pci.reencrypted(card) INTO c FROM eu; INSERT INTO us VALUES (31, c); END $$", "cy",
            match='reveal card numbers of vault "eu"')
    assert movers.value("SELECT count(*) FROM us WHERE id > 30") == 0


def test_a_move_counts_against_the_hourly_limit(movers):
    movers.execute("CREATE ROLE twice LOGIN")
    for vault, capability in MOVERS["mover"]:
        movers.grant("twice", capability, vault=vault, **({"max_per_hour": 2} if capability == "reveal" else {}))
    movers.execute(f"INSERT INTO eu VALUES (2, '{AMEX}'), (3, '{DISCOVER}')", user="eu_app")
    refused(movers, "INSERT INTO us SELECT id + 10, card FROM eu", "twice", "53400")


def test_a_column_is_bound_later(movers):
    """ALTER TABLE moves what is there."""
    with movers.connect("world") as conn:
        conn.execute("CREATE TABLE pg_temp.later (id int, card pci.pan)")
        conn.execute(f"INSERT INTO later VALUES (1, '{VISA}'), (2, '{AMEX}'::pci.pan('eu'))")
        conn.execute("ALTER TABLE later ALTER card TYPE pci.pan('eu')")
        assert conn.execute("SELECT pci.reveal(card) FROM later ORDER BY id").fetchall() == [(VISA,), (AMEX,)]
        assert conn.execute("SELECT id FROM later WHERE card = %s", (VISA,)).fetchall() == [(1,)]
        conn.execute("ALTER TABLE later ALTER card TYPE pci.pan")
        assert conn.execute("SELECT count(DISTINCT k.vault) FROM later l JOIN pci.keys k ON k.id = pci.key_id(l.card)").fetchone() == (1,)


def test_sealed_values_keep_to_their_vault(movers):
    """COPY into a bound column moves, too: its own output goes back as it is."""
    with movers.connect("world") as conn:
        with conn.cursor().copy("COPY eu TO STDOUT") as copy:
            sealed = b"".join(copy)
        conn.execute("DELETE FROM eu")
        with conn.cursor().copy("COPY eu FROM STDIN") as copy:
            copy.write(sealed)
        assert conn.execute("SELECT pci.reveal(card) FROM eu").fetchall() == [(VISA,)]
        with conn.cursor().copy("COPY us FROM STDIN") as copy:
            copy.write(sealed.replace(b"1\t", b"7\t", 1))
    assert vault_of(movers, "us", "t.id = 7") == ["us"]
    with movers.connect("without_reveal") as conn, pytest.raises(psycopg.errors.InsufficientPrivilege, match="reveal"):
        with conn.cursor().copy("COPY us FROM STDIN") as copy:
            copy.write(sealed.replace(b"1\t", b"9\t", 1))


# Comparands.

def find(condition, params=()):
    return lambda conn, table: [row[0] for row in conn.execute(
        f"SELECT id FROM {table} t WHERE {condition} ORDER BY id", params).fetchall()]


def executed(declared, condition, arguments, generic=False):
    def run(conn, table):
        conn.execute(f"SET plan_cache_mode = {'force_generic_plan' if generic else 'force_custom_plan'}")
        conn.execute("DEALLOCATE ALL")
        conn.execute(f"PREPARE p({declared}) AS SELECT id FROM {table} WHERE {condition} ORDER BY id")
        # The second one in a transaction that neither parsed nor planned it.
        first = conn.execute(f"EXECUTE p({arguments})").fetchall()
        assert conn.execute(f"EXECUTE p({arguments})").fetchall() == first
        return [row[0] for row in first]
    return run


def often(condition, arguments):
    """A server-side prepared statement, past the five custom plans."""
    def run(conn, table):
        found = [conn.execute(f"SELECT id FROM {table} WHERE {condition} ORDER BY id", arguments, prepare=True).fetchall() for _ in range(8)]
        assert all(one == found[0] for one in found)
        return [row[0] for row in found[0]]
    return run


def joined(conn, table):
    return [row[0] for row in conn.execute(f"SELECT t.id FROM {table} t JOIN texts x ON t.card = x.number ORDER BY 1").fetchall()]


def in_subquery(conn, table):
    return [row[0] for row in conn.execute(f"SELECT id FROM {table} WHERE card IN (SELECT number FROM texts) ORDER BY 1").fetchall()]


def by_view(conn, table):
    conn.execute(f"CREATE TEMPORARY VIEW v AS SELECT id, card FROM {table}")
    try:
        return [row[0] for row in conn.execute(f"SELECT id FROM v WHERE card = '{VISA}' OR card = %s ORDER BY 1", (MASTERCARD,)).fetchall()]
    finally:
        conn.execute("DROP VIEW v")


def in_plpgsql(conn, table):
    conn.execute(f"CREATE OR REPLACE FUNCTION pg_temp.g(one pci.pan, other text) RETURNS SETOF int LANGUAGE plpgsql AS "
                 f"$$BEGIN RETURN QUERY SELECT id FROM {table} WHERE card = one OR card = other ORDER BY 1; END$$")
    for _ in range(7):
        found = conn.execute("SELECT * FROM pg_temp.g(%s, %s::text)", (VISA, MASTERCARD)).fetchall()
    return [row[0] for row in found]


def in_sql_function(conn, table):
    conn.execute(f"CREATE OR REPLACE FUNCTION pg_temp.h(one text, other text) RETURNS SETOF int LANGUAGE sql STABLE AS "
                 f"$$SELECT id FROM {table} WHERE card = one OR card = other ORDER BY 1$$")
    return [row[0] for row in conn.execute(f"SELECT * FROM pg_temp.h('{VISA}', %s::text)", (MASTERCARD,)).fetchall()]


def by_cursor(conn, table):
    with conn.transaction():
        conn.execute(f"DECLARE c CURSOR FOR SELECT id FROM {table} WHERE card IN ('{VISA}', '{MASTERCARD}') ORDER BY id")
        return [row[0] for row in conn.execute("FETCH ALL FROM c").fetchall()]


BOTH = [1, 2]
COMPARISONS = {
    "literals": (find(f"card = '{VISA}' OR card = '{MASTERCARD}'"), BOTH),
    "text_literals": (find(f"card = '{VISA}'::text OR '{MASTERCARD}'::text = card"), BOTH),
    "spaced": (find("card = '4111 1111-1111 1111'"), [1]),
    "cast": (find(f"card = '{VISA}'::pci.pan"), [1]),
    "text_cast": (find(f"card = '{VISA}'::text::pci.pan"), [1]),
    "in_list": (find(f"card IN ('{VISA}', '{MASTERCARD}')"), BOTH),
    "in_text_list": (find(f"card IN ('{VISA}'::text, '{MASTERCARD}'::text)"), BOTH),
    "not_in_list": (find(f"card NOT IN ('{VISA}', '{MASTERCARD}')"), [3]),
    "not_equal": (find(f"card <> '{VISA}'"), [2, 3]),
    "is_distinct": (find(f"card IS NOT DISTINCT FROM '{VISA}'"), [1]),
    "case": (find(f"CASE card WHEN '{VISA}' THEN true ELSE false END"), [1]),
    "nullif": (find(f"NULLIF(card, '{VISA}') IS NULL"), [1]),
    "any_literal": (find(f"card = ANY ('{{{VISA},{MASTERCARD}}}')"), BOTH),
    "any_text_literal": (find(f"card = ANY ('{{{VISA},{MASTERCARD}}}'::text[])"), BOTH),
    "row": (find(f"(id, card) = (1, '{VISA}')"), [1]),
    "row_in_list": (find(f"(id, card) IN ((1, '{VISA}'), (2, '{VISA}'))"), [1]),
    "rows_in_order": (find(f"(card, id) >= ('{VISA}', 1) AND (card, id) <= ('{VISA}', 1)"), [1]),
    "text_rows_in_order": (find("(card, id) >= (%s::text, 1) AND (card, id) <= (%s::text, 1)", (VISA, VISA)), [1]),
    "parameter_rows_in_order": (find("(card, id) >= (%s, 1) AND (card, id) <= (%s, 1)", (VISA, VISA)), [1]),
    "parameter": (find("card = %s", (VISA,)), [1]),
    "text_parameter": (find("card = %s::text OR %s::varchar = card", (VISA, MASTERCARD)), BOTH),
    "parameters_in_list": (find("card IN (%s, %s)", (VISA, MASTERCARD)), BOTH),
    "text_parameters_in_list": (find("card IN (%s::text, %s::text)", (VISA, MASTERCARD)), BOTH),
    "mixed_list": (find(f"card IN ('{VISA}', %s)", (MASTERCARD,)), BOTH),
    "any_parameter": (find("card = ANY (%s)", ([VISA, MASTERCARD],)), BOTH),
    "any_text_parameter": (find("card = ANY (%s::text[])", ([VISA, MASTERCARD],)), BOTH),
    "any_array": (find("card = ANY (ARRAY[%s, %s]::text[])", (VISA, MASTERCARD)), BOTH),
    "scalar_subquery": (find(f"card = (SELECT '{VISA}'::text)"), [1]),
    "exists": (find(f"EXISTS (SELECT 1 FROM texts x WHERE x.number = t.card)"), BOTH),
    "prepared_text": (executed("text", "card = $1", f"'{VISA}'"), [1]),
    "prepared_text_generic": (executed("text", "card = $1", f"'{VISA}'", generic=True), [1]),
    "prepared_pan": (executed("pci.pan", "card = $1", f"'{VISA}'"), [1]),
    "prepared_pan_generic": (executed("pci.pan", "card = $1", f"'{VISA}'", generic=True), [1]),
    "prepared_unknown": (executed("unknown", "card = $1", f"'{VISA}'", generic=True), [1]),
    "prepared_literal": (executed("int", f"card = '{VISA}' AND id = $1", "1"), [1]),
    "prepared_literal_generic": (executed("int", f"card = '{VISA}' AND id = $1", "1", generic=True), [1]),
    "prepared_array": (executed("text[]", "card = ANY ($1)", f"'{{{VISA},{MASTERCARD}}}'"), BOTH),
    "prepared_array_generic": (executed("text[]", "card = ANY ($1)", f"'{{{VISA},{MASTERCARD}}}'", generic=True), BOTH),
    "prepared_pans_generic": (executed("pci.pan[]", "card = ANY ($1)", f"'{{{VISA},{MASTERCARD}}}'", generic=True), BOTH),
    "often": (often("card = %s", (VISA,)), [1]),
    "often_text": (often("card = %s::text", (VISA,)), [1]),
    "often_array": (often("card = ANY (%s)", ([VISA, MASTERCARD],)), BOTH),
    "join": (joined, BOTH),
    "in_subquery": (in_subquery, BOTH),
    "view": (by_view, BOTH),
    "plpgsql": (in_plpgsql, BOTH),
    "sql_function": (in_sql_function, BOTH),
    "cursor": (by_cursor, BOTH),
}


@pytest.fixture(scope="module")
def compared(vaults):
    """Tables that each hold the same numbers in one vault."""
    vaults.execute("""CREATE SCHEMA same;
        CREATE TABLE same.eu (id int PRIMARY KEY, card pci.pan('eu'));
        CREATE TABLE same.mixture (id int PRIMARY KEY, card pci.pan);
        CREATE TABLE same.texts (id int, number text);
        CREATE DOMAIN same.eu_pan AS pci.pan('eu');
        CREATE TABLE same.domains (id int PRIMARY KEY, card same.eu_pan);
        CREATE TABLE same.parts (id int, card pci.pan('eu')) PARTITION BY HASH (id);
        CREATE TABLE same.part_0 PARTITION OF same.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE same.part_1 PARTITION OF same.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE INDEX ON same.eu (card); CREATE INDEX ON same.mixture USING hash (card); CREATE INDEX ON same.parts (card);
        GRANT ALL ON SCHEMA same TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA same TO PUBLIC""")
    with vaults.connect("world") as conn:
        for table in ("eu", "mixture", "domains", "parts"):
            conn.execute(f"INSERT INTO same.{table} VALUES (1, '{VISA}'), (2, '{MASTERCARD}'), (3, '{AMEX}')")
        conn.execute("INSERT INTO same.texts VALUES (1, %s), (2, %s)", (VISA, MASTERCARD))
    return vaults


@pytest.mark.parametrize("user", ["world", "eu_full", "eu_look"])
@pytest.mark.parametrize("table", ["eu", "domains", "parts"])
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparands_take_the_vault_of_their_column(compared, name, table, user):
    run, expected = COMPARISONS[name]
    for scan in ("on", "off"):
        with compared.connect(user, options="-c search_path=same,public") as conn:
            conn.execute(f"SET enable_seqscan = {scan}")
            assert run(conn, table) == expected


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparands_of_plain_columns_stay_the_defaults(compared, name):
    run, expected = COMPARISONS[name]
    for user in ("world", "full", "look"):
        with compared.connect(user, options="-c search_path=same,public") as conn:
            assert run(conn, "mixture") == expected


@pytest.mark.parametrize("user", ["look", "full", "eu_app", "plain", "mixed"])
@pytest.mark.parametrize("name", COMPARISONS)
def test_search_on_the_vault_is_needed(compared, name, user):
    """Search on another one is not enough; and who may store in a vault without search there compares nowhere."""
    run, _ = COMPARISONS[name]
    with compared.connect(user, options="-c search_path=same,public") as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(conn, "eu")


@pytest.mark.parametrize("sql", [
    "SELECT count(*) FROM same.mixture GROUP BY card", "SELECT id FROM same.mixture ORDER BY card",
    f"SELECT id FROM same.mixture WHERE card = '{VISA}'", "SELECT a.id FROM same.mixture a JOIN same.mixture b USING (card)",
    "SELECT a.id FROM same.eu a JOIN same.mixture b ON a.card = b.card", "SELECT pci.pan_eq(card, card) FROM same.mixture",
    "SELECT card FROM same.mixture UNION SELECT card FROM same.mixture", "SELECT card FROM same.eu UNION SELECT card FROM same.mixture"])
def test_a_plain_column_is_the_defaults(compared, sql):
    for user in ("eu_look", "eu_full", "mixed"):
        refused(compared, sql, user)
    compared.execute(sql, user="world")


@pytest.mark.parametrize("sql", [
    "SELECT count(*) FROM same.eu GROUP BY card", "SELECT id FROM same.eu ORDER BY card", "SELECT DISTINCT card FROM same.eu",
    "SELECT a.id FROM same.eu a JOIN same.eu b USING (card)", "SELECT a = b FROM same.eu a, same.eu b",
    "SELECT pci.pan_eq(card, card) FROM same.eu", "SELECT card FROM same.eu INTERSECT SELECT card FROM same.eu",
    "SELECT rank() OVER (ORDER BY card) FROM same.eu",
    "SELECT card FROM same.eu EXCEPT SELECT card FROM same.parts", "SELECT greatest(card, card) FROM same.eu",
    "SELECT array_agg(DISTINCT card) FROM same.eu", "SELECT id FROM same.domains ORDER BY card",
    "SELECT ROW(card) < ROW(card) FROM same.eu", "SELECT array_position(ARRAY[card], card) FROM same.eu"])
def test_comparing_in_a_vault_needs_search_there(compared, sql):
    for user in ("look", "full", "mixed", "eu_app"):
        refused(compared, sql, user)
    compared.execute(sql, user="eu_look")


def test_branches_of_different_vaults(compared):
    for user in ("look", "full", "eu_look"):
        refused(compared, "SELECT card FROM same.eu UNION SELECT card FROM us", user)
    compared.execute("SELECT card FROM same.eu UNION SELECT card FROM us", user="world")
    compared.execute("SELECT card FROM same.eu UNION ALL SELECT card FROM us", user="plain")


def test_a_time_limit_holds_for_plans_that_are_kept(compared):
    compared.execute("CREATE ROLE brief LOGIN")
    compared.grant("brief", "search", vault="eu", valid_until="now() + interval '3 seconds'")
    compared.grant("brief", "search")
    with compared.connect("brief") as conn:
        conn.execute("PREPARE p(text) AS SELECT id FROM same.eu WHERE card = $1")
        assert conn.execute(f"EXECUTE p('{VISA}')").fetchall() == [(1,)]
        conn.execute("SELECT pg_sleep_until(valid_until) FROM pci.access WHERE role = 'brief'::regrole AND valid_until IS NOT NULL")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match='vault "eu"'):
            conn.execute(f"EXECUTE p('{VISA}')")


def plan(conn, sql, params=None):
    return "\n".join(row[0] for row in conn.execute(f"EXPLAIN (COSTS off, VERBOSE) {sql}", params).fetchall())


@pytest.mark.parametrize("condition,params", [
    (f"card = '{VISA}'", None), (f"card = '{VISA}'::text", None), ("card = %s", (VISA,)), ("card = %s::text", (VISA,)),
    ("card = ANY (%s)", ([VISA],)), (f"card IN ('{VISA}', '{MASTERCARD}')", None)])
def test_the_index_is_used_and_nothing_printed(compared, condition, params):
    with compared.connect("world") as conn:
        conn.execute("SET enable_seqscan = off")
        text = plan(conn, f"SELECT id FROM same.eu WHERE {condition}", params)
        assert "Index Cond" in text and "comparand" not in text, text
        assert VISA not in text and "*" in text
        conn.execute("SET plan_cache_mode = force_generic_plan")
        conn.execute("PREPARE p(text) AS SELECT id FROM same.eu WHERE card = $1")
        assert "Index Cond: (eu.card = pci.comparand($1, 2))" in plan(conn, f"EXECUTE p('{VISA}')")


def test_a_comparand_is_made_by_plans_only(vaults):
    for sql in (f"SELECT pci.comparand('{VISA}'::text, 2)", f"INSERT INTO mixture SELECT 1, pci.comparand('{VISA}'::text, 2)",
                f"SELECT pci.comparand('{VISA}'::pci.pan, 2)", f"SELECT pci.comparand(ARRAY['{VISA}'::text], 2)"):
        refused(vaults, sql, "world", match="by plans of pgpci only")


def test_a_stored_value_of_another_vault_stays_one(compared):
    """A parameter that holds one is not looked up elsewhere: that would tell what it is."""
    with compared.connect("world") as conn:
        conn.execute("DO $$ DECLARE c pci.pan; n int; BEGIN SELECT card INTO c FROM same.mixture WHERE id = 1; "
                     "SELECT count(*) INTO n FROM same.eu WHERE card = c; IF n <> 0 THEN RAISE 'found'; END IF; "
                     "SELECT count(*) INTO n FROM same.mixture WHERE card = c; IF n <> 1 THEN RAISE 'not found'; END IF; END $$")
        assert conn.execute("SELECT count(*) FROM same.eu a JOIN same.mixture b ON a.card = b.card").fetchone() == (0,)


@pytest.mark.parametrize("check", ["card <> '{VISA}'::text", "'{VISA}'::text <> card"])
def test_a_constraint_with_text_compares_in_the_vault(vaults, check):
    with vaults.connect("world") as conn:
        conn.execute(f"CREATE TABLE pg_temp.checked (card pci.pan('eu') CHECK ({check.format(VISA=VISA)}))")
        conn.execute(f"INSERT INTO checked VALUES ('{AMEX}')")
        with pytest.raises(psycopg.errors.CheckViolation):
            conn.execute(f"INSERT INTO checked VALUES ('{VISA}')")


def test_unique_and_foreign_keys_within_a_vault(vaults):
    vaults.execute("CREATE TABLE public.child (id int, card pci.pan('eu') REFERENCES eu (card)); GRANT ALL ON public.child TO PUBLIC")
    try:
        vaults.execute(f"INSERT INTO eu VALUES (1, '{VISA}')", user="eu_app")
        with pytest.raises(psycopg.errors.UniqueViolation):
            vaults.execute(f"INSERT INTO eu VALUES (2, '{VISA}')", user="eu_app")
        vaults.execute(f"INSERT INTO child VALUES (1, '{VISA}')", user="eu_app")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            vaults.execute(f"INSERT INTO child VALUES (1, '{AMEX}')", user="eu_app")
    finally:
        vaults.execute("DROP TABLE child")


def test_parallel_workers_compare_in_the_vault(compared):
    with compared.connect("world") as conn:
        for setting in ("min_parallel_table_scan_size = 0", "parallel_setup_cost = 0", "parallel_tuple_cost = 0", "enable_indexscan = off",
                        "enable_bitmapscan = off"):
            conn.execute(f"SET {setting}")
        for condition, params in (("card = %s::text", (VISA,)), ("card = %s", (VISA,)), ("card = ANY (%s)", ([VISA],)),
                                  (f"card = '{VISA}'", ()), ("card IN (SELECT number FROM same.texts WHERE id = 1)", ())):
            for mode in ("force_custom_plan", "force_generic_plan"):
                conn.execute(f"SET plan_cache_mode = {mode}")
                assert conn.execute(f"SELECT id FROM same.eu WHERE {condition}", params, prepare=True).fetchall() == [(1,)], (condition, mode)


# What keeps a literal.

def test_definitions(compared):
    with compared.connect("world") as conn:
        conn.execute(f"CREATE TEMPORARY VIEW one AS SELECT id FROM same.eu WHERE card = '{VISA}'")
        assert conn.execute("SELECT id FROM one").fetchall() == [(1,)]
        assert VISA not in conn.execute("SELECT pg_get_viewdef('one'::regclass)").fetchone()[0]
        conn.execute(f"CREATE TABLE pg_temp.guarded (id int, card pci.pan('eu')); "
                     f"CREATE POLICY p ON guarded USING (card <> '{VISA}'); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; "
                     f"ALTER TABLE guarded FORCE ROW LEVEL SECURITY")
        # Nobody says of which vault it is: rather nothing than the wrong rows.
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="in a definition") as caught:
            conn.execute("SELECT id FROM guarded")
        assert "definitions" in caught.value.diag.message_hint


def test_restored_into_another_cluster(fresh_cluster):
    """Tables come before keys and vaults: their schema's name sorts before pci."""
    from test_replication import copy_key
    one, other = fresh_cluster(), fresh_cluster(set_up=False, key=False)
    one.execute("SELECT pci.create_vault('eu'); SELECT pci.create_vault('dark', searchable => false)", user="cy")
    for vault in ("eu", "dark"):
        for capability in ("store", "search", "reveal"):
            one.grant("full", capability, vault=vault)
        one.grant("backup", "export", vault=vault)
    one.execute("CREATE TABLE app.cards (id int PRIMARY KEY, card pci.pan('eu') UNIQUE, dark pci.pan('dark'), card2 pci.pan);"
                "GRANT USAGE ON SCHEMA app TO \"full\"; GRANT ALL ON app.cards TO \"full\"")
    with one.connect("full") as conn:
        for i, card in enumerate((VISA, AMEX, MASTERCARD), 1):
            conn.execute("INSERT INTO app.cards VALUES (%s, %s, %s, %s)", (i, card, card, card))
    for options in ((), ("--inserts",)):
        dump = one.run("pg_dump", *options, user="backup").stdout
        assert "pci.pan(2)" in dump and dump.index("COPY app.cards" if not options else "INSERT INTO app.cards") < dump.index(
            "COPY pci.vault" if not options else "INSERT INTO pci.vault")
        target = "postgres" if not options else "again"
        if not options:
            other.psql(one.run("pg_dumpall", "--globals-only").stdout.replace("CREATE ROLE postgres;\n", ""))
            copy_key(one, other)
        else:
            other.execute("CREATE DATABASE again")
        other.psql(dump, dbname=target)
        for officer, done in (("ann", False), ("bob", True)):
            assert other.value("SELECT pci.accept_policy()", user=officer, dbname=target) is done
        with other.connect("full", target) as conn:
            assert conn.execute("SELECT pci.reveal(card), pci.reveal(dark), pci.reveal(card2) FROM app.cards ORDER BY id").fetchall() == [
                (card,) * 3 for card in (VISA, AMEX, MASTERCARD)]
            assert conn.execute("SELECT id FROM app.cards WHERE card = %s AND card2 = %s", (AMEX, AMEX)).fetchall() == [(2,)]
            conn.execute("INSERT INTO app.cards VALUES (4, %s)", (DISCOVER,))


# Unsearchable vaults.

def test_an_unsearchable_vault_keeps_no_hash(vaults):
    vaults.execute(f"INSERT INTO dark VALUES (1, '{VISA}'), (2, '{VISA}')", user="dark_app")
    assert vaults.execute("SELECT pg_column_size(card) FROM dark") == [(67,), (67,)]
    with vaults.connect("world") as conn:
        assert conn.execute("SELECT card, pci.reveal(card) FROM dark").fetchall() == [(MASK[VISA], VISA)] * 2
        # Each equals itself and nothing else.
        assert conn.execute("SELECT a.id, b.id FROM dark a JOIN dark b ON a.card = b.card ORDER BY 1").fetchall() == [(1, 1), (2, 2)]
        conn.execute("INSERT INTO mixture SELECT id, card FROM dark")
        conn.execute(f"INSERT INTO mixture VALUES (3, '{VISA}')")
        assert conn.execute("SELECT id FROM mixture WHERE card = %s", (VISA,)).fetchall() == [(3,)]
        for sql in (f"SELECT id FROM dark WHERE card = '{VISA}'", f"SELECT id FROM dark WHERE card = '{VISA}'::text",
                    f"SELECT id FROM dark WHERE card IN ('{VISA}', '{AMEX}')", "SELECT pci.hash_pan(card) FROM dark"):
            error = refused(vaults, sql, "world", "0A000", "cannot be compared or looked up")
            assert "unsearchable" in error.diag.message_hint
        for value in (VISA, [VISA]):
            sql = "SELECT id FROM dark WHERE card = %s" if value == VISA else "SELECT id FROM dark WHERE card = ANY (%s)"
            refused(vaults, sql, "world", "0A000", params=(value,))
        # Moved to a searchable one they are found.
        conn.execute("INSERT INTO us SELECT id, card FROM dark")
        assert conn.execute("SELECT id FROM us WHERE card = %s ORDER BY 1", (VISA,)).fetchall() == [(1,), (2,)]


def test_store_in_an_unsearchable_vault_compares_elsewhere(vaults):
    """Nothing in it can be compared: whoever stores there may look up where they have search."""
    vaults.grant("dark_app", "search", vault="eu")
    try:
        vaults.execute(f"INSERT INTO eu VALUES (1, '{VISA}')", user="eu_app")
        assert vaults.execute("SELECT id FROM eu WHERE card = %s", (VISA,), user="dark_app") == [(1,)]
        vaults.execute(f"INSERT INTO dark VALUES (1, '{VISA}')", user="dark_app")
        assert vault_of(vaults, "dark") == ["dark"]
    finally:
        vaults.execute("SELECT pci.revoke_access('dark_app', 'eu', 'search')", user="ann")


def test_shredding_a_vault_leaves_the_others(fresh_cluster):
    one = fresh_cluster()
    one.execute("SELECT pci.create_vault('eu')", user="cy")
    for capability in ("store", "search", "reveal"):
        one.grant("full", capability, vault="eu")
    one.execute("CREATE TABLE public.eu (id int, card pci.pan('eu')); GRANT ALL ON eu TO \"full\"")
    one.execute(f"INSERT INTO eu VALUES (1, '{VISA}')", user="full")
    request = one.value("SELECT pci.shred_vault('eu', 'the contract ended')", user="cy")
    one.execute("SELECT pci.approve(%s)", (request,), user="di")
    refused(one, "SELECT pci.reveal(card) FROM eu", "full", "55000", "destroyed")
    refused(one, f"INSERT INTO eu VALUES (2, '{VISA_2}')", "full", "55000")
    assert one.execute("SELECT card FROM eu", user="full") == [(MASK[VISA],)]
    one.execute(f"INSERT INTO payments VALUES (9, '{MASTERCARD_2}', 1)", user="full")
    assert one.reveals()[-1] == (9, MASTERCARD_2)
