//! In which databases a policy is in force. The table says so too, but tables are restored, replicated and copied; a
//! label of the database is in a shared catalog, which only `pci.init` and `pci.accept_policy` write. It names the
//! cluster and the database, so one that a dump brings from elsewhere says nothing.

use pgrx::pg_sys;

use crate::pg::{label, session};

/// Whether the policy of this database was put in force here.
pub fn is_marked(database: pg_sys::Oid) -> bool {
    label::of_database(database).is_some_and(|label| label == text(database))
}

/// The policy of this database is in force from now on.
pub fn mark() {
    label::set_of_database(session::database(), Some(&text(session::database())));
}

/// The extension leaves this database.
pub fn forget() {
    if label::of_database(session::database()).is_some() {
        label::set_of_database(session::database(), None);
    }
}

/// The officer who was the first to accept a restored policy.
pub fn proposer() -> Option<pg_sys::Oid> {
    let label = label::of_database(session::database())?;
    let officer = label.strip_prefix(&text(session::database()))?.strip_prefix('/')?;
    officer.parse::<u32>().ok().map(pg_sys::Oid::from)
}

/// An officer is the first to accept a restored policy.
pub fn propose(officer: pg_sys::Oid) {
    let label = format!("{}/{}", text(session::database()), officer.to_u32());
    label::set_of_database(session::database(), Some(&label));
}

/// Whether somebody may set this label by a statement: only a restore, whose labels name another database.
pub fn may_label(label: Option<&str>, database: pg_sys::Oid) -> bool {
    let is_ours = |label: &str| {
        label.strip_prefix(&text(database)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    label.is_some_and(|label| !is_ours(label)) && !label::of_database(database).is_some_and(|l| is_ours(&l))
}

fn text(database: pg_sys::Oid) -> String {
    format!("pgpci:{}:{}", session::system_identifier(), database.to_u32())
}
