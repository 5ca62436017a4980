//! Security labels of roles and databases, provider `pgpci`.

use std::ffi::{CStr, CString};

use pgrx::{pg_guard, pg_sys};

use crate::pg::table;

const PROVIDER: &CStr = c"pgpci";
// pg_shseclabel, fixed by PostgreSQL's headers; pgrx does not bind it.
const SHARED_LABELS: pg_sys::Oid = pg_sys::Oid::from_u32(3592);

/// Registers the provider; called once, while the library is preloaded.
pub fn register() {
    // SAFETY: the name is static; the function is a plain callback.
    unsafe { pg_sys::register_label_provider(PROVIDER.as_ptr(), Some(check)) };
}

/// The label of a role.
pub fn get(role: pg_sys::Oid) -> Option<String> {
    read(&address(role))
}

/// The label of a database.
pub fn of_database(database: pg_sys::Oid) -> Option<String> {
    read(&address_of_database(database))
}

fn read(object: &pg_sys::ObjectAddress) -> Option<String> {
    // SAFETY: a catalog look-up; the result is a palloc'd string or null.
    unsafe {
        let label = pg_sys::GetSecurityLabel(object, PROVIDER.as_ptr());
        (!label.is_null()).then(|| CStr::from_ptr(label).to_string_lossy().into_owned())
    }
}

/// The roles that carry a label.
pub fn roles(label: &str) -> Vec<pg_sys::Oid> {
    // Columns of pg_shseclabel, counted from 0.
    const OBJECT: usize = 0;
    const CLASS: usize = 1;
    const LABEL: usize = 3;
    let mut found = Vec::new();
    table::scan(SHARED_LABELS, |row| {
        let is_role = row.get::<pg_sys::Oid>(CLASS) == Some(pg_sys::AuthIdRelationId);
        if is_role && row.get::<String>(LABEL).as_deref() == Some(label) {
            found.extend(row.get::<pg_sys::Oid>(OBJECT));
        }
    });
    found
}

/// Sets the label of a role, whoever asks.
pub fn set(role: pg_sys::Oid, label: &str) {
    write(&address(role), Some(label));
}

/// Sets the label of a database, whoever asks; None takes it away.
pub fn set_of_database(database: pg_sys::Oid, label: Option<&str>) {
    write(&address_of_database(database), label);
}

fn write(object: &pg_sys::ObjectAddress, label: Option<&str>) {
    let Ok(label) = label.map(CString::new).transpose() else { return };
    let label = label.as_ref().map_or(std::ptr::null(), |label| label.as_ptr());
    // SAFETY: an existing object; makes the change visible to what follows.
    unsafe {
        pg_sys::SetSecurityLabel(object, PROVIDER.as_ptr(), label);
        pg_sys::CommandCounterIncrement();
    }
}

fn address(role: pg_sys::Oid) -> pg_sys::ObjectAddress {
    pg_sys::ObjectAddress { classId: pg_sys::AuthIdRelationId, objectId: role, objectSubId: 0 }
}

fn address_of_database(database: pg_sys::Oid) -> pg_sys::ObjectAddress {
    pg_sys::ObjectAddress { classId: pg_sys::DatabaseRelationId, objectId: database, objectSubId: 0 }
}

/// The statement SECURITY LABEL FOR pgpci.
#[pg_guard]
unsafe extern "C-unwind" fn check(object: *const pg_sys::ObjectAddress, label: *const core::ffi::c_char) {
    // SAFETY: PostgreSQL passes a valid address and a string or null.
    let (object, label) = unsafe {
        let label = (!label.is_null()).then(|| CStr::from_ptr(label).to_string_lossy().into_owned());
        (*object, label)
    };
    let may = match object.classId {
        pg_sys::AuthIdRelationId => crate::access::roles::may_label(label.as_deref(), object.objectId),
        pg_sys::DatabaseRelationId => crate::key::installed::may_label(label.as_deref(), object.objectId),
        _ => false,
    };
    if !may {
        crate::error::Error::denied("labels of pgpci are set by its functions").raise();
    }
}
