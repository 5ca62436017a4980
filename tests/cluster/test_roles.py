"""Only an officer changes who is a member of, or is called, a role that pgpci relies on; in every database."""

import psycopg
import pytest
import trail

# Duties, and roles that hold a capability.
CHANGES = {
    "grant_duty": "GRANT pci_officer TO plain",
    "grant_duty_with_admin": "GRANT pci_custodian TO plain WITH ADMIN OPTION",
    "revoke_duty": "REVOKE pci_officer FROM ann",
    "revoke_admin_option": "REVOKE ADMIN OPTION FOR pci_auditor FROM eve",
    "grant_capability_role": 'GRANT "full" TO plain',
    "grant_among_others": 'GRANT plain, "full" TO owner',
    "revoke_capability_role": 'REVOKE "full" FROM plain',
    "grant_granted_by": 'GRANT "full" TO plain GRANTED BY postgres',
    "create_in_role": "CREATE ROLE newcomer IN ROLE clerk",
    "create_in_group": "CREATE USER newcomer IN GROUP pci_auditor",
    "create_in_several": 'CREATE ROLE newcomer IN ROLE plain, "full"',
    "alter_group_add": "ALTER GROUP clerk ADD USER plain",
    "alter_group_drop": "ALTER GROUP pci_officer DROP USER ann",
    "alter_duty_login": "ALTER ROLE pci_officer LOGIN",
    "alter_duty_superuser": "ALTER ROLE pci_custodian SUPERUSER",
    "drop_role": "DROP ROLE clerk",
    "drop_user": 'DROP USER IF EXISTS nobody_at_all, "full"',
    "drop_duty": "DROP ROLE pci_auditor",
    "rename_role": "ALTER ROLE clerk RENAME TO clerk2",
    "rename_duty": "ALTER GROUP pci_officer RENAME TO officers",
    "password_of_an_officer": "ALTER ROLE ann PASSWORD 'x'",
    "in_a_block": "DO $$ BEGIN EXECUTE 'GRANT pci_officer TO plain'; END $$",
    "label_cleared": 'SECURITY LABEL FOR pgpci ON ROLE "full" IS NULL',
    "label_changed": "SECURITY LABEL FOR pgpci ON ROLE pci_officer IS 'pgpci:1'",
    "label_of_this_cluster": "DO $$ BEGIN EXECUTE format('SECURITY LABEL FOR pgpci ON ROLE plain IS %L', "
                             "'pgpci:' || (SELECT system_identifier FROM pg_control_system())); END $$",
    "label_of_a_table": "SECURITY LABEL FOR pgpci ON TABLE pg_class IS 'x'",
    "catalog_insert": "INSERT INTO pg_auth_members (roleid, member, grantor, admin_option) "
                      "VALUES ('pci_officer'::regrole, 'plain'::regrole, 10, true)",
    "catalog_update": "UPDATE pg_auth_members SET member = 'plain'::regrole WHERE roleid = 'pci_officer'::regrole",
    "catalog_delete": "DELETE FROM pg_auth_members WHERE roleid = 'pci_officer'::regrole",
    "catalog_cte": "WITH w AS (DELETE FROM pg_auth_members RETURNING 1) SELECT count(*) FROM w",
    "catalog_merge": "MERGE INTO pg_auth_members m USING (SELECT 1) s ON false WHEN NOT MATCHED THEN INSERT (roleid, member) "
                     "VALUES ('pci_officer'::regrole, 'plain'::regrole)",
    "catalog_copy": "COPY pg_auth_members FROM '/dev/null'",
    "catalog_authid": "UPDATE pg_authid SET rolname = 'clerk2' WHERE rolname = 'clerk'",
    "catalog_label": "DELETE FROM pg_shseclabel",
}
# By name; catalogs are guarded for all of the cluster, which hides their OIDs in messages.
STATE = """
SELECT (SELECT array_agg((roleid::regrole::text, member::regrole::text, admin_option)::text ORDER BY 1) FROM (SELECT * FROM pg_auth_members ORDER BY roleid, member) m),
       (SELECT array_agg((rolname, rolsuper, rolcanlogin)::text ORDER BY oid) FROM pg_roles),
       (SELECT array_agg((objoid, label)::text ORDER BY objoid) FROM pg_shseclabel WHERE provider = 'pgpci')
"""


