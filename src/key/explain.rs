//! What a failed request for a key tells the user: which SQLSTATE, and which setting to look at.

use pgpci_core::wire::FailureKind::{self, Invalid, NotConfigured, Refused, Unavailable, WrongKey};
use pgrx::PgSqlErrorCode as S;

use crate::error::Error;
use crate::pg::delivery::HELPER;

/// The error for a failure of this kind. `providers`: who was asked, and to whom a key was to move; the
/// latter may be empty.
pub fn failure(kind: FailureKind, message: &str, providers: &[&str; 2]) -> Error {
    let is_local = providers.iter().all(|p| matches!(*p, "local" | ""));
    let error = match kind {
        NotConfigured if is_local => Error::state(format!("the wrapping key is missing: {message}")),
        NotConfigured => Error::state(format!("the wrapping key or its provider is not set up: {message}")),
        Refused => Error::key(format!("the wrapping key was refused: {message}")),
        WrongKey => Error::key(format!("the wrapping key is not the one that wrapped this key: {message}")),
        Unavailable => {
            Error::new(S::ERRCODE_CANNOT_CONNECT_NOW, format!("the key cannot be had now: {message}"))
        }
        Invalid => Error::key(format!("the key provider answered: {message}")),
    };
    if message.starts_with(HELPER) {
        return error.hint("See the server log and pci.key_status; pgpci.command_path names the helper.");
    }
    let [by, to] = *providers;
    match (hint(kind, by), hint(kind, to)) {
        // Which of the two failed, the message says.
        (from, to) if !to.is_empty() && to != from => error.hint(format!("{to} {from}")),
        (from, _) => error.hint(from),
    }
}

/// The hint of a session that waited too long.
pub fn too_late(provider: &str) -> String {
    format!(
        "See pci.key_status; pgpci.key_wait_timeout is how long a session waits. {}",
        hint(Unavailable, provider)
    )
}

fn hint(kind: FailureKind, provider: &str) -> &'static str {
    match (provider, kind) {
        ("", _) => "",
        ("local", NotConfigured) => "Make one with \"pgpci key init\", or set pgpci.local_key_file.",
        ("local", Refused) => {
            "The file of pgpci.local_key_file must belong to the server's user with mode 0600."
        }
        ("local", WrongKey) => {
            "Set pgpci.local_key_file to the file that this database's keys were wrapped with."
        }
        ("local", _) => "See pgpci.local_key_file or pgpci.local_key_command, and the server log.",
        ("aws", NotConfigured) => {
            "Set pgpci.aws_region to the region of the wrapping key that pci.vaults names, and give the server's user AWS credentials."
        }
        ("aws", Refused) => {
            "See the wrapping key's state and policy in AWS KMS, in the region of pgpci.aws_region, and the AWS credentials of the server's user."
        }
        ("aws", WrongKey) => {
            "The wrapping key that pci.vaults names must be the one in the region of pgpci.aws_region."
        }
        ("aws", _) => "AWS KMS is asked in the region of pgpci.aws_region, or at pgpci.aws_endpoint_url.",
        ("pkcs11", NotConfigured) => {
            "Set pgpci.pkcs11_module, pgpci.pkcs11_token and pgpci.pkcs11_pin_file; the wrapping key that pci.vaults names is the label of an AES key on the token."
        }
        ("pkcs11", Refused) => {
            "The file of pgpci.pkcs11_pin_file must hold the PIN of the token's user, and belong to the server's user with mode 0600."
        }
        ("pkcs11", WrongKey) => {
            "The token that pgpci.pkcs11_token names must be the one that this database's keys were wrapped on."
        }
        ("pkcs11", _) => "See the token that pgpci.pkcs11_token names and the module of pgpci.pkcs11_module.",
        _ => "Providers are local, aws and pkcs11.",
    }
}
