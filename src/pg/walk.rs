//! Finds out whether a query compares card numbers: operators, sorts, groups, set operations, and functions
//! that could compare what an array, a row or a range of card numbers holds.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog::{self, Catalog};

/// Built-in functions that take card numbers, or arrays and rows of them, without comparing them.
const HARMLESS: &[&str] = &[
    "any_value",
    "array_agg",
    "array_append",
    "array_cat",
    "array_dims",
    "array_fill",
    "array_length",
    "array_lower",
    "array_ndims",
    "array_prepend",
    "array_to_json",
    "array_to_string",
    "array_upper",
    "cardinality",
    "concat",
    "concat_ws",
    "count",
    "first_value",
    "format",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "num_nonnulls",
    "num_nulls",
    "pg_column_size",
    "pg_typeof",
    "quote_literal",
    "quote_nullable",
    "row_to_json",
    "textanycat",
    "anytextcat",
    "to_json",
    "to_jsonb",
    "trim_array",
    "unnest",
];

// Fixed by pg_language.dat; pgrx does not bind them.
const INTERNAL_LANGUAGE: pg_sys::Oid = pg_sys::Oid::from_u32(12);
const C_LANGUAGE: pg_sys::Oid = pg_sys::Oid::from_u32(13);

/// Whether the query compares card numbers.
pub fn query_compares(query: *mut pg_sys::Query) -> bool {
    let Some(catalog) = catalog::get() else {
        return false;
    };
    let mut search = Search { catalog: &catalog };
    // SAFETY: a valid query tree, read only.
    unsafe { walker(query.cast(), (&raw mut search).cast()) }
}

/// Whether an expression tree (of a plan) compares card numbers.
///
/// # Safety
/// `node` is null or a valid expression tree.
pub unsafe fn expression_compares(node: *mut pg_sys::Node, catalog: &Catalog) -> bool {
    let mut search = Search { catalog };
    // SAFETY: by contract.
    unsafe { walker(node, (&raw mut search).cast()) }
}

/// Whether a comparison function is called, without an expression, for somebody's comparison of arrays, rows or
/// ranges (they go through the type cache), or by the fast-path protocol. Indexes, sorts and PostgreSQL's own
/// foreign-key checks keep their look-up structures elsewhere. ANALYZE and workers without a client compare
/// elements for themselves.
pub fn is_indirect_comparison(flinfo: *mut pg_sys::FmgrInfo) -> bool {
    // SAFETY: only addresses are compared.
    unsafe {
        let context = if flinfo.is_null() { std::ptr::null_mut() } else { (*flinfo).fn_mcxt };
        let by_type_cache = context == pg_sys::CacheMemoryContext
            && ANALYZING.get() == 0
            && (!pg_sys::MyProcPort.is_null() || pg_sys::ParallelWorkerNumber >= 0);
        let by_fast_path = context == pg_sys::MessageContext && pg_sys::debug_query_string.is_null();
        by_type_cache || by_fast_path
    }
}

/// ANALYZE begins or ends.
pub fn analyzing(begins: bool) {
    ANALYZING.set(if begins { ANALYZING.get() + 1 } else { ANALYZING.get().saturating_sub(1) });
}

/// How many ANALYZE are running.
pub fn analyzing_depth() -> u32 {
    ANALYZING.get()
}

/// Back to that, when a failure cuts one off.
pub fn set_analyzing_depth(depth: u32) {
    ANALYZING.set(depth);
}

/// Whether the expression compares a column with a parameter, or (`with_columns`) with another column: all
/// that PostgreSQL's own foreign-key statements do.
pub fn compares_columns(expression: *mut pg_sys::Node, with_columns: bool) -> bool {
    // SAFETY: fn_expr is an expression node or null.
    unsafe {
        if expression.is_null() || (*expression).type_ != NodeTag::T_OpExpr {
            return false;
        }
        let args = list((*expression.cast::<pg_sys::OpExpr>()).args);
        let kinds: Vec<Operand> = args.map(|arg| operand(arg)).collect();
        match kinds.as_slice() {
            [Operand::Column, Operand::Parameter] | [Operand::Parameter, Operand::Column] => true,
            [Operand::Column, Operand::Column] => with_columns,
            _ => false,
        }
    }
}

/// The elements of a list of nodes.
///
/// # Safety
/// `list` is null or a valid list of pointers that outlives the iterator.
pub unsafe fn list(list: *mut pg_sys::List) -> impl Iterator<Item = *mut pg_sys::Node> {
    // SAFETY: by contract.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length } };
    // SAFETY: by contract, i < length.
    (0..length).map(move |i| unsafe { (*(*list).elements.add(i as usize)).ptr_value.cast() })
}

