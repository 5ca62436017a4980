//! The objects of the extension in this database by OID, looked up once and again after DDL.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use pgrx::pg_sys;

use crate::pg::facts::{self, About};
use crate::pg::functions::Functions;
use crate::pg::local::Local;
use crate::pg::{session, types};
pub use types::{contains_pan, is_container, is_pan};

/// The schema of every object of ours.
pub const SCHEMA: &str = "pci";
/// Operators are found by search_path, and applications that know nothing of us have no `pci` in theirs.
const OPERATOR_NAMESPACE: u32 = pg_sys::PG_CATALOG_NAMESPACE;
const OPERATORS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// What the hooks must know of this database. Every session looks for the type; the rest is looked up when it is needed.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Schema `pci`.
    pub namespace: pg_sys::Oid,
    /// Type `pci.pan`.
    pub pan: pg_sys::Oid,
    parts: OnceCell<Parts>,
}

#[derive(Clone, Debug)]
struct Parts {
    /// The operators in the order of `OPERATORS`: (pan, pan), (pan, text), (text, pan) of each.
    operators: [[pg_sys::Oid; 3]; OPERATORS.len()],
    functions: Functions,
    /// What stands behind the operators.
    comparisons: Vec<pg_sys::Oid>,
    /// Tables, in the order of `TABLES`.
    tables: [pg_sys::Oid; TABLES.len()],
}

/// First the index of the grants, which no query names: what a plan that compares card numbers depends on.
const TABLES: [&str; 8] = [
    "access_grant_pkey",
    "installation",
    "vault",
    "key",
    "key_event",
    "request",
    "reencryption",
    "access_grant",
];

impl Catalog {
    fn parts(&self) -> &Parts {
        // SAFETY: where a catalog is held, the syscache can be read.
        self.parts.get_or_init(|| unsafe { Parts::look_up(self.namespace, self.pan) })
    }

    /// Functions that a query is searched for.
    pub fn functions(&self) -> &Functions {
        &self.parts().functions
    }

    /// Table `pci.<name>`.
    pub fn table(&self, name: &str) -> pg_sys::Oid {
        TABLES.iter().position(|t| *t == name).map_or(pg_sys::InvalidOid, |i| self.parts().tables[i])
    }

    /// What a plan that compares card numbers depends on, so that it is made anew when a grant changes.
    pub fn mark(&self) -> pg_sys::Oid {
        self.parts().tables[0]
    }

    /// Whether a function is in our schema, where nobody else puts any.
    pub fn is_ours(&self, function: pg_sys::Oid) -> bool {
        // SAFETY: a syscache look-up.
        unsafe { pg_sys::get_func_namespace(function) == self.namespace }
    }

    /// Whether it is one of the tables that only our own functions may change.
    pub fn is_protected_table(&self, relation: pg_sys::Oid) -> bool {
        self.parts().tables.contains(&relation)
    }

    /// The tables that only our own functions may change.
    pub fn protected_tables(&self) -> impl Iterator<Item = pg_sys::Oid> {
        TABLES
            .iter()
            .zip(self.parts().tables)
            .filter(|(name, _)| !name.ends_with("_pkey"))
            .map(|(_, oid)| oid)
    }

    /// Whether the operator compares card numbers.
    pub fn is_pan_operator(&self, operator: pg_sys::Oid) -> bool {
        operator != pg_sys::InvalidOid
            && self.parts().operators.iter().flatten().any(|ours| *ours == operator)
    }

    /// Whether the function is what stands behind such an operator.
    pub fn is_comparison(&self, function: pg_sys::Oid) -> bool {
        function.to_u32() >= pg_sys::FirstNormalObjectId && self.parts().comparisons.contains(&function)
    }

    /// The operator that compares two card numbers as this one compares a card number with text.
    pub fn operator_of_pans(&self, with_text: pg_sys::Oid) -> Option<pg_sys::Oid> {
        let row = self.parts().operators.iter().find(|row| row[1..].contains(&with_text))?;
        (with_text != pg_sys::InvalidOid && row[0] != pg_sys::InvalidOid).then_some(row[0])
    }
}

