-- Tables. Only functions of pgpci write them; pg_dump carries them; what arrives by restore is not in force
-- until two officers accept it.

CREATE TABLE installation (
    id uuid NOT NULL PRIMARY KEY,
    system_identifier bigint NOT NULL,
    database oid NOT NULL,
    activated_by text NOT NULL,
    activated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    accepted_by text,
    accepted_here text
);
CREATE UNIQUE INDEX installation_is_one ON installation ((true));
COMMENT ON TABLE installation IS 'This installation: its identifier, and where its policy is in force.';

CREATE TABLE vault (
    number integer NOT NULL PRIMARY KEY CHECK (number > 0),
    name text NOT NULL UNIQUE,
    provider text NOT NULL,
    kek text NOT NULL,
    display_first integer NOT NULL CHECK (display_first BETWEEN 0 AND 8),
    display_last integer NOT NULL CHECK (display_last BETWEEN 0 AND 4),
    searchable boolean NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
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
    UNIQUE (vault, purpose, version)
);
COMMENT ON TABLE key IS 'Keys, wrapped: without the wrapping key outside of the database they are useless.';

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

SELECT pg_catalog.pg_extension_config_dump('installation', '');
SELECT pg_catalog.pg_extension_config_dump('vault', '');
SELECT pg_catalog.pg_extension_config_dump('key', '');
SELECT pg_catalog.pg_extension_config_dump('access_grant', '');
