//! Who calls a comparison function.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::activity::{self, Kind};
use crate::pg::nodes::list;

/// Whether a comparison function is called, without an expression, for somebody's comparison of arrays, rows or
/// ranges (they go through the type cache), or by the fast-path protocol. Indexes, sorts and PostgreSQL's own
/// foreign-key checks keep their look-up structures elsewhere. What ANALYZE does itself is known before; workers without
/// a client compare elements for themselves.
pub fn is_indirect_comparison(flinfo: *mut pg_sys::FmgrInfo) -> bool {
    // SAFETY: only addresses are compared.
    unsafe {
        let context = if flinfo.is_null() { std::ptr::null_mut() } else { (*flinfo).fn_mcxt };
        let by_type_cache = context == pg_sys::CacheMemoryContext
            && (!pg_sys::MyProcPort.is_null() || pg_sys::ParallelWorkerNumber >= 0);
        let by_fast_path = context == pg_sys::MessageContext && pg_sys::debug_query_string.is_null();
        by_type_cache || by_fast_path
    }
}

/// Whether ANALYZE compares the elements of arrays or the fields of rows, to keep the most common ones.
///
/// # Safety
/// `flinfo` is null or valid.
pub unsafe fn is_gathering_statistics(flinfo: *mut pg_sys::FmgrInfo) -> bool {
    // SAFETY: by contract; of the context only the address is compared.
    unsafe {
        !flinfo.is_null()
            && (*flinfo).fn_mcxt == pg_sys::CacheMemoryContext
            && !is_expression((*flinfo).fn_expr)
            && is_analyzing()
    }
}

/// Whether ANALYZE has the word here, and not a VACUUM, which builds indexes anew (FULL) and deletes pages of them. Both
/// may be the same statement: only the memory that is used tells them apart.
pub fn is_analyzing() -> bool {
    let may_analyze = match activity::innermost() {
        Some(kind) => kind == Kind::Vacuum,
        // SAFETY: reads a backend-local variable.
        None => unsafe { pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER },
    };
    // SAFETY: contexts are valid up to the topmost; their names are static.
    may_analyze
        && unsafe {
            let above = |context: &pg_sys::MemoryContext| {
                let parent = (**context).parent;
                (!parent.is_null()).then_some(parent)
            };
            std::iter::successors(Some(pg_sys::CurrentMemoryContext), above)
                .any(|context| CStr::from_ptr((*context).name) == c"Analyze")
        }
}

/// Whether what a look-up structure names as its expression is one: an index puts its options there, as a constant.
///
/// # Safety
/// `node` is null or a node.
#[inline]
pub unsafe fn is_expression(node: *mut pg_sys::Node) -> bool {
    // SAFETY: by contract.
    !node.is_null() && unsafe { (*node).type_ } != NodeTag::T_Const
}

/// Whether an index, sort or join of PostgreSQL's calls a comparison function: no expression, and none of the callers
/// that `is_indirect_comparison` is about.
///
/// # Safety
/// `flinfo` is null or valid.
#[inline]
pub unsafe fn is_index_or_sort(flinfo: *mut pg_sys::FmgrInfo) -> bool {
    // SAFETY: by contract; of the contexts only addresses are compared.
    unsafe {
        !flinfo.is_null()
            && !is_expression((*flinfo).fn_expr)
            && (*flinfo).fn_mcxt != pg_sys::CacheMemoryContext
            && (*flinfo).fn_mcxt != pg_sys::MessageContext
    }
}

/// Whether the expression compares a column with a parameter, or (`with_columns`) with another column: all
/// that PostgreSQL's own foreign-key statements do.
pub fn compares_columns(expression: *mut pg_sys::Node, with_columns: bool) -> bool {
    // SAFETY: fn_expr is an expression node or null.
    unsafe {
        if expression.is_null() || (*expression).type_ != NodeTag::T_OpExpr {
            return false;
        }
        let mut operands = list((*expression.cast::<pg_sys::OpExpr>()).args).map(|arg| operand(arg));
        match (operands.next(), operands.next()) {
            (Some(Operand::Column), Some(Operand::Parameter)) => true,
            (Some(Operand::Parameter), Some(Operand::Column)) => true,
            (Some(Operand::Column), Some(Operand::Column)) => with_columns,
            _ => false,
        }
    }
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
