"""What PostgreSQL 16, 17 and 18 brought: no new way to compare card numbers, keep what holds no digits, or print
digits; and what harms nothing works. Each test runs from the major on that has the feature."""

import psycopg
import pytest
from conftest import AMEX, CLEAR, DISCOVER, MAJOR, MASTERCARD, VISA, VISA_2, VISA_3
from test_input import BAD
from test_replication import until
from test_search import assert_refused, attack, searching

PAN = f"'{VISA}'::pci.pan"
BAD_CHECK_DIGIT = "4111111111111112"


def since(major, cases):
    """Cases by name, skipped where the server is older."""
    old = pytest.mark.skipif(MAJOR < major, reason=f"PostgreSQL {major} brought it")
    return [pytest.param(statements, id=name, marks=old) for name, statements in cases.items()]


@pytest.fixture(scope="module")
def arena(module_cluster):
    one = module_cluster()
    one.execute("GRANT CREATE, TEMPORARY ON DATABASE postgres TO app, look, \"full\"")
    for role in ("app", "full", "postgres"):
        with one.connect(role) as conn:
            conn.execute(f'SET search_path = "{role}"')
            conn.execute("CREATE TABLE guess (gid int PRIMARY KEY, card pci.pan)")
            conn.execute(f"INSERT INTO guess VALUES (1, '{VISA}'), (2, '{VISA_2}')")
    return one


# Comparing

