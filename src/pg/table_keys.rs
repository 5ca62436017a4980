//! What compares the card numbers of a table: indexes, foreign keys, hash partitions, values that hold several of them.
//! Remembered until any relation changes.

use std::cell::RefCell;

use pgrx::pg_sys;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::pg::local::Local;
use crate::pg::nodes::{list, oids};
use crate::pg::{activity, audited, catalog, compat, partition};

/// The keys of a relation that a card number is part of.
#[derive(Clone, Default, Debug)]
struct Keys {
    /// Whether what is written is compared so that it shows: by a unique index or exclusion constraint, by a foreign
    /// key from it, by the choice of a hash partition.
    shows: bool,
    /// Whether it is compared at all: by any index, or by what compresses a value with several of them.
    compares: bool,
    /// The columns that stand beside a card number in a foreign key or the key of hash partitions.
    beside: Vec<i32>,
    /// Where another partition of the same table compares more: the columns by which a row may move there.
    leads: Vec<i32>,
}

static KEYS: Local<RefCell<FxHashMap<pg_sys::Oid, Keys>>> =
    Local::new(RefCell::new(FxHashMap::with_hasher(FxBuildHasher)));
// Of each partitioned table that is itself no partition: whether anything in it is compared so that it shows, or at all.
static TREES: Local<RefCell<FxHashMap<pg_sys::Oid, (bool, bool)>>> =
    Local::new(RefCell::new(FxHashMap::with_hasher(FxBuildHasher)));

/// Whether a card number that is written to the relation, or to one of its partitions, is compared with others so that
/// who writes can see it. Remembered until any relation changes.
pub fn compares_written(relation: pg_sys::Oid) -> bool {
    with_keys(relation, |keys| keys.shows)
}

/// Whether it is compared at all.
pub fn has_pan_key(relation: pg_sys::Oid) -> bool {
    with_keys(relation, |keys| keys.shows || keys.compares)
}

/// Whether a card number is part of no key of it, nor of another partition of the same table.
pub fn are_without_pan(relation: pg_sys::Oid) -> bool {
    with_keys(relation, |keys| !keys.shows && !keys.compares && keys.leads.is_empty())
}

/// Whether the column decides, together with a card number, what is referred to, or in which partition a row is.
pub fn shares_key_with_pan(relation: pg_sys::Oid, column: i32) -> bool {
    with_keys(relation, |keys| keys.beside.contains(&column))
}

/// Whether the column may take a row from a partition where nothing is compared to another one.
pub fn leads_to_pan_key(relation: pg_sys::Oid, column: i32) -> bool {
    with_keys(relation, |keys| keys.leads.contains(&column))
}

/// Whether an index has a card number among its keys.
pub fn is_index_over_pan(index: pg_sys::Oid) -> bool {
    // SAFETY: an index of a table that the statement has locked.
    unsafe {
        let table = pg_sys::RelationIdGetRelation(pg_sys::IndexGetRelation(index, true));
        if table.is_null() {
            return false;
        }
        let found = pan_index(table, index).is_some();
        pg_sys::RelationClose(table);
        found
    }
}

/// Forgets what is remembered of relations.
pub fn forget() {
    KEYS.with_borrow_mut(FxHashMap::clear);
    audited::forget();
    TREES.with_borrow_mut(FxHashMap::clear);
    activity::relation_changes();
}

fn with_keys<T>(relation: pg_sys::Oid, f: impl FnOnce(&Keys) -> T) -> T {
    if !KEYS.with_borrow(|map| map.contains_key(&relation)) {
        // SAFETY: the statement holds a lock on the relation.
        let found = unsafe { look_for_keys(relation) };
        KEYS.with_borrow_mut(|map| map.insert(relation, found));
    }
    KEYS.with_borrow(|map| f(map.get(&relation).unwrap_or(&Keys::default())))
}

/// # Safety
/// The relation is locked.
unsafe fn look_for_keys(oid: pg_sys::Oid) -> Keys {
    // SAFETY: by contract.
    let (mut keys, children) = unsafe { own_keys(oid) };
    for child in children {
        with_keys(child, |below| {
            keys.shows |= below.shows;
            keys.compares |= below.compares;
            keys.beside.extend(&below.beside);
        });
    }
    // A card number itself is judged by what is written to it.
    // SAFETY: a syscache look-up.
    keys.beside.retain(|column| !unsafe { column_holds_pan(oid, *column as i16) });
    // What has a unique key has only what was typed there. Another index may have been made over what was copied.
    if !keys.shows {
        // SAFETY: by contract.
        keys.leads = unsafe { leads(oid, keys.compares) };
    }
    keys
}

