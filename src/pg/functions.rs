//! Functions of ours that a tree of expressions is searched for, by OID.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog::SCHEMA;
use crate::pg::nodes::list;

/// Looked up once, with the rest of the catalog.
#[derive(Clone, Debug)]
pub struct Functions {
    /// `to_vault(pan, integer, boolean)`: the cast to the vault of a column.
    pub to_vault: pg_sys::Oid,
    /// `from_text(text, integer, boolean)`
    pub from_text: pg_sys::Oid,
    /// `from_text(bpchar, integer, boolean)`
    from_bpchar: pg_sys::Oid,
    /// `comparand(text, integer)`, `comparand(pan, integer)`, and the same of arrays.
    pub comparands: [pg_sys::Oid; 4],
}

impl Functions {
    /// # Safety
    /// Called where the syscache can be read.
    pub unsafe fn look_up(pan: pg_sys::Oid) -> Self {
        let (number, boolean) = (pg_sys::INT4OID, pg_sys::BOOLOID);
        // SAFETY: by contract.
        unsafe {
            let pans = pg_sys::get_array_type(pan);
            Self {
                to_vault: function(c"to_vault", &[pan, number, boolean]),
                from_text: function(c"from_text", &[pg_sys::TEXTOID, number, boolean]),
                from_bpchar: function(c"from_text", &[pg_sys::BPCHAROID, number, boolean]),
                comparands: [pg_sys::TEXTOID, pan, pg_sys::TEXTARRAYOID, pans]
                    .map(|of| function(c"comparand", &[of, number])),
            }
        }
    }

    /// Whether a call makes a card number that takes the vault of what it is compared with.
    ///
    /// # Safety
    /// `call` is a valid function call.
    pub unsafe fn makes_without_vault(&self, call: *mut pg_sys::FuncExpr) -> bool {
        // SAFETY: by contract.
        unsafe {
            let is_cast = [self.from_text, self.from_bpchar].contains(&(*call).funcid);
            (is_cast && self.bound_to(call).is_none()) || self.comparands.contains(&(*call).funcid)
        }
    }

    /// The vault that a call binds its value to, if it is a cast that names one.
    ///
    /// # Safety
    /// `call` is a valid function call.
    pub unsafe fn bound_to(&self, call: *mut pg_sys::FuncExpr) -> Option<i32> {
        // SAFETY: by contract; the second argument is the type modifier.
        unsafe {
            let binds = [self.to_vault, self.from_text, self.from_bpchar].contains(&(*call).funcid);
            if !binds || (*call).funcid == pg_sys::InvalidOid {
                return None;
            }
            let typmod = list((*call).args).nth(1)?;
            if (*typmod).type_ != NodeTag::T_Const {
                return None;
            }
            let number = (*typmod.cast::<pg_sys::Const>()).constvalue.value() as i32;
            (number > 0).then_some(number)
        }
    }
}

/// # Safety
/// Called where the syscache can be read.
unsafe fn function(name: &std::ffi::CStr, arguments: &[pg_sys::Oid]) -> pg_sys::Oid {
    let schema = CString::new(SCHEMA).unwrap_or_default();
    // SAFETY: by contract; the names are copied, and missing ones give InvalidOid.
    unsafe {
        let part = |text: &std::ffi::CStr| pg_sys::makeString(pg_sys::pstrdup(text.as_ptr())).cast();
        let names = pg_sys::lappend(std::ptr::null_mut(), part(&schema));
        let names = pg_sys::lappend(names, part(name));
        pg_sys::LookupFuncName(names, arguments.len() as i32, arguments.as_ptr(), true)
    }
}