COMPARES = [
    *since(15, {
        "group_by_row": ["SELECT count(*) FROM {t} GROUP BY ROW(card, 1)"],
        "group_by_row_of_subquery": ["SELECT count(*) FROM (SELECT ROW(card, 1) AS r FROM {t} OFFSET 0) x GROUP BY r"],
        "group_by_array": ["SELECT count(*) FROM {t} GROUP BY ARRAY[card]"],
        "group_by_distinct": ["SELECT count(*) FROM {t} GROUP BY DISTINCT ROLLUP (id, card), CUBE (id, card)"],
        "intersect_inlined": ["CREATE FUNCTION f() RETURNS SETOF pci.pan LANGUAGE sql STABLE AS 'SELECT card FROM {t} INTERSECT SELECT card FROM guess'",
                              "SELECT count(*) FROM f()"],
        "except_inlined": ["CREATE FUNCTION f() RETURNS SETOF pci.pan LANGUAGE sql STABLE AS 'SELECT card FROM {t} EXCEPT ALL SELECT card FROM guess'",
                           "SELECT count(*) FROM f()"],
        "grouping_sets_inlined": ["CREATE FUNCTION f() RETURNS SETOF bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM {t} GROUP BY GROUPING SETS ((id), (card))'",
                                  "SET LOCAL enable_hashagg = off", "SELECT count(*) FROM f()"],
        "presorted_distinct": ["SET LOCAL enable_hashagg = off", "SELECT DISTINCT id, card FROM {t}"],
        "incremental_sort": ["SET LOCAL enable_seqscan = off", "SELECT id FROM {t} ORDER BY id, card"],
    }),
    *since(16, {
        "json_arrayagg_ordered": ["SELECT JSON_ARRAYAGG(id ORDER BY card) FROM {t}"],
        "json_array_of_query": ["SELECT JSON_ARRAY(SELECT id FROM {t} ORDER BY card)"],
        "json_objectagg_filter": [f"SELECT JSON_OBJECTAGG(id: 1) FILTER (WHERE card = {PAN}) FROM {{t}}"],
        "json_object_of_comparison": [f"SELECT JSON_OBJECT('hit': card = {PAN}) FROM {{t}}"],
        "array_sample": ["SELECT array_sample(ARRAY[p.card, g.card], 1) = ARRAY[p.card] FROM {t} p, guess g"],
    }),
    *since(17, {
        "merge_not_matched_by_source": ["MERGE INTO {t} p USING guess g ON p.card = g.card WHEN NOT MATCHED BY SOURCE THEN UPDATE SET amount = 1"],
        "merge_returning": ["MERGE INTO {t} p USING guess g ON p.id = g.gid WHEN MATCHED THEN UPDATE SET amount = 1 RETURNING p.card = g.card"],
        "merge_into_view": ["CREATE VIEW v AS SELECT * FROM {t}",
                            "MERGE INTO v USING guess g ON v.card = g.card WHEN MATCHED THEN UPDATE SET amount = 1"],
        "json_value": [f"SELECT id FROM {{t}} WHERE card = JSON_VALUE('\"{VISA}\"', '$' RETURNING pci.pan)"],
        "json_query": [f"SELECT id FROM {{t}} WHERE ARRAY[card] = JSON_QUERY('[\"{VISA}\"]', '$' RETURNING pci.pan[])"],
        "json_table": [f"SELECT id FROM {{t}} p JOIN JSON_TABLE('[\"{VISA}\"]', '$[*]' COLUMNS (card pci.pan PATH '$')) j ON p.card = j.card"],
        "json_exists_of_comparison": [f"SELECT JSON_EXISTS('[1]', '$[*] ? ($hit == true)' PASSING card = {PAN} AS hit) FROM {{t}}"],
    }),
    *since(18, {
        "array_sort": ["SELECT array_sort(ARRAY[p.card, g.card]) FROM {t} p, guess g"],
        "array_sort_descending": ["SELECT array_sort(ARRAY[p.card, g.card], true) FROM {t} p, guess g"],
        "enforcing_a_foreign_key": ["CREATE TABLE x (card pci.pan REFERENCES public.payments (card) NOT ENFORCED)", "INSERT INTO x SELECT card FROM public.payments",
                                    "ALTER TABLE x ALTER CONSTRAINT x_card_fkey ENFORCED"],
        "max_of_record": ["SELECT max(ROW(card)) FROM {t}"],
        "min_of_record_of_subquery": ["SELECT min(r) FROM (SELECT ROW(card) AS r FROM {t} OFFSET 0) x"],
        "returning_old_and_new": [f"UPDATE {{t}} SET card = '{VISA}' WHERE id = 1 RETURNING old.card = new.card"],
        "without_overlaps": ["CREATE TYPE panrange AS RANGE (subtype = pci.pan)",
                             "CREATE TABLE x (k int4range, r panrange, PRIMARY KEY (k, r WITHOUT OVERLAPS))",
                             "INSERT INTO x SELECT '[1,2)', panrange(card, card, '[]') FROM {t} WHERE id = 1",
                             "INSERT INTO x SELECT '[2,3)', panrange(card, card, '[]') FROM guess WHERE gid = 2"],
    }),
]


@pytest.mark.parametrize("role", ["app", "postgres"])
@pytest.mark.parametrize("statements", COMPARES)
def test_comparison_is_refused(arena, statements, role):
    assert_refused(*attack(arena, role, statements, "public.payments"))


@pytest.mark.parametrize("statements", COMPARES)
def test_comparison_works_with_search(arena, statements):
    """The statements are sound: whoever may search runs them."""
    error, _, _ = attack(arena, "full", statements, "public.payments" if "MERGE" not in statements[-1] else '"full".mine')
    assert error is None, error


@pytest.fixture(scope="module", autouse=True)
def mine(arena):
    # Rows that MERGE may change without a conflict.
    arena.execute('CREATE TABLE "full".mine AS SELECT id, card, amount FROM public.payments', user="full")


def test_json_path_gets_a_mask(arena):
    """A path expression compares what is passed to it: of a card number, the mask."""
    if MAJOR < 17:
        pytest.skip("PostgreSQL 17 brought it")
    for text, found in (("411111******1111", True), (VISA, False)):
        error, rows, _ = attack(arena, "app", [f"SELECT JSON_EXISTS('[\"{text}\"]', '$[*] ? (@ == $c)' PASSING card AS c) FROM {{t}} WHERE id = 1"], "payments")
        assert rows == [(found,)], error