thread_local! {
    static ANALYZING: Cell<u32> = const { Cell::new(0) };
    static HARMLESS_OIDS: RefCell<HashMap<pg_sys::Oid, bool>> = RefCell::new(HashMap::new());
}

struct Search<'a> {
    catalog: &'a Catalog,
}

#[derive(PartialEq, Eq)]
enum Operand {
    Column,
    Parameter,
    Other,
}

/// # Safety
/// `node` is a valid expression.
unsafe fn operand(node: *mut pg_sys::Node) -> Operand {
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_Var => Operand::Column,
            NodeTag::T_Param
                if (*node.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXTERN =>
            {
                Operand::Parameter
            }
            // A parameter that a custom plan replaced keeps its place in the text; a constant that comes from the
            // catalog (a CHECK constraint) has none.
            NodeTag::T_Const if (*node.cast::<pg_sys::Const>()).location >= 0 => Operand::Parameter,
            NodeTag::T_RelabelType => operand((*node.cast::<pg_sys::RelabelType>()).arg.cast()),
            _ => Operand::Other,
        }
    }
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
        let search = &*context.cast::<Search<'_>>();
        let found = match (*node).type_ {
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                let expr = node.cast::<pg_sys::OpExpr>();
                search.operator((*expr).opno)
                    || (compares_images((*expr).opno)
                        && list((*expr).args).any(|arg| search.may_hold_pan(arg)))
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
                search.arguments((*expr).args, || is_harmless((*expr).funcid))
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
            NodeTag::T_SortGroupClause => {
                let clause = node.cast::<pg_sys::SortGroupClause>();
                compares_images((*clause).eqop) || compares_images((*clause).sortop)
            }
            NodeTag::T_Query => {
                let flags = pg_sys::QTW_EXAMINE_SORTGROUP as i32;
                return pg_sys::query_tree_walker(node.cast(), Some(walker), context, flags);
            }
            _ => false,
        };
        found || pg_sys::expression_tree_walker(node, Some(walker), context)
    }
}

impl Search<'_> {
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

    /// The same, where an anonymous row may hold anything.
    ///
    /// # Safety
    /// `node` is a valid expression.
    unsafe fn may_hold_pan(&self, node: *mut pg_sys::Node) -> bool {
        // SAFETY: by contract.
        unsafe { self.holds_pan(node) || pg_sys::exprType(node) == pg_sys::RECORDOID }
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

/// Whether the operator compares rows by their stored bytes, which hold the equality hash: record_image_eq to
/// record_image_ge, fixed by pg_operator.dat.
fn compares_images(operator: pg_sys::Oid) -> bool {
    (3188..=3195).contains(&operator.to_u32())
}

/// Concatenation of anything with text prints; all else may compare.
fn is_harmless_operator(operator: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    is_harmless(unsafe { pg_sys::get_opcode(operator) })
}

/// Functions of ours check for themselves, those in SQL or a procedural language are made of statements that
/// are checked; built-in ones are harmless if listed; other C code is not trusted not to compare.
fn is_harmless(function: pg_sys::Oid) -> bool {
    if let Some(known) = HARMLESS_OIDS.with_borrow(|map| map.get(&function).copied()) {
        return known;
    }
    // SAFETY: syscache look-ups; the tuple is released.
    let harmless = unsafe {
        let tuple =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as _, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let name = CStr::from_ptr((*form).proname.data.as_ptr()).to_string_lossy().into_owned();
        let (namespace, language) = ((*form).pronamespace, (*form).prolang);
        pg_sys::ReleaseSysCache(tuple);
        // All functions of ours are in C: a superuser can put others beside them, by names of PostgreSQL's own.
        let ours = language == C_LANGUAGE && catalog::get().is_some_and(|c| c.namespace == namespace);
        if ours {
            true
        } else if function.to_u32() < pg_sys::FirstNormalObjectId {
            HARMLESS.contains(&name.as_str())
        } else {
            language != C_LANGUAGE && language != INTERNAL_LANGUAGE
        }
    };
    HARMLESS_OIDS.with_borrow_mut(|map| map.insert(function, harmless));
    harmless
}

/// # Safety
/// `list` is null or a valid list of OIDs.
unsafe fn oids(list: *mut pg_sys::List) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: by contract.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length } };
    // SAFETY: by contract.
    (0..length).map(move |i| unsafe { (*(*list).elements.add(i as usize)).oid_value })
}
