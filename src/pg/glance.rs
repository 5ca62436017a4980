//! A first look at a query. Nearly every query has nothing in it that could hold a card number: no type, operator
//! or function but PostgreSQL's own. That is seen here, with PostgreSQL's tree walker called plainly, in a small
//! part of the time that the real walk takes; what this look does not know goes to the real walk.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::compat::{expression_tree_walker, query_tree_walker};

/// Whether the query could have to do with card numbers, before or after SQL functions are inlined.
pub fn may_matter(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a valid query tree, read only.
    unsafe { look(query.cast(), std::ptr::null_mut()) }
}

/// # Safety
/// `node` is null or a valid node of a query tree. A plain old frame: PostgreSQL's errors (stack depth) pass through.
unsafe extern "C-unwind" fn look(node: *mut pg_sys::Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    macro_rules! field {
        ($type:ident, $field:ident) => {
            (*node.cast::<pg_sys::$type>()).$field
        };
    }
    // SAFETY: by contract; the tag says what the node is.
    #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
    unsafe {
        let foreign = match (*node).type_ {
            NodeTag::T_Query => {
                let flags = pg_sys::QTW_EXAMINE_SORTGROUP as i32;
                return query_tree_walker(node.cast(), Some(look), context, flags);
            }
            NodeTag::T_Var => is_foreign(field!(Var, vartype)),
            NodeTag::T_Const => is_foreign(field!(Const, consttype)),
            NodeTag::T_Param => is_foreign(field!(Param, paramtype)),
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                is_foreign(field!(OpExpr, opno)) || is_foreign(field!(OpExpr, opresulttype))
            }
            NodeTag::T_ScalarArrayOpExpr => is_foreign(field!(ScalarArrayOpExpr, opno)),
            NodeTag::T_FuncExpr => {
                is_foreign(field!(FuncExpr, funcid)) || is_foreign(field!(FuncExpr, funcresulttype))
            }
            NodeTag::T_Aggref => is_foreign(field!(Aggref, aggfnoid)) || is_foreign(field!(Aggref, aggtype)),
            NodeTag::T_WindowFunc => {
                is_foreign(field!(WindowFunc, winfnoid)) || is_foreign(field!(WindowFunc, wintype))
            }
            NodeTag::T_RelabelType => is_foreign(field!(RelabelType, resulttype)),
            NodeTag::T_CoerceViaIO => is_foreign(field!(CoerceViaIO, resulttype)),
            NodeTag::T_ArrayExpr => is_foreign(field!(ArrayExpr, array_typeid)),
            NodeTag::T_CaseExpr => is_foreign(field!(CaseExpr, casetype)),
            NodeTag::T_CaseTestExpr => is_foreign(field!(CaseTestExpr, typeId)),
            NodeTag::T_CoalesceExpr => is_foreign(field!(CoalesceExpr, coalescetype)),
            NodeTag::T_MinMaxExpr => is_foreign(field!(MinMaxExpr, minmaxtype)),
            NodeTag::T_SortGroupClause => {
                is_foreign(field!(SortGroupClause, eqop)) || is_foreign(field!(SortGroupClause, sortop))
            }
            // Only what they are made of counts.
            NodeTag::T_List
            | NodeTag::T_TargetEntry
            | NodeTag::T_FromExpr
            | NodeTag::T_JoinExpr
            | NodeTag::T_RangeTblRef
            | NodeTag::T_RangeTblFunction
            | NodeTag::T_CommonTableExpr
            | NodeTag::T_SubLink
            | NodeTag::T_BoolExpr
            | NodeTag::T_BooleanTest
            | NodeTag::T_NullTest
            | NodeTag::T_CaseWhen
            | NodeTag::T_OnConflictExpr
            | NodeTag::T_SQLValueFunction
            | NodeTag::T_NextValueExpr
            | NodeTag::T_SetToDefault
            | NodeTag::T_CollateExpr
            | NodeTag::T_WindowClause
            | NodeTag::T_SetOperationStmt => false,
            _ => true,
        };
        foreign || expression_tree_walker(node, Some(look), context)
    }
}

/// Whether a type, function or operator is not PostgreSQL's own, or is an anonymous row, which may hold anything.
fn is_foreign(oid: pg_sys::Oid) -> bool {
    oid.to_u32() >= pg_sys::FirstNormalObjectId || oid == pg_sys::RECORDOID || oid == pg_sys::RECORDARRAYOID
}