// None: not looked up; Some(None): the extension is not in this database.
static CATALOG: Local<RefCell<Option<Option<std::rc::Rc<Catalog>>>>> = Local::new(RefCell::new(None));
static REGISTERED: Local<Cell<bool>> = Local::new(Cell::new(false));

// Of this backend alone, as everything in this module: static because they are asked several times a statement.
// Something changed, or was replayed, while changes were being decoded.
static MISSED: AtomicBool = AtomicBool::new(false);
static GENERATION: AtomicU64 = AtomicU64::new(0);
// Twice the generation at which it was seen whether the extension is in this database, one more if it is not.
static PRESENCE: AtomicU64 = AtomicU64::new(0);

/// Changes whenever something that a cached decision rests on may have changed: our tables, roles, memberships.
pub fn generation() -> u64 {
    if MISSED.load(Relaxed) && !session::is_decoding() {
        MISSED.store(false, Relaxed);
        reset();
    }
    // 0: this backend has not asked to be told yet.
    match GENERATION.load(Relaxed) {
        0 => {
            register();
            bump();
            GENERATION.load(Relaxed)
        }
        generation => generation,
    }
}

/// Whether the extension is known not to be in this database. Only looks, and never raises: for hooks, whose work it
/// spares every statement.
pub fn is_known_absent() -> bool {
    let generation = GENERATION.load(Relaxed);
    generation != 0 && PRESENCE.load(Relaxed) == 2 * generation + 1 && !MISSED.load(Relaxed)
}

/// Whether it is known to be there. Only looks.
pub fn is_known_present() -> bool {
    let generation = GENERATION.load(Relaxed);
    generation != 0 && PRESENCE.load(Relaxed) == 2 * generation && !MISSED.load(Relaxed)
}

/// Whether the extension is not in this database, or cannot be looked for now.
pub fn is_absent() -> bool {
    let generation = generation();
    match PRESENCE.load(Relaxed).wrapping_sub(2 * generation) {
        0 => false,
        1 => true,
        _ if !session::can_read_catalog() => true,
        _ => {
            let absent = get().is_none();
            PRESENCE.store(2 * self::generation() + u64::from(absent), Relaxed);
            absent
        }
    }
}

/// Tells every session (on standbys too), once this transaction commits, that a table of ours changed.
/// Plans that depend on it are made anew.
pub fn changed(table: &str) {
    if let Some(catalog) = get() {
        // SAFETY: relations that exist.
        unsafe {
            pg_sys::CacheInvalidateRelcacheByRelid(catalog.table(table));
            pg_sys::CacheInvalidateRelcacheByRelid(catalog.mark());
        }
    }
    bump();
}

/// The extension's objects in this database, or None where it is not created or cannot be read now.
pub fn get() -> Option<std::rc::Rc<Catalog>> {
    if let Some(known) = CATALOG.with_borrow(Clone::clone) {
        return known;
    }
    // pg_upgrade makes our objects one by one: until it is done there is nothing to rely on, nor any data.
    if !session::can_read_catalog() || session::is_upgrading() {
        return None;
    }
    register();
    let found = look_up().map(std::rc::Rc::new);
    CATALOG.set(Some(found.clone()));
    found
}

/// By another session's reading where nothing has changed since.
fn look_up() -> Option<Catalog> {
    let (database, mut room) = (session::database(), [0; facts::ROOM]);
    if let Some(known) = facts::recall(About::Objects, database, &mut room) {
        let (numbers, _) = known.as_chunks::<4>();
        let [namespace, pan] = numbers else { return None };
        let [namespace, pan] = [namespace, pan].map(|it| pg_sys::Oid::from(u32::from_ne_bytes(*it)));
        return Some(Catalog { namespace, pan, parts: OnceCell::new() });
    }
    let moment = facts::moment();
    let found = read();
    if let Some(moment) = moment {
        let numbers = found.as_ref().map(|it| [it.namespace, it.pan].map(|it| it.to_u32().to_ne_bytes()));
        facts::learn(moment, About::Objects, database, numbers.as_ref().map_or(&[], |it| it.as_flattened()));
    }
    found
}

