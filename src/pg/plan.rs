//! The nodes of a finished plan, and the expressions of each.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::nodes::list;

/// Asks every node of a plan, subplans included, until one says yes.
///
/// # Safety
/// `plan` is valid.
pub unsafe fn for_each_node(
    plan: *mut pg_sys::PlannedStmt,
    ask: &mut dyn FnMut(*mut pg_sys::Plan) -> bool,
) -> bool {
    // SAFETY: by contract.
    unsafe {
        visit((*plan).planTree, ask) || list((*plan).subplans).any(|subplan| visit(subplan.cast(), ask))
    }
}

/// # Safety
/// `plan` is null or a valid plan node.
unsafe fn visit(plan: *mut pg_sys::Plan, ask: &mut dyn FnMut(*mut pg_sys::Plan) -> bool) -> bool {
    if plan.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let children = match (*plan.cast::<pg_sys::Node>()).type_ {
            NodeTag::T_Append => (*plan.cast::<pg_sys::Append>()).appendplans,
            NodeTag::T_MergeAppend => (*plan.cast::<pg_sys::MergeAppend>()).mergeplans,
            NodeTag::T_BitmapAnd => (*plan.cast::<pg_sys::BitmapAnd>()).bitmapplans,
            NodeTag::T_BitmapOr => (*plan.cast::<pg_sys::BitmapOr>()).bitmapplans,
            NodeTag::T_CustomScan => (*plan.cast::<pg_sys::CustomScan>()).custom_plans,
            // The further grouping sets are nodes of their own.
            NodeTag::T_Agg => (*plan.cast::<pg_sys::Agg>()).chain,
            _ => std::ptr::null_mut(),
        };
        let below = match (*plan.cast::<pg_sys::Node>()).type_ {
            NodeTag::T_SubqueryScan => (*plan.cast::<pg_sys::SubqueryScan>()).subplan,
            _ => std::ptr::null_mut(),
        };
        ask(plan)
            || visit(below, ask)
            || list(children).any(|child| visit(child.cast(), ask))
            || visit((*plan).lefttree, ask)
            || visit((*plan).righttree, ask)
    }
}

/// The expressions of a node, most of them lists; some null. What an index is asked stands in them twice: as the
/// index has it, and as the query wrote it.
///
/// # Safety
/// `plan` is a valid plan node.
pub unsafe fn expressions(plan: *mut pg_sys::Plan) -> Vec<*mut pg_sys::Node> {
    macro_rules! of {
        ($type:ident: $($field:ident),*) => {{
            let node = plan.cast::<pg_sys::$type>();
            vec![$((*node).$field.cast()),*]
        }};
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let mut found: Vec<*mut pg_sys::Node> = match (*plan.cast::<pg_sys::Node>()).type_ {
            NodeTag::T_IndexScan => of!(IndexScan: indexqual, indexqualorig, indexorderby, indexorderbyorig),
            NodeTag::T_IndexOnlyScan => of!(IndexOnlyScan: indexqual, recheckqual, indexorderby),
            NodeTag::T_BitmapIndexScan => of!(BitmapIndexScan: indexqual, indexqualorig),
            NodeTag::T_BitmapHeapScan => of!(BitmapHeapScan: bitmapqualorig),
            NodeTag::T_NestLoop => of!(Join: joinqual),
            NodeTag::T_HashJoin => {
                let mut of_join: Vec<*mut pg_sys::Node> = of!(Join: joinqual);
                of_join.extend::<Vec<*mut pg_sys::Node>>(of!(HashJoin: hashclauses, hashkeys));
                of_join
            }
            NodeTag::T_MergeJoin => {
                let mut of_join: Vec<*mut pg_sys::Node> = of!(Join: joinqual);
                of_join.extend::<Vec<*mut pg_sys::Node>>(of!(MergeJoin: mergeclauses));
                of_join
            }
            NodeTag::T_Hash => of!(Hash: hashkeys),
            NodeTag::T_Memoize => of!(Memoize: param_exprs),
            NodeTag::T_Limit => of!(Limit: limitOffset, limitCount),
            NodeTag::T_Result => of!(Result: resconstantqual),
            NodeTag::T_FunctionScan => of!(FunctionScan: functions),
            NodeTag::T_TableFuncScan => of!(TableFuncScan: tablefunc),
            NodeTag::T_ValuesScan => of!(ValuesScan: values_lists),
            NodeTag::T_ForeignScan => of!(ForeignScan: fdw_exprs, fdw_recheck_quals),
            NodeTag::T_CustomScan => of!(CustomScan: custom_exprs),
            NodeTag::T_WindowAgg => of!(WindowAgg: startOffset, endOffset),
            NodeTag::T_ModifyTable => of!(
                ModifyTable: onConflictSet, onConflictWhere, returningLists, mergeActionLists, withCheckOptionLists
            ),
            _ => Vec::new(),
        };
        found.push((*plan).targetlist.cast());
        found.push((*plan).qual.cast());
        found
    }
}
