"""Bad input: each a precise error that never repeats the digits, and nothing stored."""

import base64
import re
import struct

import psycopg
import pytest
from conftest import MASTERCARD, VISA


@pytest.fixture(scope="module")
def sealed(cluster):
    """The sealed form of a stored card number, as bytes."""
    with cluster.connect("backup") as conn:
        with conn.cursor().copy("COPY (SELECT card FROM payments WHERE id = 1) TO STDOUT") as copy:
            text = b"".join(bytes(b) for b in copy).decode().strip()
    assert text.startswith("pan:1:")
    return text


def raw(text):
    body = text.removeprefix("pan:1:")
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def seal(data, version="1"):
    return f"pan:{version}:" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def flip(text, position):
    data = bytearray(raw(text))
    data[position] ^= 1
    return seal(bytes(data))


# name: (input or function of the sealed form, SQLSTATE)
BAD = {
    "letters": ("4111x11111111111", "22P02"),
    "only_letters": ("hello", "22P02"),
    "luhn": ("4111111111111112", "22P02"),
    "11_digits": ("41111111111", "22P02"),
    "20_digits": ("41111111111111111111", "22P02"),
    "300_digits": ("4" * 300, "22P02"),
    "1000000_digits": ("4" * 1_000_000, "22P02"),
    "empty": ("", "22P02"),
    "blank": ("    ", "22P02"),
    "mask": ("411111******1111", "22P02"),
    "double_space": ("4111  1111 1111 1111", "22P02"),
    "mixed_garbage": ("4111-1111-1111-1111;", "22P02"),
    "trailing_dash": ("4111111111111111-", "22P02"),
    "newline_inside": ("41111111\n11111111x", "22P02"),
    "full_width": ("４１１１１１１１１１１１１１１１", "22P02"),
    "arabic_digits": ("٤١١١١١١١١١١١١١١١", "22P02"),
    "sign": ("+4111111111111111", "22P02"),
    "decimal": ("4111111111111111.0", "22P02"),
    "exponent": ("4.111111111111111e15", "22P02"),
    "array": ("{4111111111111111}", "22P02"),
    "two_numbers": (f"{VISA} {MASTERCARD}", "22P02"),
    "sealed_nothing": ("pan:1:", "22P02"),
    "sealed_prefix": ("pan:", "22P02"),
    "sealed_no_version": ("pan::AAAA", "22P02"),
    "sealed_garbage": ("pan:1:!!!!", "22P02"),
    "sealed_digits": (f"pan:1:{VISA}", "22P02"),
    "sealed_cut": (lambda s: s[:-5], "22P02"),
    "sealed_cut_by_bytes": (lambda s: seal(raw(s)[:-1]), "22P02"),
    "sealed_longer": (lambda s: seal(raw(s) + b"\0"), "22P02"),
    "sealed_padded": (lambda s: s + "==", "22P02"),
    "sealed_version_of_bytes": (lambda s: seal(b"\x02" + raw(s)[1:]), "22P02"),
    "sealed_flags": (lambda s: seal(raw(s)[:1] + b"\xff" + raw(s)[2:]), "22P02"),
    "sealed_comparand": (lambda s: seal(raw(s)[:1] + b"\x03" + raw(s)[2:34]), "22P02"),
    "sealed_future_version": (lambda s: s.replace("pan:1:", "pan:2:"), "22023"),
    "sealed_far_future_version": (lambda s: s.replace("pan:1:", "pan:99999999999999999999:"), None),
}

VALUES = BAD.keys()


def bad(name, sealed):
    value, sqlstate = BAD[name]
    return (value(sealed) if callable(value) else value), sqlstate