def test_virtual_generated_column(arena):
    """PostgreSQL refuses types that it does not bring; if it should ever allow them, the comparison needs search."""
    if MAJOR < 18:
        pytest.skip("PostgreSQL 18 brought it")
    for column in (f"hit boolean GENERATED ALWAYS AS (card = {PAN}) VIRTUAL", "copy pci.pan GENERATED ALWAYS AS (card) VIRTUAL",
                   "mask text GENERATED ALWAYS AS (pci.mask(card)) VIRTUAL"):
        error, rows, _ = attack(arena, "app", [f"CREATE TABLE x (card pci.pan, {column})", f"INSERT INTO x (card) VALUES ('{VISA}')", "SELECT * FROM x"], "payments")
        assert error is not None and error.sqlstate in ("0A000", "42501"), (column, error, rows)


@pytest.mark.parametrize("key", ["card, amount", "id, card, amount", "amount, card"])
def test_no_skip_scan_counts_cards(arena, key):
    """Index searches are counted and shown: one for each card number would tell whether a guess is there."""
    def searches(guess):
        with arena.connect("app", autocommit=False) as conn:
            conn.execute("SET LOCAL search_path = app")
            conn.execute(f"CREATE TABLE x (id int, card pci.pan, amount int); CREATE INDEX ON x ({key})")
            conn.execute(f"INSERT INTO x SELECT 1, card::pci.pan, 1 FROM (VALUES ('{VISA}'), ('{MASTERCARD}'), ('{AMEX}'), ('{DISCOVER}')) v(card)")
            conn.execute(f"INSERT INTO x VALUES (1, '{guess}', 1)")
            conn.execute("SET LOCAL enable_seqscan = off")
            plan = [r[0].strip() for r in conn.execute("EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT * FROM x WHERE amount = 1")]
            conn.rollback()
            return plan

    assert searches(VISA) == searches(VISA_2)


def test_composite_foreign_key_of_store_only(arena):
    """PostgreSQL's own look-ups use the index that a user without search may not."""
    with arena.connect("app", autocommit=False) as conn:
        conn.execute("SET LOCAL search_path = app")
        conn.execute("CREATE TABLE parent (card pci.pan, shop int, PRIMARY KEY (card, shop))")
        conn.execute("CREATE TABLE child (card pci.pan, shop int, FOREIGN KEY (card, shop) REFERENCES parent ON UPDATE CASCADE)")
        conn.execute(f"INSERT INTO parent VALUES ('{VISA}', 1); INSERT INTO child VALUES ('{VISA}', 1)")
        conn.execute("UPDATE parent SET shop = 2")
        assert conn.execute("SELECT card, shop FROM child").fetchall() == [("411111******1111", 2)]
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            conn.execute(f"INSERT INTO child VALUES ('{VISA}', 3)")
        conn.rollback()


def test_workers_build_an_index(arena):
    error, _, _ = attack(arena, "full", [
        "SET LOCAL max_parallel_maintenance_workers = 4", "SET LOCAL min_parallel_table_scan_size = 0", "CREATE TABLE x (card pci.pan, n int)",
        f"INSERT INTO x SELECT '{VISA}', n FROM generate_series(1, 8000) n", "ALTER TABLE x SET (parallel_workers = 4)",
        "CREATE INDEX ON x (card)", "CREATE INDEX ON x (n, card)"], "payments")
    assert error is None, error


# What harms nothing

