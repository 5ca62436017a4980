//! Another key that signs the trail, asked for by a custodian.

use std::sync::atomic::Ordering;

use super::{Class, record};
use crate::access;
use crate::error::{Error, Result};
use crate::pg::call::{Call, Value};
use crate::pg::ring;

/// `pci.rotate_audit_key()`: the trail writer has a new key made, and the present one vouches for it in the trail.
pub fn rotate_audit_key(call: &mut Call) -> Result<Value> {
    access::require_direct(call)?;
    access::require_duty("pci_custodian")?;
    let head = ring::head().ok_or_else(|| {
        Error::state("the audit trail is not written").hint("See pci.audit_status for the reason.")
    })?;
    record(Class::Key, "another signing key of the audit trail asked for");
    // It happens soon, whatever becomes of the transaction.
    head.rotations.fetch_add(1, Ordering::Release);
    Ok(call.null())
}
