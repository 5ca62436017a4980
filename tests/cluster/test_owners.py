"""What leaves in clear or sealed needs the capability twice: of who logged in, and of the owner of the code that asks."""

import psycopg
import pytest
from conftest import CLEAR

REVEALS = "SELECT string_agg(pci.reveal(card), ',' ORDER BY id) FROM public.payments"
# Prints by the output function, in the sealed form.
EXPORTS = "SELECT format('%s', card) FROM public.payments WHERE id = 1"
PLPGSQL_EXPORTS = "DECLARE found text; BEGIN PERFORM set_config('pgpci.pan_output', 'sealed', true); " + \
    EXPORTS.replace(" FROM", " INTO found FROM") + "; RETURN found; END"


@pytest.fixture(scope="module")
def owned(cluster):
    """In schemas `owner` (who holds store only) and `full` (who holds all): functions that ask for their callers."""
    cluster.execute('GRANT USAGE ON SCHEMA owner, "full" TO PUBLIC')
    for role in ("owner", "full"):
        with cluster.connect(role) as conn:
            conn.execute(f'SET search_path = "{role}"')
            for name, language, body in (("reveals", "sql", REVEALS), ("exports", "plpgsql", PLPGSQL_EXPORTS)):
                conn.execute(f"CREATE FUNCTION {name}() RETURNS text LANGUAGE {language} SECURITY DEFINER AS $f${body}$f$")
                conn.execute(f"CREATE FUNCTION plain_{name}() RETURNS text LANGUAGE {language} AS $f${body}$f$")
                # A definer function that calls another's: the innermost owner asks.
                other = "full" if role == "owner" else "owner"
                conn.execute(f"CREATE FUNCTION calls_{name}() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS "
                             f"$f$BEGIN RETURN \"{other}\".{name}(); END$f$")
            conn.execute("CREATE TABLE kept (digits text)")
            conn.execute("CREATE FUNCTION keep(digits text) RETURNS text LANGUAGE sql SECURITY DEFINER AS "
                         f"'INSERT INTO \"{role}\".kept VALUES (digits); SELECT digits'")
            conn.execute("CREATE VIEW revealed AS SELECT id, keep(pci.reveal(card)) AS card FROM public.payments")
            conn.execute("GRANT SELECT ON revealed TO PUBLIC")
    return cluster


def refused(cluster, sql, user, what):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"permission denied to {what}"):
        cluster.execute(sql, user=user)


DIGITS = ",".join(card for _, card in CLEAR)


@pytest.mark.parametrize("function", ["reveals", "exports"])
@pytest.mark.parametrize("caller", ["clerk", "backup", "full", "postgres"])
def test_a_definer_function_of_an_owner_without_it(owned, function, caller):
    """Whatever its caller holds, the function of somebody without the capability gets nothing."""
    refused(owned, f"SELECT owner.{function}()", caller, function.removesuffix("s"))


@pytest.mark.parametrize("function,holder", [("reveals", "clerk"), ("exports", "backup")])
def test_a_definer_function_of_an_owner_with_it(owned, function, holder):
    """It needs the caller's capability too, and works with both."""
    found = owned.value(f'SELECT "full".{function}()', user=holder)
    assert found == DIGITS if function == "reveals" else found.startswith("pan:1:")
    for caller in ("plain", "owner", "postgres", "look"):
        if caller != "postgres":
            owned.execute(f'GRANT USAGE ON SCHEMA "full" TO {caller}')
        refused(owned, f'SELECT "full".{function}()', caller, function.removesuffix("s"))


@pytest.mark.parametrize("function,holder", [("reveals", "clerk"), ("exports", "backup")])
def test_an_ordinary_function_asks_as_its_caller(owned, function, holder):
    found = owned.value(f"SELECT owner.plain_{function}()", user=holder)
    assert found == DIGITS if function == "reveals" else found.startswith("pan:1:")
    refused(owned, f'SELECT "full".plain_{function}()', "plain", function.removesuffix("s"))


@pytest.mark.parametrize("function,holder", [("reveals", "clerk"), ("exports", "backup")])
def test_a_definer_function_within_another(owned, function, holder):
    refused(owned, f'SELECT "full".calls_{function}()', holder, function.removesuffix("s"))


def test_a_view_of_an_owner_with_it(owned):
    assert owned.execute('SELECT id, card FROM "full".revealed ORDER BY id', user="clerk") == CLEAR


@pytest.mark.xfail(strict=True, reason="a known open door: a view runs as its reader, as any function that is no definer's")
def test_a_view_of_an_owner_without_it(owned):
    """The digits that a reader reveals pass through the owner's function."""
    refused(owned, "SELECT id, card FROM owner.revealed ORDER BY id", "clerk", "reveal")
    assert owned.value("SELECT count(*) FROM owner.kept") == 0


# Both grants count, with their limits.

@pytest.mark.parametrize("own,owners,purpose,works", [
    ("'{refund,dispute}'", "NULL", "refund", True),
    ("NULL", "'{refund}'", "refund", True),
    ("NULL", "'{refund}'", "dispute", False),
    ("'{refund}'", "'{dispute}'", "refund", False),
    ("'{refund}'", "'{dispute}'", "dispute", False),
    ("'{refund,dispute}'", "'{dispute}'", "dispute", True),
])
def test_purposes_of_both(owned, own, owners, purpose, works):
    owned.execute("DO $$ BEGIN CREATE ROLE maker LOGIN; CREATE ROLE taker LOGIN; GRANT ALL ON payments TO maker, taker; "
                  "CREATE SCHEMA maker AUTHORIZATION maker; GRANT USAGE ON SCHEMA maker TO taker; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    owned.execute("CREATE OR REPLACE FUNCTION maker.get(purpose text) RETURNS text LANGUAGE sql SECURITY DEFINER AS "
                  "'SELECT pci.reveal(card, purpose) FROM public.payments WHERE id = 1'", user="maker")
    for role, purposes in (("taker", own), ("maker", owners)):
        owned.grant(role, "reveal", purposes=purposes)
    sql = f"SELECT maker.get('{purpose}')"
    if works:
        assert owned.value(sql, user="taker") == CLEAR[0][1]
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            owned.execute(sql, user="taker")


def test_a_grant_of_the_owner_that_is_over_is_none(owned):
    owned.grant("maker", "reveal", valid_until="now() - interval '1 day'")
    owned.grant("taker", "reveal")
    refused(owned, "SELECT maker.get('refund')", "taker", "reveal")
