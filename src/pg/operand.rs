//! Which vault an expression's card numbers belong to, by its type modifier.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::Call;
use crate::pg::nodes::list;
use crate::pg::{catalog, compat};

/// Stands for the vault of what has no type modifier.
pub const PLAIN: i32 = 0;

/// The vault that the expression's type is bound to.
///
/// # Safety
/// `node` is a valid expression.
pub unsafe fn bound_vault(node: *mut pg_sys::Node) -> Option<i32> {
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let typmod = pg_sys::exprTypmod(node);
        let type_oid = pg_sys::exprType(node);
        if typmod > 0 {
            return catalog::contains_pan(type_oid).then_some(typmod);
        }
        match (*node).type_ {
            NodeTag::T_RelabelType => bound_vault((*node.cast::<pg_sys::RelabelType>()).arg.cast()),
            NodeTag::T_CoerceToDomain => bound_vault((*node.cast::<pg_sys::CoerceToDomain>()).arg.cast()),
            _ if catalog::is_pan(type_oid) => of_domain(type_oid),
            _ => None,
        }
    }
}

/// Adds the vaults of the card numbers in an expression; none for a literal or parameter, which takes the vault of what
/// it is compared with.
///
/// # Safety
/// `node` is null or a valid expression, target entry or list of them.
pub unsafe fn add_vaults(node: *mut pg_sys::Node, vaults: &mut Vec<i32>) {
    if node.is_null() {
        return;
    }
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        let mut all = |nodes: *mut pg_sys::List| list(nodes).for_each(|each| add_vaults(each, vaults));
        match (*node).type_ {
            NodeTag::T_List => return all(node.cast()),
            NodeTag::T_TargetEntry => {
                return add_vaults((*node.cast::<pg_sys::TargetEntry>()).expr.cast(), vaults);
            }
            NodeTag::T_RowExpr => return all((*node.cast::<pg_sys::RowExpr>()).args),
            NodeTag::T_ArrayExpr => return all((*node.cast::<pg_sys::ArrayExpr>()).elements),
            _ => {}
        }
        let type_oid = pg_sys::exprType(node);
        match bound_vault(node) {
            Some(vault) => vaults.push(vault),
            None if !catalog::contains_pan(type_oid) => {}
            None if is_of_no_vault(node) => {}
            None => add_of_row(type_oid, vaults),
        }
    }
}

/// Whether the expression is a literal or a parameter of the statement, or made of a text.
///
/// # Safety
/// `node` is a valid expression.
pub unsafe fn is_of_no_vault(node: *mut pg_sys::Node) -> bool {
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_Const => true,
            NodeTag::T_Param => (*node.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXTERN,
            NodeTag::T_RelabelType => is_of_no_vault((*node.cast::<pg_sys::RelabelType>()).arg.cast()),
            NodeTag::T_FuncExpr => {
                catalog::get().is_some_and(|catalog| catalog.functions().makes_without_vault(node.cast()))
            }
            _ => false,
        }
    }
}

/// # Safety
/// Called where the syscache can be read.
unsafe fn of_domain(type_oid: pg_sys::Oid) -> Option<i32> {
    let mut typmod = -1;
    // SAFETY: by contract.
    unsafe { pg_sys::getBaseTypeAndTypmod(type_oid, &mut typmod) };
    (typmod > 0).then_some(typmod)
}

/// A row type's columns say their vaults; any other type that holds card numbers is plain.
///
/// # Safety
/// Called where the syscache can be read.
unsafe fn add_of_row(type_oid: pg_sys::Oid, vaults: &mut Vec<i32>) {
    // SAFETY: by contract; the descriptor is reference-counted and released.
    unsafe {
        let is_row = pg_sys::get_typtype(type_oid) as u8 == pg_sys::TYPTYPE_COMPOSITE;
        let descriptor = match is_row {
            true => pg_sys::lookup_rowtype_tupdesc_noerror(type_oid, -1, true),
            false => std::ptr::null_mut(),
        };
        if descriptor.is_null() {
            return vaults.push(PLAIN);
        }
        for column in (0..(*descriptor).natts as usize).map(|i| &*compat::attribute(descriptor, i)) {
            if !column.attisdropped && catalog::contains_pan(column.atttypid) {
                vaults.push(if column.atttypmod > 0 { column.atttypmod } else { PLAIN });
            }
        }
        if (*descriptor).tdrefcount >= 0 {
            pg_sys::DecrTupleDescRefCount(descriptor);
        }
    }
}

/// The vault of an argument of the expression that makes the call.
pub fn vault_of_argument(call: &Call, i: usize) -> Option<i32> {
    let expression = call.expression();
    if expression.is_null() {
        return None;
    }
    // SAFETY: an expression node; the tag says what it is.
    unsafe {
        let args = match (*expression).type_ {
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                (*expression.cast::<pg_sys::OpExpr>()).args
            }
            NodeTag::T_ScalarArrayOpExpr => (*expression.cast::<pg_sys::ScalarArrayOpExpr>()).args,
            NodeTag::T_FuncExpr => (*expression.cast::<pg_sys::FuncExpr>()).args,
            _ => return None,
        };
        list(args).nth(i).and_then(|argument| bound_vault(argument))
    }
}
