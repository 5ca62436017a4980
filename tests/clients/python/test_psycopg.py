"""psycopg 3, unmodified: text and binary cursors and parameters."""

import psycopg
import pytest
from psycopg import errors, sql

VISA, VISA_MASK = "4111111111111111", "411111******1111"
MASTER, MASTER_MASK = "5555555555554444", "555555******4444"
AMEX, AMEX_MASK = "378282246310005", "378282*****0005"


@pytest.fixture
def till():
    with psycopg.connect(user="till", autocommit=True) as connection:
        connection.execute("TRUNCATE payments_psycopg")
        yield connection


@pytest.fixture
def desk():
    with psycopg.connect(user="desk", autocommit=True) as connection:
        yield connection


@pytest.fixture(params=["text", "binary"])
def form(request):
    """The form of parameters (%t, %b) and of results."""
    return request.param


def run(connection, form, query, values=(), prepare=None):
    mark = "%t" if form == "text" else "%b"
    with connection.cursor(binary=form == "binary") as cursor:
        cursor.execute(query.replace("%s", mark), values, prepare=prepare)
        return cursor.fetchall() if cursor.description else cursor.rowcount


def shown(form, mask):
    """Types that psycopg does not know come as text, or as bytes in binary results."""
    return mask if form == "text" else mask.encode()


def insert(connection, form, *pans):
    for number, pan in enumerate(pans, 1):
        run(connection, form, "INSERT INTO payments_psycopg VALUES (%s, %s, 10)", (number, pan))


def test_insert_and_select_give_the_mask(till, form):
    insert(till, form, VISA, "5555-5555-5555-4444")
    rows = run(till, form, "SELECT id, card, card::text FROM payments_psycopg ORDER BY id")
    assert rows == [
        (1, shown(form, VISA_MASK), VISA_MASK),
        (2, shown(form, MASTER_MASK), MASTER_MASK),
    ]


def test_returning_gives_the_mask(till, form):
    rows = run(till, form, "INSERT INTO payments_psycopg VALUES (1, %s, 10) RETURNING card::text", (VISA,))
    assert rows == [(VISA_MASK,)]


def test_executemany(till, form):
    mark = "%t" if form == "text" else "%b"
    with till.cursor(binary=form == "binary") as cursor:
        cursor.executemany(
            f"INSERT INTO payments_psycopg (card, amount) VALUES ({mark}, {mark})",
            [(VISA, 1), (MASTER, 2), (AMEX, 3)],
        )
    assert run(till, form, "SELECT card::text FROM payments_psycopg ORDER BY amount") == [
        (VISA_MASK,), (MASTER_MASK,), (AMEX_MASK,),
    ]


def test_copy_in(till, form):
    with till.cursor() as cursor:
        options = sql.SQL("(FORMAT {})").format(sql.SQL(form))
        with cursor.copy(sql.SQL("COPY payments_psycopg (card, amount) FROM STDIN ") + options) as copy:
            copy.set_types(["text", "int4"])
            copy.write_row((VISA, 1))
            copy.write_row((AMEX, 2))
    assert run(till, form, "SELECT card::text FROM payments_psycopg ORDER BY amount") == [
        (VISA_MASK,), (AMEX_MASK,),
    ]


@pytest.mark.parametrize("parameter", ["%s", "%s::text", "%s::varchar", "%s::pci.pan"])
def test_look_up_by_full_pan(till, form, parameter):
    insert(till, form, VISA, MASTER)
    query = f"SELECT id FROM payments_psycopg WHERE card = {parameter}"
    assert run(till, form, query, (MASTER,)) == [(2,)]
    assert run(till, form, query, ("5555 5555 5555 4444",)) == [(2,)]
    assert run(till, form, query, (AMEX,)) == []


def test_look_up_uses_the_index(till, form):
    insert(till, form, VISA, MASTER)
    till.execute("SET enable_seqscan = off")
    plan = run(till, form, "EXPLAIN (COSTS OFF) SELECT id FROM payments_psycopg WHERE card = %s", (MASTER,))
    text = "\n".join(line for (line,) in plan)
    assert "using payments_psycopg_card_key" in text or "on payments_psycopg_card_key" in text, text


@pytest.mark.parametrize("array", ["%s", "%s::text[]"])
def test_any_and_in(till, form, array):
    insert(till, form, VISA, MASTER, AMEX)
    rows = run(till, form, f"SELECT id FROM payments_psycopg WHERE card = ANY({array}) ORDER BY id", ([VISA, AMEX],))
    assert rows == [(1,), (3,)]
    rows = run(till, form, "SELECT id FROM payments_psycopg WHERE card IN (%s, %s) ORDER BY id", (MASTER, AMEX))
    assert rows == [(2,), (3,)]
    rows = run(till, form, "SELECT id FROM payments_psycopg WHERE card NOT IN (%s, %s) ORDER BY id", (MASTER, AMEX))
    assert rows == [(1,)]


def test_upsert(till, form):
    upsert = (
        "INSERT INTO payments_psycopg (card, amount) VALUES (%s, %s) "
        "ON CONFLICT (card) DO UPDATE SET amount = payments_psycopg.amount + excluded.amount "
        "RETURNING card::text, amount"
    )
    assert run(till, form, upsert, (VISA, 5)) == [(VISA_MASK, 5)]
    assert run(till, form, upsert, (VISA, 6)) == [(VISA_MASK, 11)]
    assert run(till, form, upsert, (MASTER, 7)) == [(MASTER_MASK, 7)]
    assert run(till, form, "SELECT count(*) FROM payments_psycopg") == [(2,)]


