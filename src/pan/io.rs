//! Input and output of `pci.pan`: digits or sealed form in, mask (or sealed form) out.

use pgpci_core::seal::{Pan, PanBuf};

use super::{binding, make, output};
use crate::access::search;
use crate::error::{Error, Result};
use crate::key::ring::{NO_VAULT, Ring};
use crate::pg::call::{Call, Value, cstring, varlena};

/// `pan_in(cstring, oid, integer)`
pub fn input(call: &mut Call) -> Result<Value> {
    match built(call.cstring(0), call.i32(2)) {
        // COPY … ON_ERROR ignore prints what it skipped, if asked to, and where it gives up.
        Err(error) if error.save(call.context()) => {
            call.blot_out_cstring(0);
            Ok(call.null())
        }
        result => result,
    }
}

/// `pan_recv(internal, oid, integer)`: the bytes of the text form.
pub fn receive(call: &mut Call) -> Result<Value> {
    built(call.message(0), call.i32(2))
}

/// Casts from text types.
pub fn from_text(call: &mut Call) -> Result<Value> {
    built(call.bytes(0), call.i32(1))
}

/// `pan_out(pan)`
pub fn output(call: &mut Call) -> Result<Value> {
    let pan = call.pan(0)?;
    if output::is_sealed() {
        return Ok(cstring(&sealed(pan)?));
    }
    let mut mask = [0; 19];
    let len = pan.mask(&mut mask);
    Ok(cstring(&mask[..len]))
}

/// `pan_send(pan)`: the bytes of the text form.
pub fn send(call: &mut Call) -> Result<Value> {
    let pan = call.pan(0)?;
    if output::is_sealed() {
        return Ok(varlena(&sealed(pan)?));
    }
    let mut mask = [0; 19];
    let len = pan.mask(&mut mask);
    Ok(varlena(&mask[..len]))
}

/// `pan_typmod_in(cstring[])`: a vault by name or, as dumps have it, by number.
pub fn typmod_in(call: &mut Call) -> Result<Value> {
    let words = call.cstring_array(0);
    let [word] = words.as_slice() else {
        return Err(Error::argument("pci.pan takes one vault").hint("Write pci.pan('default')."));
    };
    if let Ok(number) = word.parse::<i32>() {
        return match number {
            1.. => Ok(number.into()),
            _ => Err(Error::argument("vault numbers start at 1")),
        };
    }
    Ok(Ring::get()?.vault_named(word)?.number.into())
}

/// `pan_typmod_out(integer)`
pub fn typmod_out(call: &mut Call) -> Result<Value> {
    Ok(cstring(format!("({})", call.i32(0)).as_bytes()))
}

/// The cast that binds a value to its column's vault.
pub fn to_vault(call: &mut Call) -> Result<Value> {
    let (pan, vault) = (call.pan(0)?, call.i32(1));
    let moved = if vault > NO_VAULT { binding::to_vault(pan, vault)? } else { None };
    Ok(varlena(moved.as_ref().map_or(pan.bytes(), PanBuf::as_bytes)))
}

fn built(text: &[u8], typmod: i32) -> Result<Value> {
    Ok(varlena(make(text, typmod)?.as_bytes()))
}

fn sealed(pan: Pan<'_>) -> Result<Vec<u8>> {
    require_export(pan)?;
    let mut text = Vec::with_capacity(128);
    pan.write_text(&mut text);
    Ok(text)
}

/// The value's vault says who may. While changes are decoded the latest keys may be unknown: then it takes every vault.
fn require_export(pan: Pan<'_>) -> Result<()> {
    let ring = Ring::get()?;
    match ring.key(pan.key_id()) {
        Ok(key) => search::require_export(key.vault),
        Err(_) => ring.vaults().iter().try_for_each(|vault| search::require_export(vault.number)),
    }
}
