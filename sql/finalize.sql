-- All privileges on one screen. What decides about card data decides by capability, inside the function;
-- this is only about who may call.
REVOKE ALL ON ALL TABLES IN SCHEMA pci FROM PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA pci FROM PUBLIC;
GRANT USAGE ON SCHEMA pci TO PUBLIC;
GRANT SELECT ON pci.access, pci.vaults, pci.keys, pci.key_status TO PUBLIC;
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
    pci.revoke_access(regrole, text, text)
TO PUBLIC;
