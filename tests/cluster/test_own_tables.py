"""The tables of pgpci: nothing but its functions writes them, not what those set off, not logical replication; and rows
that somebody got in all the same count for nothing."""

import psycopg
import pytest
from conftest import CLEAR, VISA
from test_replication import until
from test_restore import give_globals, give_key

REFUSED = "tables of pgpci change only through its functions"

# Logical replication: a database of the same cluster publishes rows for our tables.

PUBLISHED = """
CREATE SCHEMA pci;
CREATE TABLE pci.request (id integer PRIMARY KEY, kind text, duty text, reason text, vault text, role oid, capability text, requested_by text, requester oid,
                          expires_at timestamptz, state text, mac bytea);
CREATE TABLE pci.installation (id uuid PRIMARY KEY, system_identifier bigint, database oid, activated_by text);
CREATE TABLE pci.access_grant (role oid, vault text, capability text, mac bytea, granted_by text, granted_at timestamptz, PRIMARY KEY (role, vault, capability));
CREATE TABLE pci.vault (number integer PRIMARY KEY, name text, provider text, kek text, display_first int, display_last int, searchable boolean, created_by text);
CREATE TABLE pci.key_event (key bigint PRIMARY KEY, state text, changed_by text);
CREATE TABLE pci.key (id bigint PRIMARY KEY, vault int, purpose text, version int, state text, provider text, kek text, wrapped bytea, check_value bytea, created_by text);
CREATE PUBLICATION one;
"""
ROWS = {
    "request": "INSERT INTO pci.request VALUES (888, 'grant', 'pci_officer', 'x', 'default', 'postgres'::regrole, 'reveal', 'ann', 'ann'::regrole, now() + interval '1 day', 'open', '')",
    "installation": "INSERT INTO pci.installation VALUES (gen_random_uuid(), 1, 1, 'x')",
    "access_grant": "INSERT INTO pci.access_grant VALUES ('postgres'::regrole, 'default', 'reveal', '', 'ann', now())",
    "vault": "INSERT INTO pci.vault VALUES (9, 'nine', 'local', '', 6, 4, true, 'x')",
    "key_event": "INSERT INTO pci.key_event VALUES (1, 'active', 'x')",
}
KEY = "INSERT INTO pci.key VALUES ({id}, 77, 'data', {id}, 'active', 'local', '', '\\x01', '\\x0102030405060708', 'elsewhere')"


def publishes(cluster):
    cluster.execute("CREATE DATABASE pub")
    for statement in PUBLISHED.split(";\n"):
        if statement.strip():
            cluster.execute(statement, dbname="pub")
    cluster.execute("SELECT pg_create_logical_replication_slot('one', 'pgoutput')", dbname="pub")
    return cluster


class Subscription:
    """To the publication, for one table, of a cluster that may be the publisher itself."""

    def __init__(self, publisher, subscriber, table, copy_data):
        self.publisher, self.subscriber = publisher, subscriber
        publisher.execute(f"ALTER PUBLICATION one SET TABLE pci.{table}", dbname="pub")
        subscriber.execute(f"CREATE SUBSCRIPTION one CONNECTION 'host=127.0.0.1 port={publisher.port} user=postgres dbname=pub' PUBLICATION one "
                           f"WITH (create_slot = false, slot_name = 'one', copy_data = {copy_data})")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.subscriber.execute("ALTER SUBSCRIPTION one DISABLE")
        self.subscriber.execute("ALTER SUBSCRIPTION one SET (slot_name = NONE)")
        self.subscriber.execute("DROP SUBSCRIPTION one")
        # What the subscriber refused is not sent to the next one.
        active = "SELECT count(*) FROM pg_replication_slots WHERE active"
        until(lambda: self.publisher.value(active) == 0, "the sender ends")
        self.publisher.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots", dbname="pub")
        self.publisher.execute("SELECT pg_create_logical_replication_slot('one', 'pgoutput')", dbname="pub")


@pytest.fixture(scope="module")
def replicated(module_cluster):
    return publishes(module_cluster())


def state(cluster):
    names = ["installation", "vault", "key", "key_event", "request", "access_grant"]
    return [cluster.execute(f"SELECT t::text FROM pci.{name} t ORDER BY 1") for name in names]


