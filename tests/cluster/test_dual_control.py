"""What weakens protection takes two persons: one asks, another holder of the duty approves."""

import threading

import psycopg
import pytest
from conftest import CLEAR
from test_key_life import destroy, refused, rotate, state
from test_replication import until
from test_restore import give_globals, give_key


@pytest.fixture(scope="module")
def office(module_cluster):
    one = module_cluster()
    one.execute("CREATE ROLE asked LOGIN; GRANT SELECT ON payments TO asked")
    return one


def ask(cluster, role="asked", user="ann", limits=""):
    return cluster.value(f"SELECT pci.grant_access('{role}', 'default', 'reveal'{limits})", user=user)


def request(cluster, number, columns="state, requested_by, decided_by, decision_reason"):
    return cluster.execute(f"SELECT {columns} FROM pci.requests WHERE id = %s", (number,))[0]


def may_reveal(cluster, role="asked"):
    return cluster.value("SELECT count(*) FROM pci.access WHERE role = %s::regrole AND capability = 'reveal'", (role,)) == 1


@pytest.fixture(autouse=True)
def nothing_granted(request):
    yield
    if "office" in request.fixturenames:
        one = request.getfixturevalue("office")
        if may_reveal(one):
            one.execute("SELECT pci.revoke_access('asked', 'default', 'reveal')", user="ann")


def test_asked_is_not_granted_and_both_names_are_kept(office):
    number = ask(office)
    assert request(office, number) == ("open", "ann", None, None)
    assert not may_reveal(office)
    refused(office, "SELECT pci.reveal(card) FROM payments", "asked", "42501")
    office.execute("SELECT pci.approve(%s)", (number,), user="bob")
    assert request(office, number) == ("approved", "ann", "bob", None)
    assert office.value("SELECT count(pci.reveal(card)) FROM payments", user="asked") == 4
    for user in ("ann", "bob"):
        refused(office, f"SELECT pci.approve({number})", user, "55000", "approved already")


@pytest.mark.parametrize("user", ["ann", "cy", "eve", "postgres", "asked"])
def test_only_another_holder_of_the_duty_approves(office, user):
    number = ask(office)
    refused(office, f"SELECT pci.approve({number})", user, "42501")
    assert request(office, number)[0] == "open" and not may_reveal(office)


@pytest.mark.parametrize("become", ["SET ROLE bob", "SET SESSION AUTHORIZATION bob"])
@pytest.mark.parametrize("user", ["ann", "postgres"])
def test_nobody_becomes_the_second_person(office, user, become):
    number = ask(office)
    office.execute("ALTER ROLE ann SUPERUSER")
    try:
        with office.connect(user) as conn:
            conn.execute(become)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("SELECT pci.approve(%s)", (number,))
    finally:
        office.execute("ALTER ROLE ann NOSUPERUSER")
    assert request(office, number)[0] == "open" and not may_reveal(office)


def test_rejected_with_a_reason(office):
    number = ask(office)
    for user in ("cy", "postgres"):
        refused(office, f"SELECT pci.reject({number}, 'no')", user, "42501")
    office.execute("SELECT pci.reject(%s, 'not her job')", (number,), user="bob")
    assert request(office, number) == ("rejected", "ann", "bob", "not her job")
    refused(office, f"SELECT pci.approve({number})", "bob", "55000", "rejected already")
    # Who asked may take it back.
    number = ask(office)
    office.execute("SELECT pci.reject(%s, 'a mistake')", (number,), user="ann")
    assert request(office, number) == ("rejected", "ann", "ann", "a mistake")
    assert not may_reveal(office)


def test_a_request_expires(fresh_cluster):
    one = fresh_cluster("pgpci.request_expiry = 1s")
    number = ask(one, "look")
    until(lambda: request(one, number)[0] == "expired", "it expires")
    refused(one, f"SELECT pci.approve({number})", "bob", "55000", "has expired")
    assert not may_reveal(one, "look")
    asked, expires = request(one, number, "requested_at, expires_at")
    assert 0.9 <= (expires - asked).total_seconds() <= 1.1


def test_of_two_approvals_at_once_one_wins(office):
    office.execute("CREATE ROLE sue LOGIN")
    with office.connect("ann") as conn:
        office.execute("ALTER ROLE ann SUPERUSER")
        conn.execute("GRANT pci_officer TO sue")
        office.execute("ALTER ROLE ann NOSUPERUSER")
    number = ask(office)
    results = []
    with office.connect("bob", autocommit=False) as first, office.connect("sue") as second:
        first.execute("SELECT pci.approve(%s)", (number,))

        def approve():
            try:
                second.execute("SELECT pci.approve(%s)", (number,))
                results.append(None)
            except psycopg.Error as error:
                results.append(error.sqlstate)

        waiting = threading.Thread(target=approve)
        waiting.start()
        until(lambda: office.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s",
                                   (second.info.backend_pid,)), "the second waits")
        first.commit()
        waiting.join(20)
    assert results == ["55000"]
    assert request(office, number)[:3] == ("approved", "ann", "bob")


