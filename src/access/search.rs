//! The capability `search`: who may both build card numbers and compare them finds six hidden digits in
//! 10^5 tries, so comparing is a privilege. Enforced where a plan is made (every operator, sort and grouping
//! of the query), where it is run (plans remember that they compare), and in each comparison function that
//! an expression calls outside any plan.

use std::cell::{Cell, RefCell};

use pgpci_core::access::Capability;
use pgrx::pg_sys;

use super::policy;
use crate::error::{Error, Result};
use crate::key::ring::{DEFAULT_VAULT, Ring};
use crate::pg::call::Call;
use crate::pg::{caller, catalog, walk};

thread_local! {
    // Queries that are running, innermost last, by address, with what they are.
    static RUNNING: RefCell<Vec<(usize, ForeignKeyCheck)>> = const { RefCell::new(Vec::new()) };
}

/// A foreign-key statement of PostgreSQL's own that is running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForeignKeyCheck {
    /// None.
    None,
    /// It only reads: no code of a user's runs in it.
    Read,
    /// It cascades: triggers and constraints of a user's may run in it.
    Write,
}

/// A query starts. One that a foreign-key statement starts (a trigger's) is none itself.
pub fn query_starts(query: usize, state: ForeignKeyCheck) {
    RUNNING.with_borrow_mut(|r| {
        if state != ForeignKeyCheck::None || !r.is_empty() {
            r.push((query, state));
        }
    });
}

/// A query ends.
pub fn query_ends(query: usize) {
    RUNNING.with_borrow_mut(|r| {
        if let Some(at) = r.iter().rposition(|(q, _)| *q == query) {
            r.truncate(at);
        }
    });
}

/// How many queries are running.
pub fn running() -> usize {
    RUNNING.with_borrow(Vec::len)
}

/// Back to so many: those after them were cut off.
pub fn keep_running(count: usize) {
    RUNNING.with_borrow_mut(|r| r.truncate(count));
}

fn foreign_key() -> ForeignKeyCheck {
    RUNNING.with_borrow(|r| r.last().map_or(ForeignKeyCheck::None, |(_, state)| *state))
}

/// 42501 unless the user may compare. Without a policy in force nobody can build a card number here,
/// so there is nothing to guess with, and a restore needs its joins and constraints.
pub fn require() -> Result<()> {
    if crate::access::is_known_to(Capability::Search) || Ring::get()?.is_unaccepted() {
        return Ok(());
    }
    crate::access::require(Capability::Search, DEFAULT_VAULT)
}

/// The same, for a comparison function: only where an expression calls it, or a comparison of arrays or rows.
#[inline]
pub fn require_in(call: &Call) -> Result<()> {
    if !call.is_from_expression() && !caller::is_indirect_comparison(call.flinfo()) {
        return Ok(());
    }
    let exempt = match foreign_key() {
        ForeignKeyCheck::None => false,
        ForeignKeyCheck::Read => caller::compares_columns(call.expression(), true),
        ForeignKeyCheck::Write => caller::compares_columns(call.expression(), false),
    };
    if exempt { Ok(()) } else { require() }
}

/// The refusal, recorded.
pub fn refuse() -> Error {
    crate::access::refuse(Capability::Search, DEFAULT_VAULT)
}

/// 42501 if the query compares card numbers and the user may not. True if it compares any.
pub fn check_query(query: *mut pg_sys::Query) -> Result<bool> {
    let compares = walk::query_compares(query);
    if compares {
        require()?;
    }
    Ok(compares)
}

/// Whether the user may compare, without a record of a refusal: for choices that are no attempt.
pub fn require_quietly() -> Result<()> {
    let ring = Ring::get()?;
    match ring.is_unaccepted() || crate::access::may(Capability::Search, DEFAULT_VAULT)? {
        true => Ok(()),
        false => Err(Error::denied("may not compare")),
    }
}

/// 42501 unless the user may export. The sealed form carries the equality hash: who may also build card numbers
/// compares them with it, and needs to be allowed that.
pub fn require_export() -> Result<()> {
    crate::access::require(Capability::Export, DEFAULT_VAULT)?;
    if stores()? {
        crate::access::require(Capability::Search, DEFAULT_VAULT)?;
    }
    Ok(())
}

/// Has the session know whether its user may export, before nothing can be read any more.
pub fn learn_export() -> Result<()> {
    crate::access::may(Capability::Export, DEFAULT_VAULT)?;
    crate::access::may(Capability::Search, DEFAULT_VAULT)?;
    stores().map(|_| ())
}

/// Whether a row says that the user may store: as export itself, this needs no key.
fn stores() -> Result<bool> {
    thread_local! { static STORES: Cell<(u64, bool)> = const { Cell::new((0, false)) } }
    let generation = catalog::generation();
    match STORES.get() {
        (known, stores) if known == generation => Ok(stores),
        _ => {
            let stores = !policy::rows_granting(Capability::Store, DEFAULT_VAULT)?.is_empty();
            STORES.set((generation, stores));
            Ok(stores)
        }
    }
}
