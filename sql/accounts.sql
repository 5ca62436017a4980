-- Passwords and accounts.

CREATE FUNCTION check_password(password text) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'pci_check_password';
COMMENT ON FUNCTION check_password(text) IS
    'what is wrong with a password for the user who asks, a line each; NULL if nothing, but for those used before; nothing is stored';

CREATE FUNCTION set_account(role regrole, kind text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_set_account';
COMMENT ON FUNCTION set_account(regrole, text) IS
    'says what kind of account a role is: person, service, vendor or break_glass; officers only, never of themselves';

CREATE FUNCTION lock_account(role regrole, reason text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_lock_account';
COMMENT ON FUNCTION lock_account(regrole, text) IS
    'locks a role until an officer unlocks it; sessions that it has go on; officers only, never themselves';

CREATE FUNCTION unlock_account(role regrole) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_unlock_account';
COMMENT ON FUNCTION unlock_account(regrole) IS
    'unlocks a role and forgets its wrong passwords; officers only, never themselves';

CREATE FUNCTION account_text(role oid) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pci_account';
COMMENT ON FUNCTION account_text(oid) IS 'what the view pci.accounts shows of a role';

CREATE VIEW accounts AS
    SELECT r.rolname AS role, f[1] AS kind, nullif(f[2], '')::timestamptz AS password_changed_at, f[3]::boolean AS must_change,
           f[4]::boolean AS is_locked, nullif(f[5], '')::timestamptz AS locked_since, nullif(f[6], '')::timestamptz AS locked_until,
           nullif(f[7], '') AS lock_reason, f[8]::integer AS failed_logins
    FROM pg_catalog.pg_roles r, pg_catalog.string_to_array(pci.account_text(r.oid), E'\t') AS s (f)
    WHERE r.rolcanlogin;
COMMENT ON VIEW accounts IS 'The roles that can log in: their kind, the age of their passwords, locks and wrong passwords.';
