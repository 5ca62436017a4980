//! What stays open by nature: whoever may store finds out, by a unique violation, ON CONFLICT or a foreign
//! key, whether a card number is there. Those are counted a role and hour, limited, and recorded; a failed
//! write on a table with such a constraint counts, whatever made it fail.

use std::cell::{Cell, RefCell};

use pgrx::{PgSqlErrorCode, pg_sys};

use super::search;
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::counters::{self, Kind};
use crate::pg::{query, relation, session};

/// A COPY or DDL in `PENDING`, which has no query.
const UTILITY: usize = 0;

thread_local! {
    // Comparisons that an index found equal while a write that may conflict runs.
    static EQUAL: Cell<u64> = const { Cell::new(0) };
    // Writes that have begun and not ended well, by the address of their query.
    static PENDING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A statement starts: 53400 if it may conflict and the user has used up the hour's tries.
pub fn start(desc: *mut pg_sys::QueryDesc) -> Result<()> {
    if query::targets(desc).into_iter().any(relation::has_pan_constraint) && is_limited()? {
        query::count_conflicts(desc);
        EQUAL.set(0);
        PENDING.with_borrow_mut(|p| p.push(desc as usize));
    }
    Ok(())
}

/// A statement ends well; ON CONFLICT may have met conflicts all the same.
pub fn end(desc: *mut pg_sys::QueryDesc) {
    let ours = PENDING.with_borrow_mut(|p| p.iter().rposition(|d| *d == desc as usize).map(|i| p.remove(i)));
    if ours.is_some() {
        // Below another node (a CTE) the executor keeps no count: each pair of equal comparisons is one.
        count(query::conflicts(desc).unwrap_or_else(|| EQUAL.get() / 2));
    }
}

/// An index found two card numbers equal. One statement must not try what an hour may not: it stops where it has
/// met more than the limit. A conflict takes a few comparisons; rows that only move (UPDATE) are not asked.
#[inline]
pub fn found_equal() -> Result<()> {
    if PENDING.with_borrow(Vec::is_empty) {
        return Ok(());
    }
    EQUAL.set(EQUAL.get() + 1);
    let limit = guc::MAX_CONFLICTS_PER_HOUR.get() as u64;
    if limit > 0 && EQUAL.get() > limit.saturating_mul(8) {
        counters::add(session::user(), Kind::Conflicts, limit);
        return Err(too_many());
    }
    Ok(())
}

/// A statement that adds a constraint on card numbers begins.
pub fn start_utility() -> Result<()> {
    if is_limited()? {
        PENDING.with_borrow_mut(|p| p.push(UTILITY));
    }
    Ok(())
}

/// COPY FROM begins to write to a relation.
pub fn start_copy(written: pg_sys::Oid) -> Result<()> {
    if relation::has_pan_constraint(written) { start_utility() } else { Ok(()) }
}

/// COPY FROM or DDL ends well.
pub fn end_utility() {
    PENDING.with_borrow_mut(|p| p.retain(|d| *d != UTILITY));
}

/// What had begun in a subtransaction is cut off.
pub fn subtransaction_aborts() {
    // Only the innermost write can have failed: those around it go on.
    if PENDING.with_borrow_mut(Vec::pop).is_some() {
        count(1);
    }
}

/// A transaction ends.
pub fn transaction_ends(aborts: bool) {
    let pending = PENDING.take().len();
    if aborts && pending > 0 {
        count(1);
    }
}

fn is_limited() -> Result<bool> {
    // Whoever may compare learns nothing here.
    if search::require_quietly().is_ok() || session::is_parallel_worker() {
        return Ok(false);
    }
    let limit = guc::MAX_CONFLICTS_PER_HOUR.get() as u64;
    if limit > 0 && counters::add(session::user(), Kind::Conflicts, 0) >= limit {
        audit::record(Class::Denied, "write on a unique card number: hourly limit of conflicts reached");
        return Err(too_many());
    }
    Ok(true)
}

fn too_many() -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        "too many writes of this role failed or conflicted on unique card numbers within the hour",
    )
    .hint("An officer looks into it; the limit is pgpci.max_conflicts_per_hour.")
}

fn count(n: u64) {
    if n == 0 {
        return;
    }
    let limit = guc::MAX_CONFLICTS_PER_HOUR.get() as u64;
    let total = counters::add(session::user(), Kind::Conflicts, n);
    // The first, and the one that reaches the limit; those between would only fill the log.
    if total == n || (limit > 0 && total >= limit && total - n < limit) {
        audit::record(
            Class::Denied,
            &format!("{total} writes on unique card numbers failed or conflicted this hour"),
        );
    }
}
