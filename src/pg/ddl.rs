//! What definitions are about.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog;
use crate::pg::nodes::list;
use crate::pg::statement::relation_of;
use crate::pg::table;

thread_local! {
    static DROPPING_EXTENSION: Cell<bool> = const { Cell::new(false) };
}

/// Whether a DROP EXTENSION is running.
pub fn dropping_extension() -> bool {
    DROPPING_EXTENSION.get()
}

/// DROP EXTENSION begins or ends.
pub fn set_dropping_extension(begins: bool) {
    DROPPING_EXTENSION.set(begins);
}

/// Whether the statement is DROP EXTENSION of ours. That of another one drops nothing of ours, whatever was made to
/// depend on it.
pub fn drops_extension(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is, and extensions are named by String nodes.
    unsafe {
        let drop = node.cast::<pg_sys::DropStmt>();
        (*node).type_ == NodeTag::T_DropStmt
            && (*drop).removeType == pg_sys::ObjectType::OBJECT_EXTENSION
            && list((*drop).objects).any(|name| {
                std::ffi::CStr::from_ptr((*name.cast::<pg_sys::String>()).sval).to_bytes() == b"pgpci"
            })
    }
}

/// Whether the statement is CLUSTER or CREATE STATISTICS on a table with a card number.
pub fn orders_or_samples_pan(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_ClusterStmt => {
                let relation = (*node.cast::<pg_sys::ClusterStmt>()).relation;
                if relation.is_null() { is_any_clustered() } else { table_holds_pan(relation) }
            }
            NodeTag::T_CreateStatsStmt => list((*node.cast::<pg_sys::CreateStatsStmt>()).relations)
                .any(|relation| table_holds_pan(relation.cast())),
            _ => false,
        }
    }
}

/// Whether the statement has just made a table that is partitioned by lists or ranges of card numbers.
pub fn partitions_by_pan(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the table exists by now.
    unsafe {
        if (*node).type_ != NodeTag::T_CreateStmt {
            return false;
        }
        let create = node.cast::<pg_sys::CreateStmt>();
        if (*create).partspec.is_null() || crate::pg::compat::is_hash_partitioned((*create).partspec) {
            return false;
        }
        let Some(oid) = relation_of((*create).relation) else { return false };
        list((*(*create).partspec).partParams).any(|element| {
            let element = element.cast::<pg_sys::PartitionElem>();
            // An expression may be of any column.
            if (*element).name.is_null() {
                return table_holds_pan((*create).relation);
            }
            let column = pg_sys::get_attnum(oid, (*element).name);
            catalog::contains_pan(pg_sys::get_atttype(oid, column))
        })
    }
}

/// Whether the statement is CREATE CAST from or to a card number.
pub fn casts_pan(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; a type that does not exist raises, as CREATE CAST would itself.
    unsafe {
        if (*node).type_ != NodeTag::T_CreateCastStmt {
            return false;
        }
        let cast = node.cast::<pg_sys::CreateCastStmt>();
        [(*cast).sourcetype, (*cast).targettype]
            .into_iter()
            .any(|name| catalog::contains_pan(pg_sys::typenameTypeId(std::ptr::null_mut(), name)))
    }
}

/// Whether the statement is a COPY FROM that prints values which it skips, into a table with a card number inside of
/// an array, a row or a range: there the input function sees only its part of what is printed.
pub fn prints_skipped_pan(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is; the relation is released.
    unsafe {
        if (*node).type_ != NodeTag::T_CopyStmt {
            return false;
        }
        let copy = node.cast::<pg_sys::CopyStmt>();
        let prints = list((*copy).options).any(|option| {
            let name = CStr::from_ptr((*option.cast::<pg_sys::DefElem>()).defname).to_bytes();
            matches!(name, b"log_verbosity" | b"reject_limit")
        });
        if !(*copy).is_from || !prints {
            return false;
        }
        let Some(oid) = relation_of((*copy).relation) else { return false };
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return false;
        }
        let found = columns((*relation).rd_att)
            .any(|type_oid| catalog::contains_pan(type_oid) && !catalog::is_pan(type_oid));
        pg_sys::RelationClose(relation);
        found
    }
}

