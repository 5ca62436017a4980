//! The same question asked of a finished plan: functions in SQL may have been inlined, with comparisons that
//! the query did not show. And the mark by which a plan remembers the answer.

use pgpci_core::seal::Pan;
use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::varlena_bytes;
use crate::pg::catalog::{self, Catalog};
use crate::pg::compat;
use crate::pg::nodes::{integers, list};
use crate::pg::operand;
use crate::pg::plan::{self, for_each_node};
use crate::pg::walk::{expression_compares, vaults_in};

/// In place of a system cache: entries of a plan's dependencies that name vaults.
const NO_CACHE: i32 = i32::MAX;
/// The mark itself, among the numbers of vaults, which begin with 1.
const MARK: i32 = 0;

/// Numbers of vaults, kept as PostgreSQL keeps lists while a statement is planned.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Vaults(*mut pg_sys::List);

impl Vaults {
    /// None.
    pub const NONE: Self = Self(std::ptr::null_mut());

    /// A copy of them.
    pub fn new(vaults: &[i32]) -> Self {
        // SAFETY: makes a list in the current memory context.
        let list = |list, vault: &i32| unsafe { pg_sys::lappend_int(list, *vault) };
        Self(vaults.iter().fold(std::ptr::null_mut(), list))
    }

    /// The numbers.
    pub fn get(self) -> Vec<i32> {
        // SAFETY: a list of integers that `new` made, in the context that the statement is planned in.
        unsafe { integers(self.0) }.collect()
    }
}

/// Names the vaults that a plan compares in beside its mark.
pub fn mark_vaults(plan: *mut pg_sys::PlannedStmt, vaults: &[i32]) {
    vaults.iter().for_each(|vault| note(plan, *vault));
}

/// The vaults that the mark names.
pub fn marked_vaults(plan: *mut pg_sys::PlannedStmt) -> Vec<i32> {
    notes(plan).filter(|vault| *vault != MARK).collect()
}

fn note(plan: *mut pg_sys::PlannedStmt, number: i32) {
    // SAFETY: a plan that the planner has just made, in its memory context. PostgreSQL looks for entries of a cache that
    // it has, and copies the others with the plan.
    unsafe {
        let size = size_of::<pg_sys::PlanInvalItem>();
        let item = pg_sys::palloc0(size).cast::<pg_sys::PlanInvalItem>();
        ((*item).type_, (*item).cacheId) = (NodeTag::T_PlanInvalItem, NO_CACHE);
        (*item).hashValue = number as u32;
        (*plan).invalItems = pg_sys::lappend((*plan).invalItems, item.cast());
    }
}

fn notes(plan: *mut pg_sys::PlannedStmt) -> impl Iterator<Item = i32> {
    // SAFETY: a valid plan, whose list is one of such items.
    unsafe {
        list((*plan).invalItems)
            .map(|item| &*item.cast::<pg_sys::PlanInvalItem>())
            .filter(|item| item.cacheId == NO_CACHE)
            .map(|item| item.hashValue as i32)
    }
}

/// The vaults that a plan compares in, or passes on card numbers of to a node that does.
pub fn vaults_compared(plan: *mut pg_sys::PlannedStmt) -> Vec<i32> {
    let mut vaults = Vec::new();
    let Some(catalog) = catalog::get() else {
        return vaults;
    };
    // SAFETY: a valid plan, read only.
    unsafe {
        for_each_node(plan, &mut |node| {
            if compares_by_itself(node, &catalog) {
                operand::add_vaults((*node).targetlist.cast(), &mut vaults);
            }
            for expression in plan::expressions(node) {
                vaults.extend(vaults_in(expression));
            }
            false
        });
    }
    vaults.sort_unstable();
    vaults.dedup();
    vaults
}

/// Marks a plan that the planner has just made: it compares card numbers. It now depends on the grants, so that it is
/// made anew, and the question asked again, whenever one of them changes.
pub fn mark(plan: *mut pg_sys::PlannedStmt) {
    let Some(catalog) = catalog::get() else {
        return;
    };
    // SAFETY: in the planner's memory context.
    unsafe {
        (*plan).relationOids = pg_sys::lappend_oid((*plan).relationOids, catalog.mark());
    }
    note(plan, MARK);
}

/// Whether the plan is marked. What it depends on does not tell: a literal OID is among that, too.
pub fn is_marked(plan: *mut pg_sys::PlannedStmt) -> bool {
    notes(plan).any(|number| number == MARK)
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

/// Whether a plan makes a card number for a column without a vault, rather than passing on stored ones.
pub fn makes_pan(plan: *mut pg_sys::PlannedStmt) -> bool {
    // What has the type of a vault was bound to it.
    // SAFETY: `gives` passes on expressions.
    gives(plan, |node| unsafe {
        catalog::contains_pan(pg_sys::exprType(node)) && operand::bound_vault(node).is_none()
    })
}

/// Whether a plan gives a literal that was made for comparison only.
pub fn gives_comparand(plan: *mut pg_sys::PlannedStmt) -> bool {
    let Some(catalog) = catalog::get() else { return false };
    // SAFETY: `gives` passes on expressions; the tag and the type say what they are.
    gives(plan, |node| unsafe {
        (*node).type_ == NodeTag::T_Const && {
            let literal = node.cast::<pg_sys::Const>();
            (*literal).consttype == catalog.pan
                && Pan::from_stored(varlena_bytes((*literal).constvalue)).is_ok_and(|pan| pan.is_comparand())
        }
    })
}

/// Whether one of the values that a plan's nodes give, and that no table holds yet, is of this kind.
fn gives(plan: *mut pg_sys::PlannedStmt, is: impl Fn(*mut pg_sys::Node) -> bool) -> bool {
    // SAFETY: called with expressions of the plan.
    let expression_makes = |node: *mut pg_sys::Node| unsafe { expression_makes(node, &is) };
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
unsafe fn expression_makes(node: *mut pg_sys::Node, is: &dyn Fn(*mut pg_sys::Node) -> bool) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_List => list(node.cast()).any(|element| expression_makes(element, is)),
            NodeTag::T_TargetEntry => expression_makes((*node.cast::<pg_sys::TargetEntry>()).expr.cast(), is),
            NodeTag::T_MergeAction => {
                expression_makes((*node.cast::<pg_sys::MergeAction>()).targetList.cast(), is)
            }
            // What older minor releases put in place of a domain's column that an INSERT leaves out.
            NodeTag::T_CoerceToDomain => {
                expression_makes((*node.cast::<pg_sys::CoerceToDomain>()).arg.cast(), is)
            }
            NodeTag::T_Var => false,
            // Cast to a vault: where it is made, the cast itself checks.
            NodeTag::T_FuncExpr if is_bound(node.cast()) => false,
            NodeTag::T_ArrayCoerceExpr => {
                let coercion = node.cast::<pg_sys::ArrayCoerceExpr>();
                let each = (*coercion).elemexpr.cast::<pg_sys::Node>();
                (*each).type_ != NodeTag::T_FuncExpr || !is_bound(each.cast())
            }
            NodeTag::T_Const if (*node.cast::<pg_sys::Const>()).constisnull => false,
            NodeTag::T_Param
                if (*node.cast::<pg_sys::Param>()).paramkind != pg_sys::ParamKind::PARAM_EXTERN =>
            {
                false
            }
            _ => is(node),
        }
    }
}

/// # Safety
/// `call` is a valid function call.
unsafe fn is_bound(call: *mut pg_sys::FuncExpr) -> bool {
    // SAFETY: by contract.
    catalog::get().is_some_and(|catalog| unsafe { catalog.functions().bound_to(call) }.is_some())
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
