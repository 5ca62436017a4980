//! Constants of a tree that hold card numbers, made anew.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::call::{Call, Value, varlena, varlena_bytes};
use crate::pg::catalog;

/// Alignment of text and `pci.pan`, as their catalog rows say.
const ALIGN: core::ffi::c_char = pg_sys::TYPALIGN_INT as _;

/// A card number, or an array of them.
///
/// # Safety
/// `value` is of the type.
pub unsafe fn constant(type_oid: pg_sys::Oid, value: pg_sys::Datum) -> *mut pg_sys::Node {
    // SAFETY: by contract.
    unsafe { pg_sys::makeConst(type_oid, -1, pg_sys::InvalidOid, -1, value, false, false).cast() }
}

/// A number, as an argument.
pub fn number(value: i32) -> *mut pg_sys::Node {
    // SAFETY: an integer is passed by value.
    unsafe {
        let datum = pg_sys::Datum::from(value);
        pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, datum, false, true).cast()
    }
}

/// The card number that `make` gives for a text or card number; None where it gives none.
///
/// # Safety
/// `value` is a text or `pci.pan`.
pub unsafe fn made(value: pg_sys::Datum, make: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Option<pg_sys::Datum> {
    // SAFETY: by contract.
    make(unsafe { varlena_bytes(value) }).map(|bytes| varlena(&bytes))
}

/// The elements of an array that are not NULL.
///
/// # Safety
/// `array` is an array of `element`: text or `pci.pan`.
pub unsafe fn elements<'a>(array: pg_sys::Datum, element: pg_sys::Oid) -> Vec<&'a [u8]> {
    // SAFETY: by contract; what is returned lies in the current memory context, or where the array does.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut elements, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(array, element, -1, false, ALIGN, &mut elements, &mut nulls, &mut count);
        (0..count as usize).filter(|i| !*nulls.add(*i)).map(|i| varlena_bytes(*elements.add(i))).collect()
    }
}

/// The same for each element of an array, which becomes an array of `pan`. An element for which `make` gives none stays
/// (`keeps`), or else there is no array.
///
/// # Safety
/// `array` is an array of `element`: text or `pci.pan`.
pub unsafe fn made_array(
    array: pg_sys::Datum,
    element: pg_sys::Oid,
    pan: pg_sys::Oid,
    keeps: bool,
    make: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<pg_sys::Datum> {
    // SAFETY: by contract; the elements are replaced in place, and the array is made of them anew.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut elements, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(array, element, -1, false, ALIGN, &mut elements, &mut nulls, &mut count);
        for i in 0..count as usize {
            if *nulls.add(i) {
                continue;
            }
            match made(*elements.add(i), make) {
                Some(value) => *elements.add(i) = value,
                None if keeps => {}
                None => return None,
            }
        }
        let mut lower = 1;
        let built =
            pg_sys::construct_md_array(elements, nulls, 1, &mut count, &mut lower, pan, -1, false, ALIGN);
        Some(pg_sys::Datum::from(built))
    }
}

/// What makes an element anew; None keeps it.
pub type Remake<'a> = &'a dyn Fn(&[u8]) -> Result<Option<Vec<u8>>>;

/// An array argument with each of its elements made anew by `make`; None keeps a card number as it is.
pub fn array_argument(call: &Call, i: usize, make: Remake<'_>) -> Result<Value> {
    let failed = Cell::new(None);
    // SAFETY: the SQL declaration says text[] or pan[].
    unsafe {
        let array = pg_sys::pg_detoast_datum(call.argument(i).cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let element = (*array).elemtype;
        let pan =
            if element == pg_sys::TEXTOID { catalog::get().map_or(element, |c| c.pan) } else { element };
        let each = |bytes: &[u8]| {
            make(bytes).unwrap_or_else(|error| {
                failed.set(Some(error));
                None
            })
        };
        let keeps = element == pan;
        let made = made_array(pg_sys::Datum::from(array), element, pan, keeps, &each);
        match (failed.take(), made) {
            (Some(error), _) => Err(error),
            (None, Some(array)) => Ok(array),
            (None, None) => Ok(pg_sys::Datum::from(array)),
        }
    }
}
