//! Whether an expression of a definition, not analysed yet, names a column with a card number.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog;
use crate::pg::nodes::list;
use crate::pg::statement::relation_of;

/// Whether it names one of the table's such columns, a whole row of the table, or one of `own`; other than to ask
/// whether it is NULL.
///
/// # Safety
/// `expression` is null or a raw expression, `table` null or a valid RangeVar, `own` holds C strings.
pub unsafe fn mentions_pan(
    expression: *mut pg_sys::Node,
    table: *mut pg_sys::RangeVar,
    own: &[*const core::ffi::c_char],
) -> bool {
    // SAFETY: by contract.
    unsafe {
        let mut search = Search { table: relation_of(table), own };
        visit(expression, (&raw mut search).cast())
    }
}

struct Search<'a> {
    table: Option<pg_sys::Oid>,
    own: &'a [*const core::ffi::c_char],
}

/// # Safety
/// Called by PostgreSQL's tree walker with a node and our `Search`.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let search = &*context.cast::<Search<'_>>();
        match (*node).type_ {
            NodeTag::T_NullTest => {
                let argument = (*node.cast::<pg_sys::NullTest>()).arg.cast::<pg_sys::Node>();
                if (*argument).type_ == NodeTag::T_ColumnRef {
                    return false;
                }
            }
            NodeTag::T_ColumnRef => return search.names(node.cast()),
            _ => {}
        }
        pg_sys::raw_expression_tree_walker(node, Some(visit), context)
    }
}

impl Search<'_> {
    /// # Safety
    /// `column` is valid.
    unsafe fn names(&self, column: *mut pg_sys::ColumnRef) -> bool {
        // SAFETY: by contract; the fields are String nodes, or a star.
        unsafe {
            list((*column).fields).any(|field| {
                if (*field).type_ != NodeTag::T_String {
                    return true;
                }
                let name = (*field.cast::<pg_sys::String>()).sval;
                let is_own = self.own.iter().any(|own| CStr::from_ptr(*own) == CStr::from_ptr(name));
                is_own || self.table.is_some_and(|table| self.is_pan_of(table, name))
            })
        }
    }

    /// # Safety
    /// `name` is a C string.
    unsafe fn is_pan_of(&self, table: pg_sys::Oid, name: *const core::ffi::c_char) -> bool {
        // SAFETY: by contract; syscache look-ups. A name that is no column's may be the table's own: a whole row.
        unsafe {
            match pg_sys::get_attnum(table, name) {
                0 => {
                    let of_table = pg_sys::get_rel_name(table);
                    !of_table.is_null()
                        && CStr::from_ptr(of_table) == CStr::from_ptr(name)
                        && crate::pg::ddl::holds_pan(table)
                }
                column => catalog::contains_pan(pg_sys::get_atttype(table, column)),
            }
        }
    }
}
