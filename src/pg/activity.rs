//! What this backend is doing: the queries and utility statements that run, innermost last.
//!
//! A comparison that no expression asks for is made by an index, a partition or a sort: for whom, only this tells.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use pgrx::pg_sys::NodeTag;

use crate::pg::local::Local;

/// What runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A query that compares nothing, as far as its plan shows.
    Query,
    /// A query whose plan compares card numbers, by a user who may.
    Compares,
    /// A foreign-key statement of PostgreSQL's own that only reads: no code of a user's runs in it.
    ForeignKeyRead,
    /// One that cascades, by its serial number: triggers and constraints of a user's may run in it.
    ForeignKeyWrite(u32),
    /// A statement that writes, by its serial number, by a user who may not compare. Later ones have greater numbers.
    Write(u32),
    /// One that writes to tables that compare no card numbers: if it comes to one that does, it is too late to judge it.
    OtherWrite,
    /// VACUUM or ANALYZE.
    Vacuum,
    /// Any other utility statement.
    Utility,
}

/// What may be answered without a closer look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Permit {
    /// Nothing.
    None,
    /// That two card numbers differ, and how.
    Differing,
    /// Everything.
    All,
}

struct Frame {
    kind: Kind,
    /// Of a utility statement: which.
    statement: NodeTag,
    /// The address of a query; 0 for anything else.
    query: usize,
}

/// A query that was started and is more than `Query`.
struct Started {
    /// Its address.
    query: usize,
    kind: Kind,
    /// What `CHANGES` was when it was judged.
    judged: u64,
}

static STARTED: Local<RefCell<Vec<Started>>> = Local::new(RefCell::new(Vec::new()));
static RUNNING: Local<RefCell<Vec<Frame>>> = Local::new(RefCell::new(Vec::new()));
static SERIAL: Local<Cell<u32>> = Local::new(Cell::new(0));
// Of this backend alone: static because every comparison of an index asks.
static PERMIT: AtomicU8 = AtomicU8::new(Permit::Differing as u8);
// How often this backend was told that a relation has changed.
static CHANGES: AtomicU64 = AtomicU64::new(0);

impl Kind {
    /// Index builds and the like are judged when they are defined.
    fn permit(self) -> Permit {
        match self {
            Self::Query | Self::OtherWrite | Self::Vacuum => Permit::None,
            Self::Write(_) | Self::ForeignKeyWrite(_) | Self::ForeignKeyRead | Self::Utility => {
                Permit::Differing
            }
            Self::Compares => Permit::All,
        }
    }

    fn write(self) -> Option<u32> {
        match self {
            Self::Write(serial) | Self::ForeignKeyWrite(serial) => Some(serial),
            _ => None,
        }
    }
}

/// The number of a statement that writes, to be started; from 1.
pub fn new_write() -> u32 {
    SERIAL.set(SERIAL.get().wrapping_add(1).max(1));
    SERIAL.get()
}

/// A query is started.
pub fn starts(query: usize, kind: Kind) {
    STARTED.with_borrow_mut(|started| {
        // An address is used again after a failure cut its query off.
        started.retain(|other| other.query != query);
        if kind != Kind::Query {
            started.push(Started { query, kind, judged: CHANGES.load(Relaxed) });
        }
    });
}

/// What a query that was started is; None for a plain one.
pub fn started(query: usize) -> Option<Kind> {
    STARTED.with_borrow(|started| started.iter().find(|other| other.query == query).map(|found| found.kind))
}

/// A query is over.
pub fn ends(query: usize) {
    STARTED.with_borrow_mut(|started| started.retain(|other| other.query != query));
}

/// Whether any query was started that is more than a plain one.
pub fn has_started() -> bool {
    STARTED.with_borrow(|started| !started.is_empty())
}

/// A query is run (or finished, which runs its triggers). What is returned goes to [`leave`].
pub fn enter_query(query: usize) -> usize {
    enter_frame(Frame { kind: started(query).unwrap_or(Kind::Query), statement: NodeTag::T_Invalid, query })
}

