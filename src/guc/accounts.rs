//! Settings of passwords and accounts. Their limits are PCI DSS's own: they can be made stricter, never weaker.

use std::ffi::CString;

use pgpci_core::account::HISTORY;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// `pgpci.password_min_length`
pub static PASSWORD_MIN_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(12);
/// `pgpci.password_require_upper`
pub static PASSWORD_REQUIRE_UPPER: GucSetting<bool> = GucSetting::<bool>::new(false);
/// `pgpci.password_require_lower`
pub static PASSWORD_REQUIRE_LOWER: GucSetting<bool> = GucSetting::<bool>::new(false);
/// `pgpci.password_require_special`
pub static PASSWORD_REQUIRE_SPECIAL: GucSetting<bool> = GucSetting::<bool>::new(false);
/// `pgpci.password_history`
pub static PASSWORD_HISTORY: GucSetting<i32> = GucSetting::<i32>::new(4);
/// `pgpci.password_min_age`, minutes
pub static PASSWORD_MIN_AGE: GucSetting<i32> = GucSetting::<i32>::new(0);
/// `pgpci.password_max_age`, days
pub static PASSWORD_MAX_AGE: GucSetting<i32> = GucSetting::<i32>::new(90);
/// `pgpci.banned_passwords_file`
pub static BANNED_PASSWORDS_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.service_verifiers`
pub static SERVICE_VERIFIERS: GucSetting<bool> = GucSetting::<bool>::new(false);

/// `pgpci.require_encrypted_passwords`
pub static REQUIRE_ENCRYPTED_PASSWORDS: GucSetting<bool> = GucSetting::<bool>::new(true);

/// `pgpci.max_failed_logins`
pub static MAX_FAILED_LOGINS: GucSetting<i32> = GucSetting::<i32>::new(6);
/// `pgpci.lockout_time`, minutes
pub static LOCKOUT_TIME: GucSetting<i32> = GucSetting::<i32>::new(30);
/// `pgpci.failed_login_forgiveness`, minutes
pub static FAILED_LOGIN_FORGIVENESS: GucSetting<i32> = GucSetting::<i32>::new(1440);
/// `pgpci.max_failed_logins_per_source`
pub static MAX_FAILED_LOGINS_PER_SOURCE: GucSetting<i32> = GucSetting::<i32>::new(100);
/// `pgpci.idle_session_timeout`, seconds
pub static IDLE_SESSION_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(900);
/// `pgpci.inactivity_limit`, days
pub static INACTIVITY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(90);
/// `pgpci.disable_inactive_services`
pub static DISABLE_INACTIVE_SERVICES: GucSetting<bool> = GucSetting::<bool>::new(false);
/// `pgpci.max_session_length`, seconds
pub static MAX_SESSION_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(0);
/// `pgpci.password_warning`, days
pub static PASSWORD_WARNING: GucSetting<i32> = GucSetting::<i32>::new(14);
/// `pgpci.password_grace`, days
pub static PASSWORD_GRACE: GucSetting<i32> = GucSetting::<i32>::new(0);
/// `pgpci.shared_use_window`, minutes
pub static SHARED_USE_WINDOW: GucSetting<i32> = GucSetting::<i32>::new(5);
/// `pgpci.home_database`
pub static HOME_DATABASE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"postgres"));

/// The database that the worker connects to when it writes locks.
pub fn home_database() -> String {
    HOME_DATABASE.get().map_or_else(|| "postgres".into(), |name| name.to_string_lossy().into_owned())
}

/// Defines them.
pub fn define(control: GucFlags) {
    let number = |name, short, setting, (min, max), unit| {
        GucRegistry::define_int_guc(name, short, c"", setting, min, max, GucContext::Sighup, control | unit);
    };
    let switch = |name, short, setting| {
        GucRegistry::define_bool_guc(name, short, c"", setting, GucContext::Sighup, control);
    };
    let plain = GucFlags::default();
    number(
        c"pgpci.password_min_length",
        c"Characters that a password has at least.",
        &PASSWORD_MIN_LENGTH,
        (12, 128),
        plain,
    );
    switch(
        c"pgpci.password_require_upper",
        c"Whether a password needs an upper-case letter.",
        &PASSWORD_REQUIRE_UPPER,
    );
    switch(
        c"pgpci.password_require_lower",
        c"Whether a password needs a lower-case letter.",
        &PASSWORD_REQUIRE_LOWER,
    );
    switch(
        c"pgpci.password_require_special",
        c"Whether a password needs a character that is neither letter nor digit.",
        &PASSWORD_REQUIRE_SPECIAL,
    );
    number(
        c"pgpci.password_history",
        c"How many passwords of a role, the present one included, its next one must differ from.",
        &PASSWORD_HISTORY,
        (4, HISTORY as i32),
        plain,
    );
    number(
        c"pgpci.password_min_age",
        c"How long a person keeps a password before changing it again.",
        &PASSWORD_MIN_AGE,
        (0, 43_200),
        GucFlags::UNIT_MIN,
    );
    number(
        c"pgpci.password_max_age",
        c"Days after which a person must change the password before doing anything else.",
        &PASSWORD_MAX_AGE,
        (1, 90),
        plain,
    );
    GucRegistry::define_string_guc(
        c"pgpci.banned_passwords_file",
        c"A file of passwords that nobody may use, one a line, in addition to the most common ones.",
        c"",
        &BANNED_PASSWORDS_FILE,
        GucContext::Sighup,
        control,
    );
    switch(
        c"pgpci.require_encrypted_passwords",
        c"Whether a password is set over a network only where the connection is encrypted.",
        &REQUIRE_ENCRYPTED_PASSWORDS,
    );
    number(
        c"pgpci.max_failed_logins",
        c"The wrong password that locks a role.",
        &MAX_FAILED_LOGINS,
        (1, 10),
        plain,
    );
    number(
        c"pgpci.lockout_time",
        c"How long a role stays locked, at least 30 minutes; 0: until an officer unlocks it.",
        &LOCKOUT_TIME,
        (0, 525_600),
        GucFlags::UNIT_MIN,
    );
    number(
        c"pgpci.failed_login_forgiveness",
        c"After how long one wrong password is forgotten; 0: only after a login.",
        &FAILED_LOGIN_FORGIVENESS,
        (0, 525_600),
        GucFlags::UNIT_MIN,
    );
    number(
        c"pgpci.max_failed_logins_per_source",
        c"Wrong passwords that one address may send in an hour before it is refused for a while; 0: any number.",
        &MAX_FAILED_LOGINS_PER_SOURCE,
        (0, 1_000_000),
        plain,
    );
    number(
        c"pgpci.idle_session_timeout",
        c"How long a session of a person may idle before it is ended, whatever its own settings say.",
        &IDLE_SESSION_TIMEOUT,
        (1, 900),
        GucFlags::UNIT_S,
    );
    number(
        c"pgpci.inactivity_limit",
        c"Days without a login after which a role is disabled.",
        &INACTIVITY_LIMIT,
        (1, 90),
        plain,
    );
    switch(
        c"pgpci.disable_inactive_services",
        c"Whether service accounts are disabled, too, that nobody logs in to.",
        &DISABLE_INACTIVE_SERVICES,
    );
    number(
        c"pgpci.max_session_length",
        c"How long a session of a person or vendor may last; 0: as long as it is used.",
        &MAX_SESSION_LENGTH,
        (0, 604_800),
        GucFlags::UNIT_S,
    );
    number(
        c"pgpci.password_warning",
        c"How many days before its end the user of a password or account is told at login; 0: not at all.",
        &PASSWORD_WARNING,
        (0, 90),
        plain,
    );
    number(
        c"pgpci.password_grace",
        c"How many days an old password still lets in to change it; 0: until the role is disabled for inactivity.",
        &PASSWORD_GRACE,
        (0, 90),
        plain,
    );
    number(
        c"pgpci.shared_use_window",
        c"Logins of a person from two sources within so much time are reported; 0: only sessions at the same time.",
        &SHARED_USE_WINDOW,
        (0, 1440),
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_string_guc(
        c"pgpci.home_database",
        c"The database that the server connects to when it locks or unlocks a role by itself.",
        c"",
        &HOME_DATABASE,
        GucContext::Sighup,
        control,
    );
    switch(
        c"pgpci.service_verifiers",
        c"Whether passwords of service accounts may be set by ready-made SCRAM verifiers.",
        &SERVICE_VERIFIERS,
    );
}
