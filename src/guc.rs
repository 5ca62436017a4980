//! Every setting, with the line that is also the manual's.

use std::ffi::{CStr, CString};

mod accounts;

pub use accounts::*;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// What the output function of `pci.pan` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum PanOutput {
    /// The mask: `411111******1111`.
    #[name = c"mask"]
    Mask,
    /// The sealed form, for whoever holds `export`.
    #[name = c"sealed"]
    Sealed,
}

/// What keys are for on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum KeyMode {
    /// Everything.
    #[name = c"normal"]
    Normal,
    /// Sealing only: keys are made, and never unwrapped.
    #[name = c"encrypt_only"]
    EncryptOnly,
}

/// `pgpci.key_mode`
pub static KEY_MODE: GucSetting<KeyMode> = GucSetting::<KeyMode>::new(KeyMode::Normal);
/// `pgpci.fresh_key_interval`, seconds
pub static FRESH_KEY_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(86_400);
/// What becomes of protected work while the trail cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum OnFailure {
    /// It is refused.
    #[name = c"block"]
    Block,
    /// It goes on; how many records are missing is recorded later.
    #[name = c"allow"]
    Allow,
}

/// Which statements are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum AuditScope {
    /// What touches card numbers, what superusers and duties do, changes of objects, roles and controls, failures.
    #[name = c"default"]
    Default,
    /// Everything.
    #[name = c"all"]
    All,
}