@pytest.mark.parametrize("copy_data", ["true", "false"])
@pytest.mark.parametrize("table", ROWS)
def test_rows_do_not_arrive_by_replication(replicated, table, copy_data):
    before, refused = state(replicated), replicated.log.count(REFUSED)
    replicated.execute(f"TRUNCATE pci.{table}", dbname="pub")
    if copy_data == "true":
        replicated.execute(ROWS[table], dbname="pub")
    with Subscription(replicated, replicated, table, copy_data):
        if copy_data == "false":
            replicated.execute(ROWS[table], dbname="pub")
        until(lambda: replicated.log.count(REFUSED) > refused, "it is refused")
    assert state(replicated) == before
    assert replicated.reveals() == CLEAR


CHANGES = {
    "update": "UPDATE pci.vault SET name = 'other'",
    "delete": "DELETE FROM pci.vault",
    "truncate": "TRUNCATE pci.vault",
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_do_not_arrive_by_replication(replicated, change):
    """Of a row that is there at both ends."""
    before = state(replicated)
    refusals = (REFUSED, "objects of pgpci are not changed by hand")
    count = lambda: sum(replicated.log.count(text) for text in refusals)
    replicated.execute("TRUNCATE pci.vault", dbname="pub")
    replicated.execute("INSERT INTO pci.vault VALUES (1, 'default', 'local', '', 6, 4, true, 'x')", dbname="pub")
    refused = count()
    with Subscription(replicated, replicated, "vault", "false"):
        replicated.execute(CHANGES[change], dbname="pub")
        until(lambda: count() > refused, "it is refused")
    assert state(replicated) == before


def test_new_keys_arrive_by_replication_and_no_more(replicated):
    """As a node that makes keys sends them; what is there stays as it is."""
    replicated.execute("TRUNCATE pci.key", dbname="pub")
    replicated.execute(KEY.format(id=1001), dbname="pub")
    with Subscription(replicated, replicated, "key", "true"):
        ids = "SELECT array_agg(id ORDER BY id) FROM pci.keys WHERE created_by = 'elsewhere'"
        until(lambda: replicated.value(ids) == [1001], "the first copy arrives")
        replicated.execute(KEY.format(id=1002), dbname="pub")
        until(lambda: replicated.value(ids) == [1001, 1002], "a later one arrives")
        refused = replicated.log.count(REFUSED)
        replicated.execute("UPDATE pci.key SET state = 'destroyed' WHERE id = 1001", dbname="pub")
        until(lambda: replicated.log.count(REFUSED) > refused, "a change is refused")
    assert replicated.execute("SELECT state FROM pci.keys WHERE created_by = 'elsewhere'") == [("active",), ("active",)]
    with Subscription(replicated, replicated, "key", "false"):
        refused = replicated.log.count(REFUSED)
        replicated.execute("DELETE FROM pci.key WHERE id = 1002", dbname="pub")
        until(lambda: replicated.log.count(REFUSED) > refused, "a deletion is refused")
    assert replicated.value("SELECT count(*) FROM pci.keys WHERE created_by = 'elsewhere'") == 2
    assert replicated.reveals() == CLEAR


def test_before_anything_is_in_force_rows_arrive(fresh_cluster):
    """As in a restore: they count for nothing until they are accepted."""
    publisher, target = publishes(fresh_cluster(set_up=False)), fresh_cluster(set_up=False)
    publisher.create_roles()
    target.execute("CREATE EXTENSION pgpci")
    publisher.execute(KEY.format(id=1001), dbname="pub")
    with Subscription(publisher, target, "key", "true"):
        until(lambda: target.value("SELECT count(*) FROM pci.key") == 1, "the first copy arrives")
        publisher.execute("UPDATE pci.key SET state = 'suspended'", dbname="pub")
        until(lambda: target.value("SELECT state FROM pci.key") == "suspended", "changes arrive")


# Whoever restarts the server without the library writes what they like: it counts for nothing, or stops all.

def without_the_library(cluster, *statements):
    """Runs statements where nothing guards the tables, and brings the library back."""
    cluster.configure("shared_preload_libraries = ''", reload=False)
    cluster.restart()
    for statement in statements:
        cluster.execute(statement)
    cluster.configure("shared_preload_libraries = 'pgpci'", reload=False)
    cluster.restart()


@pytest.fixture(scope="module")
def raided(module_cluster):
    one = module_cluster()
    number = one.value("SELECT pci.grant_access('plain', 'default', 'reveal')", user="ann")
    without_the_library(
        one,
        "ALTER TABLE pci.request DISABLE TRIGGER ALL",
        # A forged one, and one that asks for something else than what was asked.
        "INSERT INTO pci.request (id, kind, duty, reason, vault, role, capability, requested_by, requester, expires_at, mac) "
        "SELECT 777, kind, duty, reason, vault, 'postgres'::regrole, capability, requested_by, requester, expires_at, mac "
        f"FROM pci.request WHERE id = {number}",
        f"UPDATE pci.request SET role = 'owner'::regrole WHERE id = {number}",
        # Code that runs within what pgpci's functions do.
        "CREATE SCHEMA evil; CREATE TABLE evil.seen (what text)",
        "CREATE FUNCTION evil.grant_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO pci.access_grant VALUES ('plain'::regrole, 'default', 'export', NULL, NULL, NULL, NULL, '', 'ann', now()); RETURN NEW; END $$",
        "CREATE TRIGGER evil AFTER INSERT ON pci.request FOR EACH ROW EXECUTE FUNCTION evil.grant_it(); ALTER TABLE pci.request ENABLE ALWAYS TRIGGER evil",
        "CREATE TABLE evil.kid () INHERITS (pci.access_grant)",
        "CREATE FUNCTION evil.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO evil.seen VALUES (TG_OP); RETURN OLD; END $$",
        "CREATE TRIGGER evil BEFORE DELETE ON evil.kid FOR EACH ROW EXECUTE FUNCTION evil.note()",
        "INSERT INTO evil.kid VALUES ('look'::regrole, 'default', 'search', NULL, NULL, NULL, NULL, '', 'x', now())",
    )
    one.number = number
    return one


@pytest.mark.parametrize("which", ["forged", "changed"])
def test_a_forged_request_is_not_approved(raided, which):
    number = 777 if which == "forged" else raided.number
    before = raided.execute("SELECT role::text, capability FROM pci.access ORDER BY 1, 2")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not as pgpci wrote it"):
        raided.execute("SELECT pci.approve(%s)", (number,), user="bob")
    assert raided.execute("SELECT role::text, capability FROM pci.access ORDER BY 1, 2") == before
    assert raided.value("SELECT state FROM pci.requests WHERE id = %s", (number,)) == "open"
    raided.execute("SELECT pci.reject(%s, 'not ours')", (number,), user="bob")


def test_what_runs_within_our_statement_does_not_write(raided):
    """A trigger on a table of ours."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=REFUSED):
        raided.execute("SELECT pci.grant_access('plain', 'default', 'reveal')", user="ann")
    assert raided.value("SELECT count(*) FROM pci.access WHERE role = 'plain'::regrole") == 0


def test_children_of_our_tables_are_not_touched(raided):
    raided.execute("SELECT pci.revoke_access('look', 'default', 'search')", user="ann")
    assert raided.value("SELECT count(*) FROM ONLY pci.access_grant WHERE role = 'look'::regrole") == 0
    assert raided.value("SELECT count(*) FROM evil.seen") == 0


def test_a_changed_installation_stops_all(fresh_cluster):
    """It does not count as a restore, in which comparing is free and the tables may be written."""
    one = fresh_cluster()
    without_the_library(one, "ALTER TABLE pci.installation DISABLE TRIGGER ALL", "UPDATE pci.installation SET system_identifier = 1")
    assert one.value("SELECT pci.is_active()") is False
    for user in ("app", "full", "postgres"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            one.execute("SELECT count(*) FROM payments a JOIN payments b ON a.card = b.card", user=user)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=REFUSED):
        one.execute("UPDATE pci.installation SET activated_by = 'x'")
    with pytest.raises(psycopg.Error):
        one.reveals()


def restored(fresh_cluster):
    source, target = fresh_cluster(), fresh_cluster(set_up=False, key=False)
    give_globals(source, target)
    target.psql(source.run("pg_dump", user="backup").stdout)
    give_key(source, target)
    return source, target


def test_a_row_alone_puts_nothing_in_force(fresh_cluster):
    """In a restored cluster the tables may be written: the installation's row is not believed, nor a label by hand."""
    _, target = restored(fresh_cluster)
    target.execute("UPDATE pci.installation SET system_identifier = (SELECT system_identifier FROM pg_control_system()), "
                   "database = (SELECT oid FROM pg_database WHERE datname = current_database())")
    assert target.value("SELECT pci.is_active()") is False
    with pytest.raises(psycopg.Error):
        target.reveals()
    here = target.value("SELECT format('pgpci:%s:%s', system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())) FROM pg_control_system()")
    for label in (here, here + "/10"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="labels of pgpci"):
            target.execute(f"SECURITY LABEL FOR pgpci ON DATABASE postgres IS '{label}'")


def test_a_grant_that_was_slipped_in_is_left_out(fresh_cluster):
    """When the others are accepted."""
    source, target = restored(fresh_cluster)
    target.execute("INSERT INTO pci.access_grant VALUES ('plain'::regrole, 'default', 'export', NULL, NULL, NULL, NULL, '\\x00', 'ann', now())")
    assert target.value("SELECT pci.accept_policy()", user="ann") is False
    with target.connect("bob") as conn:
        said = []
        conn.add_notice_handler(lambda diag: said.append(diag.message_primary))
        assert conn.execute("SELECT pci.accept_policy()").fetchone() == (True,)
    assert said == ['the grant of export to role "plain" is not as pgpci wrote it, and left out']
    grants = "SELECT role::text, capability FROM pci.access ORDER BY 1, 2"
    assert target.execute(grants) == source.execute(grants)
    assert target.reveals() == CLEAR


def test_who_was_no_officer_any_more_is_not_the_first(fresh_cluster):
    _, target = restored(fresh_cluster)
    assert target.value("SELECT pci.accept_policy()", user="ann") is False
    target.execute("REVOKE pci_officer FROM ann")
    assert target.value("SELECT pci.accept_policy()", user="bob") is False
    assert target.value("SELECT pci.is_active()") is False


def test_a_database_is_free_after_the_extension_left(fresh_cluster):
    """Its mark goes with it: what is created there next begins anew."""
    one = fresh_cluster()
    one.execute("DROP EXTENSION pgpci CASCADE; CREATE EXTENSION pgpci")
    one.execute("INSERT INTO pci.installation VALUES (gen_random_uuid(), 1, 1, 'x'); DELETE FROM pci.installation")
    one.execute("ALTER ROLE ann SUPERUSER")
    one.execute("SELECT pci.init('{ann,bob}', '{cy,di}', '{eve,fay}')", user="ann")
    assert one.value("SELECT pci.is_active()") is True
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=REFUSED):
        one.execute("DELETE FROM pci.installation")


def test_a_copy_of_the_database_is_none_of_these(fresh_cluster):
    one = fresh_cluster()
    one.execute("CREATE DATABASE twin TEMPLATE postgres")
    assert one.value("SELECT pci.is_active()", dbname="twin") is False
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=REFUSED):
        one.execute("DELETE FROM pci.installation", dbname="twin")
    with pytest.raises(psycopg.Error):
        one.execute(f"SELECT id FROM payments WHERE card = '{VISA}'", user="full", dbname="twin")


def test_a_restore_into_its_own_database(fresh_cluster, tmp_path):
    """Its rows name this very database, and still wait for two officers."""
    one = fresh_cluster()
    one.run("pg_dump", "-Fc", "-f", tmp_path / "dump", user="backup")
    one.run("pg_restore", "--clean", "--if-exists", "--exit-on-error", "-d", "postgres", tmp_path / "dump")
    assert one.value("SELECT pci.is_active()") is False
    with pytest.raises(psycopg.Error):
        one.reveals()
    assert one.value("SELECT pci.accept_policy()", user="ann") is False
    assert one.value("SELECT pci.accept_policy()", user="bob") is True
    assert one.reveals() == CLEAR
