"""Accounts, and who would have less of them: first and old passwords, locks, sources and idle sessions evaded."""

import struct

import psycopg
import pytest
import trail
import wire
from test_account_life import from_everywhere, set_account
from test_accounts import OTHER, WRONG, account, add, guess, is_written, log_in_by, password_of, shape, travelling  # noqa: F401
from test_keys import until


@pytest.fixture(scope="module")
def guarded(module_cluster):
    return module_cluster("max_prepared_transactions = 5", "pgpci.max_failed_logins_per_source = 0")


def refused(conn, sql, match):
    with pytest.raises(psycopg.Error, match=match):
        conn.execute(sql)


def test_what_was_taken_back_renews_no_old_password(travelling):  # noqa: F811
    one, go = travelling
    password = add(one, "kate", "person")
    # Else it would be disabled, too.
    go(89 * 86400)
    with one.connect("kate", password=password) as conn:
        conn.execute("SELECT 1")
    go(91 * 86400)
    with one.connect("kate", password=password) as conn:
        conn.execute(f"BEGIN; SAVEPOINT s; ALTER ROLE kate PASSWORD '{OTHER}'; ROLLBACK TO s; COMMIT")
        refused(conn, "SELECT 1", "too old")
        conn.execute(f"BEGIN; ALTER ROLE kate PASSWORD '{OTHER}'; ROLLBACK")
        refused(conn, "SELECT 1", "too old")
        conn.execute(f"ALTER ROLE kate PASSWORD '{OTHER}'")
        conn.execute("SELECT 1")


def test_transactions_that_were_prepared_wait_for_the_change(guarded):
    first = password_of("tess", "first")
    guarded.execute(f"CREATE ROLE tess LOGIN PASSWORD '{first}'")
    log_in_by(guarded, tess="scram-sha-256")
    with guarded.connect("tess", password=first) as conn:
        for sql in ["COMMIT PREPARED 'nothing'", "ROLLBACK PREPARED 'nothing'"]:
            refused(conn, sql, "must be changed")
        conn.execute(f"BEGIN; ALTER ROLE tess PASSWORD '{OTHER}'")
        refused(conn, "PREPARE TRANSACTION 'held'", "must be changed")
        conn.execute("ROLLBACK")
        conn.execute("BEGIN; COMMIT")
        refused(conn, "SELECT 1", "must be changed")


def test_who_may_log_in_later_has_a_first_password(guarded):
    first = password_of("uma", "first")
    guarded.execute(f"CREATE ROLE uma NOLOGIN PASSWORD '{first}'; ALTER ROLE uma LOGIN")
    log_in_by(guarded, uma="scram-sha-256")
    with guarded.connect("uma", password=first) as conn:
        refused(conn, "SELECT 1", "must be changed")


@pytest.mark.parametrize("how", ["a transaction", "a prepared transaction"])
def test_who_holds_one_role_holds_up_no_others_lock(guarded, how):
    held, victim = (f"{name}{len(how)}" for name in ["held", "vic"])
    password = add(guarded, held, "person")
    add(guarded, victim, "person")
    with guarded.connect(held, password=password, autocommit=False) as conn:
        conn.execute(f"ALTER ROLE {held} PASSWORD '{OTHER}-{len(how)}'")
        if how == "a prepared transaction":
            conn.execute("PREPARE TRANSACTION 'held'")
        # The writer has to do with that role now, and with the other one after.
        guess(guarded, held, times=6)
        until(lambda: account(guarded, held, "is_locked"), "it is locked")
        until(lambda: guarded.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), "the writer waits")
        guess(guarded, victim, times=6)
        until(lambda: is_written(guarded, victim), "written in the role")
        assert not is_written(guarded, held)
        if how == "a transaction":
            conn.rollback()
    if how == "a prepared transaction":
        guarded.execute("ROLLBACK PREPARED 'held'")
    until(lambda: is_written(guarded, held), "written in the role")


@pytest.mark.parametrize("setting", ["default_transaction_read_only = on", "role = plain", "default_transaction_isolation = serializable",
                                     "statement_timeout = '1ms'", "ALLOW_CONNECTIONS false"])
