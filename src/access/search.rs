//! The capability `search`: who may both build card numbers and compare them finds six hidden digits in
//! 10^5 tries, so comparing is a privilege. Enforced where a plan is made (every operator, sort and grouping
//! of the query), where it is run (plans remember that they compare), and in each comparison function that
//! an expression calls outside any plan.

use std::cell::{Cell, RefCell};

use pgpci_core::access::Capability;
use pgrx::pg_sys;

use super::{Decision, UNDECIDED, policy};
use crate::error::{Error, Result};
use crate::key::ring::{DEFAULT_VAULT, Ring};
use crate::pg::activity::{self, Kind};
use crate::pg::call::Call;
use crate::pg::local::Local;
use crate::pg::operand::PLAIN;
use crate::pg::{caller, catalog, session, walk};

/// 42501 unless the user may compare. Without a policy in force nobody can build a card number here,
/// so there is nothing to guess with, and a restore needs its joins and constraints.
pub fn require() -> Result<()> {
    match lacking()? {
        None => Ok(()),
        Some(vault) => Err(crate::access::refuse(Capability::Search, vault)),
    }
}

/// The same, for a statement that compares in these vaults.
pub fn require_on(vaults: &[i32]) -> Result<()> {
    require()?;
    if Ring::get()?.is_unaccepted() {
        return Ok(());
    }
    vaults.iter().try_for_each(|vault| crate::access::require(Capability::Search, *vault))
}

/// The vault without whose `search` the user may not compare at all. It takes `search` on one vault, and on each that
/// they may store in: else they would build guesses in one and compare them by the right on another. What an
/// unsearchable vault holds compares with nothing.
fn lacking() -> Result<Option<i32>> {
    static KNOWN: Local<Cell<(Decision, i32)>> = Local::new(Cell::new((UNDECIDED, 0)));
    let ring = Ring::get()?;
    if ring.is_unaccepted() {
        return Ok(None);
    }
    if ring.vaults().len() <= 1 {
        return Ok((!crate::access::may(Capability::Search, DEFAULT_VAULT)?).then_some(DEFAULT_VAULT));
    }
    let (known, vault) = KNOWN.get();
    if known.holds(catalog::generation()) {
        return Ok((!known.allowed).then_some(vault));
    }
    let (mut all, mut any, mut lacking) = (None::<Decision>, false, None);
    for vault in ring.vaults() {
        let one = crate::access::decision(Capability::Search, vault.number)?;
        any |= one.allowed;
        if vault.searchable && !one.allowed && lacking.is_none() && stores(vault.number)? {
            lacking = Some(vault.number);
        }
        all = Some(all.map_or(one, |all| all.and(one, false)));
    }
    let lacking = lacking.or((!any).then_some(DEFAULT_VAULT));
    if let Some(all) = all {
        KNOWN.set((all.and(all, lacking.is_none()), lacking.unwrap_or(DEFAULT_VAULT)));
    }
    Ok(lacking)
}

/// The same, for a comparison function, where an expression calls it or a comparison of arrays or rows; false where
/// neither does, and nothing was asked.
#[inline]
pub fn require_in(call: &Call) -> Result<bool> {
    if !call.is_from_expression() && !caller::is_indirect_comparison(call.flinfo()) {
        return Ok(false);
    }
    let exempt = match activity::innermost() {
        Some(Kind::ForeignKeyRead) => caller::compares_columns(call.expression(), true),
        Some(Kind::ForeignKeyWrite(_)) => caller::compares_columns(call.expression(), false),
        _ => false,
    };
    if !exempt {
        require()?;
    }
    Ok(true)
}

/// The refusal, recorded.
pub fn refuse() -> Error {
    let vault = lacking().ok().flatten();
    crate::access::refuse(Capability::Search, vault.unwrap_or(DEFAULT_VAULT))
}

/// The vaults that a query compares card numbers in; None where it compares none. In a database with one vault none
/// is looked for.
pub fn compared(query: *mut pg_sys::Query) -> Result<Option<Vec<i32>>> {
    if !walk::query_compares(query) {
        return Ok(None);
    }
    Ok(Some(if is_plural()? { of_operands(&walk::vaults_compared(query)) } else { Vec::new() }))
}

/// Columns without a vault of their own count as those of vault `default`.
pub fn of_operands(vaults: &[i32]) -> Vec<i32> {
    vaults.iter().map(|vault| if *vault == PLAIN { DEFAULT_VAULT } else { *vault }).collect()
}

/// Whether the database has further vaults than `default`.
pub fn is_plural() -> Result<bool> {
    static KNOWN: Local<Cell<(u64, bool)>> = Local::new(Cell::new((0, false)));
    // Our tables may not be there yet.
    if session::in_extension_script() {
        return Ok(false);
    }
    let generation = catalog::generation();
    match KNOWN.get() {
        (known, plural) if known == generation => Ok(plural),
        _ => {
            let plural = Ring::get()?.vaults().len() > 1;
            KNOWN.set((catalog::generation(), plural));
            Ok(plural)
        }
    }
}

/// Whether the user may compare, without a record of a refusal: for choices that are no attempt.
pub fn require_quietly() -> Result<()> {
    match lacking()? {
        None => Ok(()),
        Some(_) => Err(Error::denied("may not compare")),
    }
}

/// 42501 unless the user may export from the vault. The sealed form carries the equality hash: who may also build
/// card numbers compares them with it, and needs to be allowed that.
pub fn require_export(vault: i32) -> Result<()> {
    crate::access::require(Capability::Export, vault)?;
    if stores(vault)? {
        crate::access::require(Capability::Search, vault)?;
    }
    Ok(())
}

/// Has the session know what its user may export, before nothing can be read any more.
pub fn learn_export() -> Result<()> {
    for vault in Ring::get()?.vaults() {
        crate::access::may(Capability::Export, vault.number)?;
        crate::access::may(Capability::Search, vault.number)?;
        stores(vault.number)?;
    }
    Ok(())
}

/// Whether a row says that the user may store in the vault: as export itself, this needs no key.
fn stores(vault: i32) -> Result<bool> {
    static STORES: Local<RefCell<(u64, Vec<(i32, bool)>)>> = Local::new(RefCell::new((0, Vec::new())));
    let generation = catalog::generation();
    let known = STORES.with_borrow(|(known, stores)| {
        stores.iter().find(|(v, _)| *known == generation && *v == vault).map(|(_, stores)| *stores)
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let stores = !policy::rows_granting(Capability::Store, vault)?.is_empty();
    STORES.with_borrow_mut(|(known, list)| {
        if std::mem::replace(known, generation) != generation {
            list.clear();
        }
        list.push((vault, stores));
    });
    Ok(stores)
}