/// `pgpci.directory`
pub static DIRECTORY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.local_key_file`
pub static LOCAL_KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.local_key_command`
pub static LOCAL_KEY_COMMAND: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.aws_region`
pub static AWS_REGION: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.aws_endpoint_url`
pub static AWS_ENDPOINT_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.pkcs11_module`
pub static PKCS11_MODULE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.pkcs11_token`
pub static PKCS11_TOKEN: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.pkcs11_pin_file`
pub static PKCS11_PIN_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.kek_allow`
pub static KEK_ALLOW: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.command_path`
pub static COMMAND_PATH: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `pgpci.key_cache_ttl`, seconds
pub static KEY_CACHE_TTL: GucSetting<i32> = GucSetting::<i32>::new(3600);
/// `pgpci.key_wait_timeout`, milliseconds
pub static KEY_WAIT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5000);
/// `pgpci.allow_unlocked_keys`
pub static ALLOW_UNLOCKED_KEYS: GucSetting<bool> = GucSetting::<bool>::new(false);
/// `pgpci.pan_output`
pub static PAN_OUTPUT: GucSetting<PanOutput> = GucSetting::<PanOutput>::new(PanOutput::Mask);
/// `pgpci.max_conflicts_per_hour`
pub static MAX_CONFLICTS_PER_HOUR: GucSetting<i32> = GucSetting::<i32>::new(1000);
/// `pgpci.request_expiry`, seconds
pub static REQUEST_EXPIRY: GucSetting<i32> = GucSetting::<i32>::new(604_800);

/// `pgpci.audit_buffer`, megabytes
pub static AUDIT_BUFFER: GucSetting<i32> = GucSetting::<i32>::new(16);
/// `pgpci.audit_scope`
pub static AUDIT_SCOPE: GucSetting<AuditScope> = GucSetting::<AuditScope>::new(AuditScope::Default);
/// `pgpci.audit_on_failure`
pub static AUDIT_ON_FAILURE: GucSetting<OnFailure> = GucSetting::<OnFailure>::new(OnFailure::Block);
/// `pgpci.audit_segment_size`, megabytes
pub static AUDIT_SEGMENT_SIZE: GucSetting<i32> = GucSetting::<i32>::new(64);
/// `pgpci.audit_segment_age`, minutes
pub static AUDIT_SEGMENT_AGE: GucSetting<i32> = GucSetting::<i32>::new(1440);
/// `pgpci.audit_checkpoint_interval`, seconds
pub static AUDIT_CHECKPOINT_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);

/// `pgpci.audit_compress`
pub static AUDIT_COMPRESS: GucSetting<bool> = GucSetting::<bool>::new(true);
/// `pgpci.audit_retention`, days
pub static AUDIT_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(365);
/// `pgpci.audit_key`
pub static AUDIT_KEY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"local"));
/// `pgpci.audit_checkpoint_command`
pub static AUDIT_CHECKPOINT_COMMAND: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Calls `f` with `pgpci.app_user`, if it is set. Allocates nothing.
pub fn with_app_user<T>(f: impl FnOnce(&[u8]) -> T) -> Option<T> {
    crate::pg::app_user::with(f)
}

/// Defines all settings; called once, while the library is preloaded.
pub fn define() {
    // A control may be set in the configuration file and on the command line, never by ALTER SYSTEM:
    // that would let a superuser's SQL turn it down.
    let control = GucFlags::DISALLOW_IN_AUTO_FILE;
    let string = |name: &'static CStr, short: &'static CStr, setting, context, flags| {
        GucRegistry::define_string_guc(name, short, c"", setting, context, flags);
    };
    string(
        c"pgpci.directory",
        c"Where cluster-wide state lives; default: the data directory's name + .pgpci beside it.",
        &DIRECTORY,
        GucContext::Postmaster,
        control,
    );
    string(
        c"pgpci.local_key_file",
        c"The local provider's wrapping key, mode 0600; default: local.key in pgpci.directory.",
        &LOCAL_KEY_FILE,
        GucContext::Sighup,
        control,
    );
    let reloaded: [(&'static CStr, &'static CStr, &'static GucSetting<Option<CString>>); 7] = [
        (
            c"pgpci.kek_allow",
            c"The wrapping keys that databases may use: database=provider:key, ...; default: any.",
            &KEK_ALLOW,
        ),
        (
            c"pgpci.local_key_command",
            c"A shell command that prints the local provider's key file, instead of a file.",
            &LOCAL_KEY_COMMAND,
        ),
        (
            c"pgpci.aws_region",
            c"The region of AWS KMS; default: what the server's environment or profile says.",
            &AWS_REGION,
        ),
        (
            c"pgpci.aws_endpoint_url",
            c"The address of AWS KMS, where it is not the region's own.",
            &AWS_ENDPOINT_URL,
        ),
        (c"pgpci.pkcs11_module", c"The library of the HSM (PKCS#11).", &PKCS11_MODULE),
        (c"pgpci.pkcs11_token", c"The label of the token in the HSM.", &PKCS11_TOKEN),
        (c"pgpci.pkcs11_pin_file", c"A file, mode 0600, with the PIN of the token's user.", &PKCS11_PIN_FILE),
    ];
    for (name, short, setting) in reloaded {
        string(name, short, setting, GucContext::Sighup, control);
    }
    string(
        c"pgpci.command_path",
        c"The pgpci command that the server runs as its key helper; default: beside the postgres program.",
        &COMMAND_PATH,
        GucContext::Postmaster,
        control,
    );
    GucRegistry::define_int_guc(
        c"pgpci.key_cache_ttl",
        c"How long an unwrapped key stays in memory before it is wiped.",
        c"",
        &KEY_CACHE_TTL,
        1,
        86_400,
        GucContext::Sighup,
        control | GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"pgpci.key_wait_timeout",
        c"How long a session waits for a key before its statement fails.",
        c"",
        &KEY_WAIT_TIMEOUT,
        10,
        600_000,
        GucContext::Sighup,
        control | GucFlags::UNIT_MS,
    );
    GucRegistry::define_enum_guc(
        c"pgpci.key_mode",
        c"What keys are for on this node: everything, or encrypt_only, where keys are made and never unwrapped.",
        c"",
        &KEY_MODE,
        GucContext::Postmaster,
        control,
    );
    GucRegistry::define_int_guc(
        c"pgpci.fresh_key_interval",
        c"How long a data key seals where pgpci.key_mode is encrypt_only.",
        c"",
        &FRESH_KEY_INTERVAL,
        1,
        31_536_000,
        GucContext::Sighup,
        control | GucFlags::UNIT_S,
    );
    GucRegistry::define_bool_guc(
        c"pgpci.allow_unlocked_keys",
        c"Use keys even where the operating system refuses to lock their memory.",
        c"",
        &ALLOW_UNLOCKED_KEYS,
        GucContext::Postmaster,
        control,
    );
    GucRegistry::define_enum_guc(
        c"pgpci.pan_output",
        c"What a card number prints as: its mask, or its sealed form (needs the capability export).",
        c"",
        &PAN_OUTPUT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pgpci.max_conflicts_per_hour",
        c"How many conflicts on unique card numbers and misses of foreign keys a role without search may meet in an hour; 0: no limit.",
        c"",
        &MAX_CONFLICTS_PER_HOUR,
        0,
        i32::MAX,
        GucContext::Sighup,
        control,
    );
    GucRegistry::define_int_guc(
        c"pgpci.request_expiry",
        c"How long a request waits for a second person before it expires.",
        c"",
        &REQUEST_EXPIRY,
        1,
        31_536_000,
        GucContext::Sighup,
        control | GucFlags::UNIT_S,
    );
    let number = |name, short, setting, (min, max), context, unit| {
        GucRegistry::define_int_guc(name, short, c"", setting, min, max, context, control | unit);
    };
    number(
        c"pgpci.audit_buffer",
        c"The memory through which events go to the audit trail.",
        &AUDIT_BUFFER,
        (1, 1024),
        GucContext::Postmaster,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_enum_guc(
        c"pgpci.audit_on_failure",
        c"What becomes of protected work while the audit trail cannot be written: block refuses it.",
        c"",
        &AUDIT_ON_FAILURE,
        GucContext::Sighup,
        control,
    );
    GucRegistry::define_enum_guc(
        c"pgpci.audit_scope",
        c"Which statements are recorded: all, or (default) those that matter to card data and administration.",
        c"",
        &AUDIT_SCOPE,
        GucContext::Sighup,
        control,
    );
    number(
        c"pgpci.audit_segment_size",
        c"The size after which the audit trail begins another file.",
        &AUDIT_SEGMENT_SIZE,
        (1, 1024),
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    number(
        c"pgpci.audit_segment_age",
        c"The time after which the audit trail begins another file.",
        &AUDIT_SEGMENT_AGE,
        (1, 10_080),
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
    number(
        c"pgpci.audit_checkpoint_interval",
        c"How often the audit trail is sealed by a signed checkpoint.",
        &AUDIT_CHECKPOINT_INTERVAL,
        (1, 3600),
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    number(
        c"pgpci.audit_retention",
        c"Days that the audit trail is kept, never fewer than 92; a file that old goes once a later checkpoint is elsewhere. 0: for ever.",
        &AUDIT_RETENTION,
        (0, 36_500),
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"pgpci.audit_compress",
        c"Compress files of the audit trail that are complete.",
        c"",
        &AUDIT_COMPRESS,
        GucContext::Sighup,
        control,
    );
    string(
        c"pgpci.audit_key",
        c"What wraps the key that signs the audit trail: provider, or provider:key.",
        &AUDIT_KEY,
        GucContext::Sighup,
        control,
    );
    string(
        c"pgpci.audit_checkpoint_command",
        c"A shell command that takes each signed checkpoint, on its standard input, to another place.",
        &AUDIT_CHECKPOINT_COMMAND,
        GucContext::Sighup,
        control,
    );
    accounts::define(control);
    crate::pg::app_user::define();
    crate::pg::session::refuse_other_settings();
}
