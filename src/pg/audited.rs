//! What a statement is and touches, for the record of it.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char};
use std::rc::Rc;

use pgrx::pg_sys;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::pg::local::Local;
use crate::pg::nodes::list;
use crate::pg::{catalog, compat, label, log, session};

/// Whether a relation is always recorded.
type Recorded = (Stamp, bool);

/// The name of a relation.
type Name = (Stamp, Rc<str>);
/// Names of relations with the columns that statements touch, until anything changes that they are made of.
type Names = FxHashMap<Columns, Rc<str>>;

static NAMES: Local<RefCell<(u64, Names)>> =
    Local::new(RefCell::new((0, FxHashMap::with_hasher(FxBuildHasher))));
// Of those without columns, at a place that the relation's number tells: nearly all statements ask for these.
static PLAIN: Local<[RefCell<Option<Name>>; 64]> = Local::new([const { RefCell::new(None) }; 64]);
static HOLDS: Local<RefCell<FxHashMap<pg_sys::Oid, bool>>> =
    Local::new(RefCell::new(FxHashMap::with_hasher(FxBuildHasher)));
// What every statement asks of what it touches, at a place that its number tells.
static RECORDED: Local<[Cell<Recorded>; 256]> = Local::new([const { Cell::new((Stamp::NONE, false)) }; 256]);
static FORGOTTEN: Local<Cell<u64>> = Local::new(Cell::new(0));
static LABELLED: Local<RefCell<FxHashMap<pg_sys::Oid, bool>>> =
    Local::new(RefCell::new(FxHashMap::with_hasher(FxBuildHasher)));

/// Forgets what is remembered of relations.
pub fn forget() {
    NAMES.with_borrow_mut(|names| names.1.clear());
    HOLDS.with_borrow_mut(FxHashMap::clear);
    LABELLED.with_borrow_mut(FxHashMap::clear);
    FORGOTTEN.set(FORGOTTEN.get() + 1);
}

/// A relation and its columns, to be looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Columns {
    relation: pg_sys::Oid,
    sets: [[pg_sys::bitmapword; Columns::WORDS]; 3],
}

impl Columns {
    /// Enough for about 120 columns; what has more is not remembered.
    const WORDS: usize = 2;

    fn new(relation: pg_sys::Oid, sets: [*mut pg_sys::Bitmapset; 3]) -> Option<Columns> {
        let mut found = [[0; Columns::WORDS]; 3];
        for (set, words) in sets.into_iter().zip(&mut found) {
            // SAFETY: a set of the statement's with so many words, or null.
            unsafe {
                let Some(set) = set.as_ref() else { continue };
                let place = words.get_mut(..set.nwords as usize)?;
                place.copy_from_slice(set.words.as_slice(place.len()));
            }
        }
        Some(Columns { relation, sets: found })
    }
}

/// Whether a row of the relation holds card numbers. Remembered until any relation changes.
pub fn holds_pan(relation: pg_sys::Oid) -> bool {
    // Those of the system never do, and every statement asks.
    if is_always_recorded_if_known(relation) == Some(false) || catalog::get().is_none() {
        return false;
    }
    if let Some(known) = HOLDS.with_borrow(|map| map.get(&relation).copied()) {
        return known;
    }
    // SAFETY: a syscache look-up.
    let found = catalog::contains_pan(unsafe { pg_sys::get_rel_type_id(relation) });
    HOLDS.with_borrow_mut(|map| map.insert(relation, found));
    found
}

/// Whether whoever touches a relation is recorded, for everybody: it holds card numbers, or a label of it says so.
pub fn is_always_recorded(relation: pg_sys::Oid) -> bool {
    if let Some(known) = is_always_recorded_if_known(relation) {
        return known;
    }
    let found = holds_pan(relation) || is_labelled(relation);
    RECORDED[place_of(relation)].set((Stamp::of(relation), found));
    found
}

/// The same, if it is known already. Only looks.
pub fn is_always_recorded_if_known(relation: pg_sys::Oid) -> Option<bool> {
    if relation.to_u32() < pg_sys::FirstNormalObjectId {
        return Some(false);
    }
    let (of, found) = RECORDED[place_of(relation)].get();
    (of == Stamp::of(relation)).then_some(found)
}

/// What is remembered of a relation holds as long as this stays the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    relation: u32,
    generation: u64,
    forgotten: u64,
}

impl Stamp {
    /// No relation's.
    pub const NONE: Self = Self { relation: 0, generation: 0, forgotten: 0 };

