//! The same question asked of a finished plan: functions in SQL may have been inlined, with comparisons that
//! the query did not show. And the mark by which a plan remembers the answer.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog::{self, Catalog};
use crate::pg::compat;
use crate::pg::walk::{expression_compares, list, oids};

/// Marks the plan: it compares card numbers. It now depends on the grants, so that it is made anew,
/// and the question asked again, whenever a grant changes.
pub fn mark(plan: *mut pg_sys::PlannedStmt) {
    let Some(catalog) = catalog::get() else {
        return;
    };
    // SAFETY: a plan that the planner has just made, in its memory context.
    unsafe {
        (*plan).relationOids = pg_sys::lappend_oid((*plan).relationOids, catalog.table(catalog::MARK));
    }
}

/// Whether the plan is marked.
pub fn is_marked(plan: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: a valid plan; relationOids is a list of OIDs.
    unsafe {
        let relations = (*plan).relationOids;
        if relations.is_null() {
            return false;
        }
        let Some(catalog) = catalog::get() else {
            return false;
        };
        let mark = catalog.table(catalog::MARK);
        (0..(*relations).length as usize).any(|i| (*(*relations).elements.add(i)).oid_value == mark)
    }
}

/// Whether a plan compares card numbers.
pub fn plan_compares(plan: *mut pg_sys::PlannedStmt) -> bool {
    let Some(catalog) = catalog::get() else {
        return false;
    };
    // SAFETY: a valid plan, read only.
    unsafe {
        node_compares((*plan).planTree, &catalog)
            || list((*plan).subplans).any(|sub| node_compares(sub.cast(), &catalog))
    }
}

/// Whether a plan makes a card number, rather than passing on stored ones.
pub fn makes_pan(plan: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: a valid plan, read only.
    unsafe { node_makes((*plan).planTree) || list((*plan).subplans).any(|sub| node_makes(sub.cast())) }
}

/// # Safety
/// `plan` is null or a valid plan node.
unsafe fn node_makes(plan: *mut pg_sys::Plan) -> bool {
    if plan.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let makes = |l: *mut pg_sys::List| list(l).any(|node| expression_makes(node));
        let children = |l: *mut pg_sys::List| list(l).any(|child| node_makes(child.cast()));
        let own = match (*plan.cast::<pg_sys::Node>()).type_ {
            NodeTag::T_ModifyTable => {
                let node = plan.cast::<pg_sys::ModifyTable>();
                makes((*node).onConflictSet)
                    || list((*node).mergeActionLists).any(|actions| {
                        list(actions.cast()).any(|a| makes((*a.cast::<pg_sys::MergeAction>()).targetList))
                    })
            }
            NodeTag::T_ValuesScan => {
                list((*plan.cast::<pg_sys::ValuesScan>()).values_lists).any(|row| makes(row.cast()))
            }
            NodeTag::T_Append => children((*plan.cast::<pg_sys::Append>()).appendplans),
            NodeTag::T_MergeAppend => children((*plan.cast::<pg_sys::MergeAppend>()).mergeplans),
            NodeTag::T_SubqueryScan => node_makes((*plan.cast::<pg_sys::SubqueryScan>()).subplan),
            NodeTag::T_CustomScan => children((*plan.cast::<pg_sys::CustomScan>()).custom_plans),
            // XMLTABLE, JSON_TABLE
            NodeTag::T_TableFuncScan => {
                oids((*(*plan.cast::<pg_sys::TableFuncScan>()).tablefunc).coltypes).any(catalog::contains_pan)
            }
            NodeTag::T_FunctionScan => list((*plan.cast::<pg_sys::FunctionScan>()).functions)
                .any(|f| expression_makes((*f.cast::<pg_sys::RangeTblFunction>()).funcexpr)),
            _ => false,
        };
        own || makes((*plan).targetlist) || node_makes((*plan).lefttree) || node_makes((*plan).righttree)
    }
}

/// # Safety
/// `node` is null or a valid expression.
unsafe fn expression_makes(node: *mut pg_sys::Node) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_TargetEntry => expression_makes((*node.cast::<pg_sys::TargetEntry>()).expr.cast()),
            // What older minor releases put in place of a domain's column that an INSERT leaves out.
            NodeTag::T_CoerceToDomain => {
                expression_makes((*node.cast::<pg_sys::CoerceToDomain>()).arg.cast())
            }
            NodeTag::T_Var => false,
            NodeTag::T_Const if (*node.cast::<pg_sys::Const>()).constisnull => false,
            NodeTag::T_Param
                if (*node.cast::<pg_sys::Param>()).paramkind != pg_sys::ParamKind::PARAM_EXTERN =>
            {
                false
            }
            _ => catalog::contains_pan(pg_sys::exprType(node)),
        }
    }
}

