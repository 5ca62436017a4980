//! Statements, from their start to their end, nested ones too. What is recorded of one is packed when it starts; its
//! outcome is added when it ends, however that comes about.

use std::cell::{Cell, RefCell};

use pgpci_core::record::{Class, Field, MAX_PACKED, Packer};
use pgrx::pg_sys;

use super::emit::{Room, emit};
use super::{redaction, scope, transaction};
use crate::access::tables;
use crate::pg::local::Local;
use crate::pg::{audited, log, port, session, statement, utility};

/// A statement that has started and not ended.
struct Frame {
    /// Its descriptor's address; of a utility statement, its number.
    key: usize,
    is_utility: bool,
    class: Class,
    rows: Option<u64>,
    /// How deep the transaction was nested when it started.
    level: i32,
    /// Its fields.
    packed: Vec<u8>,
    /// A failure has told of it already.
    is_told: bool,
}

static FRAMES: Local<RefCell<Vec<Frame>>> = Local::new(RefCell::new(Vec::new()));
static SPARE: Local<RefCell<Vec<Vec<u8>>>> = Local::new(RefCell::new(Vec::new()));
static SCRATCH: Local<RefCell<[u8; MAX_PACKED / 2]>> = Local::new(RefCell::new([0; MAX_PACKED / 2]));
static COUNT: Local<Cell<usize>> = Local::new(Cell::new(0));
// The plan that started last, unless it has ended; whether it is recorded or not.
static STARTING: Local<Cell<usize>> = Local::new(Cell::new(0));
// When the message came whose fast-path call has a frame; 0 without one.
static FAST_CALL: Local<Cell<i64>> = Local::new(Cell::new(0));
// The SQLSTATE of the failure that is cutting statements off.
static FAILURE: Local<Cell<Option<[u8; 5]>>> = Local::new(Cell::new(None));

/// Whether nothing need be told of a utility statement, which does nothing to be recorded: only looks, and never raises.
pub fn passes_utility() -> bool {
    FAST_CALL.get() == 0 && redaction::is_clean()
}

/// Whether a plan that starts is not recorded, as far as that is known. Only looks, and never raises: for hooks, whose
/// work it spares most statements. Then nothing else need be told of its start.
pub fn passes(desc: *mut pg_sys::QueryDesc) -> bool {
    let passes = FAST_CALL.get() == 0
        && scope::is_watched_if_known() == Some(false)
        && audited::touches_nothing_recorded(desc)
        && redaction::is_clean();
    if passes {
        STARTING.set(desc as usize);
    }
    passes
}

/// A plan starts, at every execution.
pub fn starts(desc: *mut pg_sys::QueryDesc, flags: i32) {
    redaction::client_text();
    fast_path_is_over(Room::Wait);
    STARTING.set(desc as usize);
    if audited::is_only_explained(flags) || tables::is_writing() || session::in_extension_script() {
        return;
    }
    let touches_recorded = || {
        let mut found = false;
        audited::for_each_touched(desc, |touched| found |= audited::is_always_recorded(touched.relation));
        found
    };
    if !scope::is_watched() && !touches_recorded() {
        return;
    }
    let is_foreign_key = statement::is_foreign_key(desc, flags);
    let writes = crate::pg::query::writes(desc);
    let packed = pack(|packer| {
        packer.text(Field::Event, if is_foreign_key { b"FOREIGN KEY" } else { audited::command(desc) });
        let text = audited::source(desc);
        // What the client sent was redacted where it is, above.
        if audited::is_from_client(desc) {
            packer.clean_statement(text);
        } else {
            packer.statement(text);
        }
        audited::for_each_touched(desc, |touched| {
            packer.clean_object(touched.name(redaction::name).as_bytes());
        });
    });
    let class = if writes { Class::Write } else { Class::Read };
    push(desc as usize, false, class, packed);
}

/// Whether a statement that is recorded has started. Only looks, and never raises: for hooks, whose work it spares
/// most statements.
pub fn is_recording() -> bool {
    FRAMES.try_borrow().is_ok_and(|frames| !frames.is_empty())
}

/// A plan has run, perhaps not for the last time.
pub fn ran(desc: *mut pg_sys::QueryDesc) {
    FRAMES.with_borrow_mut(|frames| {
        if let Some(frame) = frames.iter_mut().rev().find(|it| !it.is_utility && it.key == desc as usize) {
            *frame.rows.get_or_insert(0) += audited::rows_of_run(desc);
        }
    });
}

