//! Reads a small table of ours row by row, or a row of a catalog, without the executor and as of now, so that it works
//! inside any statement, in any isolation level, and on a standby.

use std::ffi::CStr;

use pgrx::{FromDatum, pg_sys};

use crate::pg::compat;

/// One row; columns are counted from 0 in the order of the table's declaration.
pub struct Row {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// Column `i`, None for NULL (or a column that a later version will add).
    pub fn get<T: FromDatum>(&self, i: usize) -> Option<T> {
        let (value, null) = (self.values.get(i)?, self.nulls.get(i)?);
        // SAFETY: the caller names the type that sql/ declares.
        unsafe { T::from_datum(*value, *null) }
    }

    /// The column of this name, None for NULL. Where columns stand in catalogs differs from version to version.
    pub fn named<T: FromDatum>(&self, name: &str) -> Option<T> {
        self.get(self.column(name)?)
    }

    /// The tree of nodes that the column of this name holds, new in the current memory context; null for NULL.
    pub fn tree(&self, name: &str) -> *mut pg_sys::Node {
        let Some(column) = self.column(name).filter(|column| !self.nulls[*column]) else {
            return std::ptr::null_mut();
        };
        // SAFETY: columns that are asked for so are pg_node_tree, a varlena of text.
        unsafe {
            let text = pg_sys::text_to_cstring(self.values[column].cast_mut_ptr());
            pg_sys::stringToNode(text).cast()
        }
    }

    fn column(&self, name: &str) -> Option<usize> {
        // SAFETY: the relation is open as long as the row is; names end with a NUL.
        (0..self.values.len()).find(|i| unsafe {
            let attribute = compat::attribute(self.descriptor, *i);
            CStr::from_ptr((*attribute).attname.data.as_ptr()).to_bytes() == name.as_bytes()
        })
    }
}

/// How a row of a catalog is looked for: by an index and the first columns of its key.
pub struct Key<'a> {
    /// The catalog.
    pub catalog: u32,
    /// Its index.
    pub index: u32,
    /// The columns of the catalog that the index begins with, and their values: OIDs or numbers of columns.
    pub columns: &'a [(i16, Column)],
}

/// A value to look for.
#[derive(Clone, Copy)]
pub enum Column {
    /// An OID.
    Oid(pg_sys::Oid),
    /// The number of a column.
    Number(i16),
}

/// The first row of a catalog that a key finds. As the running command has left it, before any other can see that;
/// or, with `before`, as the command found it.
pub fn find<T>(key: &Key<'_>, before: bool, read: impl FnOnce(&Row) -> T) -> Option<T> {
    // SAFETY: an index scan of a catalog, as PostgreSQL's own sepgsql does it; the row is read before the scan ends.
    unsafe {
        let relation = pg_sys::table_open(pg_sys::Oid::from(key.catalog), pg_sys::AccessShareLock as i32);
        let mut keys = vec![pg_sys::ScanKeyData::default(); key.columns.len()];
        for (place, (number, value)) in keys.iter_mut().zip(key.columns) {
            let (procedure, value) = match *value {
                Column::Oid(oid) => (pg_sys::F_OIDEQ, pg_sys::Datum::from(oid)),
                Column::Number(number) => (pg_sys::F_INT2EQ, pg_sys::Datum::from(number)),
            };
            let equal = pg_sys::BTEqualStrategyNumber as u16;
            pg_sys::ScanKeyInit(place, *number, equal, pg_sys::Oid::from(procedure), value);
        }
        let snapshot = if before { std::ptr::null_mut() } else { &raw mut pg_sys::SnapshotSelfData };
        let index = pg_sys::Oid::from(key.index);
        // Before a database is chosen, indexes of shared catalogs may not be there: after a crash, or on a new standby.
        let has_indexes = pg_sys::criticalSharedRelcachesBuilt;
        let scan = pg_sys::systable_beginscan(
            relation,
            index,
            has_indexes,
            snapshot,
            keys.len() as i32,
            keys.as_mut_ptr(),
        );
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| read(&deform(tuple, (*relation).rd_att)));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}

/// # Safety
/// A valid row of a relation of these columns.
unsafe fn deform(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Row {
    // SAFETY: by contract; there is a place for each column.
    unsafe {
        let columns = (*descriptor).natts as usize;
        let mut row = Row {
            values: vec![pg_sys::Datum::from(0usize); columns],
            nulls: vec![true; columns],
            descriptor,
        };
        pg_sys::heap_deform_tuple(tuple, descriptor, row.values.as_mut_ptr(), row.nulls.as_mut_ptr());
        row
    }
}

/// Calls `each` for every row of the table.
pub fn scan(table: pg_sys::Oid, mut each: impl FnMut(Row)) {
    // SAFETY: an ordinary heap scan; each row's datums are read before the next tuple is fetched, and the lock
    // goes with the relation.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        // In parallel mode a new snapshot may not be taken; the leader's is as good. A catalog has snapshots of its own:
        // any other would begin the transaction's, and SET TRANSACTION comes before that.
        let snapshot = if table.to_u32() < pg_sys::FirstNormalObjectId {
            std::ptr::null_mut()
        } else if pg_sys::IsInParallelMode() {
            pg_sys::RegisterSnapshot(pg_sys::GetActiveSnapshot())
        } else {
            pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot())
        };
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            snapshot,
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            each(deform(tuple, (*relation).rd_att));
        }
        pg_sys::systable_endscan(scan);
        if !snapshot.is_null() {
            pg_sys::UnregisterSnapshot(snapshot);
        }
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
}