@pytest.fixture(scope="module")
def guarded(module_cluster):
    one = module_cluster()
    one.execute("CREATE DATABASE other")
    assert one.value("SELECT count(*) FROM pg_extension WHERE extname = 'pgpci'", dbname="other") == 0
    return one


@pytest.mark.parametrize("dbname", ["postgres", "other"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_superuser_is_refused(guarded, name, dbname):
    before = guarded.execute(STATE)
    with guarded.connect(dbname=dbname) as conn:
        conn.execute("SET allow_system_table_mods = on")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            conn.execute(CHANGES[name])
    assert any(text in str(caught.value) for text in (
        "pgpci relies on role", "system catalogs are not written by hand", "labels of pgpci are set by its functions",
    )), caught.value
    assert guarded.execute(STATE) == before


@pytest.mark.parametrize("become", ["SET ROLE ann", "SET SESSION AUTHORIZATION ann", "SET ROLE pci_officer"])
def test_becoming_an_officer_does_not_help(guarded, become):
    guarded.execute("ALTER ROLE ann CREATEROLE")
    with guarded.connect() as conn:
        conn.execute(become)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute('GRANT "full" TO plain')


@pytest.mark.parametrize("dbname", ["postgres", "other"])
def test_an_officer_who_administers_roles_may(guarded, dbname):
    guarded.execute("ALTER ROLE ann CREATEROLE")
    with guarded.connect("ann", dbname) as conn:
        conn.execute("GRANT clerk TO plain")
        conn.execute("REVOKE clerk FROM plain")
        conn.execute("CREATE ROLE newcomer IN ROLE clerk")
        conn.execute("DROP ROLE newcomer")


def test_an_officer_without_the_right_may_not(guarded):
    """The duty is no administrator's right by itself."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        guarded.execute("GRANT clerk TO plain", user="bob")


def test_other_roles_are_free(guarded):
    """A capability's holder may be given roles, and sets a password; a role that pgpci does not know is as ever."""
    guarded.execute("CREATE ROLE team; GRANT team TO plain; GRANT team TO clerk; ALTER ROLE clerk PASSWORD 'quiet4lampshade'; "
                    "ALTER ROLE clerk SET work_mem = '8MB'; ALTER ROLE team RENAME TO crew; REVOKE crew FROM plain, clerk; DROP ROLE crew")


def test_refusals_are_recorded(guarded):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        guarded.execute("GRANT pci_officer TO plain", dbname="other")
    trail.wait_for(guarded, session_user="postgres", event="DENIED", message='change of role "pci_officer"')


def test_a_label_from_elsewhere_binds_nobody(guarded):
    """As pg_dumpall of another cluster brings it."""
    guarded.execute("CREATE ROLE restored; SECURITY LABEL FOR pgpci ON ROLE restored IS 'pgpci:1'; GRANT restored TO plain; DROP ROLE restored")


@pytest.mark.parametrize("ending", ["GRANT pci_officer TO plain", "ALTER ROLE pci_custodian RENAME TO pci_cleaner"])
def test_our_own_script_lends_nobody_its_rights(guarded, ending):
    """What an event trigger does while the extension is made is not what the extension does."""
    guarded.execute("CREATE DATABASE elsewhere")
    try:
        guarded.execute(f"""
            CREATE FUNCTION raid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE '{ending}'; END $$;
            CREATE EVENT TRIGGER raid ON ddl_command_end WHEN TAG IN ('CREATE OPERATOR') EXECUTE FUNCTION raid()""", dbname="elsewhere")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="relies on role"):
            guarded.execute("CREATE EXTENSION pgpci", dbname="elsewhere")
    finally:
        guarded.execute("DROP DATABASE elsewhere WITH (FORCE)")
