//! What an expression says that a definition keeps, analysed: whether it makes something of card numbers, and whether
//! it holds one.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog::{self, Catalog};
use crate::pg::nodes::list;

/// What is seen in trees.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    /// A card number of a row, of a domain's value, or one that a function gets from elsewhere; other than to ask
    /// whether it is NULL.
    pub pan: bool,
    /// A constant card number.
    pub constant: bool,
}

impl Seen {
    /// Looks at one more tree.
    ///
    /// # Safety
    /// `tree` is null or a valid tree of analysed expressions or queries.
    pub unsafe fn look(&mut self, tree: *mut pg_sys::Node) {
        let Some(catalog) = catalog::get() else { return };
        let mut search = Search { catalog: &catalog, seen: *self };
        // SAFETY: by contract.
        unsafe { visit(tree, (&raw mut search).cast()) };
        *self = search.seen;
    }

    /// Looks at the bound of a partition, which is no expression.
    ///
    /// # Safety
    /// `tree` is null or a valid tree.
    pub unsafe fn look_at_bound(&mut self, tree: *mut pg_sys::Node) {
        // SAFETY: by contract; the tag says what the node is.
        unsafe {
            if tree.is_null() || (*tree).type_ != NodeTag::T_PartitionBoundSpec {
                return;
            }
            let bound = &*tree.cast::<pg_sys::PartitionBoundSpec>();
            self.look(bound.listdatums.cast());
            for limit in list(bound.lowerdatums).chain(list(bound.upperdatums)) {
                if (*limit).type_ == NodeTag::T_PartitionRangeDatum {
                    self.look((*limit.cast::<pg_sys::PartitionRangeDatum>()).value);
                }
            }
        }
    }
}

/// Whether an expression's value holds card numbers, or is an anonymous row, which may.
///
/// # Safety
/// `expression` is a valid analysed expression.
pub unsafe fn may_be_pan(expression: *mut pg_sys::Node) -> bool {
    // SAFETY: by contract.
    let type_oid = unsafe { pg_sys::exprType(expression) };
    type_oid == pg_sys::RECORDOID || catalog::contains_pan(type_oid)
}

struct Search<'a> {
    catalog: &'a Catalog,
    seen: Seen,
}

/// # Safety
/// Called by PostgreSQL's tree walkers with a node and our `Search`.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    macro_rules! field {
        ($type:ident, $field:ident) => {
            (*node.cast::<pg_sys::$type>()).$field
        };
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let search = &mut *context.cast::<Search<'_>>();
        let pan = match (*node).type_ {
            NodeTag::T_Query => {
                // What a join makes of its tables' columns is listed whether it is used or not.
                let flags = pg_sys::QTW_IGNORE_JOINALIASES as i32;
                return pg_sys::query_tree_walker(node.cast(), Some(visit), context, flags);
            }
            NodeTag::T_NullTest => {
                let argument = field!(NullTest, arg).cast::<pg_sys::Node>();
                if matches!((*argument).type_, NodeTag::T_Var | NodeTag::T_CoerceToDomainValue) {
                    return false;
                }
                false
            }
            NodeTag::T_Const => {
                let constant = !field!(Const, constisnull) && catalog::contains_pan(field!(Const, consttype));
                search.seen.constant |= constant;
                false
            }
            NodeTag::T_Var => catalog::contains_pan(field!(Var, vartype)),
            NodeTag::T_CoerceToDomainValue => catalog::contains_pan(field!(CoerceToDomainValue, typeId)),
            NodeTag::T_FieldSelect => catalog::contains_pan(field!(FieldSelect, resulttype)),
            NodeTag::T_FuncExpr => search.fetches(field!(FuncExpr, funcid), field!(FuncExpr, funcresulttype)),
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                let result = field!(OpExpr, opresulttype);
                // NULLIF gives its argument: that is found by itself.
                (*node).type_ == NodeTag::T_OpExpr
                    && catalog::contains_pan(result)
                    && search.fetches(pg_sys::get_opcode(field!(OpExpr, opno)), result)
            }
            _ => false,
        };
        search.seen.pan |= pan;
        pg_sys::expression_tree_walker(node, Some(visit), context)
    }
}

impl Search<'_> {
    /// Whether a function may have a card number from elsewhere: one that is neither PostgreSQL's own nor ours.
    fn fetches(&self, function: pg_sys::Oid, result: pg_sys::Oid) -> bool {
        // SAFETY: a syscache look-up.
        function.to_u32() >= pg_sys::FirstNormalObjectId
            && catalog::contains_pan(result)
            && unsafe { pg_sys::get_func_namespace(function) } != self.catalog.namespace
    }
}