def test_settings_of_the_home_database_keep_no_lock_away(guarded, setting):
    role = f"set{abs(hash(setting)) % 10 ** 8}"
    add(guarded, role, "person")
    name = setting.split()[0]
    guarded.execute(f"ALTER DATABASE postgres {setting}" if name == "ALLOW_CONNECTIONS" else f"ALTER DATABASE postgres SET {setting}", dbname="template1")
    written = "SELECT rolvaliduntil = '-infinity' FROM pg_roles WHERE rolname = %s"
    try:
        guess(guarded, role, times=6, dbname="template1")
        until(lambda: guarded.value(written, (role,), dbname="template1"), "written in the role")
    finally:
        guarded.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS true", dbname="template1")
        guarded.execute("ALTER DATABASE postgres RESET ALL", dbname="template1")


def test_where_from_is_no_name(fresh_cluster):
    """The name that somebody's address has is whatever its owner says."""
    one = fresh_cluster("log_hostname = on")
    password = add(one, "lena", "person")
    from_everywhere(one, "lena")
    set_account(one, "lena", "person", sources="'{127.0.0.1}'")
    assert wire.is_in(guess(one, "lena", password, source="127.0.0.1"))
    assert not wire.is_in(guess(one, "lena", password, source="127.0.0.3"))
    trail.wait_for(one, session_user="lena", client_addr="127.0.0.1")


IDLE = "SELECT set_config('idle_session_timeout', '0', false), set_config('idle_session_timeout', '60000', true)"


@pytest.mark.parametrize("how", ["at the end of a transaction", "of a function", "fast path"])
def test_a_person_does_not_idle_by_a_trick(fresh_cluster, how):
    one = fresh_cluster("pgpci.idle_session_timeout = 1")
    password = add(one, "kate", "person")
    with wire.Wire(one, "kate") as it:
        assert wire.is_in(it.log_in(password))
        if how == "at the end of a transaction":
            it.query(IDLE)
        elif how == "of a function":
            it.query("CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE plpgsql SET idle_session_timeout = '60s' AS "
                     "$$ BEGIN PERFORM set_config('idle_session_timeout', '0', false); END $$; SELECT pg_temp.f()")
        else:
            it.query("BEGIN")
            function = one.value("SELECT 'set_config(text,text,bool)'::regprocedure::oid::int")
            arguments = [b"idle_in_transaction_session_timeout", b"0", b"f"]
            body = struct.pack("!IHH", function, 0, 3) + b"".join(struct.pack("!I", len(a)) + a for a in arguments) + struct.pack("!H", 0)
            it.send(b"F", body)
            assert [1 for kind, _ in it.to_end() if kind == b"V"]
        sees = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'kate'"
        until(lambda: one.value(sees) == 0, "it is ended")