def test_the_subject_is_gone(office):
    office.execute("CREATE ROLE gone")
    number = ask(office, "gone")
    office.execute("DROP ROLE gone")
    refused(office, f"SELECT pci.approve({number})", "bob", "55000", "gone")
    assert request(office, number)[0] == "open"
    key = rotate(office)
    rotate(office)
    number = office.value("SELECT pci.destroy_key(%s, 'first')", (key,), user="cy")
    destroy(office, key)
    refused(office, f"SELECT pci.approve({number})", "di", "55000", "destroyed does not become destroyed")
    assert state(office, key) == "destroyed" and office.reveals() == CLEAR


def test_who_asked_is_no_officer_any_more(office):
    office.execute("CREATE ROLE tom LOGIN; ALTER ROLE ann SUPERUSER")
    office.execute("GRANT pci_officer TO tom", user="ann")
    number = ask(office, user="tom")
    office.execute("REVOKE pci_officer FROM tom", user="ann")
    office.execute("ALTER ROLE ann NOSUPERUSER")
    refused(office, f"SELECT pci.approve({number})", "bob", "55000", "has not the duty any more")
    assert not may_reveal(office)


@pytest.mark.parametrize("sql", [
    "UPDATE pci.request SET requested_by = 'x', requester = 'postgres'", "UPDATE pci.request SET state = 'approved'",
    "UPDATE pci.request SET expires_at = 'infinity'", "DELETE FROM pci.request", "TRUNCATE pci.request",
    "INSERT INTO pci.request SELECT 99, kind, duty, reason FROM pci.request",
])
def test_requests_are_not_written_by_hand(office, sql):
    ask(office)
    before = office.execute("SELECT * FROM pci.request ORDER BY id")
    refused(office, sql, "postgres", "42501")
    assert office.execute("SELECT * FROM pci.request ORDER BY id") == before


def test_a_grant_is_as_it_was_asked(office):
    limits = (", purposes => ARRAY['refund', 'a, \"b\"', '{c}'], valid_from => '2001-02-03 04:05:06.123456+00', "
              "valid_until => '2101-02-03 04:05:06.654321+00', max_per_hour => 17")
    number = ask(office, limits=limits)
    columns = "purposes, valid_from, valid_until, max_per_hour"
    asked = request(office, number, columns)
    assert asked[0] == ["refund", 'a, "b"', "{c}"] and asked[3] == 17
    assert asked[1].isoformat().startswith("2001-02-03T") and asked[1].microsecond == 123456 and asked[2].microsecond == 654321
    office.execute("SELECT pci.approve(%s)", (number,), user="bob")
    granted = office.execute(f"SELECT {columns} FROM pci.access WHERE role = 'asked'::regrole")[0]
    assert granted == asked
    for purpose in asked[0]:
        assert office.execute("SELECT count(pci.reveal(card, %s)) FROM payments", (purpose,), user="asked") == [(4,)]


def test_an_aborted_approval_is_none(office):
    number = ask(office)
    with office.connect("bob", autocommit=False) as conn:
        conn.execute("SELECT pci.approve(%s)", (number,))
        conn.rollback()
    assert request(office, number)[0] == "open" and not may_reveal(office)


def test_showing_more_digits_takes_two(office):
    assert office.value("SELECT pci.set_display('default', 4, 4)", user="ann") is None
    number = office.value("SELECT pci.set_display('default', 6, 4)", user="ann")
    shown = "SELECT display_first, display_last FROM pci.vaults"
    assert office.execute(shown) == [(4, 4)]
    refused(office, f"SELECT pci.approve({number})", "ann", "42501", "of their own")
    office.execute("SELECT pci.approve(%s)", (number,), user="bob")
    assert office.execute(shown) == [(6, 4)]


def test_restored_requests_are_not_in_force(fresh_cluster):
    source, target = fresh_cluster(), fresh_cluster(set_up=False)
    number = ask(source, "look")
    source.grant("postgres", "search")
    script = source.run("pg_dump", user="backup").stdout
    give_globals(source, target)
    give_key(source, target)
    target.psql(script)
    assert request(target, number)[0] == "open"
    refused(target, f"SELECT pci.approve({number})", "bob", "55000", "not accepted yet")
    target.execute("SELECT pci.accept_policy()", user="ann")
    target.execute("SELECT pci.accept_policy()", user="bob")
    # Accepting the policy is not approving what was asked elsewhere.
    assert request(target, number) == ("rejected", "ann", "bob", "restored from elsewhere")
    assert not may_reveal(target, "look")