def test_update_of_another_column_keeps_the_card(till, desk, form):
    insert(till, form, VISA)
    assert run(till, form, "UPDATE payments_psycopg SET amount = %s WHERE id = 1", (99,)) == 1
    assert run(desk, form, "SELECT pci.reveal(card), amount FROM payments_psycopg") == [(VISA, 99)]


def test_update_of_the_card(till, desk, form):
    insert(till, form, VISA)
    assert run(till, form, "UPDATE payments_psycopg SET card = %s WHERE card = %s", (AMEX, VISA)) == 1
    assert run(desk, form, "SELECT pci.reveal(card) FROM payments_psycopg") == [(AMEX,)]


def test_refused_reveal(till, form):
    insert(till, form, VISA)
    with pytest.raises(errors.InsufficientPrivilege) as refused:
        run(till, form, "SELECT pci.reveal(card) FROM payments_psycopg")
    assert refused.value.sqlstate == "42501"
    assert "permission denied to reveal card numbers" in refused.value.diag.message_primary
    assert "pci.grant_access" in refused.value.diag.message_hint
    assert VISA not in str(refused.value)
    assert run(till, form, "SELECT card::text FROM payments_psycopg") == [(VISA_MASK,)]


def test_granted_reveal(till, desk, form):
    insert(till, form, VISA, MASTER, AMEX)
    rows = run(desk, form, "SELECT card::text, pci.reveal(card) FROM payments_psycopg ORDER BY id")
    assert rows == [(VISA_MASK, VISA), (MASTER_MASK, MASTER), (AMEX_MASK, AMEX)]


def test_refused_look_up_and_store(till, desk, form):
    insert(till, form, VISA)
    with pytest.raises(errors.InsufficientPrivilege):
        run(desk, form, "SELECT id FROM payments_psycopg WHERE card = %s", (VISA,))
    with pytest.raises(errors.InsufficientPrivilege):
        run(desk, form, "SELECT %s::text::pci.pan", (VISA,))


@pytest.mark.parametrize("bad", ["4111111111111112", VISA_MASK, "", "41111111111", "card"])
def test_bad_input_is_a_data_error_without_the_input(till, form, bad):
    with pytest.raises(errors.InvalidTextRepresentation) as refused:
        insert(till, form, bad)
    diag = refused.value.diag
    assert diag.sqlstate == "22P02"
    said = " ".join(str(part) for part in (diag.message_primary, diag.message_detail, diag.message_hint, diag.context))
    assert not bad or bad == "card" or bad not in said
    assert run(till, form, "SELECT count(*) FROM payments_psycopg") == [(0,)]


def test_unique_violation_names_the_mask_only(till, form):
    insert(till, form, VISA)
    with pytest.raises(errors.UniqueViolation) as refused:
        run(till, form, "INSERT INTO payments_psycopg (card, amount) VALUES (%s, 1)", (VISA,))
    assert refused.value.diag.message_detail == f"Key (card)=({VISA_MASK}) already exists."


def test_prepared_statements_go_generic(till, desk, form):
    insert(till, form, VISA, MASTER)
    look_up = "SELECT id FROM payments_psycopg WHERE card = %s"
    for _ in range(8):
        assert run(till, form, look_up, (MASTER,), prepare=True) == [(2,)]
        assert run(till, form, look_up, (VISA,), prepare=True) == [(1,)]
        assert run(till, form, look_up, (AMEX,), prepare=True) == []
    for number in range(8):
        update = "UPDATE payments_psycopg SET card = %s, amount = %s WHERE id = 1"
        assert run(till, form, update, ((AMEX, VISA)[number % 2], number), prepare=True) == 1
    generic = till.execute("SELECT min(generic_plans) FROM pg_prepared_statements WHERE statement LIKE '%payments_psycopg%card%'").fetchone()
    assert generic[0] is not None and generic[0] > 0, generic
    for _ in range(8):
        rows = run(desk, form, "SELECT pci.reveal(card) FROM payments_psycopg WHERE id = %s", (1,), prepare=True)
        assert rows == [(VISA,)]


def test_a_prepared_statement_is_refused_once_the_grant_is_gone(till, form):
    insert(till, form, VISA)
    look_up = "SELECT id FROM payments_psycopg WHERE card = %s"
    with psycopg.connect(user="ann", autocommit=True) as ann:
        for _ in range(8):
            assert run(till, form, look_up, (VISA,), prepare=True) == [(1,)]
        ann.execute("SELECT pci.revoke_access('till', 'default', 'search')")
        try:
            with pytest.raises(errors.InsufficientPrivilege):
                run(till, form, look_up, (VISA,), prepare=True)
        finally:
            ann.execute("SELECT pci.grant_access('till', 'default', 'search')")
        assert run(till, form, look_up, (VISA,), prepare=True) == [(1,)]


def test_pipeline_and_server_side_cursor(till, form):
    with till.pipeline():
        insert(till, form, VISA, MASTER, AMEX)
    with till.transaction(), till.cursor("rows", binary=form == "binary") as cursor:
        cursor.itersize = 1
        cursor.execute("SELECT card::text FROM payments_psycopg ORDER BY id")
        assert list(cursor) == [(VISA_MASK,), (MASTER_MASK,), (AMEX_MASK,)]