def test_an_error_outside_of_any_transaction_stops_no_clock(guarded):
    password = add(guarded, "stella", "person")
    set_account(guarded, "stella", "vendor", valid_until="now() + interval '3 s'")
    with wire.Wire(guarded, "stella") as it:
        assert wire.is_in(it.log_in(password))
        it.send(b"D", b"?\0")
        it.send(b"S", b"")
        assert [1 for kind, _ in it.to_end() if kind == b"E"]
        until(lambda: not guarded.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'stella'"), "it is ended")


def test_names_in_another_encoding(guarded):
    guarded.execute("CREATE DATABASE western ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    first, second = password_of("rene", "first"), password_of("rene")
    with guarded.connect(dbname="western", client_encoding="LATIN1") as conn:
        conn.execute(f"CREATE ROLE \"ren\u00e9\" LOGIN PASSWORD '{first}'")
        hba = guarded.data / "pg_hba.conf"
        old = hba.read_bytes()
        hba.write_bytes("host all ren\u00e9 127.0.0.1/32 password\n".encode("latin-1") + old)
        conn.execute("SELECT pg_reload_conf()")

        class Western(str):
            def encode(self, *_):
                return super().encode("latin-1")

        user = Western("ren\u00e9")
        until(lambda: not wire.is_in(wire.try_password(guarded, user, WRONG)), "passwords are asked for")
        with wire.Wire(guarded, user) as it:
            assert wire.is_in(it.log_in(first))
            assert [wire.fields(body)["C"] for kind, body in it.query("SELECT 1") if kind == b"E"] == ["28000"]
            assert not [1 for kind, _ in it.query(f"ALTER ROLE CURRENT_USER PASSWORD '{second}'") if kind == b"E"]
        with pytest.raises(psycopg.Error, match="used before"):
            conn.execute(f"ALTER ROLE \"ren\u00e9\" PASSWORD '{second}'")
        for _ in range(6):
            wire.try_password(guarded, user, WRONG)
        assert not wire.is_in(wire.try_password(guarded, user, second))
        until(lambda: conn.execute("SELECT rolvaliduntil = '-infinity' FROM pg_roles WHERE rolname = 'ren\u00e9'").fetchone()[0], "written")
        conn.execute("DROP ROLE \"ren\u00e9\"")
        hba.write_bytes(old)
        conn.execute("SELECT pg_reload_conf()")


def test_a_password_that_is_tried_out_is_nowhere(fresh_cluster):
    one = fresh_cluster("log_statement = all", "log_min_duration_statement = 0", "log_min_error_statement = debug5",
                        "pgpci.audit_scope = all")
    for password, sql in [("otter-99-kite-moon", "SELECT pci.check_password('{}')"), ("otter-98-kite-moon", "SELECT pci.check_password(password => '{}')"),
                          ("otter-97-kite-moon", "SELECT pci . check_password ( $x${}$x$ )"),
                          ("otter-96-kite-moon", "SELECT pci.check_password('{}'), 1/0"),
                          ("otter-95-kite-moon", "SELECT pci.\"check_password\"('{}')")]:
        with one.connect("plain") as conn:
            try:
                conn.execute(sql.format(password))
            except psycopg.Error:
                pass
            assert password not in one.value("SELECT query FROM pg_stat_activity WHERE pid = %s", (conn.info.backend_pid,)), sql
        assert password not in one.log, sql
    with one.connect("plain") as conn:
        conn.execute("SELECT pci.check_password(%s)", ("otter-94-kite-moon",))
        # However much stands before it.
        conn.execute(f"SELECT '{'x' * 9000}', pci.check_password(%s)", ("otter-93-kite-moon",))
        pid = conn.info.backend_pid
    trail.wait_for(one, pid=pid, event="LOGOUT")
    text = one.log + "".join(p.read_text(errors="replace") for p in (one.dir / "data.pgpci").rglob("*") if p.is_file())
    assert not [n for n in range(93, 100) if f"otter-{n}-kite" in text]


def test_an_emptied_file_ends_no_process(fresh_cluster):
    one = fresh_cluster()
    password = add(one, "kate", "person")
    guess(one, "kate", times=6)
    until(lambda: is_written(one, "kate"), "written in the role")
    (one.dir / "data.pgpci" / "lockout").write_bytes(b"")
    assert not wire.is_in(guess(one, "kate", password))
    add(one, "tom", "person")
    guess(one, "tom", times=6)
    until(lambda: is_written(one, "tom"), "written in the role")
    assert "terminated by signal" not in one.log


def test_what_an_officer_took_back_was_never_done(guarded):
    password = add(guarded, "nora", "person")
    with guarded.connect("nora", password=password) as conn, guarded.connect("ann") as officer:
        officer.execute("BEGIN; SAVEPOINT s")
        officer.execute("SELECT pci.lock_account('nora', 'by mistake')")
        officer.execute("ROLLBACK TO s; COMMIT")
        conn.execute("SELECT 1")
        officer.execute("BEGIN")
        officer.execute("SELECT pci.lock_account('nora', 'by mistake')")
        officer.execute("PREPARE TRANSACTION 'mistake'")
        officer.execute("ROLLBACK PREPARED 'mistake'")
        officer.execute("BEGIN; COMMIT")
        conn.execute("SELECT 1")
    assert wire.is_in(guess(guarded, "nora", password))
    assert not account(guarded, "nora", "is_locked")


def test_a_lock_in_memory_tells_nothing_where_the_password_is_sent_at_once(fresh_cluster):
    one = fresh_cluster("pgpci.home_database = 'nowhere'")
    password = add(one, "kate", "person", method="password")
    guess(one, "kate", times=6)
    assert account(one, "kate", "is_locked") and not is_written(one, "kate")
    log_in_by(one, nobody="password")
    right, wrong, unknown = (guess(one, *it) for it in [("kate", password), ("kate", WRONG), ("nobody", WRONG)])
    assert right == wrong and shape(right, "kate") == shape(unknown, "nobody")
