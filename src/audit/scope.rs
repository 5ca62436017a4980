//! Which statements are recorded. Always: what touches card numbers, what superusers and duties do, changes of
//! objects, roles, privileges and controls, every failure and every session. The rest with `pgpci.audit_scope = 'all'`,
//! or what labels of `pgpci_audit` say of roles, schemas and tables.

use std::cell::Cell;

use pgpci_core::record::Class;
use pgrx::pg_sys;

use crate::guc::{self, AuditScope};
use crate::pg::facts::{self, About};
use crate::pg::local::Local;
use crate::pg::{catalog, label, session, statement, utility};

const DUTIES: [&str; 3] = ["pci_officer", "pci_custodian", "pci_auditor"];
/// Settings by which a session changes who it is, what is logged, or what fires.
const SETTINGS: [&str; 8] = [
    "role",
    "session_authorization",
    "session_replication_role",
    "row_security",
    "event_triggers",
    "allow_system_table_mods",
    "default_transaction_read_only",
    "check_function_bodies",
];

/// Whether everything is recorded.
pub fn is_all() -> bool {
    guc::AUDIT_SCOPE.get() == AuditScope::All
}

// Of what generation and which user that is known.
static KNOWN: Local<Cell<(u64, u32, bool)>> = Local::new(Cell::new((0, 0, false)));

/// The same as `is_watched`, if it is known already. Only looks.
pub fn is_watched_if_known() -> Option<bool> {
    if is_all() {
        return Some(true);
    }
    let (of, role, known) = KNOWN.get();
    ((of, role) == (catalog::generation(), session::user().to_u32())).then_some(known)
}

/// Whether everything that the session's user does is recorded.
pub fn is_watched() -> bool {
    if let Some(known) = is_watched_if_known() {
        return known;
    }
    let user = session::user();
    if !session::can_read_catalog() {
        return session::is_superuser(user);
    }
    let found = look(user);
    KNOWN.set((catalog::generation(), user.to_u32(), found));
    found
}

/// The same, by another session's reading where nothing has changed since.
fn look(user: pg_sys::Oid) -> bool {
    let mut room = [0; facts::ROOM];
    if let Some(known) = facts::recall(About::Watched, user, &mut room) {
        return known != [0];
    }
    let moment = facts::moment();
    let found = session::is_superuser(user)
        || label::audited_roles().into_iter().any(|role| role == user || session::is_member(user, role))
        || DUTIES.iter().filter_map(|duty| session::role(duty)).any(|duty| session::is_member(user, duty));
    if let Some(moment) = moment {
        facts::learn(moment, About::Watched, user, &[found.into()]);
    }
    found
}

/// Whether a statement that sets a session's setting is recorded for everybody.
pub fn is_control(setting: &str) -> bool {
    let setting = setting.to_ascii_lowercase();
    setting.is_empty()
        || setting.starts_with("pgpci.")
        || setting.starts_with("log_")
        || SETTINGS.contains(&setting.as_str())
}

/// The class of a utility statement, and whether it is recorded for everybody; None: never, what it does is recorded
/// by itself.
pub fn utility(node: *mut pg_sys::Node) -> Option<(Class, bool)> {
    use pg_sys::NodeTag as T;
    Some(match statement::tag(node) {
        T::T_GrantStmt | T::T_AlterDefaultPrivilegesStmt => (Class::Grant, true),
        T::T_CreateRoleStmt
        | T::T_AlterRoleStmt
        | T::T_DropRoleStmt
        | T::T_GrantRoleStmt
        | T::T_DropOwnedStmt
        | T::T_ReassignOwnedStmt => (Class::Role, true),
        T::T_AlterSystemStmt | T::T_AlterRoleSetStmt | T::T_AlterDatabaseSetStmt | T::T_LoadStmt => {
            (Class::Config, true)
        }
        T::T_SecLabelStmt if utility::labels_for_audit(node) => (Class::Config, true),
        T::T_VariableSetStmt => {
            (Class::Config, utility::setting_set(node).is_some_and(|name| is_control(&name)))
        }
        T::T_CopyStmt => (Class::Copy, false),
        T::T_DoStmt | T::T_CallStmt => (Class::Function, false),
        T::T_TransactionStmt if statement::is_two_phase(node) => (Class::Write, true),
        T::T_TransactionStmt
        | T::T_DeclareCursorStmt
        | T::T_ClosePortalStmt
        | T::T_FetchStmt
        | T::T_PrepareStmt
        | T::T_ExecuteStmt
        | T::T_DeallocateStmt
        | T::T_ExplainStmt
        | T::T_VariableShowStmt
        | T::T_ListenStmt
        | T::T_UnlistenStmt
        | T::T_NotifyStmt
        | T::T_LockStmt
        | T::T_ConstraintsSetStmt
        | T::T_DiscardStmt => return None,
        T::T_VacuumStmt | T::T_ClusterStmt | T::T_ReindexStmt | T::T_CheckPointStmt => (Class::Ddl, false),
        _ => (Class::Ddl, true),
    })
}