    /// That of now.
    pub fn of(relation: pg_sys::Oid) -> Self {
        let (generation, forgotten) = (catalog::generation(), FORGOTTEN.get());
        Self { relation: relation.to_u32(), generation, forgotten }
    }
}

fn place_of(relation: pg_sys::Oid) -> usize {
    relation.to_u32() as usize % RECORDED.len()
}

fn is_labelled(relation: pg_sys::Oid) -> bool {
    if let Some(known) = LABELLED.with_borrow(|map| map.get(&relation).copied()) {
        return known;
    }
    // From here on it is told of changes.
    catalog::generation();
    let found = session::can_read_catalog() && label::is_audited(relation);
    LABELLED.with_borrow_mut(|map| map.insert(relation, found));
    found
}

/// A relation and what a statement does with it.
pub struct Touched {
    /// The relation.
    pub relation: pg_sys::Oid,
    columns: [*mut pg_sys::Bitmapset; 3],
}

impl Touched {
    /// `schema.table`, with its columns if it holds card numbers; as `write` writes it, always the same, which is
    /// remembered.
    pub fn name(&self, write: fn(String) -> String) -> Rc<str> {
        if is_always_recorded(self.relation) {
            return self.name_of_any(write);
        }
        let (stamp, place) =
            (Stamp::of(self.relation), &PLAIN[self.relation.to_u32() as usize % PLAIN.len()]);
        if let Some((of, name)) = &*place.borrow()
            && *of == stamp
        {
            return name.clone();
        }
        let name: Rc<str> = write(relation_name(self.relation)).into();
        place.replace(Some((stamp, name.clone())));
        name
    }

    fn name_of_any(&self, write: fn(String) -> String) -> Rc<str> {
        let columns = if holds_pan(self.relation) { self.columns } else { [std::ptr::null_mut(); 3] };
        let key = Columns::new(self.relation, columns);
        let generation = catalog::generation();
        let known = NAMES.with_borrow_mut(|(of, names)| {
            if *of != generation {
                (*of, _) = (generation, names.clear());
            }
            key.and_then(|key| names.get(&key).cloned())
        });
        known.unwrap_or_else(|| {
            let name: Rc<str> = write(name_with(self.relation, columns)).into();
            if let Some(key) = key {
                NAMES.with_borrow_mut(|(_, names)| {
                    if names.len() >= REMEMBERED {
                        names.clear();
                    }
                    names.insert(key, name.clone());
                });
            }
            name
        })
    }
}

/// How many names are remembered: a session can touch any combination of columns.
const REMEMBERED: usize = 4096;

fn name_with(relation: pg_sys::Oid, sets: [*mut pg_sys::Bitmapset; 3]) -> String {
    let mut name = relation_name(relation);
    let mut columns: Vec<i32> = Vec::new();
    for set in sets {
        let mut member = -1;
        loop {
            // SAFETY: a set of the statement's, or null.
            member = unsafe { pg_sys::bms_next_member(set, member) };
            if member < 0 {
                break;
            }
            columns.push(member + pg_sys::FirstLowInvalidHeapAttributeNumber);
        }
    }
    columns.sort_unstable();
    columns.dedup();
    for (i, column) in columns.iter().enumerate() {
        name.push(if i == 0 { '(' } else { ',' });
        // SAFETY: a syscache look-up, missing_ok.
        let column = match *column {
            0 => "*".into(),
            // SAFETY: missing_ok; a palloc'd string or null.
            _ => text(unsafe { pg_sys::get_attname(relation, *column as i16, true) }),
        };
        name.push_str(&column);
    }
    if !columns.is_empty() {
        name.push(')');
    }
    name
}

/// Whether a plan is known to touch nothing that is always recorded. Only looks.
pub fn touches_nothing_recorded(desc: *mut pg_sys::QueryDesc) -> bool {
    let mut all = true;
    for_each_touched(desc, |touched| all &= is_always_recorded_if_known(touched.relation) == Some(false));
    all
}

/// The relations of a statement, views and what is behind them both.
pub fn for_each_touched(desc: *mut pg_sys::QueryDesc, f: impl FnMut(Touched)) {
    // SAFETY: a valid descriptor.
    unsafe { for_each_permission(compat::permissions((*desc).plannedstmt), f) }
}

/// The relations of a list that ExecutorCheckPerms_hook gets.
pub fn for_each_permission(permissions: *mut pg_sys::List, mut f: impl FnMut(Touched)) {
    // SAFETY: such a list.
    unsafe {
        for node in list(permissions) {
            if let Some((relation, columns)) = compat::permission_columns(node) {
                f(Touched { relation, columns });
            }
        }
    }
}

