//! What is kept of a role: its label, and whether it was written by us.

use pgpci_core::account::{Account, Label};
use pgrx::pg_sys;

use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::cluster;
use crate::pg::{label, session};

/// What is known of a label.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// There is none.
    Nothing,
    /// Its MAC is right.
    Genuine,
    /// Its MAC is wrong.
    Forged,
    /// The key that would tell is not at hand.
    Unproven,
}

/// The account of a role, as far as its label can be believed; what nothing is kept of is a person's. Waits for nothing.
pub fn get(role: pg_sys::Oid) -> Account {
    look(role).0
}

/// The same, and what is known of the label.
pub fn look(role: pg_sys::Oid) -> (Account, Proof) {
    look_with(role, cluster::at_hand().as_ref().map(|key| key.expose()))
}

/// The same with the key, if it is at hand, for whoever looks at several.
pub fn look_with(role: pg_sys::Oid, key: Option<&[u8; 32]>) -> (Account, Proof) {
    match label::account(role) {
        Some(text) => judge(&session::role_name(role), &text, key),
        None => (Account::default(), Proof::Nothing),
    }
}

/// A statement will change the role: nobody else changes what is kept of it until the transaction ends.
pub fn begins_to_change(role: pg_sys::Oid) {
    label::lock_account(role);
}

/// The account of a role that is about to be changed: nothing is written on that was not proven before.
pub fn to_change(role: pg_sys::Oid) -> Result<Account> {
    to_change_as(role, &session::role_name(role))
}

/// The same of a role that had another name until now.
pub fn to_change_as(role: pg_sys::Oid, name: &str) -> Result<Account> {
    let (account, proof) = prove_as(role, name)?;
    if proof == Proof::Forged {
        accuse(role);
    }
    Ok(account)
}

/// The account of a role; None where its label was not written by us, which is for an officer to see. Waits for the key.
pub fn proven(role: pg_sys::Oid) -> Result<Option<Account>> {
    let (account, proof) = prove_as(role, &session::role_name(role))?;
    Ok((proof != Proof::Forged).then_some(account))
}

fn prove_as(role: pg_sys::Oid, name: &str) -> Result<(Account, Proof)> {
    label::lock_account(role);
    match label::account(role) {
        Some(text) => cluster::with(|key| Ok(judge(name, &text, Some(key)))),
        None => Ok((Account::default(), Proof::Nothing)),
    }
}

/// Whether something is kept of it.
pub fn is_kept(role: pg_sys::Oid) -> bool {
    label::account(role).is_some()
}

/// Keeps it.
pub fn put(role: pg_sys::Oid, account: &Account) -> Result<()> {
    let text = cluster::with(|key| Ok(account.to_label(key, &session::role_name(role))))?;
    let text = text.ok_or_else(|| {
        Error::state("too much is kept of this role")
            .hint("Fewer sources or exemptions, or shorter reasons, fit.")
    })?;
    label::set_account(role, &text);
    Ok(())
}

/// Every role that something is kept of, as `get` has it.
pub fn all() -> Vec<(pg_sys::Oid, Account)> {
    let key = cluster::at_hand();
    let key = key.as_ref().map(|key| key.expose());
    let judged = |(role, text): (pg_sys::Oid, String)| {
        if text.starts_with(cluster::PREFIX) {
            return None;
        }
        Some((role, judge(&session::role_name(role), &text, key).0))
    };
    label::accounts().into_iter().filter_map(judged).collect()
}

/// Tells of a label that was not written by us.
pub fn accuse(role: pg_sys::Oid) {
    let name = session::role_name(role);
    audit::record(
        Class::Account,
        &format!("role \"{name}\": what is kept of the account was not written by pgpci"),
    );
    pgrx::log!("pgpci: role \"{name}\": what is kept of the account was not written by pgpci");
}

fn judge(name: &str, text: &str, key: Option<&[u8; 32]>) -> (Account, Proof) {
    let label = Label::parse(text);
    match (label, key) {
        (Some(label), Some(key)) if label.is_genuine(key, name) => (label.account, Proof::Genuine),
        (Some(label), None) => (label.account, Proof::Unproven),
        (label, _) => (Account::distrusted(label.map(|it| it.account).as_ref()), Proof::Forged),
    }
}
