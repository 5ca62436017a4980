//! What stays open by nature: whoever may store finds out, by a unique violation, ON CONFLICT or a foreign
//! key, whether a card number is there. Those are counted a role and hour, limited, and recorded.

use std::cell::{Cell, RefCell};

use pgrx::{PgSqlErrorCode, pg_sys};

use super::search;
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::counters::{self, Kind};
use crate::pg::local::Local;
use crate::pg::{query, session, table_keys};

/// A write that has begun and not ended well.
#[derive(Clone, Copy)]
struct Write {
    /// The address of its query; none for COPY.
    query: Option<usize>,
    /// Whether an index found two numbers equal.
    hit: bool,
    /// What ON CONFLICT has met and is counted already.
    counted: u64,
    /// The transaction's nesting level at which it began.
    level: i32,
}

// Innermost last.
static WRITES: Local<RefCell<Vec<Write>>> = Local::new(RefCell::new(Vec::new()));
// Whether there is one.
static WRITING: Local<Cell<bool>> = Local::new(Cell::new(false));
// Whether the transaction has written card numbers: a deferred constraint fails when no write is open any more.
static WROTE: Local<Cell<bool>> = Local::new(Cell::new(false));
// Whether an index found two equal then.
static DEFERRED_HIT: Local<Cell<bool>> = Local::new(Cell::new(false));

/// A statement that writes starts: 53400 if it may conflict and the user has used up the hour's tries.
pub fn start(desc: *mut pg_sys::QueryDesc) -> Result<()> {
    let compares = query::targets(desc).into_iter().any(table_keys::compares_written);
    if compares && !query::only_deletes(desc) && is_limited()? {
        query::count_conflicts(desc);
        begin(Some(desc as usize));
    }
    Ok(())
}

/// Whether a write is open. Only looks.
pub fn is_writing() -> bool {
    WRITING.get()
}

/// A statement ends well; ON CONFLICT may have met conflicts all the same.
pub fn end(desc: *mut pg_sys::QueryDesc) {
    if !WRITING.get() {
        return;
    }
    let ours = change(|writes| {
        writes.iter().rposition(|write| write.query == Some(desc as usize)).map(|i| writes.remove(i))
    });
    if let Some(write) = ours {
        count(query::conflicts(desc).saturating_sub(write.counted));
    }
}

/// COPY FROM begins to write to a relation.
pub fn start_copy(written: pg_sys::Oid) -> Result<()> {
    if table_keys::compares_written(written) && is_limited()? {
        begin(None);
    }
    Ok(())
}

/// COPY FROM ends well.
pub fn end_copy() {
    change(|writes| writes.retain(|write| write.query.is_some()));
}

/// An index found two card numbers equal. What ON CONFLICT has met before is counted now: the statement may have told of
/// it already, and fail later. It stops where the hour's limit is passed, by whatever sessions of the role.
pub fn found_equal() -> Result<()> {
    if !WRITING.get() {
        DEFERRED_HIT.set(WROTE.get());
        return Ok(());
    }
    let new = change(|writes| {
        let Some(write) = writes.last_mut() else { return 0 };
        write.hit = true;
        let met = write.query.map_or(0, |query| query::conflicts(query as *mut pg_sys::QueryDesc));
        let new = met.saturating_sub(write.counted);
        write.counted = met;
        new
    });
    let limit = guc::MAX_CONFLICTS_PER_HOUR.get() as u64;
    if new > 0 && count(new) > limit && limit > 0 {
        return Err(too_many());
    }
    Ok(())
}

/// A foreign key of a card number that was typed found nothing.
pub fn missed() -> Result<()> {
    if is_limited()? {
        count(1);
    }
    Ok(())
}

/// What had begun in a subtransaction is cut off; what runs around it goes on.
pub fn subtransaction_aborts() {
    let level = session::nesting();
    let hits = change(|writes| {
        let kept = writes.iter().position(|write| write.level >= level).unwrap_or(writes.len());
        writes.drain(kept..).filter(|write| write.hit).count()
    });
    count(u64::from(hits > 0 || DEFERRED_HIT.take()));
}

/// What began in a subtransaction and still runs belongs to the one around it.
pub fn subtransaction_commits() {
    let level = session::nesting() - 1;
    change(|writes| writes.iter_mut().for_each(|write| write.level = write.level.min(level)));
}

/// A transaction ends.
pub fn transaction_ends(aborts: bool) {
    if !WROTE.get() && !WRITING.get() {
        return;
    }
    let hit = change(std::mem::take).iter().any(|write| write.hit) | DEFERRED_HIT.take();
    WROTE.set(false);
    if hit && aborts {
        count(1);
    }
}

fn begin(query: Option<usize>) {
    WROTE.set(true);
    change(|writes| writes.push(Write { query, hit: false, counted: 0, level: session::nesting() }));
}

fn change<T>(f: impl FnOnce(&mut Vec<Write>) -> T) -> T {
    WRITES.with_borrow_mut(|writes| {
        let result = f(writes);
        WRITING.set(!writes.is_empty());
        result
    })
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

/// Adds to what is counted of this hour; what it comes to.
fn count(n: u64) -> u64 {
    if n == 0 {
        return 0;
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
    total
}
