//! What utility statements do with card numbers and with objects of ours.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::local::Local;
use crate::pg::nodes::{list, string};
use crate::pg::statement::relation_of;
use crate::pg::{activity, catalog, partition, relation, session, table, table_keys};

static DROPPING_EXTENSION: Local<Cell<bool>> = Local::new(Cell::new(false));

/// Which statement it is.
pub fn tag(node: *mut pg_sys::Node) -> NodeTag {
    // SAFETY: a valid parse tree.
    unsafe { (*node).type_ }
}

/// Whether a REINDEX is running: it makes again what is there.
pub fn is_reindexing() -> bool {
    activity::statement() == NodeTag::T_ReindexStmt
}

/// Whether a CREATE TYPE … AS RANGE is running: it makes a cast from the range to its multirange.
pub fn is_making_range() -> bool {
    activity::statement() == NodeTag::T_CreateRangeStmt
}

/// Whether a CREATE FUNCTION is running; CREATE AGGREGATE and CREATE TYPE make functions, too, of PostgreSQL's own code.
pub fn is_making_function() -> bool {
    activity::statement() == NodeTag::T_CreateFunctionStmt
}

/// Whether it is the script of an extension that makes it, and not what an event trigger does with each of its statements.
pub fn is_by_extension_script() -> bool {
    let around = activity::statement_around();
    session::in_any_extension_script()
        && matches!(around, NodeTag::T_CreateExtensionStmt | NodeTag::T_AlterExtensionStmt)
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
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        let drop = node.cast::<pg_sys::DropStmt>();
        (*node).type_ == NodeTag::T_DropStmt
            && (*drop).removeType == pg_sys::ObjectType::OBJECT_EXTENSION
            && list((*drop).objects).any(|name| string(name) == Some(c"pgpci"))
    }
}

/// Whether the statement is ALTER EXTENSION of ours, ADD or DROP: what was let go would stay when the rest is dropped, or be
/// dropped by itself.
pub fn changes_members(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        (*node).type_ == NodeTag::T_AlterExtensionContentsStmt
            && CStr::from_ptr((*node.cast::<pg_sys::AlterExtensionContentsStmt>()).extname) == c"pgpci"
    }
}

/// Whether the statement compares stored card numbers by what it does itself: it clusters a table by them, refreshes
/// what has a unique index over them, or checks by their hash that they belong into a partition.
pub fn compares_stored(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_ClusterStmt => {
                let relation = (*node.cast::<pg_sys::ClusterStmt>()).relation;
                if relation.is_null() {
                    return is_any_clustered();
                }
                relation_of(relation.cast()).is_some_and(holds_pan)
            }
            NodeTag::T_RefreshMatViewStmt => {
                let view = (*node.cast::<pg_sys::RefreshMatViewStmt>()).relation;
                relation_of(view.cast()).is_some_and(table_keys::has_pan_key)
            }
            NodeTag::T_AlterTableStmt => {
                let alter = node.cast::<pg_sys::AlterTableStmt>();
                let attached = partitions_attached(node).any(|child| !relation::is_empty(child));
                attached && relation_of((*alter).relation.cast()).is_some_and(is_routed_by_hash)
            }
            _ => false,
        }
    }
}

/// The tables that an ALTER TABLE makes partitions.
///
/// # Safety
/// `node` is an AlterTableStmt that outlives the iterator.
unsafe fn partitions_attached(node: *mut pg_sys::Node) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: by contract; the definition of this command is a PartitionCmd.
    unsafe {
        list((*node.cast::<pg_sys::AlterTableStmt>()).cmds)
            .map(|command| command.cast::<pg_sys::AlterTableCmd>())
            .filter(|command| (**command).subtype == pg_sys::AlterTableType::AT_AttachPartition)
            .filter_map(|command| {
                let partition = (*command).def.cast::<pg_sys::PartitionCmd>();
                relation_of((*partition).name.cast())
            })
    }
}

fn is_routed_by_hash(oid: pg_sys::Oid) -> bool {
    // SAFETY: the relation is released.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return false;
        }
        let by_hash = partition::is_routed_by_hash(relation);
        pg_sys::RelationClose(relation);
        by_hash
    }
}

/// The tables that the statement has made, or made partitions.
pub fn partitioned(node: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_CreateStmt => {
                let create = &*node.cast::<pg_sys::CreateStmt>();
                let matters = !create.partspec.is_null() || !create.partbound.is_null();
                relation_of(create.relation.cast()).filter(|_| matters).into_iter().collect()
            }
            NodeTag::T_AlterTableStmt => partitions_attached(node).collect(),
            _ => Vec::new(),
        }
    }
}

/// Whether the statement may have given a table parents or children.
pub fn may_inherit(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_CreateStmt => !(*node.cast::<pg_sys::CreateStmt>()).inhRelations.is_null(),
            NodeTag::T_AlterTableStmt => true,
            _ => false,
        }
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
        let Some(oid) = relation_of((*copy).relation.cast()) else { return false };
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
