-- Passwords and accounts.

CREATE FUNCTION check_password(password text) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'pci_check_password';
COMMENT ON FUNCTION check_password(text) IS
    'what is wrong with a password for the user who asks, a line each; NULL if nothing, but for those used before; nothing is stored';

CREATE FUNCTION set_account(
    role regrole, kind text, valid_from timestamptz DEFAULT NULL, valid_until timestamptz DEFAULT NULL,
    hours text DEFAULT NULL, time_zone text DEFAULT NULL, sources text[] DEFAULT NULL
) RETURNS integer
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_set_account';
COMMENT ON FUNCTION set_account(regrole, text, timestamptz, timestamptz, text, text, text[]) IS
    'says what kind of account a role is (person, service, vendor, break_glass), from when until when, at which hours of the day and from which networks it may log in; one that a person has used becomes a service or break_glass when a second officer approves: then the number of that request, else NULL; officers only, never of themselves';

CREATE FUNCTION lock_account(role regrole, reason text, end_sessions boolean DEFAULT true) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_lock_account';
COMMENT ON FUNCTION lock_account(regrole, text, boolean) IS
    'locks a role until an officer unlocks it, and ends its sessions; officers only, never themselves';

CREATE FUNCTION unlock_account(role regrole) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_unlock_account';
COMMENT ON FUNCTION unlock_account(regrole) IS
    'unlocks a role and forgets its wrong passwords; officers only, never themselves';

CREATE FUNCTION exempt(control text, value integer, until timestamptz, reason text, role regrole DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_exempt';
COMMENT ON FUNCTION exempt(text, integer, timestamptz, text, regrole) IS
    'asks that a control of accounts be weaker than PCI DSS allows, for a role or for all, until a day, for a reason; returns the number of the request; officers only';

CREATE FUNCTION end_exemption(control text, role regrole DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_end_exemption';
COMMENT ON FUNCTION end_exemption(text, regrole) IS 'ends an exemption before its day, at once; officers only';

CREATE FUNCTION begin_restore(duration interval, reason text) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_begin_restore';
COMMENT ON FUNCTION begin_restore(interval, text) IS
    'asks that ready-made password verifiers, such as pg_dumpall writes, be taken for a time, each recorded; returns the number of the request; officers only';

CREATE FUNCTION end_restore() RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_end_restore';
COMMENT ON FUNCTION end_restore() IS 'ends what pci.begin_restore began, at once; officers only';

CREATE FUNCTION exemptions_text() RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pci_exemptions';
COMMENT ON FUNCTION exemptions_text() IS 'what the view pci.exemptions shows';

CREATE VIEW exemptions AS
    SELECT nullif(f[1], '') AS role, f[2] AS control, f[3]::integer AS value, f[4]::timestamptz AS until, f[5] AS reason
    FROM pg_catalog.string_to_table(pci.exemptions_text(), E'\n') AS t (line), pg_catalog.string_to_array(line, E'\t') AS s (f);
COMMENT ON VIEW exemptions IS 'Controls of accounts that are weaker than PCI DSS allows now: for whom (NULL: all), until when and why.';

CREATE FUNCTION account_text(role oid) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pci_account';
COMMENT ON FUNCTION account_text(oid) IS 'what the view pci.accounts shows of a role';

CREATE VIEW accounts AS
    SELECT r.rolname AS role, f[1] AS kind, nullif(f[2], '')::timestamptz AS password_changed_at, f[3]::boolean AS must_change,
           f[4]::boolean AS is_locked, nullif(f[5], '')::timestamptz AS locked_since, nullif(f[6], '')::timestamptz AS locked_until,
           nullif(f[7], '') AS lock_reason, f[8]::integer AS failed_logins,
           nullif(f[9], '')::boolean AS is_genuine,
           nullif(f[10], '')::timestamptz AS last_login, nullif(f[11], '')::timestamptz AS valid_from,
           nullif(f[12], '')::timestamptz AS valid_until, nullif(f[13], '') AS hours,
           pg_catalog.string_to_array(nullif(f[14], ''), ' ') AS sources, nullif(f[15], '')::timestamptz AS password_expires_at,
           nullif(f[16], '')::timestamptz AS shared_at, f[17]::integer AS shared_use,
           pg_catalog.string_to_array(nullif(f[18], ''), ' ') AS exemptions
    FROM pg_catalog.pg_roles r, pg_catalog.string_to_array(pci.account_text(r.oid), E'\t') AS s (f)
    WHERE r.rolcanlogin;
COMMENT ON VIEW accounts IS 'The roles that can log in: their kind, the age of their passwords, locks, wrong passwords, last logins, limits and shared use.';
