-- All privileges on one screen. What decides about card data decides by capability or duty, inside the function, and
-- anybody may ask: functions keep the privileges that CREATE FUNCTION gives them, unless they are named here.
REVOKE ALL ON ALL TABLES IN SCHEMA pci FROM PUBLIC;
GRANT USAGE ON SCHEMA pci TO PUBLIC;
GRANT SELECT ON pci.access, pci.accounts, pci.exemptions, pci.vaults, pci.keys, pci.key_history, pci.key_status, pci.requests, pci.reencryption_progress TO PUBLIC;
-- Called by indexes, sorts and PostgreSQL itself only, or by superusers.
REVOKE EXECUTE ON FUNCTION
    pci.pan_cmp(pci.pan, pci.pan), pci.pan_hash(pci.pan), pci.pan_hash_extended(pci.pan, bigint),
    pci.pan_cmp_text(pci.pan, text), pci.text_cmp_text(text, text), pci.text_hash_pan(text),
    pci.text_hash_pan_extended(text, bigint), pci.pan_typanalyze(internal),
    pci.init(text[], text[], text[], text, text), pci.key_usage(bigint), pci.count_uses(regclass, integer, bigint)
FROM PUBLIC;
-- The functions behind these ask for an auditor.
GRANT SELECT ON pci.audit_trail, pci.audit_status, pci.failed_logins, pci.reveals_by_day, pci.privilege_changes, pci.denied_access,
    pci.after_hours_access, pci.controls_changed TO PUBLIC;