ORDINARY = [
    *since(15, {
        "group_by_distinct": ["SELECT count(*) FROM payments GROUP BY DISTINCT ROLLUP (id, amount), CUBE (id, amount)"],
    }),
    *since(16, {
        "any_value": ["SELECT any_value(card) FROM payments"],
        "json_arrayagg": ["SELECT JSON_ARRAYAGG(card), JSON_ARRAYAGG(card NULL ON NULL), JSON_ARRAYAGG(card RETURNING jsonb) FROM payments"],
        "json_objectagg": ["SELECT JSON_OBJECTAGG(id: card), JSON_OBJECTAGG(id: card ABSENT ON NULL WITH UNIQUE KEYS), "
                           "JSON_OBJECTAGG(id: card WITH UNIQUE KEYS RETURNING jsonb) FROM payments"],
        "json_constructors": ["SELECT JSON_OBJECT('card': card, 'id': id WITH UNIQUE KEYS), JSON_ARRAY(card, id) FROM payments"],
        "array_shuffle": ["SELECT array_shuffle(ARRAY[card, card]), array_sample(ARRAY[card, card], 1) FROM payments"],
    }),
    *since(17, {
        "merge_returning": ["MERGE INTO payments p USING (VALUES (1::bigint, 9)) v (id, amount) ON p.id = v.id "
                            "WHEN MATCHED THEN UPDATE SET amount = v.amount RETURNING merge_action(), p.card"],
        "merge_not_matched_by_source": ["MERGE INTO payments p USING (VALUES (1::bigint)) v (id) ON p.id = v.id WHEN NOT MATCHED BY SOURCE THEN DELETE"],
        "json_table": [f"INSERT INTO payments SELECT * FROM JSON_TABLE('[{{\"id\": 90, \"card\": \"{VISA_3}\"}}]', '$[*]' COLUMNS (id bigint, card pci.pan, amount int))"],
        "json_value": [f"INSERT INTO payments SELECT 90, JSON_VALUE('\"{VISA_3}\"', '$' RETURNING pci.pan), 1"],
    }),
    *since(18, {
        "array_reverse": ["SELECT array_reverse(ARRAY[card, card]) FROM payments"],
        "returning_old_and_new": [f"UPDATE payments SET card = '{VISA_3}' WHERE id = 1 RETURNING old.card, new.card"],
        "not_enforced": ["CREATE TABLE x (card pci.pan REFERENCES payments (card) NOT ENFORCED, CHECK (card IS NOT NULL) NOT ENFORCED)",
                         f"INSERT INTO x VALUES ('{VISA}')"],
        "not_null_not_valid": ["CREATE TABLE x (card pci.pan)", f"INSERT INTO x VALUES ('{VISA}')",
                               "ALTER TABLE x ADD CONSTRAINT filled NOT NULL card NOT VALID", "ALTER TABLE x VALIDATE CONSTRAINT filled"],
        "virtual_column_beside": ["CREATE TABLE x (card pci.pan, cents int, euros int GENERATED ALWAYS AS (cents / 100) VIRTUAL)",
                                  f"INSERT INTO x VALUES ('{VISA}', 500)", "SELECT card, euros FROM x"],
    }),
]


@pytest.mark.parametrize("statements", ORDINARY)
def test_ordinary_statement_of_store_only(arena, statements):
    arena.execute("GRANT REFERENCES ON payments TO app")
    error, rows, _ = attack(arena, "app", statements, "payments")
    assert error is None, f"{error.sqlstate}: {error}"
    assert "pan:" not in str(rows) and VISA not in str(rows)


# Values made for comparison only

