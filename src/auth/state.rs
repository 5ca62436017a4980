//! What is kept of a role: its label.

use pgpci_core::account::Account;
use pgrx::pg_sys;

use crate::pg::label;

/// The account of a role; what nothing is kept of is a person's.
pub fn get(role: pg_sys::Oid) -> Account {
    label::account(role).and_then(|label| Account::parse(&label)).unwrap_or_default()
}

/// Keeps it.
pub fn put(role: pg_sys::Oid, account: &Account) {
    label::set_account(role, &account.to_label());
}

/// Every role that something is kept of.
pub fn all() -> Vec<(pg_sys::Oid, Account)> {
    let parsed = |(role, label): (pg_sys::Oid, String)| Some((role, Account::parse(&label)?));
    label::accounts().into_iter().filter_map(parsed).collect()
}