/// `schema.name` of a relation.
fn relation_name(relation: pg_sys::Oid) -> String {
    // SAFETY: syscache look-ups; the results are palloc'd strings or null.
    unsafe {
        let schema = text(pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation)));
        let name = text(pg_sys::get_rel_name(relation));
        if name.is_empty() { relation.to_u32().to_string() } else { format!("{schema}.{name}") }
    }
}

/// Kind and qualified name of an object; None where it cannot be seen (yet).
pub fn object_name(class: pg_sys::Oid, object: pg_sys::Oid) -> Option<String> {
    // Object access names those whose identity these functions know, and shared ones of other kinds.
    if object == pg_sys::InvalidOid {
        return None;
    }
    let address = pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
    // SAFETY: missing_ok; the results are palloc'd strings or null.
    unsafe {
        if !pg_sys::is_objectclass_supported(class) {
            return None;
        }
        let identity = pg_sys::getObjectIdentity(&raw const address, true);
        let kind = pg_sys::getObjectTypeDescription(&raw const address, true);
        (!identity.is_null() && !kind.is_null()).then(|| format!("{} {}", text(kind), text(identity)))
    }
}

/// The part of a text that is the statement's own.
pub fn statement_text<'a>(source: *const c_char, plan: *mut pg_sys::PlannedStmt) -> &'a [u8] {
    if source.is_null() {
        return &[];
    }
    // SAFETY: a C string that lives as long as the statement; location and length are within it, or mean all.
    unsafe {
        let whole = CStr::from_ptr(source).to_bytes();
        let (at, len) = if plan.is_null() { (-1, 0) } else { ((*plan).stmt_location, (*plan).stmt_len) };
        let rest = usize::try_from(at).ok().and_then(|at| whole.get(at..)).unwrap_or(whole);
        match usize::try_from(len) {
            Ok(len) if len > 0 && len <= rest.len() => &rest[..len],
            _ => rest,
        }
        .trim_ascii_start()
    }
}

/// Text, operation and rows of a query that is executed.
pub fn source<'a>(desc: *mut pg_sys::QueryDesc) -> &'a [u8] {
    // SAFETY: a valid descriptor.
    unsafe { statement_text((*desc).sourceText, (*desc).plannedstmt) }
}

/// Whether that is what the client sent.
pub fn is_from_client(desc: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: a valid descriptor.
    log::is_client_text(unsafe { (*desc).sourceText })
}

/// Rows that the last run processed.
pub fn rows_of_run(desc: *mut pg_sys::QueryDesc) -> u64 {
    // SAFETY: a valid descriptor.
    unsafe { (*desc).estate.as_ref().map_or(0, |state| state.es_processed) }
}

/// What it does, as a command tag.
pub fn command(desc: *mut pg_sys::QueryDesc) -> &'static [u8] {
    use pg_sys::CmdType as C;
    // SAFETY: a valid descriptor.
    match unsafe { (*desc).operation } {
        C::CMD_INSERT => b"INSERT",
        C::CMD_UPDATE => b"UPDATE",
        C::CMD_DELETE => b"DELETE",
        #[allow(unreachable_patterns, reason = "bound as constants")]
        C::CMD_MERGE => merge(desc),
        _ => b"SELECT",
    }
}

/// What a MERGE may do, by the privileges that it needs.
fn merge(desc: *mut pg_sys::QueryDesc) -> &'static [u8] {
    // SAFETY: a valid descriptor.
    let bits = unsafe {
        list(compat::permissions((*desc).plannedstmt)).fold(0, |bits, it| bits | compat::permission_bits(it))
    };
    let may = |bit: u32| bits & pg_sys::AclMode::from(bit) != 0;
    match (may(pg_sys::ACL_INSERT), may(pg_sys::ACL_UPDATE), may(pg_sys::ACL_DELETE)) {
        (true, true, true) => b"MERGE INSERT UPDATE DELETE",
        (true, true, false) => b"MERGE INSERT UPDATE",
        (true, false, true) => b"MERGE INSERT DELETE",
        (true, false, false) => b"MERGE INSERT",
        (false, true, true) => b"MERGE UPDATE DELETE",
        (false, true, false) => b"MERGE UPDATE",
        (false, false, true) => b"MERGE DELETE",
        (false, false, false) => b"MERGE",
    }
}

/// Whether it is only explained.
pub fn is_only_explained(flags: i32) -> bool {
    flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0
}

/// A C string's text; empty for null.
pub fn text(text: *const c_char) -> String {
    // SAFETY: a C string or null.
    if text.is_null() {
        String::new()
    } else {
        // SAFETY: by the caller: a C string.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}
