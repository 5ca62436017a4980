//! What writing tells to whoever may not compare. A unique index, a foreign key or a hash partition compares what is
//! written with what is there. A number that the running transaction has made itself may meet them: that tells, by a
//! unique violation, ON CONFLICT or a missing referenced row, whether it is there, which stays open by nature. Those
//! are counted a role and hour, limited, and recorded. A stored number may not: copied among guesses of the writer's
//! own it would name the right one.

use std::cell::{Cell, RefCell};

use pgpci_core::seal::Pan;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::search;
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::guc;
use crate::key::nonce;
use crate::pg::counters::{self, Kind};
use crate::pg::{query, relation, session};

const STORED: &str = "To copy a stored card number into a column with a unique or foreign key, or a hash partition by it, compares it: \
                      write the number itself, or have an officer grant search.";

/// A write that has begun and not ended well.
#[derive(Clone, Copy)]
struct Write {
    /// The address of its query; none for COPY.
    query: Option<usize>,
    /// Whether it sets card numbers: then only ones that this transaction has made.
    sets: bool,
    /// Whether they may refer to others by a foreign key.
    refers: bool,
    /// Whether it tells something if it fails.
    tells: bool,
}

thread_local! {
    // Comparisons that an index found equal while a write that may conflict runs.
    static EQUAL: Cell<u64> = const { Cell::new(0) };
    // Innermost last.
    static WRITES: RefCell<Vec<Write>> = const { RefCell::new(Vec::new()) };
    // Whether there is one, and what the innermost is: asked at each comparison of an index.
    static INNERMOST: Cell<Option<Write>> = const { Cell::new(None) };
    // Whether the transaction has set card numbers that refer to others: a deferred foreign key asks at its end.
    static REFERRED: Cell<bool> = const { Cell::new(false) };
}

/// A statement starts: 53400 if it may conflict and the user has used up the hour's tries.
pub fn start(desc: *mut pg_sys::QueryDesc) -> Result<()> {
    let mut rules = relation::Rules::default();
    for target in query::targets(desc) {
        rules.add(relation::rules(target));
    }
    if !rules.compares || !is_limited()? {
        return Ok(());
    }
    let (sets, deletes) = (query::sets_pan(desc), query::only_deletes(desc));
    if rules.may_move && !sets && !deletes {
        // What the trigger makes of the row cannot be told from what the row had.
        return Err(search::refuse().hint(STORED));
    }
    query::count_conflicts(desc);
    begin(Write { query: Some(desc as usize), sets, refers: sets && rules.refers, tells: !deletes });
    Ok(())
}

/// A statement ends well; ON CONFLICT may have met conflicts all the same.
pub fn end(desc: *mut pg_sys::QueryDesc) {
    if INNERMOST.get().is_none() {
        return;
    }
    let ours = change(|writes| {
        writes.iter().rposition(|write| write.query == Some(desc as usize)).map(|i| writes.remove(i))
    });
    if ours.is_some() {
        // Below another node (a CTE) the executor keeps no count: each pair of equal comparisons is one.
        count(query::conflicts(desc).unwrap_or_else(|| EQUAL.get() / 2));
    }
}

/// COPY FROM begins to write to a relation.
pub fn start_copy(written: pg_sys::Oid) -> Result<()> {
    let rules = relation::rules(written);
    if rules.compares && is_limited()? {
        begin(Write { query: None, sets: true, refers: rules.refers, tells: true });
    }
    Ok(())
}

/// COPY FROM ends well.
pub fn end_copy() {
    change(|writes| writes.retain(|write| write.query.is_some()));
}

/// PostgreSQL is about to look for the referenced row of a new one: 42501 for a stored number, as in `written`. With
/// the same words it looks for another referenced row when one is deleted or changed: no number is set then.
pub fn referenced(desc: *mut pg_sys::QueryDesc) -> Result<()> {
    let refers = INNERMOST.get().map_or(REFERRED.get(), |write| write.refers);
    if !refers || !query::looks_for_referenced(desc) {
        return Ok(());
    }
    let mut stored = false;
    query::for_each_pan_parameter(desc, |bytes| stored |= Pan::from_stored(bytes).is_ok_and(is_stored));
    if stored { Err(search::refuse().hint(STORED)) } else { Ok(()) }
}

/// A card number that is being written meets an index or partitions: 42501 where it is a stored one and the user may
/// not compare.
#[inline]
pub fn written(bytes: &[u8]) -> Result<()> {
    // A foreign-key check writes nothing: `referenced` has judged what it looks for.
    if INNERMOST.get().is_some_and(|write| write.sets)
        && is_stored(Pan::from_stored(bytes)?)
        && !search::looks_up_reference()
    {
        Err(search::refuse().hint(STORED))
    } else {
        Ok(())
    }
}

/// An index found two card numbers equal. One statement must not try what an hour may not: it stops where it has
/// met more than the limit. A conflict takes a few comparisons.
#[inline]
pub fn found_equal() -> Result<()> {
    if INNERMOST.get().is_none() {
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

/// A value is about to be written that equals the one it replaces.
pub fn excuse() {
    EQUAL.set(0);
}

/// What had begun in a subtransaction is cut off.
pub fn subtransaction_aborts() {
    // Only the innermost write can have failed: those around it go on.
    if change(Vec::pop).is_some_and(|write| write.tells) {
        count(1);
    }
}

/// A transaction ends.
pub fn transaction_ends(aborts: bool) {
    let open = change(std::mem::take);
    // Deferred constraints fail when no write is open any more.
    let deferred = REFERRED.replace(false) && open.is_empty();
    if aborts && (deferred || open.iter().any(|write| write.tells)) {
        count(1);
    }
}

fn begin(write: Write) {
    EQUAL.set(0);
    REFERRED.set(REFERRED.get() || write.refers);
    change(|writes| writes.push(write));
}

fn change<T>(f: impl FnOnce(&mut Vec<Write>) -> T) -> T {
    WRITES.with_borrow_mut(|writes| {
        let result = f(writes);
        INNERMOST.set(writes.last().copied());
        result
    })
}

/// Whether a value was there before this transaction. One without an equality hash equals nothing but itself.
fn is_stored(pan: Pan<'_>) -> bool {
    pan.is_searchable() && pan.nonce().is_some_and(|nonce| !nonce::is_mine(nonce))
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