/// A plan has ended well.
pub fn ends(desc: *mut pg_sys::QueryDesc) {
    is_not_starting(desc);
    if let Some(frame) = take(desc as usize, false) {
        frame.tell(Room::Wait, None);
    }
}

/// The same of one that is not recorded.
pub fn is_not_starting(desc: *mut pg_sys::QueryDesc) {
    if STARTING.get() == desc as usize {
        STARTING.set(0);
    }
}

/// A utility statement starts; what is returned goes to `utility_ends`.
pub fn utility_starts(
    plan: *mut pg_sys::PlannedStmt,
    node: *mut pg_sys::Node,
    text: *const core::ffi::c_char,
    context: u32,
) -> usize {
    redaction::client_text();
    fast_path_is_over(Room::Wait);
    let is_part = context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND;
    if is_part || tables::is_writing() || session::in_any_extension_script() {
        return 0;
    }
    let Some((class, _)) =
        scope::utility(node).filter(|(_, always)| *always || scope::is_watched() || holds_pan(node))
    else {
        return 0;
    };
    // Less may be recorded from then on: not before that is on the disk.
    if utility::labels_for_audit(node) {
        transaction::protect();
    }
    COUNT.set(COUNT.get() + 1);
    let packed = pack(|packer| {
        packer.text(Field::Event, utility::name(node));
        packer.statement(audited::statement_text(text, plan));
        utility::objects(node, |object| {
            packer.object(object.as_bytes());
        });
    });
    push(COUNT.get(), true, class, packed);
    COUNT.get()
}

/// COPY of a table with card numbers is recorded for everybody.
fn holds_pan(node: *mut pg_sys::Node) -> bool {
    session::can_read_catalog() && statement::copied(node).is_some_and(audited::is_always_recorded)
}

/// A utility statement has ended well; COPY says how many rows it processed.
pub fn utility_ends(key: usize, rows: Option<u64>) {
    if key != 0
        && let Some(mut frame) = take(key, true)
    {
        frame.rows = rows;
        frame.tell(Room::Wait, None);
    }
}

/// Whether a utility statement is recorded that runs, nothing else in it: `permissions` belong to it. Only looks.
pub fn is_recording_utility() -> bool {
    FRAMES.try_borrow().is_ok_and(|frames| frames.last().is_some_and(|it| it.is_utility))
}

/// Something that the running utility statement touches, by the permissions it needs.
pub fn permissions(list: *mut pg_sys::List) {
    if !is_recording_utility() {
        return;
    }
    let mut names = Vec::new();
    audited::for_each_permission(list, |touched| names.push(touched.name(redaction::name)));
    add_objects(&names);
}

/// An object that the running utility statement changes.
pub fn object(class: pg_sys::Oid, object: pg_sys::Oid) {
    if FRAMES.with_borrow(|frames| frames.last().is_some_and(|it| it.is_utility && it.packed.len() < 4096))
        && !session::in_any_extension_script()
        && let Some(name) = audited::object_name(class, object)
    {
        add_objects(&[name]);
    }
}

fn add_objects(names: &[impl AsRef<str>]) {
    let more = pack(|packer| {
        for name in names {
            packer.object(name.as_ref().as_bytes());
        }
    });
    FRAMES.with_borrow_mut(|frames| {
        // What came more than once is told once.
        if let Some(frame) = frames.last_mut()
            && !frame.packed.windows(more.len().max(1)).any(|it| it == more)
        {
            frame.packed.extend_from_slice(&more);
        }
    });
    spare(more);
}

/// The running statement calls a function that is an event: of that statement, if it is recorded anyway.
pub(super) fn calls(object: &str) {
    let starting = STARTING.get();
    let is_recorded = FRAMES.with_borrow_mut(|frames| {
        let is_it = |it: &&mut Frame| starting == 0 || it.key == starting && !it.is_utility;
        let frame = frames.last_mut().filter(is_it)?;
        if frame.class == Class::Read {
            frame.class = Class::Function;
        }
        Some(())
    });
    if is_recorded.is_some() {
        return add_objects(&[object]);
    }
    let packed = pack(|packer| {
        packer.text(Field::Event, b"CALL").statement(log::client_text());
        packer.object(object.as_bytes());
    });
    if starting != 0 {
        return push(starting, false, Class::Function, packed);
    }
    // In an expression that is no plan: its statement is not recorded, and says nothing of the outcome.
    emit(Class::Function, Room::Wait, |packer| {
        packer.fields(&packed);
    });
    spare(packed);
}

/// No plan has this address.
const FAST_PATH: usize = 1;