/// # Safety
/// `plan` is null or a valid plan node.
unsafe fn node_compares(plan: *mut pg_sys::Plan, catalog: &Catalog) -> bool {
    if plan.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let expressions = |l: *mut pg_sys::List| expression_compares(l.cast(), catalog);
        let operators = |count: i32, at: *mut pg_sys::Oid| {
            (0..count as usize).any(|i| catalog.is_pan_operator(*at.add(i)))
        };
        let children = |l: *mut pg_sys::List| list(l).any(|child| node_compares(child.cast(), catalog));
        let own = match (*plan.cast::<pg_sys::Node>()).type_ {
            NodeTag::T_IndexScan => expressions((*plan.cast::<pg_sys::IndexScan>()).indexqualorig),
            NodeTag::T_IndexOnlyScan => expressions((*plan.cast::<pg_sys::IndexOnlyScan>()).indexqual),
            NodeTag::T_BitmapIndexScan => {
                expressions((*plan.cast::<pg_sys::BitmapIndexScan>()).indexqualorig)
            }
            NodeTag::T_NestLoop => expressions((*plan.cast::<pg_sys::Join>()).joinqual),
            NodeTag::T_HashJoin => {
                expressions((*plan.cast::<pg_sys::Join>()).joinqual)
                    || expressions((*plan.cast::<pg_sys::HashJoin>()).hashclauses)
            }
            NodeTag::T_MergeJoin => {
                expressions((*plan.cast::<pg_sys::Join>()).joinqual)
                    || expressions((*plan.cast::<pg_sys::MergeJoin>()).mergeclauses)
            }
            NodeTag::T_Memoize => {
                let node = plan.cast::<pg_sys::Memoize>();
                operators((*node).numKeys, (*node).hashOperators)
            }
            NodeTag::T_Sort | NodeTag::T_IncrementalSort => {
                let node = plan.cast::<pg_sys::Sort>();
                operators((*node).numCols, (*node).sortOperators)
            }
            NodeTag::T_Group => {
                let node = plan.cast::<pg_sys::Group>();
                operators((*node).numCols, (*node).grpOperators)
            }
            NodeTag::T_Agg => {
                let node = plan.cast::<pg_sys::Agg>();
                // The further grouping sets are nodes of their own.
                operators((*node).numCols, (*node).grpOperators) || children((*node).chain)
            }
            NodeTag::T_SetOp => {
                let node = plan.cast::<pg_sys::SetOp>();
                operators((*node).numCols, compat::set_operators(node))
            }
            NodeTag::T_Unique => {
                let node = plan.cast::<pg_sys::Unique>();
                operators((*node).numCols, (*node).uniqOperators)
            }
            NodeTag::T_WindowAgg => {
                let node = plan.cast::<pg_sys::WindowAgg>();
                operators((*node).partNumCols, (*node).partOperators)
                    || operators((*node).ordNumCols, (*node).ordOperators)
            }
            NodeTag::T_RecursiveUnion => {
                let node = plan.cast::<pg_sys::RecursiveUnion>();
                operators((*node).numCols, (*node).dupOperators)
            }
            NodeTag::T_MergeAppend => {
                let node = plan.cast::<pg_sys::MergeAppend>();
                operators((*node).numCols, (*node).sortOperators) || children((*node).mergeplans)
            }
            NodeTag::T_GatherMerge => {
                let node = plan.cast::<pg_sys::GatherMerge>();
                operators((*node).numCols, (*node).sortOperators)
            }
            NodeTag::T_Append => children((*plan.cast::<pg_sys::Append>()).appendplans),
            NodeTag::T_BitmapAnd => children((*plan.cast::<pg_sys::BitmapAnd>()).bitmapplans),
            NodeTag::T_BitmapOr => children((*plan.cast::<pg_sys::BitmapOr>()).bitmapplans),
            NodeTag::T_SubqueryScan => node_compares((*plan.cast::<pg_sys::SubqueryScan>()).subplan, catalog),
            NodeTag::T_CustomScan => children((*plan.cast::<pg_sys::CustomScan>()).custom_plans),
            NodeTag::T_Result => expressions((*plan.cast::<pg_sys::Result>()).resconstantqual.cast()),
            NodeTag::T_FunctionScan => expressions((*plan.cast::<pg_sys::FunctionScan>()).functions),
            NodeTag::T_ValuesScan => expressions((*plan.cast::<pg_sys::ValuesScan>()).values_lists),
            _ => false,
        };
        own || expressions((*plan).targetlist)
            || expressions((*plan).qual)
            || node_compares((*plan).lefttree, catalog)
            || node_compares((*plan).righttree, catalog)
    }
}