fn read() -> Option<Catalog> {
    let schema = CString::new(SCHEMA).ok()?;
    // SAFETY: syscache look-ups, all with missing_ok.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        if namespace == pg_sys::InvalidOid {
            return None;
        }
        let pan = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as _,
            pg_sys::Anum_pg_type_oid as _,
            pg_sys::Datum::from(c"pan".as_ptr()),
            pg_sys::Datum::from(namespace),
            pg_sys::Datum::from(0usize),
            pg_sys::Datum::from(0usize),
        );
        if pan == pg_sys::InvalidOid {
            return None;
        }
        Some(Catalog { namespace, pan, parts: OnceCell::new() })
    }
}

impl Parts {
    /// # Safety
    /// Called where the syscache can be read.
    unsafe fn look_up(namespace: pg_sys::Oid, pan: pg_sys::Oid) -> Self {
        // SAFETY: syscache look-ups, all with missing_ok.
        unsafe {
            let sides = [(pan, pan), (pan, pg_sys::TEXTOID), (pg_sys::TEXTOID, pan)];
            let operators = OPERATORS.map(|name| sides.map(|(left, right)| operator(name, left, right)));
            let tables = TABLES.map(|name| {
                let name = CString::new(name).unwrap_or_default();
                pg_sys::get_relname_relid(name.as_ptr(), namespace)
            });
            let behind = operators.iter().flatten().filter(|operator| **operator != pg_sys::InvalidOid);
            let comparisons = behind.map(|operator| pg_sys::get_opcode(*operator)).collect();
            let functions = Functions::look_up(pan);
            Self { operators, functions, comparisons, tables }
        }
    }
}

/// # Safety
/// Called where the syscache can be read.
unsafe fn operator(name: &str, left: pg_sys::Oid, right: pg_sys::Oid) -> pg_sys::Oid {
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: by contract.
    unsafe {
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::OPERNAMENSP as _,
            pg_sys::Anum_pg_operator_oid as _,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(left),
            pg_sys::Datum::from(right),
            pg_sys::Datum::from(OPERATOR_NAMESPACE),
        )
    }
}

fn register() {
    if REGISTERED.replace(true) {
        return;
    }
    // SAFETY: registered once a backend; the callback only drops caches.
    unsafe {
        for cache in [
            pg_sys::SysCacheIdentifier::NAMESPACEOID,
            pg_sys::SysCacheIdentifier::TYPEOID,
            pg_sys::SysCacheIdentifier::OPEROID,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(cache as _, Some(forget), pg_sys::Datum::from(0usize));
        }
        for cache in [pg_sys::SysCacheIdentifier::AUTHMEMMEMROLE, pg_sys::SysCacheIdentifier::AUTHOID] {
            pg_sys::CacheRegisterSyscacheCallback(
                cache as _,
                Some(changed_role),
                pg_sys::Datum::from(0usize),
            );
        }
        pg_sys::CacheRegisterRelcacheCallback(Some(changed_relation), pg_sys::Datum::from(0usize));
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    if !defer() {
        reset();
    }
}

/// Decoding replays the invalidations of old transactions, and nothing can be read while it runs: what is known
/// stays until it is over. `pci.revoke_access` ends sessions that go on decoding.
fn defer() -> bool {
    let decoding = session::is_decoding();
    if decoding {
        MISSED.store(true, Relaxed);
    }
    decoding
}

fn reset() {
    bump();
    CATALOG.set(None);
    types::forget();
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn changed_role(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    if !defer() {
        bump();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn changed_relation(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    crate::pg::table_keys::forget();
    // A table's or composite type's columns may have changed, and with them what its rows hold.
    types::forget();
    let ours = CATALOG.with_borrow(|c| match c {
        // Nothing can be looked up here.
        Some(Some(catalog)) => {
            relation == pg_sys::InvalidOid
                || catalog.parts.get().is_none_or(|parts| parts.tables.contains(&relation))
        }
        _ => true,
    });
    if ours && !defer() {
        bump();
    }
}

fn bump() {
    GENERATION.fetch_add(1, Relaxed);
}
