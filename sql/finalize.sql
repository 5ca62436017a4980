-- All privileges on one screen. What decides about card data decides by capability, inside the function;
-- this is only about who may call.
REVOKE ALL ON ALL TABLES IN SCHEMA pci FROM PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA pci FROM PUBLIC;
GRANT USAGE ON SCHEMA pci TO PUBLIC;
GRANT SELECT ON pci.access, pci.vaults, pci.keys, pci.key_history, pci.key_status, pci.requests, pci.reencryption_progress TO PUBLIC;
-- The functions behind these ask for an auditor.
GRANT SELECT ON pci.audit_trail, pci.audit_status, pci.failed_logins, pci.reveals_by_day, pci.privilege_changes, pci.denied_access,
    pci.after_hours_access, pci.controls_changed TO PUBLIC;
GRANT EXECUTE ON FUNCTION pci.audit(timestamptz, timestamptz), pci.verify_audit(text), pci.export_checkpoint(), pci.audit_status_text()
TO PUBLIC;
GRANT EXECUTE ON FUNCTION
    pci.pan_in(cstring, oid, integer), pci.pan_out(pci.pan), pci.pan_recv(internal, oid, integer), pci.pan_send(pci.pan),
    pci.pan_typmod_in(cstring[]), pci.pan_typmod_out(integer),
    pci.to_vault(pci.pan, integer, boolean), pci.from_text(text, integer, boolean),
    pci.from_text(bpchar, integer, boolean),
    pci.mask(pci.pan), pci.bin(pci.pan), pci.last4(pci.pan), pci.brand(pci.pan), pci.brand(text),
    pci.truncate_pan(pci.pan), pci.truncate_pan(text), pci.luhn_valid(text),
    pci.reveal(pci.pan, text), pci.hash_pan(pci.pan),
    pci.pan_eq(pci.pan, pci.pan), pci.pan_ne(pci.pan, pci.pan), pci.pan_lt(pci.pan, pci.pan),
    pci.pan_le(pci.pan, pci.pan), pci.pan_gt(pci.pan, pci.pan), pci.pan_ge(pci.pan, pci.pan),
    pci.pan_eq_text(pci.pan, text), pci.pan_ne_text(pci.pan, text), pci.pan_lt_text(pci.pan, text),
    pci.pan_le_text(pci.pan, text), pci.pan_gt_text(pci.pan, text), pci.pan_ge_text(pci.pan, text),
    pci.text_eq_pan(text, pci.pan), pci.text_ne_pan(text, pci.pan), pci.text_lt_pan(text, pci.pan),
    pci.text_le_pan(text, pci.pan), pci.text_gt_pan(text, pci.pan), pci.text_ge_pan(text, pci.pan),
    pci.is_active(), pci.key_status_text(),
    pci.accept_policy(), pci.grant_access(regrole, text, text, text[], timestamptz, timestamptz, integer),
    pci.revoke_access(regrole, text, text), pci.set_display(text, integer, integer),
    pci.approve(integer), pci.reject(integer, text),
    pci.rotate_key(text),
    pci.suspend_key(bigint, text), pci.resume_key(bigint, text), pci.compromise_key(bigint, text),
    pci.destroy_key(bigint, text), pci.shred_vault(text, text), pci.rewrap_keys(text, text, text), pci.confirm_rewrap(text),
    pci.key_id(pci.pan), pci.is_outdated(pci.pan), pci.reencrypted(pci.pan),
    pci.note_reencryption(regclass, name, bigint, bigint, bigint, boolean)
TO PUBLIC;
GRANT EXECUTE ON PROCEDURE pci.reencrypt(regclass, name, integer, integer) TO PUBLIC;
