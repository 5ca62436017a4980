-- Tables. Only functions of pgpci write them; pg_dump carries them; what arrives by restore is not in force
-- until two officers accept it.

CREATE TABLE installation (
    id uuid NOT NULL PRIMARY KEY,
    system_identifier bigint NOT NULL,
    database oid NOT NULL,
    activated_by text NOT NULL,
    activated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX installation_is_one ON installation ((true));
COMMENT ON TABLE installation IS 'This installation: its identifier, and where its policy was put in force.';

CREATE TABLE vault (
    number integer NOT NULL PRIMARY KEY CHECK (number > 0),
    name text NOT NULL UNIQUE,
    provider text NOT NULL,
    kek text NOT NULL,
    display_first integer NOT NULL CHECK (display_first BETWEEN 0 AND 8),
    display_last integer NOT NULL CHECK (display_last BETWEEN 0 AND 4),
    searchable boolean NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cryptoperiod interval NOT NULL DEFAULT '1 year' CHECK (cryptoperiod > interval '0')
);
COMMENT ON TABLE vault IS 'Vaults: each has its own keys and its own rule of what may be shown.';

CREATE TABLE key (
    id bigint NOT NULL PRIMARY KEY,
    vault integer NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('data', 'equality', 'hash', 'policy')),
    version integer NOT NULL,
    state text NOT NULL,
    provider text NOT NULL,
    kek text NOT NULL,
    wrapped bytea NOT NULL,
    check_value bytea NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The same key as another provider wraps it, until a custodian confirms the change.
    next_provider text,
    next_kek text,
    next_wrapped bytea,
    UNIQUE (vault, purpose, version)
);
COMMENT ON TABLE key IS 'Keys, wrapped: without the wrapping key outside of the database they are useless.';

CREATE TABLE key_event (
    key bigint NOT NULL,
    state text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text
);
COMMENT ON TABLE key_event IS 'The states that each key went through (NIST SP 800-57), when and by whom.';

CREATE TABLE request (
    id integer NOT NULL PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('grant', 'destroy key', 'shred vault', 'rewrap keys', 'widen display', 'lengthen cryptoperiod', 'exempt', 'begin restore', 'set account')),
    duty text NOT NULL CHECK (duty IN ('pci_officer', 'pci_custodian')),
    reason text NOT NULL,
    vault text,
    key bigint,
    role regrole,
    capability text,
    purposes text[],
    valid_from timestamptz,
    valid_until timestamptz,
    max_per_hour integer,
    provider text,
    kek text,
    display_first integer,
    display_last integer,
    requested_by text NOT NULL,
    requester regrole NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'rejected')),
    decided_by text,
    decided_at timestamptz,
    decision_reason text,
    cryptoperiod interval,
    mac bytea NOT NULL,
    control text,
    value integer
);
COMMENT ON TABLE request IS 'What a second holder of a duty must approve before it is done; each row carries a MAC.';

CREATE TABLE reencryption (
    relation regclass NOT NULL,
    column_name name NOT NULL,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz,
    blocks_total bigint NOT NULL,
    blocks_done bigint NOT NULL,
    values_done bigint NOT NULL,
    started_by text NOT NULL,
    PRIMARY KEY (relation, column_name)
);
COMMENT ON TABLE reencryption IS 'How far each re-encryption of a column has come.';

CREATE TABLE access_grant (
    role regrole NOT NULL,
    vault text NOT NULL,
    capability text NOT NULL CHECK (capability IN ('store', 'search', 'reveal', 'export')),
    purposes text[],
    valid_from timestamptz,
    valid_until timestamptz,
    max_per_hour integer,
    mac bytea NOT NULL,
    granted_by text NOT NULL,
    granted_at timestamptz NOT NULL,
    CONSTRAINT access_grant_pkey PRIMARY KEY (role, vault, capability)
);
COMMENT ON TABLE access_grant IS 'Who may do what with a vault; each row carries a MAC.';

-- Logical replication writes without any statement: these refuse what pgpci's own functions do not write.
CREATE FUNCTION protect() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pci_protect';
COMMENT ON FUNCTION protect() IS 'refuses writes to the tables of pgpci but from its own functions';

CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR DELETE ON installation FOR EACH ROW EXECUTE FUNCTION protect();
CREATE TRIGGER protect_all BEFORE TRUNCATE ON installation EXECUTE FUNCTION protect();
ALTER TABLE installation ENABLE ALWAYS TRIGGER protect, ENABLE ALWAYS TRIGGER protect_all;
CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR DELETE ON vault FOR EACH ROW EXECUTE FUNCTION protect();
CREATE TRIGGER protect_all BEFORE TRUNCATE ON vault EXECUTE FUNCTION protect();
ALTER TABLE vault ENABLE ALWAYS TRIGGER protect, ENABLE ALWAYS TRIGGER protect_all;
CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR DELETE ON key FOR EACH ROW EXECUTE FUNCTION protect();
CREATE TRIGGER protect_all BEFORE TRUNCATE ON key EXECUTE FUNCTION protect();
ALTER TABLE key ENABLE ALWAYS TRIGGER protect, ENABLE ALWAYS TRIGGER protect_all;
CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR DELETE ON key_event FOR EACH ROW EXECUTE FUNCTION protect();
CREATE TRIGGER protect_all BEFORE TRUNCATE ON key_event EXECUTE FUNCTION protect();
ALTER TABLE key_event ENABLE ALWAYS TRIGGER protect, ENABLE ALWAYS TRIGGER protect_all;
CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR DELETE ON request FOR EACH ROW EXECUTE FUNCTION protect();
CREATE TRIGGER protect_all BEFORE TRUNCATE ON request EXECUTE FUNCTION protect();
ALTER TABLE request ENABLE ALWAYS TRIGGER protect, ENABLE ALWAYS TRIGGER protect_all;
CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR DELETE ON reencryption FOR EACH ROW EXECUTE FUNCTION protect();
CREATE TRIGGER protect_all BEFORE TRUNCATE ON reencryption EXECUTE FUNCTION protect();
ALTER TABLE reencryption ENABLE ALWAYS TRIGGER protect, ENABLE ALWAYS TRIGGER protect_all;
CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR DELETE ON access_grant FOR EACH ROW EXECUTE FUNCTION protect();
CREATE TRIGGER protect_all BEFORE TRUNCATE ON access_grant EXECUTE FUNCTION protect();
ALTER TABLE access_grant ENABLE ALWAYS TRIGGER protect, ENABLE ALWAYS TRIGGER protect_all;

SELECT pg_catalog.pg_extension_config_dump('installation', '');
SELECT pg_catalog.pg_extension_config_dump('vault', '');
SELECT pg_catalog.pg_extension_config_dump('key', '');
SELECT pg_catalog.pg_extension_config_dump('key_event', '');
SELECT pg_catalog.pg_extension_config_dump('request', '');
SELECT pg_catalog.pg_extension_config_dump('access_grant', '');
