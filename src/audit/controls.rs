//! What turns the trail, the log or a control up or down in configuration files: a change is an event, after a reload and
//! after a restart. Statements that set something are recorded by themselves.

use std::ffi::CStr;
use std::fs;
use std::path::PathBuf;

use pgpci_core::record::{Class, Event, Objects, Text};
use pgpci_core::redact::redact;
use sha2::{Digest, Sha256};

use super::node;
use crate::pg::settings;

/// All of ours that are not a session's own, and those of PostgreSQL that say what is logged, who gets in, and what else runs.
const NAMES: [&CStr; 79] = [
    c"archive_command",
    c"archive_mode",
    c"authentication_timeout",
    c"event_triggers",
    c"fsync",
    c"hba_file",
    c"ident_file",
    c"krb_server_keyfile",
    c"listen_addresses",
    c"local_preload_libraries",
    c"log_connections",
    c"log_destination",
    c"log_directory",
    c"log_disconnections",
    c"log_error_verbosity",
    c"log_line_prefix",
    c"log_min_error_statement",
    c"log_min_messages",
    c"log_parameter_max_length",
    c"log_parameter_max_length_on_error",
    c"log_replication_commands",
    c"log_statement",
    c"logging_collector",
    c"max_connections",
    c"password_encryption",
    c"pgpci.allow_unlocked_keys",
    c"pgpci.audit_buffer",
    c"pgpci.audit_checkpoint_command",
    c"pgpci.audit_checkpoint_interval",
    c"pgpci.audit_compress",
    c"pgpci.audit_key",
    c"pgpci.audit_on_failure",
    c"pgpci.audit_retention",
    c"pgpci.audit_scope",
    c"pgpci.audit_segment_age",
    c"pgpci.audit_segment_size",
    c"pgpci.aws_endpoint_url",
    c"pgpci.aws_region",
    c"pgpci.banned_passwords_file",
    c"pgpci.command_path",
    c"pgpci.directory",
    c"pgpci.disable_inactive_services",
    c"pgpci.failed_login_forgiveness",
    c"pgpci.fresh_key_interval",
    c"pgpci.home_database",
    c"pgpci.idle_session_timeout",
    c"pgpci.inactivity_limit",
    c"pgpci.kek_allow",
    c"pgpci.key_cache_ttl",
    c"pgpci.key_mode",
    c"pgpci.key_wait_timeout",
    c"pgpci.local_key_command",
    c"pgpci.local_key_file",
    c"pgpci.lockout_time",
    c"pgpci.max_conflicts_per_hour",
    c"pgpci.max_failed_logins",
    c"pgpci.max_failed_logins_per_source",
    c"pgpci.max_session_length",
    c"pgpci.password_grace",
    c"pgpci.password_history",
    c"pgpci.password_max_age",
    c"pgpci.password_min_age",
    c"pgpci.password_min_length",
    c"pgpci.password_require_lower",
    c"pgpci.password_require_special",
    c"pgpci.password_require_upper",
    c"pgpci.password_warning",
    c"pgpci.pkcs11_module",
    c"pgpci.pkcs11_pin_file",
    c"pgpci.pkcs11_token",
    c"pgpci.request_expiry",
    c"pgpci.require_encrypted_passwords",
    c"pgpci.service_verifiers",
    c"pgpci.shared_use_window",
    c"session_preload_libraries",
    c"shared_preload_libraries",
    c"ssl",
    c"ssl_min_protocol_version",
    c"wal_level",
];
/// Files whose contents are controls; of those, a hash is told.
const FILES: [&CStr; 2] = [c"hba_file", c"ident_file"];

/// Name and value of each.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Controls(Vec<(String, String)>);

fn file() -> PathBuf {
    crate::directory::path().join("trail.controls")
}

impl Controls {
    /// As they are now.
    pub fn now() -> Controls {
        let name = |name: &CStr| name.to_string_lossy().into_owned();
        let mut found = Vec::with_capacity(NAMES.len() + FILES.len());
        for it in NAMES {
            // A command may have a password in it, and a value its own lines.
            let value = settings::value(it);
            let value = String::from_utf8_lossy(&redact(value.as_bytes())).replace(['\n', '\t'], " ");
            found.push((format!("setting {}", name(it)), value));
        }
        for it in FILES {
            let path = settings::value(it);
            let hash = fs::read(&path).map(Sha256::digest);
            let hash =
                hash.map(|hash| hash[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            found.push((
                format!("file {path}"),
                hash.map_or_else(|error| error.kind().to_string(), |it| format!("sha256 {it}")),
            ));
        }
        Controls(found)
    }

    /// As they were when the trail was last written; none before it was first.
    pub fn kept() -> Option<Controls> {
        let text = fs::read_to_string(file()).ok()?;
        Some(Controls(
            text.lines()
                .filter_map(|line| line.split_once('\t'))
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        ))
    }

    /// For the next boot.
    pub fn keep(&self) {
        let text: String = self.0.iter().map(|(name, value)| format!("{name}\t{value}\n")).collect();
        if let Err(error) = node::replace(&file(), text.as_bytes(), 0o600) {
            pgrx::warning!("pgpci: {} cannot be written: {error}", file().display());
        }
    }

    /// What changed since.
    pub fn changes_since<'a>(
        &'a self,
        before: &'a Controls,
        event: &'static str,
    ) -> impl Iterator<Item = Event<'static>> + 'a {
        self.0.iter().filter_map(move |(name, now)| {
            let old = before.0.iter().find(|(known, _)| known == name).map_or("", |(_, old)| old);
            (old != now).then(|| Event {
                objects: Objects::Owned(vec![Text::from(name.clone())]),
                message: Some(format!("{old} -> {now}").into()),
                success: Some(true),
                ..Event::new(Class::Config, event)
            })
        })
    }
}
