//! Finds out whether a query compares card numbers: operators, sorts, groups, set operations, and functions
//! that could compare what an array, a row or a range of card numbers holds.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog::{self, Catalog};
use crate::pg::compat;
use crate::pg::harmless::{is_harmless, is_harmless_operator};
use crate::pg::nodes::{integers, list, oids};
use crate::pg::operand;

/// Whether the query compares card numbers.
pub fn query_compares(query: *mut pg_sys::Query) -> bool {
    let Some(catalog) = catalog::get() else {
        return false;
    };
    let mut search = Search { catalog: &catalog, vaults: None };
    // SAFETY: a valid query tree, read only.
    unsafe { walker(query.cast(), (&raw mut search).cast()) }
}

/// The vaults that a query compares card numbers in, `PLAIN` among them where the column has no type modifier.
pub fn vaults_compared(query: *mut pg_sys::Query) -> Vec<i32> {
    // SAFETY: a valid query tree, read only.
    unsafe { vaults_in(query.cast()) }
}

/// The same of an expression tree (of a plan) or a query.
///
/// # Safety
/// `node` is null or valid.
pub unsafe fn vaults_in(node: *mut pg_sys::Node) -> Vec<i32> {
    let Some(catalog) = catalog::get() else {
        return Vec::new();
    };
    let mut search = Search { catalog: &catalog, vaults: Some(Vec::new()) };
    // SAFETY: by contract.
    unsafe { walker(node, (&raw mut search).cast()) };
    let mut vaults = search.vaults.unwrap_or_default();
    vaults.sort_unstable();
    vaults.dedup();
    vaults
}

/// Whether an expression tree (of a plan) compares card numbers.
///
/// # Safety
/// `node` is null or a valid expression tree.
pub unsafe fn expression_compares(node: *mut pg_sys::Node, catalog: &Catalog) -> bool {
    let mut search = Search { catalog, vaults: None };
    // SAFETY: by contract.
    unsafe { walker(node, (&raw mut search).cast()) }
}

struct Search<'a> {
    catalog: &'a Catalog,
    /// What is collected instead of stopping at the first find.
    vaults: Option<Vec<i32>>,
}

/// # Safety
/// Called by PostgreSQL's tree walkers with a node and our `Search`.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn walker(node: *mut pg_sys::Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let search = &mut *context.cast::<Search<'_>>();
        let found = match (*node).type_ {
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                let expr = node.cast::<pg_sys::OpExpr>();
                search.operator((*expr).opno)
                    || search.arguments((*expr).args, || is_harmless_operator((*expr).opno))
            }
            NodeTag::T_ScalarArrayOpExpr => {
                let expr = node.cast::<pg_sys::ScalarArrayOpExpr>();
                search.operator((*expr).opno) || search.arguments((*expr).args, || false)
            }
            NodeTag::T_RowCompareExpr => {
                let expr = node.cast::<pg_sys::RowCompareExpr>();
                search.arguments((*expr).largs, || false) || search.arguments((*expr).rargs, || false)
            }
            NodeTag::T_MinMaxExpr => search.arguments((*node.cast::<pg_sys::MinMaxExpr>()).args, || false),
            NodeTag::T_FuncExpr => {
                let expr = node.cast::<pg_sys::FuncExpr>();
                search.catalog.is_comparison((*expr).funcid)
                    || search.arguments((*expr).args, || is_harmless((*expr).funcid))
            }
            NodeTag::T_Aggref => {
                let expr = node.cast::<pg_sys::Aggref>();
                search.arguments((*expr).args, || is_harmless((*expr).aggfnoid))
            }
            NodeTag::T_WindowFunc => {
                let expr = node.cast::<pg_sys::WindowFunc>();
                search.arguments((*expr).args, || is_harmless((*expr).winfnoid))
            }
            // Sorted, grouped, distinct or partitioned by.
            NodeTag::T_TargetEntry => {
                let entry = node.cast::<pg_sys::TargetEntry>();
                (*entry).ressortgroupref != 0 && search.holds_pan((*entry).expr.cast())
            }
            NodeTag::T_SetOperationStmt => {
                let operation = node.cast::<pg_sys::SetOperationStmt>();
                let keeps_all = (*operation).op == pg_sys::SetOperation::SETOP_UNION && (*operation).all;
                !keeps_all && oids((*operation).colTypes).any(catalog::contains_pan)
            }
            NodeTag::T_Query => {
                let entries = list((*node.cast::<pg_sys::Query>()).rtable);
                let mut groups = entries.flat_map(|entry| list(compat::grouped_by(entry.cast())));
                if groups.any(|expression| search.holds_pan(expression) && search.found(expression)) {
                    return true;
                }
                search.add_branches(node.cast());
                let flags = pg_sys::QTW_EXAMINE_SORTGROUP as i32;
                return pg_sys::query_tree_walker(node.cast(), Some(walker), context, flags);
            }
            _ => false,
        };
        (found && search.found(node)) || pg_sys::expression_tree_walker(node, Some(walker), context)
    }
}

