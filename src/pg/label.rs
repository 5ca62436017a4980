//! Security labels: of roles and databases, provider `pgpci`, which are its functions' matter; and of roles, schemas and
//! relations, provider `pgpci_audit`, by which more of them is recorded.

use std::ffi::{CStr, CString};

use pgrx::{pg_guard, pg_sys};

use crate::pg::table;

const PROVIDER: &CStr = c"pgpci";
const AUDIT: &CStr = c"pgpci_audit";
/// The one label of that provider.
const ALL: &str = "all";
/// A role has one label of each provider: marks are of the first, the state of its account is of this one.
const ACCOUNTS: &CStr = c"pgpci_account";
// pg_shseclabel, fixed by PostgreSQL's headers; pgrx does not bind it.
const SHARED_LABELS: pg_sys::Oid = pg_sys::Oid::from_u32(3592);

/// Registers the providers; called once, while the library is preloaded.
pub fn register() {
    // SAFETY: the names are static; the functions are plain callbacks.
    unsafe {
        pg_sys::register_label_provider(PROVIDER.as_ptr(), Some(check));
        pg_sys::register_label_provider(AUDIT.as_ptr(), Some(check_audit));
        pg_sys::register_label_provider(ACCOUNTS.as_ptr(), Some(check_account));
    }
}

/// The label of a role.
pub fn get(role: pg_sys::Oid) -> Option<String> {
    read(&address(role), PROVIDER)
}

/// The label of a database.
pub fn of_database(database: pg_sys::Oid) -> Option<String> {
    read(&address_of_database(database), PROVIDER)
}

/// The state of a role's account.
pub fn account(role: pg_sys::Oid) -> Option<String> {
    read(&address(role), ACCOUNTS)
}

/// Sets it, whoever asks.
pub fn set_account(role: pg_sys::Oid, label: &str) {
    write(&address(role), ACCOUNTS, Some(label));
}

/// Whoever else is to change it waits until this transaction ends: PostgreSQL would not let the second of two change a
/// row of a catalog. Taken before the role's own row is changed, so that nobody waits the other way round.
pub fn lock_account(role: pg_sys::Oid) {
    // SAFETY: in a transaction; the lock goes with it. A standby changes nothing.
    unsafe {
        if !pg_sys::RecoveryInProgress() {
            pg_sys::LockSharedObject(SHARED_LABELS, role, 0, pg_sys::ExclusiveLock as pg_sys::LOCKMODE);
        }
    }
}

/// Takes it away.
pub fn forget_account(role: pg_sys::Oid) {
    write(&address(role), ACCOUNTS, None);
}

/// Every role that has one, and it.
pub fn accounts() -> Vec<(pg_sys::Oid, String)> {
    let mut found = Vec::new();
    scan(ACCOUNTS, |role, label| found.push((role, label)));
    found
}

fn read(object: &pg_sys::ObjectAddress, provider: &CStr) -> Option<String> {
    // SAFETY: a catalog look-up; the result is a palloc'd string or null.
    unsafe {
        let label = pg_sys::GetSecurityLabel(object, provider.as_ptr());
        (!label.is_null()).then(|| CStr::from_ptr(label).to_string_lossy().into_owned())
    }
}

/// The roles that carry a label of ours.
pub fn roles(label: &str) -> Vec<pg_sys::Oid> {
    roles_of(PROVIDER, label)
}

/// The roles of whose members everything is recorded.
pub fn audited_roles() -> Vec<pg_sys::Oid> {
    roles_of(AUDIT, ALL)
}

/// Whether everything is recorded that touches the relation: it is labelled, or its schema is.
pub fn is_audited(relation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    let schema = unsafe { pg_sys::get_rel_namespace(relation) };
    [(pg_sys::RelationRelationId, relation), (pg_sys::NamespaceRelationId, schema)].into_iter().any(
        |(class, object)| {
            let address = pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
            read(&address, AUDIT).is_some_and(|label| label == ALL)
        },
    )
}

fn roles_of(provider: &CStr, label: &str) -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    scan(provider, |role, its| {
        if its == label {
            found.push(role);
        }
    });
    found
}

