//! Rows of catalogs that definitions are in: where they are, and whose objects they describe.

use pgrx::pg_sys;

use crate::pg::table::{self, Column, Key, Row};
use crate::pg::{catalog, session};

/// A catalog and the index by which its rows are found, by OID, fixed by PostgreSQL's headers.
pub type Place = (u32, u32);

/// pg_class
pub const RELATION: Place = (1259, 2662);
/// pg_type
pub const TYPE: Place = (1247, 2703);
/// pg_proc
pub const FUNCTION: Place = (1255, 2690);
/// pg_amop
pub const AMOP: Place = (2602, 2756);
/// pg_amproc
pub const AMPROC: Place = (2603, 2757);
/// pg_attrdef
pub const ATTRDEF: Place = (2604, 2656);
/// pg_cast
pub const CAST: Place = (2605, 2660);
/// pg_constraint
pub const CONSTRAINT: Place = (2606, 2667);
/// pg_index
pub const INDEX: Place = (2610, 2679);
/// pg_inherits
pub const INHERITS: Place = (2611, 2680);
/// pg_opclass
pub const OPCLASS: Place = (2616, 2687);
/// pg_rewrite
pub const REWRITE: Place = (2618, 2692);
/// pg_trigger
pub const TRIGGER: Place = (2620, 2702);
/// pg_opfamily
pub const OPFAMILY: Place = (2753, 2755);
/// pg_policy
pub const POLICY: Place = (3256, 3257);
/// pg_partitioned_table
pub const PARTITIONED: Place = (3350, 3351);
/// pg_statistic_ext
pub const STATISTICS: Place = (3381, 3380);

/// Reads the row that the first column of an index finds: as the running command has left it, or found it (`before`).
pub fn find<T>(
    (catalog, index): Place,
    object: pg_sys::Oid,
    before: bool,
    read: impl FnOnce(&Row) -> T,
) -> Option<T> {
    table::find(&Key { catalog, index, columns: &[(1, Column::Oid(object))] }, before, read)
}

/// Whether an object is in our schema, or belongs to a table, view or operator family of ours.
pub fn is_ours(catalog: Place, row: &Row) -> bool {
    match catalog {
        RELATION => is_our_namespace(row, "relnamespace"),
        FUNCTION => is_our_namespace(row, "pronamespace"),
        OPFAMILY => is_our_namespace(row, "opfnamespace"),
        // A table's row type and arrays come and go with what they are of.
        TYPE => {
            let comes_with_another = row.named::<i8>("typtype") == Some(b'c' as i8)
                || row.named::<i8>("typcategory") == Some(b'A' as i8);
            !comes_with_another && is_our_namespace(row, "typnamespace")
        }
        OPCLASS => is_our_family(row, "opcfamily"),
        AMOP => is_our_family(row, "amopfamily"),
        AMPROC => is_our_family(row, "amprocfamily"),
        ATTRDEF => is_of_ours(row, "adrelid"),
        CONSTRAINT => is_of_ours(row, "conrelid") || is_of_ours(row, "confrelid"),
        REWRITE => is_of_ours(row, "ev_class"),
        TRIGGER => is_of_ours(row, "tgrelid"),
        POLICY => is_of_ours(row, "polrelid"),
        STATISTICS => is_of_ours(row, "stxrelid"),
        _ => false,
    }
}

/// A column of numbers of columns.
pub fn numbers(row: &Row, name: &str) -> Vec<i16> {
    row.named(name).unwrap_or_default()
}

fn is_our_namespace(row: &Row, column: &str) -> bool {
    catalog::get().is_some_and(|catalog| row.named(column) == Some(catalog.namespace))
}

fn is_our_family(row: &Row, column: &str) -> bool {
    let family = row.named(column).unwrap_or_default();
    find(OPFAMILY, family, false, |row| is_our_namespace(row, "opfnamespace")) == Some(true)
}

/// Whether the relation that a column names is a table or view of ours.
fn is_of_ours(row: &Row, column: &str) -> bool {
    let relation = row.named::<pg_sys::Oid>(column).unwrap_or_default();
    catalog::get().is_some_and(|catalog| session::namespace_of(relation) == catalog.namespace)
}

/// Whether a column of a table holds card numbers.
pub fn column_holds_pan(relation: pg_sys::Oid, column: i16) -> bool {
    // SAFETY: a syscache look-up.
    column > 0 && unsafe { catalog::contains_pan(pg_sys::get_atttype(relation, column)) }
}
