//! What a statement does with tables, and which indexes on card numbers it may use.

use pgrx::pg_sys;

use crate::pg::nodes::list;
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

/// Whether an index of the relation could have a card number among its keys: one of a type that is not PostgreSQL's own.
/// Only looks, and never raises.
///
/// # Safety
/// `info` is the planner's structure, just filled.
pub unsafe fn may_have_pan_index(info: *mut pg_sys::RelOptInfo) -> bool {
    // SAFETY: by contract.
    unsafe {
        list((*info).indexlist).any(|index| {
            let index = index.cast::<pg_sys::IndexOptInfo>();
            (0..(*index).nkeycolumns as usize)
                .any(|i| (*(*index).opcintype.add(i)).to_u32() >= pg_sys::FirstNormalObjectId)
        })
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