fn scan(provider: &CStr, mut each: impl FnMut(pg_sys::Oid, String)) {
    // Columns of pg_shseclabel, counted from 0.
    const OBJECT: usize = 0;
    const CLASS: usize = 1;
    const PROVIDED_BY: usize = 2;
    const LABEL: usize = 3;
    table::scan(SHARED_LABELS, |row| {
        let is_one = row.get::<pg_sys::Oid>(CLASS) == Some(pg_sys::AuthIdRelationId)
            && row.get::<String>(PROVIDED_BY).is_some_and(|it| it.as_bytes() == provider.to_bytes());
        if let (true, Some(role), Some(label)) = (is_one, row.get(OBJECT), row.get(LABEL)) {
            each(role, label);
        }
    });
}

/// Sets the label of a role, whoever asks.
pub fn set(role: pg_sys::Oid, label: &str) {
    write(&address(role), PROVIDER, Some(label));
}

/// Sets the label of a database, whoever asks; None takes it away.
pub fn set_of_database(database: pg_sys::Oid, label: Option<&str>) {
    write(&address_of_database(database), PROVIDER, label);
}

fn write(object: &pg_sys::ObjectAddress, provider: &CStr, label: Option<&str>) {
    let Ok(label) = label.map(CString::new).transpose() else { return };
    let label = label.as_ref().map_or(std::ptr::null(), |label| label.as_ptr());
    // SAFETY: an existing object; makes the change visible to what follows.
    unsafe {
        pg_sys::SetSecurityLabel(object, provider.as_ptr(), label);
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

/// The statement SECURITY LABEL FOR pgpci_audit. Whoever may label the object may have more of it recorded, and less
/// again; either is recorded.
#[pg_guard]
unsafe extern "C-unwind" fn check_audit(
    object: *const pg_sys::ObjectAddress,
    label: *const core::ffi::c_char,
) {
    // SAFETY: PostgreSQL passes a valid address and a string or null.
    let (object, is_known) =
        unsafe { (*object, label.is_null() || CStr::from_ptr(label).to_bytes() == ALL.as_bytes()) };
    let is_whole = object.objectSubId == 0 && object.objectId.to_u32() >= pg_sys::FirstNormalObjectId;
    let has_meaning = matches!(
        object.classId,
        pg_sys::AuthIdRelationId | pg_sys::RelationRelationId | pg_sys::NamespaceRelationId
    );
    if is_known && is_whole && has_meaning {
        return tell(&object);
    }
    crate::error::Error::argument("a label of pgpci_audit is \"all\", of a role, a schema or a table of your own")
        .hint("SECURITY LABEL FOR pgpci_audit ON TABLE orders IS 'all' has everything recorded that touches it; IS NULL ends that.")
        .raise()
}

/// Tells every session, once this transaction commits, to forget what it remembers of an object's label: labels have no
/// cache that would do so.
fn tell(object: &pg_sys::ObjectAddress) {
    // SAFETY: an existing object.
    unsafe {
        match object.classId {
            pg_sys::AuthIdRelationId => pg_sys::CacheInvalidateCatalog(pg_sys::AuthIdRelationId),
            pg_sys::RelationRelationId => pg_sys::CacheInvalidateRelcacheByRelid(object.objectId),
            _ => pg_sys::CacheInvalidateRelcacheAll(),
        }
    }
}

/// The statement SECURITY LABEL FOR pgpci_account: a restore's.
#[pg_guard]
unsafe extern "C-unwind" fn check_account(
    object: *const pg_sys::ObjectAddress,
    label: *const core::ffi::c_char,
) {
    // SAFETY: PostgreSQL passes a valid address, and a C string or null.
    let (is_role, label) = unsafe {
        let label = (!label.is_null()).then(|| CStr::from_ptr(label).to_string_lossy());
        ((*object).classId == pg_sys::AuthIdRelationId, label)
    };
    let is_restored = is_role && label.is_some_and(|label| crate::auth::may_be_restored(&label));
    if !is_restored {
        crate::error::Error::denied("labels of pgpci are set by its functions")
            .hint("Only a restore brings them, to a cluster where no policy is in force; pci.accept_policy then tells whether they are genuine.")
            .raise();
    }
}
