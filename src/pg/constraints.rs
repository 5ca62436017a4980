//! Definitions that compare stored card numbers with each other, or with what is written later: constraints laid over
//! rows that are there, constraints that are judged later than the write, and expressions over card numbers that the
//! table itself keeps.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::ddl::table_holds_pan;
use crate::pg::mentions::mentions_pan;
use crate::pg::nodes::list;
use crate::pg::statement::relation_of;
use crate::pg::{catalog, compat, partition, relation};

/// Whether the statement makes one.
pub fn compares_stored(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_IndexStmt => index_compares(node.cast()),
            NodeTag::T_AlterTableStmt => {
                let alter = node.cast::<pg_sys::AlterTableStmt>();
                let table = (*alter).relation;
                list((*alter).cmds).map(|command| command.cast::<pg_sys::AlterTableCmd>()).any(|command| {
                    command_keeps_expression(table, command)
                        || attaches_by_hash(table, command)
                        || (command_compares(table, command) && is_filled(table))
                })
            }
            NodeTag::T_CreateStmt => {
                let create = node.cast::<pg_sys::CreateStmt>();
                list((*create).tableElts).any(|element| element_keeps_expression(create, element))
            }
            // It may put a stored number into another row; and its condition is judged where no plan shows it.
            NodeTag::T_CreateTrigStmt => {
                let trigger = node.cast::<pg_sys::CreateTrigStmt>();
                let before = (*trigger).timing == pg_sys::TRIGGER_TYPE_BEFORE as i16 && (*trigger).row;
                let changes =
                    (*trigger).events & (pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE) as i16;
                (before && changes != 0 && table_holds_pan((*trigger).relation))
                    || mentions_pan((*trigger).whenClause, (*trigger).relation, &[])
            }
            NodeTag::T_RefreshMatViewStmt => {
                let refresh = node.cast::<pg_sys::RefreshMatViewStmt>();
                relation_of((*refresh).relation).is_some_and(relation::compares_written)
            }
            _ => false,
        }
    }
}

/// # Safety
/// `table` is a valid RangeVar.
unsafe fn is_filled(table: *mut pg_sys::RangeVar) -> bool {
    // SAFETY: by contract.
    unsafe { relation_of(table).is_some_and(|oid| !relation::is_empty(oid)) }
}

/// # Safety
/// A valid node of a parse tree.
unsafe fn index_compares(index: *mut pg_sys::IndexStmt) -> bool {
    // SAFETY: by contract; the access method's name is a C string.
    unsafe {
        let table = (*index).relation;
        let unique = (*index).unique || !(*index).excludeOpNames.is_null();
        let keys = || list((*index).indexParams).map(|key| key.cast::<pg_sys::IndexElem>());
        // How big another kind of index gets tells which of its keys are equal.
        let method = std::ffi::CStr::from_ptr((*index).accessMethod).to_bytes();
        let merges = !matches!(method, b"btree" | b"hash");
        mentions_pan((*index).whereClause, table, &[])
            || keys().any(|key| mentions_pan((*key).expr, table, &[]))
            || ((unique || merges) && keys().any(|key| element_holds_pan(table, key)) && is_filled(table))
    }
}

/// An expression over a card number that the table keeps: a generated column, a check.
///
/// # Safety
/// Valid nodes of a parse tree.
unsafe fn element_keeps_expression(create: *mut pg_sys::CreateStmt, element: *mut pg_sys::Node) -> bool {
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        // The columns that the statement itself makes, and those it takes from other tables.
        let own: Vec<*const core::ffi::c_char> = list((*create).tableElts)
            .filter(|node| (**node).type_ == NodeTag::T_ColumnDef)
            .map(|node| node.cast::<pg_sys::ColumnDef>())
            .filter(|column| type_holds_pan((**column).typeName))
            .map(|column| (*column).colname.cast_const())
            .collect();
        let taken = list((*create).inhRelations).map(|parent| parent.cast::<pg_sys::RangeVar>());
        let liked = list((*create).tableElts)
            .filter(|node| (**node).type_ == NodeTag::T_TableLikeClause)
            .map(|node| (*node.cast::<pg_sys::TableLikeClause>()).relation);
        let mut others = taken.chain(liked).collect::<Vec<_>>();
        others.push(std::ptr::null_mut());
        let keeps = |constraint: *mut pg_sys::Constraint| {
            others.iter().any(|other| constraint_keeps_expression(constraint, *other, &own))
        };
        match (*element).type_ {
            NodeTag::T_ColumnDef => {
                let column = element.cast::<pg_sys::ColumnDef>();
                let is_pan = type_holds_pan((*column).typeName);
                list((*column).constraints).any(|c| keeps(c.cast()) || (is_pan && is_deferrable(c.cast())))
            }
            NodeTag::T_Constraint => {
                let constraint = element.cast::<pg_sys::Constraint>();
                let names = list((*constraint).fk_attrs).chain(list((*constraint).keys));
                let over_pan = names
                    .map(|name| std::ffi::CStr::from_ptr((*name.cast::<pg_sys::String>()).sval))
                    .any(|name| own.iter().any(|column| std::ffi::CStr::from_ptr(*column) == name));
                keeps(constraint) || (over_pan && is_deferrable(constraint))
            }
            _ => false,
        }
    }
}

