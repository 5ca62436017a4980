//! What holds for an account: the setting, which is never weaker than PCI DSS, or what it, or all, are exempt from.

use pgpci_core::account::{Account, Control};
use pgrx::pg_sys;

use super::state;
use crate::guc;
use crate::pg::session;

const DAY: i64 = 86_400_000_000;
/// Nobody logs in as this role: its label holds what all are exempt from.
const ALL: &str = "pci_officer";

/// The limits of one account, at a time.
pub struct Limits<'a> {
    own: &'a Account,
    all: Account,
    now: i64,
    is_in_force: bool,
}

impl<'a> Limits<'a> {
    /// Those that hold now.
    pub fn of(own: &'a Account) -> Self {
        let all = of_all().map(state::get).unwrap_or_default();
        Limits { own, all, now: session::now(), is_in_force: super::is_in_force() }
    }

    /// The same, with what a login has read already: it looks at each label once.
    pub fn at_login(own: &'a Account, all: Account, is_in_force: bool) -> Self {
        Limits { own, all, now: session::now(), is_in_force }
    }

    /// Whether accounts are kept.
    pub fn is_in_force(&self) -> bool {
        self.is_in_force
    }

    /// What a role is exempt from goes before what all are.
    pub fn get(&self, control: Control) -> i32 {
        self.exemption(control).unwrap_or_else(|| setting(control))
    }

    /// What holds instead of a setting.
    pub fn exemption(&self, control: Control) -> Option<i32> {
        self.own.exemption(control, self.now).or_else(|| self.all.exemption(control, self.now))
    }

    /// The same of what is a number of days, in microseconds.
    pub fn days(&self, control: Control) -> i64 {
        i64::from(self.get(control)) * DAY
    }

    /// When all this is.
    pub fn now(&self) -> i64 {
        self.now
    }
}

/// The role that stands for all.
pub fn of_all() -> Option<pg_sys::Oid> {
    session::role(ALL)
}

/// The setting that a control is.
pub fn setting(control: Control) -> i32 {
    match control {
        Control::MinLength => guc::PASSWORD_MIN_LENGTH.get(),
        Control::History => guc::PASSWORD_HISTORY.get(),
        Control::MaxAge => guc::PASSWORD_MAX_AGE.get(),
        Control::MaxFailures => guc::MAX_FAILED_LOGINS.get(),
        Control::LockoutTime => guc::LOCKOUT_TIME.get(),
        Control::Idle => guc::IDLE_SESSION_TIMEOUT.get(),
        Control::Inactivity => guc::INACTIVITY_LIMIT.get(),
        Control::Restore | Control::Kind => 0,
    }
}