KEPT = [
    *since(15, {
        "xmltable": [f"INSERT INTO x SELECT card FROM XMLTABLE('/r' PASSING ('<r>{VISA}</r>'::xml) COLUMNS card pci.pan PATH '.')"],
    }),
    *since(16, {
        "pg_input": [f"INSERT INTO x SELECT '{VISA}'::pci.pan WHERE pg_input_is_valid('{VISA}', 'pci.pan')"],
    }),
    *since(17, {
        "json_table": [f"INSERT INTO x SELECT card FROM JSON_TABLE('[\"{VISA}\"]', '$[*]' COLUMNS (card pci.pan PATH '$'))"],
        "json_value": [f"INSERT INTO x SELECT JSON_VALUE('\"{VISA}\"', '$' RETURNING pci.pan)"],
        "json_value_default": [f"INSERT INTO x SELECT JSON_VALUE('{{}}', '$.card' RETURNING pci.pan DEFAULT '{VISA}' ON EMPTY)"],
        "merge_returning": [f"WITH m AS (MERGE INTO x USING (SELECT 1) s ON false WHEN NOT MATCHED THEN INSERT VALUES ('{VISA}') RETURNING 1) SELECT * FROM m"],
    }),
]


@pytest.mark.parametrize("statements", KEPT)
def test_comparand_is_never_kept(arena, statements):
    error, rows, _ = attack(arena, "look", ["CREATE TABLE x (card pci.pan)", *statements], "payments")
    if error is not None and "unsupported XML feature" in str(error):
        pytest.skip("this server was built without XML")
    assert error is not None, f"was kept: {rows}"
    assert (error.sqlstate, "permission denied to store" in str(error)) == ("42501", True), f"{error.sqlstate}: {error}"


# Errors about a value, asked for instead of an abort

@pytest.fixture(scope="module")
def soft(arena):
    if MAJOR < 16:
        pytest.skip("PostgreSQL 16 brought it")
    return arena


BAD_TEXT = {name: (value, sqlstate) for name, (value, sqlstate) in BAD.items() if isinstance(value, str)}


@pytest.mark.parametrize("name", BAD_TEXT)
def test_input_that_is_not_valid(soft, name):
    value, sqlstate = BAD_TEXT[name]
    with soft.connect("full") as conn:
        assert conn.execute("SELECT pg_input_is_valid(%s, 'pci.pan')", (value,)).fetchone() == (False,)
        message, detail, hint, state = conn.execute("SELECT * FROM pg_input_error_info(%s, 'pci.pan')", (value,)).fetchone()
    assert state == (sqlstate or state) and message and detail is None
    assert len(value) < 8 or value not in f"{message} {hint}"


def test_input_that_is_valid(soft):
    for text, type_ in ((VISA, "pci.pan"), ("4111 1111 1111 1111", "pci.pan(1)"), (f"{{{VISA}}}", "pci.pan[]")):
        assert soft.value("SELECT pg_input_is_valid(%s, %s)", (text, type_), user="app") is True
    assert soft.value("SELECT pg_input_is_valid(%s, 'pci.pan[]')", (f"{{{VISA},{BAD_CHECK_DIGIT}}}",), user="app") is False


