-- The audit trail, for auditors. It is in files, which SQL reads and never writes.

CREATE FUNCTION audit("from" timestamptz, "to" timestamptz) RETURNS TABLE (
    seq bigint, "time" timestamptz, kind text, class text, event text, "session_user" text, "current_user" text, app_user text,
    os_user text, statement text, rows bigint, revealed bigint, purpose text, xid bigint, success boolean, sqlstate text,
    message text, client_addr text, client_port integer, application_name text, pid integer, session_id text, database text,
    objects text[], node text, prev text, hash text)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pci_audit';
COMMENT ON FUNCTION audit(timestamptz, timestamptz) IS
    'the audit trail from one time to another; opens only the files it needs; auditors only, each reading is recorded';

CREATE VIEW audit_trail AS SELECT * FROM pci.audit('-infinity', 'infinity');
COMMENT ON VIEW audit_trail IS 'The whole audit trail; pci.audit(from, to) is faster. Auditors only, each reading is recorded.';

CREATE FUNCTION verify_audit(anchor text DEFAULT NULL) RETURNS TABLE (
    node text, verdict text, records bigint, first_seq bigint, last_seq bigint, sealed bigint, unsealed bigint, detail text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pci_verify_audit';
COMMENT ON FUNCTION verify_audit(text) IS
    'verifies contents, chain and signatures of the audit trail, against a checkpoint that was kept elsewhere if one is given; auditors only';

CREATE FUNCTION export_checkpoint() RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pci_export_checkpoint';
COMMENT ON FUNCTION export_checkpoint() IS
    'the last signed checkpoint of the audit trail, to be kept elsewhere; auditors only';

CREATE FUNCTION rotate_audit_key() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pci_rotate_audit_key';
COMMENT ON FUNCTION rotate_audit_key() IS
    'has another key sign the audit trail, vouched for by the present one; custodians only';

CREATE FUNCTION audit_status_text() RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'pci_audit_status';
COMMENT ON FUNCTION audit_status_text() IS 'what the view pci.audit_status shows';

CREATE VIEW audit_status AS
    SELECT f[1] AS state, nullif(f[2], '') AS reason, f[3]::bigint AS last_seq, f[4]::bigint AS sealed, f[5]::bigint AS exported,
           f[6]::bigint AS segment, f[7]::bigint AS boot, nullif(f[8], '')::timestamptz AS last_sync, f[9]::bigint AS syncs,
           f[10]::float8 AS buffer_used_percent, f[11]::bigint AS waits, f[12]::bigint AS lost, f[13]::bigint AS free_bytes,
           f[14] AS disk
    FROM (SELECT pg_catalog.string_to_array(pci.audit_status_text(), E'\t')) AS s (f);
COMMENT ON VIEW audit_status IS 'Whether the audit trail is written: if not, why; how far; how many events waited or found no room; and whether its disk has room: enough, low, critical.';

-- What a reviewer looks at every morning (PCI DSS 10.4.1): the last thirty days.

CREATE VIEW failed_logins AS
    SELECT a."time", a.session_user, a.database, a.client_addr, a.application_name, a.sqlstate, a.message
    FROM pci.audit(now() - interval '30 days', now()) a
    WHERE a.class = 'AUTH' AND a.event = 'LOGIN' AND NOT a.success;
COMMENT ON VIEW failed_logins IS 'Logins that failed, of the last 30 days.';

CREATE VIEW reveals_by_day AS
    SELECT d.day, d.session_user, d.vault, d.purposes, d.revealed,
           d.revealed > 10 AND d.revealed > 3 * percentile_disc(0.5) WITHIN GROUP (ORDER BY o.revealed) AS is_outlier
    FROM (SELECT date_trunc('day', a."time")::date AS day, a.session_user, a.objects[1] AS vault,
                 array_agg(DISTINCT a.purpose) FILTER (WHERE a.purpose IS NOT NULL) AS purposes, sum(a.revealed)::bigint AS revealed
          FROM pci.audit(now() - interval '30 days', now()) a
          WHERE a.class = 'REVEAL' AND a.revealed IS NOT NULL GROUP BY 1, 2, 3) d
    JOIN (SELECT a.session_user, date_trunc('day', a."time")::date AS day, sum(a.revealed)::bigint AS revealed
          FROM pci.audit(now() - interval '30 days', now()) a
          WHERE a.class = 'REVEAL' AND a.revealed IS NOT NULL GROUP BY 1, 2) o ON o.session_user IS NOT DISTINCT FROM d.session_user
    GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW reveals_by_day IS
    'How many card numbers each role revealed on each of the last 30 days; an outlier is more than three times the role''s usual day.';

CREATE VIEW privilege_changes AS
    SELECT a."time", a.session_user, a.class, a.event, a.objects, a.statement, a.success, a.client_addr
    FROM pci.audit(now() - interval '30 days', now()) a WHERE a.class IN ('ROLE', 'GRANT', 'POLICY') AND a.event <> 'DENIED';
COMMENT ON VIEW privilege_changes IS 'Changes of roles, privileges and capabilities, of the last 30 days.';

CREATE VIEW denied_access AS
    SELECT a."time", a.session_user, a.class, a.event, a.objects, a.statement, a.sqlstate, a.message, a.client_addr, a.application_name
    FROM pci.audit(now() - interval '30 days', now()) a WHERE NOT a.success AND a.sqlstate IN ('42501', '53400', '28000', '28P01');
COMMENT ON VIEW denied_access IS 'What was refused, of the last 30 days.';

CREATE VIEW after_hours_access AS
    SELECT a."time", a.session_user, a.class, a.event, a.objects, a.rows, a.revealed, a.client_addr, a.application_name
    FROM pci.audit(now() - interval '30 days', now()) a
    WHERE a.class IN ('READ', 'WRITE', 'COPY', 'REVEAL')
      AND (extract(isodow FROM a."time") > 5 OR extract(hour FROM a."time") NOT BETWEEN 7 AND 18);
COMMENT ON VIEW after_hours_access IS 'What was done with data at night (19 to 7 o''clock of the session''s time zone) and on weekends, of the last 30 days.';

CREATE VIEW controls_changed AS
    SELECT a."time", a.session_user, a.class, a.event, a.objects, a.statement, a.message, a.success
    FROM pci.audit(now() - interval '30 days', now()) a WHERE a.class IN ('CONFIG', 'AUDIT') AND a.event NOT LIKE 'pci.%';
COMMENT ON VIEW controls_changed IS 'Settings that were changed, parts of the trail that were removed, and failures to write it, of the last 30 days.';
