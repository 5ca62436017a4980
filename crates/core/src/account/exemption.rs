//! Weaker than PCI DSS allows: for a role or for all, until a day, for a reason.

use super::Kind;
use serde::{Deserialize, Serialize};

/// What a role may be exempt from: settings of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// `password_min_length`
    MinLength,
    /// `password_history`
    History,
    /// `password_max_age`, days; 0: no limit
    MaxAge,
    /// `max_failed_logins`
    MaxFailures,
    /// `lockout_time`, minutes
    LockoutTime,
    /// `idle_session_timeout`, seconds; 0: no limit
    Idle,
    /// `inactivity_limit`, days; 0: no limit
    Inactivity,
    /// `restore`: ready-made verifiers are accepted. No setting: only `pci.begin_restore` asks for it.
    Restore,
    /// `kind`: a person's account becomes a machine's. No setting: only `pci.set_account` asks for it.
    Kind,
}

impl Control {
    const ALL: [(Control, &'static str); 9] = [
        (Control::MinLength, "password_min_length"),
        (Control::History, "password_history"),
        (Control::MaxAge, "password_max_age"),
        (Control::MaxFailures, "max_failed_logins"),
        (Control::LockoutTime, "lockout_time"),
        (Control::Idle, "idle_session_timeout"),
        (Control::Inactivity, "inactivity_limit"),
        (Control::Restore, "restore"),
        (Control::Kind, "kind"),
    ];

    /// Its name in SQL.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(it, _)| *it == self).map_or("", |(_, name)| name)
    }

    /// The control of that exact name.
    pub fn parse(name: &str) -> Option<Control> {
        Self::ALL.into_iter().find(|(_, it)| *it == name).map(|(it, _)| it)
    }

    /// Whether the value means anything, and is weaker than what PCI DSS asks for.
    pub fn is_weaker(self, value: i32) -> bool {
        match self {
            Control::MinLength => (4..12).contains(&value),
            Control::History => (1..4).contains(&value),
            Control::MaxAge | Control::Inactivity => value == 0 || (91..=3650).contains(&value),
            Control::MaxFailures => (11..=1000).contains(&value),
            Control::LockoutTime => (1..30).contains(&value),
            Control::Idle => value == 0 || (901..=604_800).contains(&value),
            Control::Restore => value == 1,
            Control::Kind => Kind::numbered(value).is_some_and(|kind| !kind.is_human()),
        }
    }
}

/// An exemption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemption {
    /// From what.
    pub control: Control,
    /// What holds instead.
    pub value: i32,
    /// Until when, in microseconds of PostgreSQL's epoch.
    pub until: i64,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weaker_is_what_pci_dss_would_not_allow() {
        for (control, strict, weak) in [
            (Control::MinLength, [12, 3], [11, 8]),
            (Control::History, [4, 0], [3, 1]),
            (Control::MaxAge, [90, -1], [91, 0]),
            (Control::MaxFailures, [10, 0], [11, 100]),
            (Control::LockoutTime, [30, 0], [29, 1]),
            (Control::Idle, [900, -1], [901, 0]),
            (Control::Inactivity, [90, -1], [91, 0]),
            (Control::Kind, [Kind::Vendor.number(), 4], [Kind::Service.number(), Kind::BreakGlass.number()]),
        ] {
            assert!(strict.into_iter().all(|value| !control.is_weaker(value)), "{control:?}");
            assert!(weak.into_iter().all(|value| control.is_weaker(value)), "{control:?}");
            assert_eq!(Control::parse(control.as_str()), Some(control));
        }
    }
}