/// Whether a constraint is judged later than the write, where it is not counted.
///
/// # Safety
/// A valid node of a parse tree.
unsafe fn is_deferrable(constraint: *mut pg_sys::Constraint) -> bool {
    // SAFETY: by contract. After a column's constraint the word stands as a node of its own.
    unsafe { (*constraint).deferrable || (*constraint).contype == pg_sys::ConstrType::CONSTR_ATTR_DEFERRABLE }
}

/// # Safety
/// Valid nodes of a parse tree; `table` may be null.
unsafe fn constraint_keeps_expression(
    constraint: *mut pg_sys::Constraint,
    table: *mut pg_sys::RangeVar,
    own: &[*const core::ffi::c_char],
) -> bool {
    use pg_sys::ConstrType as T;
    // SAFETY: by contract.
    unsafe {
        matches!((*constraint).contype, T::CONSTR_CHECK | T::CONSTR_GENERATED)
            && mentions_pan((*constraint).raw_expr, table, own)
    }
}

/// # Safety
/// Valid nodes of a parse tree.
unsafe fn command_keeps_expression(
    table: *mut pg_sys::RangeVar,
    command: *mut pg_sys::AlterTableCmd,
) -> bool {
    use pg_sys::AlterTableType as T;
    // SAFETY: by contract.
    unsafe {
        match (*command).subtype {
            T::AT_AddConstraint => {
                let constraint = (*command).def.cast::<pg_sys::Constraint>();
                constraint_keeps_expression(constraint, table, &[])
                    || (is_deferrable(constraint) && constraint_compares(table, constraint))
            }
            T::AT_AddColumn => {
                let column = (*command).def.cast::<pg_sys::ColumnDef>();
                let own = [(*column).colname.cast_const()];
                let own = if type_holds_pan((*column).typeName) { &own[..] } else { &[] };
                list((*column).constraints).any(|constraint| {
                    constraint_keeps_expression(constraint.cast(), table, own)
                        || (!own.is_empty() && is_deferrable(constraint.cast()))
                })
            }
            T::AT_AlterColumnType => {
                let column = (*command).def.cast::<pg_sys::ColumnDef>();
                mentions_pan((*column).raw_default, table, &[])
            }
            _ => false,
        }
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
            T::AT_ValidateConstraint => has_constraint_of_pan(table),
            T::AT_AlterConstraint => compat::enforces(command) && has_constraint_of_pan(table),
            T::AT_AddColumn => {
                let column = (*command).def.cast::<pg_sys::ColumnDef>();
                // A default is worked out for each row, and may be of others.
                type_holds_pan((*column).typeName)
                    && (!(*column).raw_default.is_null()
                        || list((*column).constraints)
                            .any(|c| constrains((*c.cast::<pg_sys::Constraint>()).contype)))
            }
            // The rows are rewritten, and with them every index.
            T::AT_AlterColumnType => {
                let column = (*command).def.cast::<pg_sys::ColumnDef>();
                shares_index_with_pan(table, (*command).name)
                    || column_holds_pan(table, (*command).name)
                    || type_holds_pan((*column).typeName)
            }
            _ => false,
        }
    }
}

fn constrains(kind: pg_sys::ConstrType::Type) -> bool {
    use pg_sys::ConstrType as T;
    matches!(
        kind,
        T::CONSTR_UNIQUE | T::CONSTR_PRIMARY | T::CONSTR_EXCLUSION | T::CONSTR_FOREIGN | T::CONSTR_DEFAULT
    )
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
            // Also one that is not valid yet: what it does when the other row goes, compares.
            T::CONSTR_FOREIGN => by_name((*constraint).fk_attrs),
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
unsafe fn has_constraint_of_pan(table: *mut pg_sys::RangeVar) -> bool {
    // SAFETY: by contract.
    unsafe { relation_of(table).is_some_and(relation::compares_written) }
}

/// Whether a column is a key, beside a card number, of what must be unique: with it, each pair is compared anew.
///
/// # Safety
/// `table` is a valid RangeVar, `name` a C string.
unsafe fn shares_index_with_pan(table: *mut pg_sys::RangeVar, name: *const core::ffi::c_char) -> bool {
    // SAFETY: by contract; syscache look-ups.
    unsafe {
        relation_of(table)
            .is_some_and(|oid| relation::shares_unique_index_with_pan(oid, pg_sys::get_attnum(oid, name)))
    }
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
        let compares = by_hash || relation::compares_written(oid);
        compares && relation_of(partition).is_some_and(|child| !relation::is_empty(child))
    }
}
