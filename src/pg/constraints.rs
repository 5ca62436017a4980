//! Statements that lay a constraint over rows that are there already: it compares their card numbers with each other.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::ddl::table_holds_pan;
use crate::pg::nodes::list;
use crate::pg::statement::relation_of;
use crate::pg::{catalog, compat, partition, relation};

/// Whether the statement does that.
pub fn compares_stored(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        let (table, constrains) = match (*node).type_ {
            NodeTag::T_IndexStmt => {
                let index = node.cast::<pg_sys::IndexStmt>();
                let table = (*index).relation;
                let unique = (*index).unique || !(*index).excludeOpNames.is_null();
                (table, unique && list((*index).indexParams).any(|key| element_holds_pan(table, key.cast())))
            }
            NodeTag::T_AlterTableStmt => {
                let alter = node.cast::<pg_sys::AlterTableStmt>();
                let table = (*alter).relation;
                if list((*alter).cmds).any(|command| attaches_by_hash(table, command.cast())) {
                    return true;
                }
                (table, list((*alter).cmds).any(|command| command_compares(table, command.cast())))
            }
            NodeTag::T_RefreshMatViewStmt => {
                let refresh = node.cast::<pg_sys::RefreshMatViewStmt>();
                return relation_of((*refresh).relation).is_some_and(|oid| relation::rules(oid).compares);
            }
            _ => return false,
        };
        constrains && relation_of(table).is_some_and(|oid| !relation::is_empty(oid))
    }
}

/// # Safety
/// Valid nodes of a parse tree.
unsafe fn command_compares(table: *mut pg_sys::RangeVar, command: *mut pg_sys::AlterTableCmd) -> bool {
    use pg_sys::AlterTableType as T;
    // SAFETY: by contract.
    unsafe {
        match (*command).subtype {
            T::AT_AddConstraint => constraint_compares(table, (*command).def.cast()),
            // Which one it is shows only in the catalog; any that waits for its validation may be ours.
            T::AT_ValidateConstraint => has_foreign_key_of_pan(table),
            T::AT_AlterConstraint => compat::enforces(command) && has_foreign_key_of_pan(table),
            T::AT_AddColumn => {
                let column = (*command).def.cast::<pg_sys::ColumnDef>();
                type_holds_pan((*column).typeName)
                    && list((*column).constraints)
                        .any(|c| constrains((*c.cast::<pg_sys::Constraint>()).contype))
            }
            // The rows are rewritten, and with them every index.
            T::AT_AlterColumnType => {
                let column = (*command).def.cast::<pg_sys::ColumnDef>();
                !(*column).raw_default.is_null()
                    && (column_holds_pan(table, (*command).name) || type_holds_pan((*column).typeName))
            }
            _ => false,
        }
    }
}

fn constrains(kind: pg_sys::ConstrType::Type) -> bool {
    use pg_sys::ConstrType as T;
    matches!(kind, T::CONSTR_UNIQUE | T::CONSTR_PRIMARY | T::CONSTR_EXCLUSION | T::CONSTR_FOREIGN)
}

/// # Safety
/// Valid nodes of a parse tree.
unsafe fn constraint_compares(table: *mut pg_sys::RangeVar, constraint: *mut pg_sys::Constraint) -> bool {
    use pg_sys::ConstrType as T;
    // SAFETY: by contract; keys are String nodes, exclusions are lists of an index element and an operator.
    unsafe {
        let by_name = |names: *mut pg_sys::List| {
            list(names).any(|name| column_holds_pan(table, (*name.cast::<pg_sys::String>()).sval))
        };
        match (*constraint).contype {
            // USING INDEX: there is one already.
            T::CONSTR_UNIQUE | T::CONSTR_PRIMARY => by_name((*constraint).keys),
            T::CONSTR_FOREIGN => !(*constraint).skip_validation && by_name((*constraint).fk_attrs),
            T::CONSTR_EXCLUSION => list((*constraint).exclusions).any(|pair| {
                list(pair.cast()).next().is_some_and(|element| element_holds_pan(table, element.cast()))
            }),
            _ => false,
        }
    }
}

/// A key of an index: a column, or an expression, which may be of any column.
///
/// # Safety
/// Valid nodes of a parse tree.
unsafe fn element_holds_pan(table: *mut pg_sys::RangeVar, element: *mut pg_sys::IndexElem) -> bool {
    // SAFETY: by contract.
    unsafe {
        match (*element).name.is_null() {
            true => table_holds_pan(table),
            false => column_holds_pan(table, (*element).name),
        }
    }
}

/// # Safety
/// `table` is a valid RangeVar, `name` a C string.
unsafe fn column_holds_pan(table: *mut pg_sys::RangeVar, name: *const core::ffi::c_char) -> bool {
    // SAFETY: by contract; syscache look-ups. A column that does not exist has no type.
    unsafe {
        relation_of(table).is_some_and(|oid| match pg_sys::get_attnum(oid, name) {
            0 => false,
            column => catalog::contains_pan(pg_sys::get_atttype(oid, column)),
        })
    }
}

/// # Safety
/// `name` is null or a valid TypeName.
unsafe fn type_holds_pan(name: *mut pg_sys::TypeName) -> bool {
    // SAFETY: by contract; missing_ok. `serial` is no type.
    unsafe {
        if name.is_null() {
            return false;
        }
        let found = pg_sys::LookupTypeName(std::ptr::null_mut(), name, std::ptr::null_mut(), true);
        if found.is_null() {
            return false;
        }
        let oid = pg_sys::typeTypeId(found);
        pg_sys::ReleaseSysCache(found);
        catalog::contains_pan(oid)
    }
}

/// # Safety
/// `table` is a valid RangeVar.
unsafe fn has_foreign_key_of_pan(table: *mut pg_sys::RangeVar) -> bool {
    // SAFETY: by contract.
    unsafe { relation_of(table).is_some_and(|oid| relation::rules(oid).compares) }
}

/// Whether the command makes a table with rows a partition, and they are checked by the hash of their card number.
///
/// # Safety
/// Valid nodes of a parse tree.
unsafe fn attaches_by_hash(parent: *mut pg_sys::RangeVar, command: *mut pg_sys::AlterTableCmd) -> bool {
    // SAFETY: by contract; the relation is released.
    unsafe {
        if (*command).subtype != pg_sys::AlterTableType::AT_AttachPartition {
            return false;
        }
        let partition = (*(*command).def.cast::<pg_sys::PartitionCmd>()).name;
        let Some(oid) = relation_of(parent) else { return false };
        let relation = pg_sys::RelationIdGetRelation(oid);
        if relation.is_null() {
            return false;
        }
        let by_hash = partition::is_routed_by_hash(relation);
        pg_sys::RelationClose(relation);
        let compares = by_hash || relation::rules(oid).compares;
        compares && relation_of(partition).is_some_and(|child| !relation::is_empty(child))
    }
}
