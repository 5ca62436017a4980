//! What a statement does with tables, and what indexes on card numbers a table has.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys;

use crate::pg::nodes::{list, oids};
use crate::pg::{catalog, compat, partition, statement};

/// Calls `f` with each relation that a list of permissions lets a statement write.
pub fn for_each_written(permissions: *mut pg_sys::List, mut f: impl FnMut(pg_sys::Oid)) {
    let writes = pg_sys::ACL_INSERT | pg_sys::ACL_UPDATE | pg_sys::ACL_DELETE | pg_sys::ACL_TRUNCATE;
    // SAFETY: the list that ExecutorCheckPerms_hook gets.
    unsafe {
        for node in list(permissions) {
            let (relation, required) = compat::permission(node);
            if relation != pg_sys::InvalidOid && required & writes as pg_sys::AclMode != 0 {
                f(relation);
            }
        }
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
    static COMPARES: RefCell<HashMap<pg_sys::Oid, bool>> = RefCell::new(HashMap::new());
}

/// Whether a card number that is written to the relation is compared with others: by a unique index or exclusion
/// constraint, by a foreign key from it, by the choice of a hash partition; here or in a partition. Remembered until
/// any relation changes.
pub fn compares_written(relation: pg_sys::Oid) -> bool {
    if let Some(known) = COMPARES.with_borrow(|map| map.get(&relation).copied()) {
        return known;
    }
    // SAFETY: the statement holds a lock on the relation.
    let found = unsafe { look_for_comparison(relation) };
    COMPARES.with_borrow_mut(|map| map.insert(relation, found));
    found
}

/// Forgets what is remembered of relations.
pub fn forget() {
    COMPARES.with_borrow_mut(HashMap::clear);
    crate::pg::audited::forget();
}

/// Whether the relation has no rows, and never had any since it was made or emptied.
pub fn is_empty(oid: pg_sys::Oid) -> bool {
    // SAFETY: the relation is locked by the statement, or by us for the moment.
    unsafe {
        let relation = pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return true;
        }
        let own = match (*(*relation).rd_rel).relkind as u8 {
            pg_sys::RELKIND_RELATION | pg_sys::RELKIND_MATVIEW | pg_sys::RELKIND_TOASTVALUE => {
                pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM) == 0
            }
            pg_sys::RELKIND_PARTITIONED_TABLE => true,
            _ => false,
        };
        let children = partition::children(relation);
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        own && children.into_iter().all(is_empty)
    }
}

/// # Safety
/// The relation is locked.
unsafe fn look_for_comparison(oid: pg_sys::Oid) -> bool {
    // SAFETY: by contract; lists and relations are released.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return false;
        }
        let foreign = list(pg_sys::RelationGetFKeyList(relation)).any(|node| {
            let key = &*node.cast::<pg_sys::ForeignKeyCacheInfo>();
            key.conrelid == oid && key.conkey[..key.nkeys as usize].iter().any(|c| column_holds_pan(oid, *c))
        });
        let own = foreign || partition::is_routed_by_hash(relation) || has_unique_index(relation, None);
        let children = partition::children(relation);
        pg_sys::RelationClose(relation);
        own || children.into_iter().any(compares_written)
    }
}

/// Whether a column and a card number are keys of the same unique index or exclusion constraint.
pub fn shares_unique_index_with_pan(oid: pg_sys::Oid, column: i16) -> bool {
    // SAFETY: the relation is released.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return false;
        }
        let found = has_unique_index(relation, Some(column));
        pg_sys::RelationClose(relation);
        found
    }
}

/// Whether a unique index or an exclusion constraint compares card numbers (together with the column, if one is named;
/// an expression may be of any).
///
/// # Safety
/// `relation` is open.
unsafe fn has_unique_index(relation: pg_sys::Relation, with: Option<i16>) -> bool {
    // SAFETY: by contract; the indexes are released.
    unsafe {
        let indexes = pg_sys::RelationGetIndexList(relation);
        oids(indexes).any(|index| {
            let index = pg_sys::RelationIdGetRelation(index);
            if index.is_null() {
                return false;
            }
            let form = (*index).rd_index;
            // By the table's columns, for an index may store something else (a hash); an expression (column 0) has
            // only the index's own.
            let columns = (*form).indkey.values.as_ptr();
            let holds_pan = (0..(*form).indnkeyatts as usize).any(|k| match *columns.add(k) {
                0 => catalog::contains_pan((*compat::attribute((*index).rd_att, k)).atttypid),
                column => column_holds_pan((*relation).rd_id, column),
            });
            let has_column = with.is_none_or(|column| {
                (0..(*form).indnkeyatts as usize).any(|k| *columns.add(k) == column || *columns.add(k) == 0)
            });
            let found = ((*form).indisunique || (*form).indisexclusion) && holds_pan && has_column;
            pg_sys::RelationClose(index);
            found
        })
    }
}

/// # Safety
/// The relation is locked.
unsafe fn column_holds_pan(relation: pg_sys::Oid, column: i16) -> bool {
    // SAFETY: a syscache look-up.
    column > 0 && unsafe { catalog::contains_pan(pg_sys::get_atttype(relation, column)) }
}