def assert_precise(error, sqlstate, value):
    """The SQLSTATE is right, and no run of 7 or more digits of the input is anywhere in the error."""
    diag = error.diag
    fields = [diag.message_primary, diag.message_detail, diag.message_hint, diag.context, diag.internal_query]
    text = "\n".join(f for f in fields if f)
    if sqlstate is None:
        assert error.sqlstate in ("22P02", "22023"), f"{error.sqlstate}: {text}"
    else:
        assert error.sqlstate == sqlstate, f"{error.sqlstate}: {text}"
    for run in re.findall(r"\d{7,}", value):
        assert not any(run[i:i + 7] in text for i in range(min(len(run) - 6, 300))), text
    assert value == "" or value.isspace() or len(value) < 8 or value not in text, text
    assert not re.search(r"panicked|unwrap|assert|\.rs:", text), text


def copy_binary(fields):
    row = struct.pack("!h", len(fields)) + b"".join(struct.pack("!i", len(f)) + f for f in fields)
    return b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0) + row + struct.pack("!h", -1)


def copy_escape(value):
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def literal(conn, value):
    conn.execute(b"INSERT INTO bad VALUES (1, '" + value.encode() + b"')", prepare=False)


def bound_text(conn, value):
    conn.execute("INSERT INTO bad VALUES (1, %s)", (value,))


def bound_as_text_type(conn, value):
    conn.execute("INSERT INTO bad VALUES (1, %s::text)", (value,))


def bound_prepared(conn, value):
    conn.execute("INSERT INTO bad VALUES (1, %t)", (value,), prepare=True)


def bound_binary(conn, value):
    # The parameter is of type pci.pan itself, in binary: pan_recv.
    result = conn.pgconn.exec_params(b"INSERT INTO bad VALUES (1, $1)", [value.encode()], [conn.pan_oid], [1])
    if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)


def in_plpgsql(conn, value):
    conn.execute(f"DO $d$ BEGIN INSERT INTO bad VALUES (1, $v${value}$v$); END $d$".encode(), prepare=False)


def copy_text(conn, value):
    with conn.cursor().copy("COPY bad FROM STDIN") as copy:
        copy.write(f"1\t{copy_escape(value)}\n")


def copy_csv(conn, value):
    with conn.cursor().copy("COPY bad FROM STDIN (FORMAT csv)") as copy:
        copy.write(f'1,"{value}"\n')


def copy_in_binary(conn, value):
    with conn.cursor().copy("COPY bad FROM STDIN (FORMAT binary)") as copy:
        copy.write(copy_binary([struct.pack("!i", 1), value.encode()]))


def cast_explicit(conn, value):
    conn.execute(b"INSERT INTO bad SELECT 1, ('" + value.encode() + b"'::text)::pci.pan", prepare=False)


def json_record(conn, value):
    conn.execute("INSERT INTO bad SELECT (json_populate_record(NULL::bad, json_build_object('id', 1, 'card', %s::text))).*", (value,))


def array_element(conn, value):
    conn.execute("INSERT INTO bad SELECT 1, (%s::text[]::pci.pan[])[1]", ([value],))


WAYS = [literal, bound_text, bound_as_text_type, bound_prepared, bound_binary, in_plpgsql, copy_text, copy_csv,
        copy_in_binary, cast_explicit, json_record, array_element]


@pytest.fixture(scope="module")
def conn(cluster):
    with cluster.connect("full") as conn:
        conn.execute('SET search_path = "full", public')
        conn.execute("CREATE TABLE bad (id int, card pci.pan)")
        conn.pan_oid = conn.execute("SELECT 'pci.pan'::regtype::oid").fetchone()[0]
        yield conn


@pytest.fixture(autouse=True)
def leave_nothing(conn):
    yield
    conn.execute("TRUNCATE bad")


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
@pytest.mark.parametrize("name", VALUES)
def test_bad_input_is_refused(conn, sealed, name, way):
    value, sqlstate = bad(name, sealed)
    with pytest.raises(psycopg.Error) as caught:
        way(conn, value)
    assert_precise(caught.value, sqlstate, value)
    assert conn.execute("SELECT count(*) FROM bad").fetchone() == (0,)


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
def test_good_input_by_every_way(conn, way):
    """The ways themselves work."""
    way(conn, VISA)
    assert conn.execute("SELECT card, pci.reveal(card) FROM bad").fetchall() == [("411111******1111", VISA)]
    conn.execute("TRUNCATE bad")


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("how", ["text_parameter", "literal", "any"])
def test_bad_comparand_is_refused(conn, sealed, name, how):
    value, sqlstate = bad(name, sealed)
    with pytest.raises(psycopg.Error) as caught:
        if how == "text_parameter":
            conn.execute("SELECT id FROM payments WHERE card = %s::text", (value,)).fetchall()
        elif how == "any":
            conn.execute("SELECT id FROM payments WHERE card = ANY(%s::text[])", ([value],)).fetchall()
        else:
            conn.execute(b"SELECT id FROM payments WHERE card = '" + value.encode() + b"'", prepare=False).fetchall()
    assert_precise(caught.value, sqlstate, value)


