//! Comparands in the vault of the column that they are compared with: in plans, and when a plan is run.

use pgpci_core::access::Capability;
use pgpci_core::pan::ClearPan;
use pgpci_core::seal::{self, Pan, PanBuf};

use super::binding;
use crate::access;
use crate::error::{Error, Result};
use crate::key::ring::DEFAULT_VAULT;
use crate::pg::call::{Call, Value, varlena};
use crate::pg::comparands::{self, Make};
use crate::pg::constants;

/// How comparands are made in the trees of statements.
pub const MAKE: Make = Make {
    default: DEFAULT_VAULT,
    of_text: |text, vault| of_text(text, vault).ok(),
    of_pan: |pan, vault| of_pan(pan, vault).unwrap_or_else(|error| error.raise()),
    of_kept: |pan, vault| {
        let bound = Pan::from_stored(pan).map_err(Error::from);
        let bound = bound.and_then(|pan| binding::kept_to_compare(pan, vault));
        bound.unwrap_or_else(|error| error.raise()).map(|pan| pan.as_bytes().to_vec())
    },
    of_literal: |pan, vault| {
        let bound = Pan::from_stored(pan).map_err(Error::from);
        let bound = bound.and_then(|pan| binding::literal_to_compare(pan, vault));
        bound.unwrap_or_else(|error| error.raise()).map(|pan| pan.as_bytes().to_vec())
    },
    moved: |pan, vault| {
        let moved = Pan::from_stored(pan).map_err(Error::from);
        let moved = moved.and_then(|pan| binding::literal_to_vault(pan, vault));
        moved.unwrap_or_else(|error| error.raise()).map(|pan| pan.as_bytes().to_vec())
    },
};

/// The comparand of the scan so far, known by a keyed fingerprint of what it was made from.
#[derive(Clone, Copy)]
struct Cached {
    fingerprint: u64,
    made: Option<PanBuf>,
}

const UNCACHED: Cached = Cached { fingerprint: 0, made: None };

/// `pci.comparand(text, integer)`
pub fn text(call: &mut Call) -> Result<Value> {
    let vault = check(call)?;
    once(call, |bytes| of_text(bytes, vault).map(Some))
}

/// `pci.comparand(pan, integer)`: a value of no vault; any other stays as it is.
pub fn pan(call: &mut Call) -> Result<Value> {
    let vault = check(call)?;
    once(call, |bytes| of_pan(bytes, vault))
}

/// `pci.comparand(text[], integer)`
pub fn texts(call: &mut Call) -> Result<Value> {
    let vault = check(call)?;
    constants::array_argument(call, 0, &|bytes| of_text(bytes, vault).map(Some))
}

/// `pci.comparand(pan[], integer)`
pub fn pans(call: &mut Call) -> Result<Value> {
    let vault = check(call)?;
    constants::array_argument(call, 0, &|bytes| of_pan(bytes, vault))
}

/// The vault to compare in, which the user must be allowed; 42501 where a statement names the function: what it gives
/// holds no digits, and must not be kept.
fn check(call: &Call) -> Result<i32> {
    if !comparands::is_ours(call) {
        return Err(Error::denied("pci.comparand is called by plans of pgpci only")
            .hint("Compare the column with the digits themselves."));
    }
    let vault = call.i32(1);
    access::require(Capability::Search, vault)?;
    Ok(vault)
}

fn once(call: &mut Call, make: impl Fn(&[u8]) -> Result<Option<Vec<u8>>>) -> Result<Value> {
    let fingerprint = super::fingerprint(call.bytes(0));
    let known = call.cache(UNCACHED).map_or(UNCACHED, |cached| *cached);
    if known.fingerprint == fingerprint
        && let Some(made) = known.made
    {
        return Ok(varlena(made.as_bytes()));
    }
    let Some(bytes) = make(call.bytes(0))? else {
        return Ok(varlena(call.bytes(0)));
    };
    let made = PanBuf::from_stored(&bytes).ok();
    if let Some(cached) = call.cache(UNCACHED) {
        *cached = Cached { fingerprint, made };
    }
    Ok(varlena(&bytes))
}

fn of_text(text: &[u8], vault: i32) -> Result<Vec<u8>> {
    let made = match seal::is_sealed_text(text) {
        true => PanBuf::parse_sealed(text)?,
        false => super::comparand(&ClearPan::parse(text)?, vault)?,
    };
    Ok(made.as_bytes().to_vec())
}

fn of_pan(stored: &[u8], vault: i32) -> Result<Option<Vec<u8>>> {
    Ok(binding::to_compare(Pan::from_stored(stored)?, vault)?.map(|pan| pan.as_bytes().to_vec()))
}
