//! ALTER COLUMN TYPE … USING: what it makes of each row is kept nowhere, so it is judged before it runs.

use pgrx::pg_sys::NodeTag;
use pgrx::prelude::*;
use pgrx::{PgSqlErrorCode, pg_sys};

use crate::pg::compat;
use crate::pg::nodes::list;
use crate::pg::statement::relation_of;
use crate::pg::stored_tree::Seen;

/// Whether the statement makes columns of something that is a card number.
pub fn rewrites_by_pan(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        if (*node).type_ != NodeTag::T_AlterTableStmt {
            return false;
        }
        let alter = node.cast::<pg_sys::AlterTableStmt>();
        let expressions: Vec<*mut pg_sys::Node> = list((*alter).cmds)
            .map(|command| command.cast::<pg_sys::AlterTableCmd>())
            .filter(|command| (**command).subtype == pg_sys::AlterTableType::AT_AlterColumnType)
            .filter_map(|command| (*command).def.cast::<pg_sys::ColumnDef>().as_ref())
            .map(|column| column.raw_default)
            .filter(|expression| !expression.is_null())
            .collect();
        if expressions.is_empty() {
            return false;
        }
        // Who is not the owner gets PostgreSQL's refusal, and no lock.
        let Some(table) = relation_of((*alter).relation.cast()).filter(|oid| compat::owns_relation(*oid))
        else {
            return false;
        };
        // The lock that the statement takes.
        pg_sys::LockRelationOid(table, pg_sys::AccessExclusiveLock as i32);
        let relation = pg_sys::RelationIdGetRelation(table);
        if relation.is_null() {
            return false;
        }
        let found = expressions.into_iter().any(|expression| makes_of_pan(relation, expression));
        pg_sys::RelationClose(relation);
        found
    }
}

/// An expression that is wrong is found out by PostgreSQL in the same way, which says where.
///
/// # Safety
/// `relation` is open and locked, `expression` a raw expression over its columns.
unsafe fn makes_of_pan(relation: pg_sys::Relation, expression: *mut pg_sys::Node) -> bool {
    let analyse = std::panic::AssertUnwindSafe(|| {
        // SAFETY: by contract; as transformAlterTableStmt does it.
        unsafe {
            let state = pg_sys::make_parsestate(std::ptr::null_mut());
            let item = pg_sys::addRangeTableEntryForRelation(
                state,
                relation,
                pg_sys::AccessShareLock as i32,
                std::ptr::null_mut(),
                false,
                true,
            );
            pg_sys::addNSItemToQuery(state, item, false, true, true);
            let copy = pg_sys::copyObjectImpl(expression.cast()).cast();
            let kind = pg_sys::ParseExprKind::EXPR_KIND_ALTER_COL_TRANSFORM;
            let mut seen = Seen::default();
            seen.look(pg_sys::transformExpr(state, copy, kind));
            seen.pan
        }
    });
    PgTryBuilder::new(analyse)
        .catch_when(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, |cancel| cancel.rethrow())
        .catch_others(|_| false)
        .execute()
}
