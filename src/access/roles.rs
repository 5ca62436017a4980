//! Roles that pgpci relies on: the duties, and whoever holds a capability. They carry a label (in a shared
//! catalog: seen in every database, on standbys, and in pg_dumpall) that names this cluster, and only an
//! officer changes who is a member of them. A label from elsewhere, as a restore brings it, binds nobody.

use pgrx::pg_sys;

use super::tables;
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::pg::{label, session, statement};

/// Marks a role as one that pgpci relies on.
pub fn mark(role: pg_sys::Oid) {
    if !is_marked(role) {
        label::set(role, &text());
    }
}

/// Whether the role is marked, in this cluster.
pub fn is_marked(role: pg_sys::Oid) -> bool {
    label::get(role).is_some_and(|label| label == text())
}

/// Whether the role is a duty that counts: marked here, or, while no policy is in force, restored.
pub fn is_duty(role: pg_sys::Oid, active: bool) -> bool {
    is_marked(role) || (!active && label::get(role).is_some())
}

/// 42501 for a utility statement that changes who is, or is called, one of the marked roles.
/// Our own script makes no exception: what an event trigger does while it runs would be one, too.
pub fn check_statement(node: *mut pg_sys::Node) -> Result<()> {
    // Whoever sets the password of a duty's holder is that holder.
    let impersonated =
        statement::password_of(node).filter(|role| *role != session::user() && holds_duty(*role));
    // Whoever becomes a member of a member is one, too.
    let joined = statement::roles_joined(node).into_iter().filter(|role| is_member_of_marked(*role));
    let changed = statement::roles_changed(node).into_iter().filter(|role| is_marked(*role));
    let Some(role) = changed.chain(joined).chain(impersonated).next() else { return Ok(()) };
    if is_officer() || tables::is_announced() {
        return Ok(());
    }
    audit::record(Class::Denied, &format!("change of role \"{}\"", session::role_name(role)));
    Err(Error::denied(format!("permission denied: pgpci relies on role \"{}\"", session::role_name(role)))
        .hint("An officer (member of pci_officer) who may administer roles does it."))
}

/// Whether the authenticated user is an officer of this cluster.
pub fn is_officer() -> bool {
    session::role("pci_officer")
        .is_some_and(|role| is_marked(role) && session::is_member(session::user(), role))
}

fn is_member_of_marked(role: pg_sys::Oid) -> bool {
    label::roles(&text()).into_iter().any(|marked| session::is_member(role, marked))
}

fn holds_duty(role: pg_sys::Oid) -> bool {
    ["pci_officer", "pci_custodian", "pci_auditor"]
        .into_iter()
        .filter_map(session::role)
        .any(|duty| is_marked(duty) && session::is_member(role, duty))
}

/// Whether somebody may set this label by a statement: only a restore, whose labels name another cluster.
pub fn may_label(label: Option<&str>, role: pg_sys::Oid) -> bool {
    label.is_some_and(|l| l != text()) && !is_marked(role)
}

fn text() -> String {
    format!("pgpci:{}", session::system_identifier())
}