/// Something else is run: of a utility statement, which. What is returned goes to [`leave`].
pub fn enter_statement(kind: Kind, statement: NodeTag) -> usize {
    enter_frame(Frame { kind, statement, query: 0 })
}

fn enter_frame(frame: Frame) -> usize {
    let depth = RUNNING.with_borrow_mut(|running| {
        running.push(frame);
        running.len() - 1
    });
    renew_permit();
    depth
}

/// What was entered at this depth is over, and all that it called: also where a failure cut it off.
pub fn leave(depth: usize) {
    let was_entered = RUNNING.with_borrow_mut(|running| {
        let was_entered = depth < running.len();
        running.truncate(depth);
        was_entered
    });
    if was_entered {
        renew_permit();
    }
}

/// A relation has changed: what was judged by the keys that tables have is judged again before it compares.
pub fn relation_changes() {
    CHANGES.fetch_add(1, Relaxed);
    renew_permit();
}

/// The query that runs innermost, if it is one that writes and was judged before some relation changed.
pub fn outdated() -> Option<usize> {
    RUNNING.with_borrow(|running| running.last().filter(|frame| frame.is_outdated()).map(|frame| frame.query))
}

/// A query was judged again.
pub fn is_judged(query: usize) {
    STARTED.with_borrow_mut(|started| {
        for found in started.iter_mut().filter(|other| other.query == query) {
            found.judged = CHANGES.load(Relaxed);
        }
    });
    renew_permit();
}

fn renew_permit() {
    let permit = RUNNING.with_borrow(|running| running.last().map_or(Permit::Differing, Frame::permit));
    PERMIT.store(permit as u8, Relaxed);
}

impl Frame {
    fn permit(&self) -> Permit {
        if self.is_outdated() { Permit::None } else { self.kind.permit() }
    }

    fn is_outdated(&self) -> bool {
        let now = CHANGES.load(Relaxed);
        self.kind.write().is_some()
            && self.query != 0
            && STARTED.with_borrow(|started| started.iter().any(|s| s.query == self.query && s.judged != now))
    }
}

/// How deep what runs is nested.
pub fn depth() -> usize {
    RUNNING.with_borrow(Vec::len)
}

/// A transaction ends: of what was started nothing is left, unless it ends in a procedure, which goes on.
pub fn transaction_ends(aborts: bool) {
    if aborts {
        leave(0);
        STARTED.with_borrow_mut(Vec::clear);
    }
}

/// The utility statement that runs innermost, if nothing runs within it.
pub fn statement() -> NodeTag {
    RUNNING.with_borrow(|running| running.last().map_or(NodeTag::T_Invalid, |frame| frame.statement))
}

/// The utility statement around it that is more than a block of code.
pub fn statement_around() -> NodeTag {
    let is_code = |tag: NodeTag| matches!(tag, NodeTag::T_Invalid | NodeTag::T_DoStmt | NodeTag::T_CallStmt);
    RUNNING.with_borrow(|running| {
        let mut around = running.iter().rev().skip(1).map(|frame| frame.statement);
        around.find(|tag| !is_code(*tag)).unwrap_or(NodeTag::T_Invalid)
    })
}

/// What runs innermost; None while nothing does.
pub fn innermost() -> Option<Kind> {
    RUNNING.with_borrow(|running| running.last().map(|frame| frame.kind))
}

/// The statement that writes and is the innermost of those, by its serial number; 0 for none.
pub fn writing() -> u32 {
    RUNNING.with_borrow(|running| running.iter().rev().find_map(|frame| frame.kind.write()).unwrap_or(0))
}

/// The statement that writes around the innermost one; 0 for none.
pub fn writing_around() -> u32 {
    RUNNING.with_borrow(|running| {
        running.iter().rev().filter_map(|frame| frame.kind.write()).nth(1).unwrap_or(0)
    })
}

/// What may be answered without a closer look.
#[inline]
pub fn permit() -> Permit {
    match PERMIT.load(Relaxed) {
        p if p == Permit::All as u8 => Permit::All,
        p if p == Permit::Differing as u8 => Permit::Differing,
        _ => Permit::None,
    }
}