def test_refusal_is_no_matter_of_input(soft):
    for user in ("plain", "clerk"):
        for text in (VISA, f"{{{VISA}}}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="store"):
                soft.value("SELECT pg_input_is_valid(%s, %s)", (text, "pci.pan[]" if "{" in text else "pci.pan"), user=user)


ROWS = f"1\t{VISA}\n2\t{BAD_CHECK_DIGIT}\n3\t411111******1111\nx\t{VISA_2}\n5\t{MASTERCARD}\n"


def copy(cluster, options, user="full", rows=ROWS, columns="id bigint, card pci.pan"):
    """The error or None, what was stored, and what was said on the way."""
    said = []
    with cluster.connect(user, autocommit=False) as conn:
        conn.add_notice_handler(lambda d: said.append("\n".join(filter(None, (d.message_primary, d.message_detail, d.context)))))
        conn.execute(f"CREATE TEMPORARY TABLE x ({columns})")
        try:
            with conn.cursor().copy(f"COPY x FROM STDIN ({options})") as stream:
                stream.write(rows)
            return None, conn.execute("SELECT * FROM x ORDER BY 1").fetchall(), said
        except psycopg.Error as error:
            return error, None, said
        finally:
            conn.rollback()


def assert_no_digits(error, said):
    text = "\n".join(said) if error is None else "\n".join([*said, str(error), error.diag.context or ""])
    assert not any(digits in text for digits in (VISA, VISA_2, MASTERCARD, BAD_CHECK_DIGIT)), text


@pytest.fixture(scope="module")
def on_error(arena):
    if MAJOR < 17:
        pytest.skip("PostgreSQL 17 brought it")
    return arena


@pytest.mark.parametrize("verbosity", ["default", "verbose"])
def test_copy_skips_rows(on_error, verbosity):
    error, rows, said = copy(on_error, f"ON_ERROR ignore, LOG_VERBOSITY {verbosity}")
    assert error is None and rows == [(1, "411111******1111"), (5, "555555******4444")], error
    assert "3 rows were skipped" in said[-1]
    assert_no_digits(error, said)
    if verbosity == "verbose":
        assert 'at line 2 for column "card": "****************"' in said[0] and 'column "id": "x"' in said[2], said


@pytest.mark.parametrize("columns", ["id bigint, cards pci.pan[]", "id bigint, row public.payments"])
def test_copy_does_not_print_what_holds_card_numbers_inside(on_error, columns):
    rows = f"1\t{{{VISA},{BAD_CHECK_DIGIT}}}\n" if "[]" in columns else f"1\t(1,{BAD_CHECK_DIGIT},1)\n"
    error, stored, said = copy(on_error, "ON_ERROR ignore", rows=rows, columns=columns)
    assert error is None and stored == [], error
    assert_no_digits(error, said)
    for option in ("LOG_VERBOSITY verbose", *(["REJECT_LIMIT 1"] if MAJOR >= 18 else [])):
        error, stored, said = copy(on_error, f"ON_ERROR ignore, {option}", rows=rows * 2, columns=columns)
        assert error is not None and error.sqlstate == "0A000", (error, stored)
        assert_no_digits(error, said)


def test_copy_gives_up(on_error):
    if MAJOR < 18:
        pytest.skip("PostgreSQL 18 brought it")
    for limit in (1, 2):
        error, _, said = copy(on_error, f"ON_ERROR ignore, REJECT_LIMIT {limit}")
        assert error.sqlstate == "22P02" and "REJECT_LIMIT" in str(error)
        assert_no_digits(error, said)


def test_copy_does_not_skip_a_refusal(on_error):
    on_error.execute("GRANT TEMPORARY ON DATABASE postgres TO plain, look")
    for user in ("plain", "look"):
        error, rows, said = copy(on_error, "ON_ERROR ignore", user=user)
        assert error is not None and (error.sqlstate, "store" in str(error)) == ("42501", True), (error, rows)
        assert_no_digits(error, said)


def test_copy_without_the_option_stops(on_error):
    error, _, said = copy(on_error, "ON_ERROR stop")
    assert error.sqlstate == "22P02" and "check digit" in str(error)
    assert_no_digits(error, said)


# Roles

def test_creating_a_role_gives_no_capability(arena):
    """Since 16 whoever creates a role is its member with ADMIN OPTION: nobody granted that by name."""
    arena.execute("CREATE ROLE maker LOGIN CREATEROLE; GRANT SELECT ON payments TO maker")
    arena.execute("CREATE ROLE made", user="maker")
    arena.grant("made", "reveal")
    with arena.connect("maker") as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="reveal"):
            conn.execute("SELECT pci.reveal(card) FROM payments")
        # Nor does the maker take it: an officer decides who is a member of a role that holds a capability.
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="relies on role"):
            conn.execute("GRANT made TO maker")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="reveal"):
            conn.execute("SELECT pci.reveal(card) FROM payments")


@pytest.mark.parametrize("options,holds", [("INHERIT TRUE, SET FALSE", True), ("INHERIT FALSE, SET TRUE", True),
                                           ("INHERIT FALSE, SET FALSE", False), ("ADMIN TRUE, INHERIT FALSE, SET FALSE", False)])
