//! Digits that a finished plan compares with, as text constants, become card numbers made for comparison only: they are
//! hashed once instead of once a scan, and `EXPLAIN` and auto_explain have nothing but a mask to print.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::{varlena, varlena_bytes};
use crate::pg::catalog::{self, Catalog};
use crate::pg::compat::expression_tree_walker;
use crate::pg::nodes::list;
use crate::pg::plan::{self, for_each_node};

/// Makes the stored form of a comparand from its text; None where it cannot be made now: then the comparison says so
/// when it is run.
pub type Make = fn(&[u8]) -> Option<Vec<u8>>;

/// Does so in a plan that the planner has just made, in its memory context.
pub fn seal(plan: *mut pg_sys::PlannedStmt, make: Make) {
    let Some(catalog) = catalog::get() else { return };
    let sealer = Sealer { catalog: &catalog, make };
    // SAFETY: a valid plan that nobody else sees yet.
    unsafe {
        for_each_node(plan, &mut |node| {
            for expression in plan::expressions(node) {
                visit(expression, (&raw const sealer).cast_mut().cast());
            }
            false
        });
    }
}

struct Sealer<'a> {
    catalog: &'a Catalog,
    make: Make,
}

/// # Safety
/// Called by PostgreSQL's tree walker with a node that may be changed and our `Sealer`.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is. The walker has no frame with a destructor.
    unsafe {
        let sealer = &*context.cast::<Sealer<'_>>();
        match (*node).type_ {
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                let expr = node.cast::<pg_sys::OpExpr>();
                if let Some(operator) = sealer.catalog.operator_of_pans((*expr).opno)
                    && sealer.seal_arguments((*expr).args)
                {
                    (*expr).opno = operator;
                    (*expr).opfuncid = pg_sys::get_opcode(operator);
                }
            }
            NodeTag::T_ScalarArrayOpExpr => {
                let expr = node.cast::<pg_sys::ScalarArrayOpExpr>();
                if let Some(operator) = sealer.catalog.operator_of_pans((*expr).opno)
                    && sealer.seal_arguments((*expr).args)
                {
                    (*expr).opno = operator;
                    (*expr).opfuncid = pg_sys::get_opcode(operator);
                }
            }
            _ => {}
        }
        #[allow(ffi_unwind_calls, reason = "no value with a destructor is alive")]
        expression_tree_walker(node, Some(visit), context)
    }
}

impl Sealer<'_> {
    /// Whether a constant among the arguments was text and is now a card number.
    ///
    /// # Safety
    /// `args` is the list of the two arguments of a comparison, which may be changed.
    unsafe fn seal_arguments(&self, args: *mut pg_sys::List) -> bool {
        // SAFETY: by contract.
        unsafe {
            for (i, node) in list(args).enumerate() {
                if (*node).type_ != NodeTag::T_Const {
                    continue;
                }
                let constant = &*node.cast::<pg_sys::Const>();
                let sealed = match constant.consttype {
                    _ if constant.constisnull => None,
                    pg_sys::TEXTOID => {
                        self.seal_text(constant.constvalue).map(|value| (self.catalog.pan, value))
                    }
                    pg_sys::TEXTARRAYOID => self.seal_array(constant.constvalue),
                    _ => None,
                };
                if let Some((type_oid, value)) = sealed {
                    let made = pg_sys::makeConst(type_oid, -1, pg_sys::InvalidOid, -1, value, false, false);
                    (*(*args).elements.add(i)).ptr_value = made.cast();
                    return true;
                }
            }
            false
        }
    }

    /// # Safety
    /// `text` is a text datum.
    unsafe fn seal_text(&self, text: pg_sys::Datum) -> Option<pg_sys::Datum> {
        // SAFETY: by contract.
        (self.make)(unsafe { varlena_bytes(text) }).map(|bytes| varlena(&bytes))
    }

    /// # Safety
    /// `array` is a text[] datum.
    unsafe fn seal_array(&self, array: pg_sys::Datum) -> Option<(pg_sys::Oid, pg_sys::Datum)> {
        const ALIGN: core::ffi::c_char = pg_sys::TYPALIGN_INT as _;
        // SAFETY: by contract; the elements are replaced in place, and the array is made of them anew.
        unsafe {
            let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let (mut elements, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
            pg_sys::deconstruct_array(
                array,
                pg_sys::TEXTOID,
                -1,
                false,
                ALIGN,
                &mut elements,
                &mut nulls,
                &mut count,
            );
            for i in 0..count as usize {
                if !*nulls.add(i) {
                    *elements.add(i) = self.seal_text(*elements.add(i))?;
                }
            }
            let mut lower = 1;
            let made = pg_sys::construct_md_array(
                elements,
                nulls,
                1,
                &mut count,
                &mut lower,
                self.catalog.pan,
                -1,
                false,
                ALIGN,
            );
            Some((pg_sys::get_array_type(self.catalog.pan), pg_sys::Datum::from(made)))
        }
    }
}
