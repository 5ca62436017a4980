-- Vaults, and the life of their keys.

CREATE FUNCTION create_vault(
    name text, provider text DEFAULT NULL, kek text DEFAULT NULL, display_first integer DEFAULT 6, display_last integer DEFAULT 4,
    searchable boolean DEFAULT true
) RETURNS integer
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_create_vault';
COMMENT ON FUNCTION create_vault(text, text, text, integer, integer, boolean) IS
    'makes a vault with keys of its own, wrapped as those of vault default where no provider is named, and returns its number; custodians only';

CREATE FUNCTION rotate_key(vault text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_rotate_key';
COMMENT ON FUNCTION rotate_key(text) IS
    'makes the next version of a vault''s data key, for new values; CALL pci.reencrypt moves old ones; custodians only';

CREATE FUNCTION set_cryptoperiod(vault text, cryptoperiod interval) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_set_cryptoperiod';
COMMENT ON FUNCTION set_cryptoperiod(text, interval) IS
    'for how long a data key of a vault is used before it is due to be rotated; a longer time becomes a request, whose number is returned; custodians only';

CREATE FUNCTION rekey_equality(vault text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pci, pg_temp SET session_replication_role = replica
    AS 'MODULE_PATHNAME', 'pci_rekey_equality';
COMMENT ON FUNCTION rekey_equality(text) IS
    'makes a new comparison key for a vault and rewrites its stored values, under ACCESS EXCLUSIVE locks on all tables with columns that may hold some; custodians only';

CREATE FUNCTION suspend_key(key bigint, reason text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_suspend_key';
COMMENT ON FUNCTION suspend_key(bigint, text) IS 'a key seals nothing for the moment; custodians only';

CREATE FUNCTION resume_key(key bigint, reason text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_resume_key';
COMMENT ON FUNCTION resume_key(bigint, text) IS 'a suspended key is active again; custodians only';

CREATE FUNCTION compromise_key(key bigint, reason text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_compromise_key';
COMMENT ON FUNCTION compromise_key(bigint, text) IS
    'a key is feared known to others: it reveals nothing any more, its values can only be re-encrypted; custodians only';

CREATE FUNCTION destroy_key(key bigint, reason text) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_destroy_key';
COMMENT ON FUNCTION destroy_key(bigint, text) IS
    'asks for the end of a key, and returns the number of the request; custodians only';

CREATE FUNCTION shred_vault(vault text, reason text) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_shred_vault';
COMMENT ON FUNCTION shred_vault(text, text) IS
    'asks for the end of all keys of a vault, and returns the number of the request; custodians only';

CREATE FUNCTION rewrap_keys(vault text, provider text, kek text) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_rewrap_keys';
COMMENT ON FUNCTION rewrap_keys(text, text, text) IS
    'has a vault''s keys wrapped by another wrapping key too, until pci.confirm_rewrap; a weaker provider becomes a request, whose number is returned; custodians only';

CREATE FUNCTION confirm_rewrap(vault text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_confirm_rewrap';
COMMENT ON FUNCTION confirm_rewrap(text) IS
    'drops the old wrapped forms once each key was had from the new one; custodians only';

CREATE FUNCTION key_id(card pan) RETURNS bigint
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_key_id';
COMMENT ON FUNCTION key_id(pan) IS 'the data key of a stored value, see pci.keys';

CREATE FUNCTION is_outdated(card pan) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_is_outdated';
COMMENT ON FUNCTION is_outdated(pan) IS 'whether a stored value has another key than its vault''s newest, and can be re-encrypted';

CREATE FUNCTION reencrypted(card pan) RETURNS pan
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pan_reencrypted';
COMMENT ON FUNCTION reencrypted(pan) IS 'the same value under its vault''s newest key; custodians only';

CREATE FUNCTION rehashed(card pan) RETURNS pan
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pan_rehashed';
COMMENT ON FUNCTION rehashed(pan) IS 'the same value with a hash under its vault''s newest comparison key, under the newest data key; custodians only';

CREATE FUNCTION note_reencryption(
    relation regclass, column_name name, blocks_total bigint, blocks_done bigint, more bigint, is_finished boolean
) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pci, pg_temp
    AS 'MODULE_PATHNAME', 'pci_note_reencryption';
COMMENT ON FUNCTION note_reencryption(regclass, name, bigint, bigint, bigint, boolean) IS
    'what pci.reencrypt says of its progress; custodians only';

CREATE FUNCTION count_uses(relation regclass, column_number integer, key bigint) RETURNS bigint
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pci_count_uses';
COMMENT ON FUNCTION count_uses(regclass, integer, bigint) IS
    'how many stored values of a column use a key; runs no code of the table''s owner';

CREATE VIEW card_columns AS
    WITH RECURSIVE kinds (type, vault) AS (
        SELECT 'pci.pan'::regtype::oid, 0
        UNION ALL SELECT t.oid, greatest(t.typtypmod, kinds.vault) FROM pg_type t JOIN kinds ON t.typbasetype = kinds.type)
    SELECT a.attrelid::regclass AS relation, a.attnum::integer AS number, a.attname AS name,
           greatest(a.atttypmod, kinds.vault) AS vault, a.attgenerated <> '' AS is_generated
    FROM pg_attribute a JOIN kinds ON kinds.type = a.atttypid JOIN pg_class c ON c.oid = a.attrelid
    WHERE NOT a.attisdropped AND c.relkind IN ('r', 'p', 'm') AND NOT pg_is_other_temp_schema(c.relnamespace);
COMMENT ON VIEW card_columns IS
    'Columns of type pci.pan, or of domains over it, and the number of their vault (0: any); not those of arrays and rows.';

CREATE FUNCTION key_usage(key bigint) RETURNS TABLE (relation regclass, column_name name, uses bigint)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pci, pg_temp AS $$
DECLARE
    column_number integer;
BEGIN
    FOR relation, column_name, column_number IN
        SELECT k.relation, k.name, k.number
        FROM pci.card_columns k JOIN pg_class c ON c.oid = k.relation
        WHERE c.relkind IN ('r', 'm') AND c.relispopulated
    LOOP
        uses := pci.count_uses(relation, column_number, key);
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION key_usage(bigint) IS
    'how many stored values use a key, by column; arrays, rows, constants in views and defaults, replicas and backups are not counted';

CREATE PROCEDURE reencrypt(relation regclass, column_name name, batch_size integer DEFAULT 1000, max_rate integer DEFAULT NULL)
    LANGUAGE plpgsql AS $$
-- What commits cannot have a search_path of its own: every operator is given exactly the types that PostgreSQL's own
-- takes, since for others somebody may have made one that fits better and runs with the custodian's rights.
DECLARE
    part regclass;
    blocks bigint;
    block bigint;
    step bigint;
    more bigint;
    began timestamptz;
BEGIN
    IF batch_size < 1 OR max_rate < 1 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'batch_size and max_rate are positive numbers';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relation::oid AND c.relkind IN ('r', 'p')) THEN
        RAISE wrong_object_type USING MESSAGE = pg_catalog.format('%s is not a table', relation);
    END IF;
    FOR part IN
        WITH RECURSIVE tree (relid) AS (
            SELECT relation::oid
            UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON tree.relid = i.inhparent)
        SELECT tree.relid FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.relid WHERE c.relkind = 'r'
    LOOP
        -- To a foreign key any other form of a number is another number: these would lose it, or refuse.
        IF EXISTS (
            SELECT FROM pg_catalog.pg_constraint k
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)
            WHERE k.contype = 'f' AND k.confrelid = part::oid AND k.confupdtype NOT IN ('a', 'c') AND a.attname = column_name
        ) THEN
            RAISE object_not_in_prerequisite_state USING
                MESSAGE = pg_catalog.format('a foreign key refers to %s of %s with ON UPDATE RESTRICT, SET NULL or SET DEFAULT', column_name, part),
                HINT = 'Declare it ON UPDATE CASCADE or NO ACTION.';
        END IF;
        -- What others change meanwhile moves to blocks that were passed: another round finds it.
        FOR round IN 1..5 LOOP
            blocks := pg_catalog.pg_relation_size(part) / pg_catalog.current_setting('block_size')::bigint;
            -- A block holds some 50 rows with a card number.
            step := greatest(1, batch_size / 50);
            block := 0;
            PERFORM pci.note_reencryption(part, column_name, blocks, 0, 0, false);
            WHILE block < blocks LOOP
                began := pg_catalog.clock_timestamp();
                EXECUTE pg_catalog.format(
                    'UPDATE ONLY %1$s SET %2$I = pci.reencrypted(%2$I) WHERE ctid >= %3$L AND ctid < %4$L AND pci.is_outdated(%2$I)',
                    part, column_name, pg_catalog.format('(%s,0)', block), pg_catalog.format('(%s,0)', block + step));
                GET DIAGNOSTICS more = ROW_COUNT;
                block := least(block + step, blocks);
                PERFORM pci.note_reencryption(part, column_name, blocks, block, more, false);
                COMMIT;
                IF max_rate IS NOT NULL THEN
                    PERFORM pg_catalog.pg_sleep(greatest(0,
                        more::float8 / max_rate::float8 - extract(epoch FROM pg_catalog.clock_timestamp() - began)::float8));
                END IF;
            END LOOP;
            EXECUTE pg_catalog.format('SELECT count(*) FROM ONLY %s WHERE pci.is_outdated(%I)', part, column_name) INTO more;
            EXIT WHEN more = 0;
        END LOOP;
        IF more > 0 THEN
            RAISE WARNING USING MESSAGE = pg_catalog.format('%s values of %s were changed meanwhile', more, part),
                HINT = 'Call pci.reencrypt again.';
        ELSE
            PERFORM pci.note_reencryption(part, column_name, blocks, blocks, 0, true);
        END IF;
        COMMIT;
    END LOOP;
END $$;
COMMENT ON PROCEDURE reencrypt(regclass, name, integer, integer) IS
    'moves the values of a column to the newest keys of their vaults, in batches that commit; custodians who may UPDATE the table';

CREATE FUNCTION key_status_text() RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'pci_key_status';
COMMENT ON FUNCTION key_status_text() IS 'what the view pci.key_status shows';

CREATE VIEW keys AS
    SELECT k.id, v.name AS vault, k.purpose, k.version, k.state, e.changed_at AS since, e.changed_by, k.provider, k.kek,
           encode(k.check_value, 'hex') AS check_value, k.created_by, k.created_at,
           CASE WHEN k.state = 'active' AND k.purpose = 'data' THEN k.created_at + v.cryptoperiod END AS due_at,
           coalesce(k.state = 'active' AND k.purpose = 'data' AND k.created_at + v.cryptoperiod < now() + least(interval '30 days', v.cryptoperiod / 4), false) AS is_due,
           k.next_provider, k.next_kek
    FROM pci.key k LEFT JOIN pci.vault v ON v.number = k.vault
    LEFT JOIN LATERAL (SELECT * FROM pci.key_event e WHERE e.key = k.id ORDER BY e.changed_at DESC LIMIT 1) e ON true;
COMMENT ON VIEW keys IS 'The keys, without the keys: their states, and which are due to be rotated within 30 days or a quarter of the cryptoperiod.';

CREATE VIEW key_history AS
    SELECT e.key, v.name AS vault, k.purpose, k.version, e.state, e.changed_at, e.changed_by, e.reason
    FROM pci.key_event e LEFT JOIN pci.key k ON k.id = e.key LEFT JOIN pci.vault v ON v.number = k.vault;
COMMENT ON VIEW key_history IS 'Every state that a key went through, when, by whom and why.';

CREATE VIEW reencryption_progress AS
    SELECT relation, column_name, blocks_done, blocks_total, values_done,
           round(values_done / nullif(extract(epoch FROM coalesce(finished_at, updated_at) - started_at), 0)) AS values_per_second,
           CASE WHEN finished_at IS NULL AND blocks_done > 0
                THEN (updated_at - started_at) * ((blocks_total - blocks_done)::float8 / blocks_done) END AS time_left,
           started_by, started_at, updated_at, finished_at
    FROM pci.reencryption;
COMMENT ON VIEW reencryption_progress IS 'How far each re-encryption has come.';

CREATE VIEW key_status AS
    SELECT nullif(f[1], '') AS provider, f[2] AS memory, f[3] AS helper, f[4]::integer AS cached_keys, f[5]::bigint AS provider_calls,
           f[6]::bigint AS failed_calls, nullif(f[7], '')::timestamptz AS last_success, nullif(f[8], '')::timestamptz AS last_failure,
           nullif(f[9], '') AS last_error, nullif(f[10], '')::float8 AS last_latency_ms, nullif(f[11], '')::integer AS ttl_left_seconds
    FROM pg_catalog.regexp_split_to_table(pci.key_status_text(), E'\n') AS line,
         LATERAL pg_catalog.string_to_array(line, E'\t') AS f;
COMMENT ON VIEW key_status IS 'How keys are held in memory, and each provider that was asked since the server started.';
