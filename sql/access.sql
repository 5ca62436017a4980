-- Setting up, duties, capabilities, views.

CREATE FUNCTION init(officers text[], custodians text[], auditors text[]) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_init';
COMMENT ON FUNCTION init(text[], text[], text[]) IS
    'sets up pgpci in this database, once: duty roles and their holders, vault default, its keys';

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
) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_grant_access';
COMMENT ON FUNCTION grant_access(regrole, text, text, text[], timestamptz, timestamptz, integer) IS
    'lets a role store, search, reveal or export card numbers of a vault; officers only';

CREATE FUNCTION revoke_access(role regrole, vault text, capability text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_revoke_access';
COMMENT ON FUNCTION revoke_access(regrole, text, text) IS 'takes a capability back, at once; officers only';

CREATE FUNCTION key_status_text() RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'pci_key_status';
COMMENT ON FUNCTION key_status_text() IS 'what the view pci.key_status shows';

CREATE VIEW access AS
    SELECT role, vault, capability, purposes, valid_from, valid_until, max_per_hour, granted_by, granted_at,
           pci.is_active()
               AND coalesce(valid_from <= now(), true) AND coalesce(now() < valid_until, true) AS in_force
    FROM pci.access_grant;
COMMENT ON VIEW access IS 'Who may do what with a vault.';

CREATE VIEW vaults AS
    SELECT number, name, provider, kek, display_first, display_last, searchable, created_by, created_at FROM pci.vault;
COMMENT ON VIEW vaults IS 'The vaults.';

CREATE VIEW keys AS
    SELECT k.id, v.name AS vault, k.purpose, k.version, k.state, k.provider, k.kek,
           encode(k.check_value, 'hex') AS check_value, k.created_by, k.created_at
    FROM pci.key k LEFT JOIN pci.vault v ON v.number = k.vault;
COMMENT ON VIEW keys IS 'The keys, without the keys.';

CREATE VIEW key_status AS
    SELECT s[1] AS memory, s[2] AS helper, s[3]::integer AS cached_keys, s[4]::bigint AS provider_calls
    FROM pg_catalog.string_to_array(pci.key_status_text(), ',') AS s;
COMMENT ON VIEW key_status IS 'How keys are held in memory, and the helper that fetches them.';
