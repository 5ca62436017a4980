//! The same question asked of a finished plan: functions in SQL may have been inlined, with comparisons that
//! the query did not show. And the mark by which a plan remembers the answer.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog::{self, Catalog, Mark};
use crate::pg::compat;
use crate::pg::nodes::{list, oids};
use crate::pg::plan::{self, for_each_node};
use crate::pg::walk::expression_compares;

/// Marks a plan that the planner has just made. It now depends on the grants (or vaults), so that it is made anew,
/// and the question asked again, whenever one of them changes.
pub fn mark(plan: *mut pg_sys::PlannedStmt, mark: Mark) {
    let Some(catalog) = catalog::get() else {
        return;
    };
    // SAFETY: in the planner's memory context.
    unsafe {
        (*plan).relationOids = pg_sys::lappend_oid((*plan).relationOids, catalog.mark(mark));
    }
}

/// What a plan is marked as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// It compares card numbers.
    pub compares: bool,
    /// It writes, or returns, stored ones.
    pub copies: bool,
}

/// The marks of a plan.
pub fn marks(plan: *mut pg_sys::PlannedStmt) -> Marks {
    // SAFETY: a valid plan; relationOids is a list of OIDs.
    unsafe {
        let relations = (*plan).relationOids;
        let catalog = if relations.is_null() { None } else { catalog::get() };
        let Some(catalog) = catalog else { return Marks { compares: false, copies: false } };
        let has = |mark| oids(relations).any(|oid| oid == catalog.mark(mark));
        Marks { compares: has(Mark::Compares), copies: has(Mark::Copies) }
    }
}

/// Whether a plan compares card numbers.
pub fn plan_compares(plan: *mut pg_sys::PlannedStmt) -> bool {
    let Some(catalog) = catalog::get() else {
        return false;
    };
    // SAFETY: a valid plan, read only.
    unsafe {
        for_each_node(plan, &mut |node| {
            compares_by_itself(node, &catalog)
                || plan::expressions(node).into_iter().any(|e| expression_compares(e, &catalog))
        })
    }
}

/// Whether a plan makes a card number, rather than passing on stored ones.
pub fn makes_pan(plan: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: a valid plan, read only; the tag says what the node is.
    unsafe {
        for_each_node(plan, &mut |node| {
            let columns = (*node).targetlist.cast();
            match (*node.cast::<pg_sys::Node>()).type_ {
                // Their columns come from outside of any table, whatever the expressions say.
                NodeTag::T_FunctionScan | NodeTag::T_TableFuncScan | NodeTag::T_ForeignScan => {
                    list((*node).targetlist).any(|column| {
                        let column = column.cast::<pg_sys::TargetEntry>();
                        catalog::contains_pan(pg_sys::exprType((*column).expr.cast()))
                    })
                }
                NodeTag::T_ModifyTable => {
                    let node = node.cast::<pg_sys::ModifyTable>();
                    expression_makes((*node).onConflictSet.cast())
                        || expression_makes((*node).mergeActionLists.cast())
                        || expression_makes(columns)
                }
                NodeTag::T_ValuesScan => {
                    let node = node.cast::<pg_sys::ValuesScan>();
                    expression_makes((*node).values_lists.cast()) || expression_makes(columns)
                }
                _ => expression_makes(columns),
            }
        })
    }
}

/// Whether an expression, or one in a list of expressions, gives a card number that no table holds yet.
///
/// # Safety
/// `node` is null or a valid expression, target entry or list of them.
unsafe fn expression_makes(node: *mut pg_sys::Node) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_List => list(node.cast()).any(|element| expression_makes(element)),
            NodeTag::T_TargetEntry => expression_makes((*node.cast::<pg_sys::TargetEntry>()).expr.cast()),
            NodeTag::T_MergeAction => {
                expression_makes((*node.cast::<pg_sys::MergeAction>()).targetList.cast())
            }
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

/// Whether a node compares card numbers apart from its expressions: it sorts, groups or hashes by them.
///
/// # Safety
/// `plan` is a valid plan node.
unsafe fn compares_by_itself(plan: *mut pg_sys::Plan, catalog: &Catalog) -> bool {
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let operators = |count: i32, at: *mut pg_sys::Oid| {
            (0..count as usize).any(|i| catalog.is_pan_operator(*at.add(i)))
        };
        match (*plan.cast::<pg_sys::Node>()).type_ {
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
                operators((*node).numCols, (*node).grpOperators)
            }
            NodeTag::T_SetOp => {
                let node = plan.cast::<pg_sys::SetOp>();
                operators((*node).numCols, compat::set_operators(node))
            }
            NodeTag::T_MergeAppend => {
                let node = plan.cast::<pg_sys::MergeAppend>();
                operators((*node).numCols, (*node).sortOperators)
            }
            NodeTag::T_GatherMerge => {
                let node = plan.cast::<pg_sys::GatherMerge>();
                operators((*node).numCols, (*node).sortOperators)
            }
            _ => false,
        }
    }
}