@pytest.mark.parametrize("name,hint", [("mask", "mask"), ("full_width", "ASCII"), ("letters", "separate"), ("sealed_cut", "pan:1:"),
                                       ("sealed_future_version", "later version")])
def test_hint_says_what_to_do(conn, sealed, name, hint):
    with pytest.raises(psycopg.Error) as caught:
        bound_text(conn, bad(name, sealed)[0])
    assert hint in (caught.value.diag.message_hint or "")


# Sealed text is not authenticated until it is opened: it may be stored, never revealed.

@pytest.mark.parametrize("position", range(82))
def test_flipped_sealed_text_never_opens(conn, sealed, position):
    value = flip(sealed, position)
    try:
        bound_text(conn, value)
    except psycopg.Error as error:
        assert_precise(error, None, value)
    else:
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("SELECT pci.reveal(card) FROM bad").fetchall()
        # A key id that does not exist here, or bytes that fail authentication.
        assert caught.value.sqlstate in (("XX001",) if position not in range(10, 18) else ("XX001", "22023", "55000", "58000"))
        assert VISA not in str(caught.value)
    finally:
        conn.execute("TRUNCATE bad")


def test_sealed_of_unknown_key(conn, sealed):
    data = bytearray(raw(sealed))
    data[10:18] = b"\x01" * 8
    bound_text(conn, seal(bytes(data)))
    assert conn.execute("SELECT card FROM bad").fetchone() == ("411111******1111",)
    with pytest.raises(psycopg.Error) as caught:
        conn.execute("SELECT pci.reveal(card) FROM bad")
    assert caught.value.sqlstate in ("XX001", "22023") and "key" in str(caught.value)
    conn.execute("TRUNCATE bad")


@pytest.mark.parametrize("value", [b"4111111111111111\0", b"\0", b"4111\0111111111111", b"pan:1:\0"])
def test_nul_bytes(conn, value):
    with pytest.raises(psycopg.Error) as caught:
        bound_binary(conn, value.decode())
    assert caught.value.sqlstate in ("22P02", "22021")
    assert_precise(caught.value, caught.value.sqlstate, value.decode())
    with pytest.raises(psycopg.Error) as caught:
        copy_in_binary(conn, value.decode())
    assert caught.value.sqlstate in ("22P02", "22021")
    assert_precise(caught.value, caught.value.sqlstate, value.decode())
    assert conn.execute("SELECT count(*) FROM bad").fetchone() == (0,)


def test_invalid_utf8_in_binary(conn):
    for value in (b"\xff\xfe4111111111111111", b"\x80" * 16):
        with pytest.raises(psycopg.Error) as caught:
            with conn.cursor().copy("COPY bad FROM STDIN (FORMAT binary)") as copy:
                copy.write(copy_binary([struct.pack("!i", 1), value]))
        assert caught.value.sqlstate in ("22P02", "22021")
        assert "4111111" not in str(caught.value)


@pytest.mark.parametrize("typmod,sqlstate", [("'nowhere'", "22023"), ("0", "22023"), ("-1", "22023"), ("1, 2", "22023"), ("99", None),
                                             ("'default', 'eu'", "22023"), ("99999999999", "22023"), ("''", "22023")])