/// Whether the statement puts a function into our schema, or makes one in C or of PostgreSQL's own code that takes
/// card numbers.
pub fn plants_function(node: *mut pg_sys::Node) -> bool {
    let Some(catalog) = catalog::get() else { return false };
    // SAFETY: a valid parse tree; the tag says what the node is. A schema that does not exist raises, as the statement
    // would itself.
    unsafe {
        match (*node).type_ {
            NodeTag::T_CreateFunctionStmt => {
                let create = node.cast::<pg_sys::CreateFunctionStmt>();
                let mut name = std::ptr::null_mut();
                let namespace = pg_sys::QualifiedNameGetCreationNamespace((*create).funcname, &mut name);
                let is_foreign = list((*create).options)
                    .map(|option| option.cast::<pg_sys::DefElem>())
                    .filter(|option| CStr::from_ptr((**option).defname).to_bytes() == b"language")
                    .map(|option| CStr::from_ptr((*(*option).arg.cast::<pg_sys::String>()).sval).to_bytes())
                    .any(|language| matches!(language, b"c" | b"internal"));
                let takes_pan = || {
                    list((*create).parameters)
                        .map(|parameter| (*parameter.cast::<pg_sys::FunctionParameter>()).argType)
                        .any(|name| catalog::contains_pan(pg_sys::typenameTypeId(std::ptr::null_mut(), name)))
                };
                namespace == catalog.namespace || (is_foreign && takes_pan())
            }
            NodeTag::T_AlterObjectSchemaStmt => {
                let alter = node.cast::<pg_sys::AlterObjectSchemaStmt>();
                CStr::from_ptr((*alter).newschema).to_bytes() == catalog::SCHEMA.as_bytes()
            }
            _ => false,
        }
    }
}

/// Whether an object belongs to the extension: its tables, functions, type and operators.
pub fn is_ours(class: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    let Some(catalog) = catalog::get() else { return false };
    // SAFETY: syscache look-ups that allow for objects that are not there.
    unsafe {
        match class.to_u32() {
            RELATION => pg_sys::get_rel_namespace(object) == catalog.namespace,
            FUNCTION => pg_sys::get_func_namespace(object) == catalog.namespace,
            TYPE => object == catalog.pan,
            NAMESPACE => object == catalog.namespace,
            OPERATOR => catalog.is_pan_operator(object),
            _ => false,
        }
    }
}

/// Whether a setting has parse or plan trees printed.
pub fn prints_trees() -> bool {
    // SAFETY: backend-local settings.
    unsafe { pg_sys::Debug_print_plan || pg_sys::Debug_print_parse || pg_sys::Debug_print_rewritten }
}

/// Turns off what prints node trees with their constants, for this backend.
pub fn turn_off_debug_print() {
    // SAFETY: backend-local settings; the session's SHOW still says what it asked for.
    unsafe {
        pg_sys::Debug_print_plan = false;
        pg_sys::Debug_print_parse = false;
        pg_sys::Debug_print_rewritten = false;
    }
}

// Catalogs by OID, fixed by PostgreSQL's headers.
const RELATION: u32 = 1259;
const FUNCTION: u32 = 1255;
const TYPE: u32 = 1247;
const NAMESPACE: u32 = 2615;
const OPERATOR: u32 = 2617;
// Columns of pg_index, counted from 0.
const INDRELID: usize = pg_sys::Anum_pg_index_indrelid as usize - 1;
const INDISCLUSTERED: usize = pg_sys::Anum_pg_index_indisclustered as usize - 1;

/// Whether a table with a card number is marked for a CLUSTER that names none, whoever owns it.
fn is_any_clustered() -> bool {
    let mut marked = Vec::new();
    table::scan(pg_sys::IndexRelationId, |row| {
        if row.get(INDISCLUSTERED) == Some(true) {
            marked.extend(row.get::<pg_sys::Oid>(INDRELID));
        }
    });
    marked.into_iter().any(holds_pan)
}

/// Whether a table has a column with a card number.
///
/// # Safety
/// `relation` is null or a valid RangeVar.
pub unsafe fn table_holds_pan(relation: *mut pg_sys::RangeVar) -> bool {
    // SAFETY: by contract.
    unsafe { relation_of(relation) }.is_some_and(holds_pan)
}

/// Whether a table has a column with a card number.
pub fn holds_pan(oid: pg_sys::Oid) -> bool {
    // SAFETY: opens what is there; the relation is released.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return false;
        }
        let found = columns_hold_pan((*relation).rd_att);
        pg_sys::RelationClose(relation);
        found
    }
}

/// # Safety
/// `descriptor` is valid.
unsafe fn columns_hold_pan(descriptor: pg_sys::TupleDesc) -> bool {
    // SAFETY: by contract.
    unsafe { columns(descriptor).any(catalog::contains_pan) }
}

/// The types of the columns.
///
/// # Safety
/// `descriptor` is valid and outlives the iterator.
unsafe fn columns(descriptor: pg_sys::TupleDesc) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: by contract.
    unsafe {
        (0..(*descriptor).natts as usize)
            .map(move |i| &*crate::pg::compat::attribute(descriptor, i))
            .filter(|attribute| !attribute.attisdropped)
            .map(|attribute| attribute.atttypid)
    }
}