def test_membership_that_may_be_used_counts(arena, options, holds):
    if MAJOR < 16:
        pytest.skip("PostgreSQL 16 brought it")
    name = "m_" + options.lower().replace(", ", "_").replace(" ", "_")
    arena.execute(f"CREATE ROLE {name} LOGIN; GRANT SELECT ON payments TO {name}; CREATE ROLE g_{name}; CREATE ROLE h_{name};"
                  f"GRANT g_{name} TO h_{name}; GRANT h_{name} TO {name} WITH {options}")
    arena.grant(f"g_{name}", "reveal")
    if holds:
        assert arena.execute("SELECT id, pci.reveal(card) FROM payments ORDER BY id", user=name) == CLEAR
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="reveal"):
            arena.execute("SELECT pci.reveal(card) FROM payments", user=name)


def test_expired_grant_stops_a_function(arena):
    """Since 18 the plans of functions in SQL outlive the statement that called them."""
    arena.execute("CREATE ROLE brief LOGIN; GRANT SELECT ON payments TO brief")
    arena.execute("CREATE FUNCTION public.pairs() RETURNS SETOF bigint LANGUAGE sql VOLATILE AS "
                  "'SELECT p.id FROM public.payments p JOIN public.payments q ON p.card = q.card'")
    arena.execute("SELECT pci.grant_access('brief', 'default', 'search', valid_until => clock_timestamp() + interval '2 seconds')", user="ann")
    with arena.connect("brief") as conn:
        for _ in range(3):
            assert len(conn.execute("SELECT public.pairs()").fetchall()) == len(CLEAR)
        until(lambda: not conn.execute("SELECT in_force FROM pci.access WHERE role = 'brief'::regrole").fetchone()[0], "the grant expires")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="compare"):
            conn.execute("SELECT public.pairs()")


def test_pg_maintain_compares_nothing(arena):
    if MAJOR < 17:
        pytest.skip("PostgreSQL 17 brought it")
    arena.execute("CREATE ROLE keeper LOGIN IN ROLE pg_maintain")
    with searching(arena, "postgres"):
        arena.execute("CREATE INDEX kept_card ON payments (card)")
    arena.execute("CREATE MATERIALIZED VIEW public.kept AS SELECT id, card FROM payments; CREATE UNIQUE INDEX ON public.kept (id)")
    try:
        with arena.connect("keeper") as conn:
            for statement in ("VACUUM payments", "ANALYZE payments", "REINDEX TABLE payments", "REFRESH MATERIALIZED VIEW public.kept"):
                conn.execute(statement)
            for statement in ("CLUSTER payments USING kept_card", "REFRESH MATERIALIZED VIEW CONCURRENTLY public.kept"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="compare"):
                    conn.execute(statement)
    finally:
        arena.execute("DROP MATERIALIZED VIEW public.kept; DROP INDEX public.kept_card")
    assert arena.reveals() == CLEAR


def test_statistics_set_by_hand_need_store(arena):
    """They make card numbers from digits, like all input."""
    if MAJOR < 18:
        pytest.skip("PostgreSQL 18 brought it")
    arena.execute("CREATE TABLE public.counted (card pci.pan); ALTER TABLE public.counted OWNER TO plain")
    said = []
    with arena.connect("plain") as conn:
        conn.add_notice_handler(lambda d: said.append(d.message_primary))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="store"):
            conn.execute("SELECT pg_restore_attribute_stats('schemaname', 'public', 'relname', 'counted', 'attname', 'card', 'inherited', false, "
                         "'null_frac', 0::real, 'avg_width', 80, 'n_distinct', -1::real, 'most_common_vals', %s::text, "
                         "'most_common_freqs', '{0.5,0.5}'::real[])", (f"{{{VISA},{VISA_2}}}",))
    assert VISA not in str(said)