def test_wrong_typmod(conn, typmod, sqlstate):
    """A vault number that does not exist is known only when a value comes: a dump restores tables first."""
    with pytest.raises(psycopg.Error) as caught:
        with conn.transaction():
            conn.execute(f"CREATE TABLE wrong (card pci.pan({typmod}))")
            conn.execute(f"INSERT INTO wrong VALUES ('{VISA}')")
    assert caught.value.sqlstate == (sqlstate or "22023"), caught.value
    assert VISA not in str(caught.value)


def test_typmod_prints_as_number(conn):
    with conn.transaction(force_rollback=True):
        conn.execute("CREATE TABLE right_one (card pci.pan('default'))")
        conn.execute(f"INSERT INTO right_one VALUES ('{VISA}')")
        assert conn.execute("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'right_one'::regclass AND attname = 'card'").fetchone() == ("pci.pan(1)",)


@pytest.mark.parametrize("function", ["brand", "truncate_pan"])
@pytest.mark.parametrize("name", ["letters", "luhn", "empty", "20_digits", "mask", "full_width"])
def test_bad_input_of_text_functions(conn, function, name):
    value = BAD[name][0]
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(f"SELECT pci.{function}(%s::text)", (value,))
    assert_precise(caught.value, "22P02", value)


def test_constraint_errors_show_masks(conn):
    conn.execute("CREATE TABLE strict (id int PRIMARY KEY, card pci.pan UNIQUE, amount int CHECK (amount > 0))")
    try:
        conn.execute(f"INSERT INTO strict VALUES (1, '{VISA}', 1)")
        for sql, detail in ((f"INSERT INTO strict VALUES (2, '{VISA}', 1)", "Key (card)=(411111******1111) already exists."),
                            (f"INSERT INTO strict VALUES (3, '{MASTERCARD}', -1)", "Failing row contains (3, 555555******4444, -1).")):
            with pytest.raises(psycopg.Error) as caught:
                conn.execute(sql)
            assert caught.value.diag.message_detail == detail
    finally:
        conn.execute("DROP TABLE strict")


# A sealed form that was made up is a way to read stored bytes, between which PostgreSQL orders rows.

PARTS = {"shown_digits": 4, "nonce": 20, "ciphertext": 45, "tag": 60, "hash": -1}


@pytest.mark.parametrize("role", ["app", "look", "plain", "postgres"])
@pytest.mark.parametrize("part", [*PARTS, "key"])
def test_a_made_up_sealed_form_is_refused(cluster, sealed, part, role):
    value = flip(sealed, PARTS[part]) if part != "key" else flip(sealed, 12)
    with cluster.connect(role) as conn:
        assert conn.execute("SELECT %s::pci.pan", (sealed,)).fetchone() == ("411111******1111",)
        for sql in ("SELECT %s::pci.pan", "SELECT %s::text::pci.pan", "SELECT ARRAY[%s]::pci.pan[]"):
            with pytest.raises(psycopg.Error) as caught:
                conn.execute(sql, (value,))
            assert_precise(caught.value, "22023" if part == "key" else "22P02", value)
    # Whoever may have it so may give it so: a restore into a database that is in use.
    with cluster.connect("backup") as conn:
        if part not in ("shown_digits", "key"):
            assert conn.execute("SELECT %s::pci.pan", (value,)).fetchone() == ("411111******1111",)


def test_a_made_up_sealed_form_is_refused_by_copy(cluster, sealed):
    with cluster.connect("app") as conn:
        conn.execute("CREATE TABLE app.given (card pci.pan)")
        for value in (sealed, flip(sealed, -1)):
            for binary in (False, True):
                try:
                    with conn.cursor().copy("COPY app.given FROM STDIN" + (" (FORMAT binary)" if binary else "")) as copy:
                        if binary:
                            copy.set_types(["text"])
                        copy.write_row([value])
                    assert value == sealed
                except psycopg.Error as error:
                    assert (value == sealed, error.sqlstate) == (False, "22P02"), error
        assert conn.execute("SELECT count(*) FROM app.given").fetchone() == (2,)
        conn.execute("DROP TABLE app.given")
