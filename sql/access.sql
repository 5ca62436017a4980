-- Setting up, duties, capabilities, views.

CREATE FUNCTION init(
    officers text[], custodians text[], auditors text[], provider text DEFAULT 'local', kek text DEFAULT ''
) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_init';
COMMENT ON FUNCTION init(text[], text[], text[], text, text) IS
    'sets up pgpci in this database, once: duty roles and their holders, vault default, its keys, wrapped by a provider''s wrapping key';

CREATE FUNCTION accept_policy() RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_accept_policy';
COMMENT ON FUNCTION accept_policy() IS
    'puts a restored policy in force; two officers call it; true when it is in force';

CREATE FUNCTION is_active() RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'pci_is_active';
COMMENT ON FUNCTION is_active() IS 'whether the policy is in force here';

CREATE FUNCTION grant_access(
    role regrole, vault text, capability text, purposes text[] DEFAULT NULL,
    valid_from timestamptz DEFAULT NULL, valid_until timestamptz DEFAULT NULL, max_per_hour integer DEFAULT NULL
) RETURNS integer
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_grant_access';
COMMENT ON FUNCTION grant_access(regrole, text, text, text[], timestamptz, timestamptz, integer) IS
    'lets a role store, search, reveal or export card numbers of a vault; officers only; reveal and export become a request, whose number is returned';

CREATE FUNCTION set_display(vault text, display_first integer, display_last integer) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_set_display';
COMMENT ON FUNCTION set_display(text, integer, integer) IS
    'how many digits values stored from now on show; officers only; showing more becomes a request, whose number is returned';

CREATE FUNCTION approve(id integer) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_approve';
COMMENT ON FUNCTION approve(integer) IS
    'does what a request asks for; by another holder of the duty than who made it';

CREATE FUNCTION reject(id integer, reason text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_reject';
COMMENT ON FUNCTION reject(integer, text) IS 'ends a request undone; by a holder of the duty, or by who made it';

CREATE FUNCTION revoke_access(role regrole, vault text, capability text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_revoke_access';
COMMENT ON FUNCTION revoke_access(regrole, text, text) IS 'takes a capability back, at once; officers only';

CREATE VIEW access AS
    SELECT role, vault, capability, purposes, valid_from, valid_until, max_per_hour, granted_by, granted_at,
           pci.is_active()
               AND coalesce(valid_from <= now(), true) AND coalesce(now() < valid_until, true) AS in_force
    FROM pci.access_grant;
COMMENT ON VIEW access IS 'Who may do what with a vault.';

CREATE VIEW vaults AS
    SELECT number, name, provider, kek, display_first, display_last, searchable, cryptoperiod, created_by, created_at
    FROM pci.vault;
COMMENT ON VIEW vaults IS 'The vaults.';

CREATE VIEW requests AS
    SELECT id, CASE WHEN state = 'open' AND expires_at <= now() THEN 'expired' ELSE state END AS state,
           kind, duty, reason, vault, key, role, capability, purposes, valid_from, valid_until, max_per_hour, provider, kek,
           display_first, display_last, cryptoperiod, control, value, requested_by, requested_at, expires_at, decided_by, decided_at, decision_reason
    FROM pci.request;
COMMENT ON VIEW requests IS 'What waited or waits for a second person, and what became of it.';
