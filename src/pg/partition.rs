//! Partitions: who is whose, and whether rows are routed by a card number.

use pgrx::pg_sys;

use crate::pg::catalog;

unsafe extern "C-unwind" {
    // Not in pg_sys.
    fn get_partition_parent(relation: pg_sys::Oid, even_if_detached: bool) -> pg_sys::Oid;
}

// Columns of pg_partitioned_table, fixed by PostgreSQL's headers; pgrx does not bind them.
const STRATEGY: pg_sys::AttrNumber = 2;
const COLUMNS: pg_sys::AttrNumber = 5;
const HASH: u8 = b'h';

/// Whether a row's place among the partitions of a table, or of the table that this is a partition of, is told by the
/// hash of a card number.
///
/// # Safety
/// `relation` is open.
pub unsafe fn is_routed_by_hash(relation: pg_sys::Relation) -> bool {
    // SAFETY: by contract.
    unsafe {
        (is_partitioned(relation) && hashes_pan((*relation).rd_id))
            || ancestors(relation).into_iter().any(|ancestor| hashes_pan(ancestor))
    }
}

/// The columns of the table's own partition key, or of the key by which it is a partition; 0 for an expression.
///
/// # Safety
/// `relation` is open.
pub unsafe fn key_columns(relation: pg_sys::Relation) -> Vec<i16> {
    // SAFETY: by contract.
    unsafe {
        let own = if is_partitioned(relation) { key_of((*relation).rd_id) } else { None };
        let of_parent = || {
            #[allow(ffi_unwind_calls, reason = "guarded")]
            let parent = pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_parent((*relation).rd_id, true));
            let columns = key_of(parent).map(|(_, columns)| columns).unwrap_or_default();
            // A partition may have its columns in another order.
            let own = |column| match column {
                0 => 0,
                _ => pg_sys::get_attnum((*relation).rd_id, pg_sys::get_attname(parent, column, false)),
            };
            columns.into_iter().map(own).collect::<Vec<_>>()
        };
        let mut columns = own.map(|(_, columns)| columns).unwrap_or_default();
        if (*(*relation).rd_rel).relispartition {
            columns.extend(of_parent());
        }
        columns
    }
}

/// The table whose partition this is, directly or not; None for no partition.
///
/// # Safety
/// `relation` is open.
pub unsafe fn root(relation: pg_sys::Relation) -> Option<pg_sys::Oid> {
    // SAFETY: by contract.
    unsafe { ancestors(relation).last().copied() }
}

/// The columns that decide, at any level, in which partition a row is: all of them where an expression does.
///
/// # Safety
/// `relation` is open.
pub unsafe fn routing_columns(relation: pg_sys::Relation) -> Vec<i16> {
    // SAFETY: by contract; a partition may have its columns in another order.
    unsafe {
        let mut columns = Vec::new();
        for ancestor in ancestors(relation) {
            let key = key_of(ancestor).map(|(_, columns)| columns).unwrap_or_default();
            if key.contains(&0) {
                return (1..=(*(*relation).rd_att).natts as i16).collect();
            }
            columns.extend(key.into_iter().map(|column| {
                pg_sys::get_attnum((*relation).rd_id, pg_sys::get_attname(ancestor, column, false))
            }));
        }
        columns
    }
}

/// The parent, its parent, and so on.
///
/// # Safety
/// `relation` is open.
unsafe fn ancestors(relation: pg_sys::Relation) -> Vec<pg_sys::Oid> {
    // SAFETY: by contract.
    unsafe {
        let (mut oid, mut is_partition) = ((*relation).rd_id, (*(*relation).rd_rel).relispartition);
        let mut found = Vec::new();
        while is_partition {
            #[allow(ffi_unwind_calls, reason = "guarded")]
            let parent = pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_parent(oid, true));
            found.push(parent);
            is_partition = pg_sys::get_rel_relispartition(parent);
            oid = parent;
        }
        found
    }
}

/// The partitions of a table, one level down.
///
/// # Safety
/// `relation` is open.
pub unsafe fn children(relation: pg_sys::Relation) -> Vec<pg_sys::Oid> {
    // SAFETY: by contract; the descriptor lives as long as the relation is open.
    unsafe {
        if !is_partitioned(relation) {
            return Vec::new();
        }
        let descriptor = pg_sys::RelationGetPartitionDesc(relation, true);
        (0..(*descriptor).nparts as usize).map(|i| *(*descriptor).oids.add(i)).collect()
    }
}

/// # Safety
/// `relation` is open.
unsafe fn is_partitioned(relation: pg_sys::Relation) -> bool {
    // SAFETY: by contract.
    unsafe { (*(*relation).rd_rel).relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE }
}

/// # Safety
/// `relation` is a partitioned table.
unsafe fn hashes_pan(relation: pg_sys::Oid) -> bool {
    // SAFETY: by contract. An expression (column 0) may be of any column.
    unsafe {
        key_of(relation).is_some_and(|(strategy, columns)| {
            strategy == HASH
                && columns.into_iter().any(|column| match column {
                    0 => true,
                    column => catalog::contains_pan(pg_sys::get_atttype(relation, column)),
                })
        })
    }
}

/// The strategy and the columns of a partition key.
///
/// # Safety
/// `relation` is a partitioned table.
unsafe fn key_of(relation: pg_sys::Oid) -> Option<(u8, Vec<i16>)> {
    // SAFETY: a syscache look-up; what is read of the tuple is read before it is released. The columns are NOT NULL.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PARTRELID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return None;
        }
        let mut is_null = false;
        let strategy = pg_sys::SysCacheGetAttr(cache, tuple, STRATEGY, &mut is_null).value() as u8;
        let columns = pg_sys::SysCacheGetAttr(cache, tuple, COLUMNS, &mut is_null);
        let columns = columns.cast_mut_ptr::<pg_sys::int2vector>();
        let columns = (0..(*columns).dim1 as usize).map(|i| *(*columns).values.as_ptr().add(i)).collect();
        pg_sys::ReleaseSysCache(tuple);
        Some((strategy, columns))
    }
}
