//! Which types hold card numbers. Remembered until a type or relation changes.

use std::cell::RefCell;

use pgrx::pg_sys;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::pg::local::Local;
use crate::pg::{catalog, compat};

static CONTAINS: Local<RefCell<FxHashMap<pg_sys::Oid, bool>>> =
    Local::new(RefCell::new(FxHashMap::with_hasher(FxBuildHasher)));

/// Forgets what is remembered of types.
pub fn forget() {
    CONTAINS.with_borrow_mut(FxHashMap::clear);
}

/// Whether values of the type hold card numbers: `pci.pan`, its domains, arrays, rows, ranges.
pub fn contains_pan(type_oid: pg_sys::Oid) -> bool {
    // Built-in types never do, but for anonymous rows, which the walk treats by what they are made of.
    if type_oid.to_u32() < pg_sys::FirstNormalObjectId {
        return false;
    }
    let Some(catalog) = catalog::get() else { return false };
    if type_oid == catalog.pan {
        return true;
    }
    if let Some(known) = CONTAINS.with_borrow(|map| map.get(&type_oid).copied()) {
        return known;
    }
    let found = parts(type_oid).into_iter().any(contains_pan);
    CONTAINS.with_borrow_mut(|map| map.insert(type_oid, found));
    found
}

/// Whether one value of the type may hold several card numbers, or one beside something else: arrays, rows, ranges. Stored,
/// it is compressed, and how well tells what in it is equal.
pub fn is_container(type_oid: pg_sys::Oid) -> bool {
    contains_pan(type_oid) && !is_pan(type_oid)
}

/// Whether a type is `pci.pan` or a domain over it.
pub fn is_pan(type_oid: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    catalog::get().is_some_and(|catalog| unsafe { pg_sys::getBaseType(type_oid) } == catalog.pan)
}

/// The types that a type is made of.
fn parts(type_oid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: syscache look-ups; a composite's descriptor is reference-counted and released.
    unsafe {
        let base = pg_sys::getBaseType(type_oid);
        if base != type_oid {
            return vec![base];
        }
        let element = pg_sys::get_element_type(type_oid);
        if element != pg_sys::InvalidOid {
            return vec![element];
        }
        let range = pg_sys::get_range_subtype(type_oid);
        if range != pg_sys::InvalidOid {
            return vec![range];
        }
        let multirange = pg_sys::get_multirange_range(type_oid);
        if multirange != pg_sys::InvalidOid {
            return vec![multirange];
        }
        if pg_sys::get_typtype(type_oid) as u8 == pg_sys::TYPTYPE_COMPOSITE {
            let descriptor = pg_sys::lookup_rowtype_tupdesc_noerror(type_oid, -1, true);
            if descriptor.is_null() {
                return Vec::new();
            }
            let count = (*descriptor).natts as usize;
            let types = (0..count)
                .map(|i| &*compat::attribute(descriptor, i))
                .filter(|attribute| !attribute.attisdropped)
                .map(|attribute| attribute.atttypid)
                .collect();
            if (*descriptor).tdrefcount >= 0 {
                pg_sys::DecrTupleDescRefCount(descriptor);
            }
            return types;
        }
        Vec::new()
    }
}