/// # Safety
/// The relation is locked.
unsafe fn leads(oid: pg_sys::Oid, compares: bool) -> Vec<i32> {
    // SAFETY: by contract; the relation is released.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return Vec::new();
        }
        let (shows, any) = partition::root(relation).map(compared_in_tree).unwrap_or_default();
        let leads = shows || (any && !compares);
        let columns = if leads { partition::routing_columns(relation) } else { Vec::new() };
        pg_sys::RelationClose(relation);
        columns.into_iter().map(i32::from).collect()
    }
}

/// Whether a card number is compared in a table or any of its partitions: so that it shows, or at all.
fn compared_in_tree(root: pg_sys::Oid) -> (bool, bool) {
    if let Some(known) = TREES.with_borrow(|map| map.get(&root).copied()) {
        return known;
    }
    // SAFETY: a partition that is dropped meanwhile is none any more.
    let (keys, children) = unsafe { own_keys(root) };
    let own = (keys.shows, keys.shows || keys.compares);
    let below = children.into_iter().map(compared_in_tree);
    let found = below.fold(own, |(shows, any), below| (shows || below.0, any || below.1));
    TREES.with_borrow_mut(|map| map.insert(root, found));
    found
}

/// The keys of a relation without those of its partitions, and which those are.
///
/// # Safety
/// The relation is locked.
unsafe fn own_keys(oid: pg_sys::Oid) -> (Keys, Vec<pg_sys::Oid>) {
    let mut keys = Keys::default();
    // SAFETY: by contract; lists and relations are released.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return (keys, Vec::new());
        }
        for node in list(pg_sys::RelationGetFKeyList(relation)) {
            let key = &*node.cast::<pg_sys::ForeignKeyCacheInfo>();
            let columns = &key.conkey[..key.nkeys as usize];
            if key.conrelid == oid && columns.iter().any(|c| column_holds_pan(oid, *c)) {
                keys.shows = true;
                keys.beside.extend(columns.iter().map(|column| i32::from(*column)));
            }
        }
        if partition::is_routed_by_hash(relation) {
            keys.shows = true;
            keys.beside.extend(partition::key_columns(relation).into_iter().map(i32::from));
        }
        for index in oids(pg_sys::RelationGetIndexList(relation)) {
            let shows = pan_index(relation, index);
            keys.compares |= shows.is_some();
            // What is unique beside a card number stays open: that it is taken is counted.
            keys.shows |= shows == Some(true);
        }
        keys.compares |= columns(relation).any(|column| catalog::is_container((*column).atttypid));
        let children = partition::children(relation);
        pg_sys::RelationClose(relation);
        (keys, children)
    }
}

/// Whether an index that has a card number among its keys is unique or an exclusion constraint; None for others.
///
/// # Safety
/// `relation` is open, `index` is one of its.
unsafe fn pan_index(relation: pg_sys::Relation, index: pg_sys::Oid) -> Option<bool> {
    // SAFETY: by contract; the index is released.
    unsafe {
        let index = pg_sys::RelationIdGetRelation(index);
        if index.is_null() {
            return None;
        }
        let form = (*index).rd_index;
        // By the table's columns, for an index may store something else (a hash); an expression (column 0) has only the
        // index's own.
        let columns = (*form).indkey.values.as_ptr();
        let holds_pan = (0..(*form).indnkeyatts as usize).any(|k| match *columns.add(k) {
            0 => catalog::contains_pan((*compat::attribute((*index).rd_att, k)).atttypid),
            column => column_holds_pan((*relation).rd_id, column),
        });
        let shows = (*form).indisunique || (*form).indisexclusion;
        pg_sys::RelationClose(index);
        holds_pan.then_some(shows)
    }
}

/// The columns of a relation.
///
/// # Safety
/// `relation` is open, for as long as the iterator is used.
unsafe fn columns(relation: pg_sys::Relation) -> impl Iterator<Item = *const pg_sys::FormData_pg_attribute> {
    // SAFETY: by contract.
    unsafe {
        let descriptor = (*relation).rd_att;
        (0..(*descriptor).natts as usize)
            .map(move |i| compat::attribute(descriptor, i))
            .filter(|column| !(**column).attisdropped)
    }
}

/// # Safety
/// The relation is locked.
unsafe fn column_holds_pan(relation: pg_sys::Oid, column: i16) -> bool {
    // SAFETY: a syscache look-up.
    column > 0 && unsafe { catalog::contains_pan(pg_sys::get_atttype(relation, column)) }
}
