//! A person's session that idles is ended (PCI DSS 8.2.8), whatever the session's own settings say.

use std::cell::Cell;

use pgpci_core::account::{Account, Control};

use super::limits::Limits;
use crate::pg::local::Local;
use crate::pg::timeouts;

// Milliseconds; 0: this session may idle.
static LIMIT: Local<Cell<i32>> = Local::new(Cell::new(0));

/// A role has logged in.
pub fn logs_in(limits: &Limits<'_>, account: &Account) {
    let is_limited = limits.is_in_force() && account.kind.is_human();
    LIMIT.set(if is_limited { limits.get(Control::Idle).saturating_mul(1000) } else { 0 });
}

/// A statement or transaction has ended, which may have changed the session's settings.
/// Whether there is a limit.
pub fn keep() -> bool {
    let limit = LIMIT.get();
    if limit > 0 {
        timeouts::limit_idle(limit);
    }
    limit > 0
}
