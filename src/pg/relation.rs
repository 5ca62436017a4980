//! What a statement does with tables, and what indexes on card numbers a table has.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys;

use crate::pg::walk::list;
use crate::pg::{catalog, compat, statement};

/// The relations that a list of permissions lets a statement write.
pub fn written(permissions: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    let writes = pg_sys::ACL_INSERT | pg_sys::ACL_UPDATE | pg_sys::ACL_DELETE | pg_sys::ACL_TRUNCATE;
    // SAFETY: the list that ExecutorCheckPerms_hook gets.
    unsafe {
        list(permissions)
            .map(|node| compat::permission(node))
            .filter(|(relation, required)| {
                *relation != pg_sys::InvalidOid && required & writes as pg_sys::AclMode != 0
            })
            .map(|(relation, _)| relation)
            .collect()
    }
}

/// Whether an index of the relation has a card number among its keys.
pub fn has_pan_index(info: *mut pg_sys::RelOptInfo) -> bool {
    // SAFETY: the planner's own structure, just filled.
    unsafe { list((*info).indexlist).any(|index| is_pan_index(index.cast())) }
}

/// Leaves to indexes on card numbers only bitmap scans, which return rows in the table's order, and none that would
/// skip from card number to card number, but for PostgreSQL's own foreign-key statements.
pub fn forbid_index_order(info: *mut pg_sys::RelOptInfo) {
    // SAFETY: as above; these fields are the planner's copy, not the catalog.
    unsafe {
        if compat::SKIPS_LEADING_COLUMNS && !statement::may_be_foreign_key() {
            let skipping = list((*info).indexlist).filter(|index| may_skip(index.cast())).collect::<Vec<_>>();
            for index in skipping {
                (*info).indexlist = pg_sys::list_delete_ptr((*info).indexlist, index.cast());
            }
        }
        for index in list((*info).indexlist) {
            let index = index.cast::<pg_sys::IndexOptInfo>();
            if is_pan_index(index) {
                (*index).amhasgettuple = false;
                for column in 0..(*index).ncolumns as usize {
                    *(*index).canreturn.add(column) = false;
                }
            }
        }
    }
}

/// # Safety
/// `index` is valid.
unsafe fn may_skip(index: *mut pg_sys::IndexOptInfo) -> bool {
    // SAFETY: by contract; only a column with another one behind it is skipped.
    unsafe {
        (*index).relam == pg_sys::BTREE_AM_OID
            && (0..(*index).nkeycolumns as usize - 1)
                .any(|i| catalog::contains_pan(*(*index).opcintype.add(i)))
    }
}

/// # Safety
/// `index` is valid.
unsafe fn is_pan_index(index: *mut pg_sys::IndexOptInfo) -> bool {
    // SAFETY: by contract.
    unsafe { (0..(*index).nkeycolumns as usize).any(|i| catalog::contains_pan(*(*index).opcintype.add(i))) }
}

thread_local! {
    static CONSTRAINED: RefCell<HashMap<pg_sys::Oid, bool>> = RefCell::new(HashMap::new());
}

/// Whether the relation has a unique index on a card number, or a foreign key from one. Remembered until
/// any relation changes.
pub fn has_pan_constraint(relation: pg_sys::Oid) -> bool {
    if let Some(known) = CONSTRAINED.with_borrow(|map| map.get(&relation).copied()) {
        return known;
    }
    // SAFETY: the statement holds a lock on the relation.
    let found = unsafe { look_for_constraint(relation) };
    CONSTRAINED.with_borrow_mut(|map| map.insert(relation, found));
    found
}

/// Forgets what is remembered of relations.
pub fn forget() {
    CONSTRAINED.with_borrow_mut(HashMap::clear);
}

/// # Safety
/// The relation is locked.
unsafe fn look_for_constraint(oid: pg_sys::Oid) -> bool {
    // SAFETY: by contract; lists and relation are released.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return false;
        }
        let holds_pan = |column: i16| column > 0 && catalog::contains_pan(pg_sys::get_atttype(oid, column));
        let foreign = list(pg_sys::RelationGetFKeyList(relation)).any(|node| {
            let key = &*node.cast::<pg_sys::ForeignKeyCacheInfo>();
            key.conrelid == oid && key.conkey[..key.nkeys as usize].iter().any(|c| holds_pan(*c))
        });
        let indexes = pg_sys::RelationGetIndexList(relation);
        let count = if indexes.is_null() { 0 } else { (*indexes).length as usize };
        let unique = (0..count).any(|i| {
            let index = pg_sys::RelationIdGetRelation((*(*indexes).elements.add(i)).oid_value);
            if index.is_null() {
                return false;
            }
            let form = (*index).rd_index;
            // By the table's columns, for an index may store something else (a hash); an expression (column 0) has
            // only the index's own.
            let columns = (*form).indkey.values.as_ptr();
            let types = (0..(*form).indnkeyatts as usize).any(|k| match *columns.add(k) {
                0 => catalog::contains_pan((*compat::attribute((*index).rd_att, k)).atttypid),
                column => holds_pan(column),
            });
            let found = ((*form).indisunique || (*form).indisexclusion) && types;
            pg_sys::RelationClose(index);
            found
        });
        pg_sys::RelationClose(relation);
        foreign || unique
    }
}