impl Search<'_> {
    /// A node compares: true where that is all that is asked.
    ///
    /// # Safety
    /// `node` is valid.
    unsafe fn found(&mut self, node: *mut pg_sys::Node) -> bool {
        let Some(vaults) = &mut self.vaults else { return true };
        let before = vaults.len();
        // SAFETY: by contract; the tag says what the node is.
        unsafe {
            macro_rules! add {
                ($type:ident: $($field:ident),*) => {{
                    let node = node.cast::<pg_sys::$type>();
                    $(operand::add_vaults((*node).$field.cast(), vaults);)*
                }};
            }
            match (*node).type_ {
                NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => add!(OpExpr: args),
                NodeTag::T_ScalarArrayOpExpr => add!(ScalarArrayOpExpr: args),
                NodeTag::T_RowCompareExpr => add!(RowCompareExpr: largs, rargs),
                NodeTag::T_MinMaxExpr => add!(MinMaxExpr: args),
                NodeTag::T_FuncExpr => add!(FuncExpr: args),
                NodeTag::T_Aggref => add!(Aggref: args),
                NodeTag::T_WindowFunc => add!(WindowFunc: args),
                NodeTag::T_SetOperationStmt => {
                    let operation = node.cast::<pg_sys::SetOperationStmt>();
                    let types = oids((*operation).colTypes).zip(integers((*operation).colTypmods));
                    let ours = types.filter(|(oid, _)| catalog::contains_pan(*oid));
                    vaults.extend(ours.map(|(_, typmod)| typmod.max(operand::PLAIN)));
                }
                NodeTag::T_SortGroupClause => {}
                _ => operand::add_vaults(node, vaults),
            }
        }
        // Literals alone, and rows that say nothing of what is in them.
        if vaults.len() == before {
            vaults.push(operand::PLAIN);
        }
        false
    }

    /// Where the branches of a set operation are of different vaults, its own columns name none.
    ///
    /// # Safety
    /// `query` is valid.
    unsafe fn add_branches(&mut self, query: *mut pg_sys::Query) {
        let Some(vaults) = &mut self.vaults else { return };
        // SAFETY: by contract; the branches are subqueries of the range table.
        unsafe {
            let operation = (*query).setOperations;
            let mut search = Search { catalog: self.catalog, vaults: None };
            if operation.is_null() || !walker(operation, (&raw mut search).cast()) {
                return;
            }
            for entry in list((*query).rtable).map(|entry| &*entry.cast::<pg_sys::RangeTblEntry>()) {
                if entry.rtekind == pg_sys::RTEKind::RTE_SUBQUERY {
                    operand::add_vaults((*entry.subquery).targetList.cast(), vaults);
                }
            }
        }
    }

    fn operator(&self, operator: pg_sys::Oid) -> bool {
        operator.to_u32() >= pg_sys::FirstNormalObjectId && self.catalog.is_pan_operator(operator)
    }

    /// Whether an argument holds card numbers and the function or operator is not known as harmless.
    ///
    /// # Safety
    /// `args` is a valid list of expressions.
    unsafe fn arguments(&self, args: *mut pg_sys::List, harmless: impl Fn() -> bool) -> bool {
        // SAFETY: by contract.
        unsafe { list(args).any(|arg| self.holds_pan(arg)) && !harmless() }
    }

    /// # Safety
    /// `node` is null or a valid expression.
    unsafe fn holds_pan(&self, node: *mut pg_sys::Node) -> bool {
        if node.is_null() {
            return false;
        }
        // SAFETY: by contract.
        unsafe {
            match (*node).type_ {
                NodeTag::T_TargetEntry => self.holds_pan((*node.cast::<pg_sys::TargetEntry>()).expr.cast()),
                // An anonymous row: what it is made of.
                NodeTag::T_RowExpr => {
                    list((*node.cast::<pg_sys::RowExpr>()).args).any(|arg| self.holds_pan(arg))
                }
                _ => catalog::contains_pan(pg_sys::exprType(node)),
            }
        }
    }
}