/// A function is called by the fast path.
pub(super) fn fast_path(object: &str) {
    fast_path_is_over(Room::Wait);
    let packed = pack(|packer| {
        packer.text(Field::Event, b"FAST PATH").object(object.as_bytes());
    });
    push(FAST_PATH, false, Class::Function, packed);
    FAST_CALL.set(session::statement_start());
}

/// The client sent something else since: that call went well. No hook tells of its end.
pub(super) fn fast_path_is_over(room: Room) {
    if FAST_CALL.get() != 0
        && FAST_CALL.get() != session::statement_start()
        && let Some(frame) = take(FAST_PATH, false)
    {
        FAST_CALL.set(0);
        frame.tell(room, None);
    }
}

/// Calls `f` with class and fields of the outermost statement, which a failure is about to tell of.
pub fn with_outermost<T>(f: impl FnOnce(Class, &[u8]) -> T) -> Option<T> {
    let mut frames = FRAMES.try_borrow_mut().ok()?;
    let frame = frames.first_mut().filter(|it| !it.is_told)?;
    frame.is_told = true;
    Some(f(frame.class, &frame.packed))
}

/// What failed, failed by this.
pub fn fails(sqlstate: [u8; 5]) {
    fast_path_is_over(Room::Never);
    FAILURE.set(Some(sqlstate));
}

/// A subtransaction is undone: statements that it cut off have failed, and somebody caught that.
pub fn subtransaction_aborts() {
    STARTING.set(0);
    let level = session::nesting();
    while let Some(frame) = FRAMES.with_borrow_mut(|frames| {
        let at = frames.iter().rposition(|it| it.level >= level)?;
        Some(frames.remove(at))
    }) {
        frame.tell(Room::Never, Some(None));
    }
}

/// A transaction is over. A procedure that ends it goes on.
pub fn transaction_ends(is_aborted: bool) {
    STARTING.set(0);
    FAST_CALL.set(0);
    if !is_aborted && FRAMES.with_borrow(Vec::is_empty) {
        return FAILURE.set(None);
    }
    let failure = FAILURE.take();
    let is_silent = is_aborted && failure.is_none() && port::has_client() && log::fails_silently();
    let is_failure = is_aborted && (failure.is_some() || is_silent);
    if is_silent && FRAMES.with_borrow(Vec::is_empty) {
        emit(Class::Session, Room::Never, |packer| {
            packer.text(Field::Event, b"STATEMENT").number(Field::Success, 0);
        });
    }
    while let Some(frame) = FRAMES.with_borrow_mut(|frames| {
        let at = frames.iter().rposition(|it| is_failure || !it.is_utility)?;
        Some(frames.remove(at))
    }) {
        frame.tell(Room::Never, is_failure.then_some(failure));
    }
}

impl Frame {
    /// `failure`: that it failed, and by what as far as that is known.
    fn tell(self, room: Room, failure: Option<Option<[u8; 5]>>) {
        if !self.is_told {
            emit(self.class, room, |packer| {
                packer.fields(&self.packed);
                if let Some(rows) = self.rows {
                    packer.number(Field::Rows, rows);
                }
                packer.number(Field::Success, u64::from(failure.is_none()));
                if let Some(Some(sqlstate)) = failure {
                    packer.text(Field::Sqlstate, &sqlstate);
                }
                if room == Room::Wait && self.class != Class::Read {
                    transaction::xid(packer);
                }
            });
        }
        spare(self.packed);
    }
}

fn push(key: usize, is_utility: bool, class: Class, packed: Vec<u8>) {
    let level = session::nesting();
    let frame = Frame { key, is_utility, class, rows: None, level, packed, is_told: false };
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
}

fn take(key: usize, is_utility: bool) -> Option<Frame> {
    FRAMES.with_borrow_mut(|frames| {
        let at = frames.iter().rposition(|it| it.key == key && it.is_utility == is_utility)?;
        Some(frames.remove(at))
    })
}

/// Fields in a vector that is used again and again.
fn pack(fill: impl FnOnce(&mut Packer)) -> Vec<u8> {
    let mut packed = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    packed.clear();
    // Taken where a name's look-up runs a statement of its own: then this one goes without.
    if let Ok(mut scratch) = SCRATCH.try_borrow_mut() {
        let mut packer = Packer::bare(&mut scratch[..]);
        if let Some(user) = session::other_current_user() {
            packer.text(Field::CurrentUser, user.as_bytes());
        }
        fill(&mut packer);
        packed.extend_from_slice(packer.finish());
    }
    packed
}

fn spare(packed: Vec<u8>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < 8 {
            spare.push(packed);
        }
    });
}
