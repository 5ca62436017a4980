//! What broker and helper say to each other.

use crate::key::Context;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// A question of the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in the response.
    pub id: u64,
    /// What is asked.
    pub op: Op,
}

/// What the broker asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A sign of life.
    Ping,
    /// A new key, and the same wrapped.
    Generate {
        /// Name of the provider: `local`, `aws`, `pkcs11`.
        provider: String,
        /// The wrapping key, as the provider names it.
        kek: String,
        /// What the new key will belong to.
        context: Context,
    },
    /// The key in a wrapped one.
    Unwrap {
        /// Name of the provider: `local`, `aws`, `pkcs11`.
        provider: String,
        /// The wrapping key, as the provider names it.
        kek: String,
        /// What the key must belong to.
        context: Context,
        /// The wrapped key, as the provider made it.
        wrapped: Vec<u8>,
    },
    /// The same key under another wrapping key. It never leaves the helper in clear.
    Rewrap {
        /// Name of the provider that wrapped it.
        provider: String,
        /// The wrapping key, as that provider names it.
        kek: String,
        /// What the key belongs to, before and after.
        context: Context,
        /// The wrapped key, as that provider made it.
        wrapped: Vec<u8>,
        /// Name of the provider that is to wrap it.
        to_provider: String,
        /// The new wrapping key, as that provider names it.
        to_kek: String,
    },
    /// What a wrapping key is, for reports.
    Describe {
        /// Name of the provider: `local`, `aws`, `pkcs11`.
        provider: String,
        /// The wrapping key, as the provider names it.
        kek: String,
    },
}

/// An answer of the helper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    /// Id of the request.
    pub id: u64,
    /// What came of it.
    pub result: Result<Outcome, Failure>,
}

/// What the broker asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Outcome {
    /// The sign of life.
    Pong,
    /// A new key.
    Generated {
        /// The key, 32 bytes.
        key: Secret<[u8; 32]>,
        /// The same, wrapped.
        wrapped: Vec<u8>,
    },
    /// A key that was wrapped.
    Unwrapped {
        /// The key, 32 bytes.
        key: Secret<[u8; 32]>,
    },
    /// The key of a rewrap.
    Rewrapped {
        /// The key, wrapped by the new wrapping key.
        wrapped: Vec<u8>,
    },
    /// What the wrapping key is.
    Described(Description),
}

/// What a provider says of one of its wrapping keys. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Name of the provider.
    pub provider: String,
    /// The wrapping key by its lasting name: the file's fingerprint, the ARN of the key (never of an
    /// alias), or the token's serial number and the key's label.
    pub kek: String,
    /// Strength of the wrapping key in bits; 0 if the provider does not tell.
    pub strength_bits: u16,
    /// Whether it is kept as PCI DSS 3.6.1.2 wants: in a KMS or HSM that never gives it out.
    pub is_compliant: bool,
    /// Whether it wraps and unwraps now.
    pub is_enabled: bool,
    /// Why it is not compliant or not enabled, or else where it is kept; one sentence, at most
    /// [`Failure::MAX_MESSAGE`] bytes.
    pub note: String,
}

/// Why the broker does not get what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// For the server log: no secrets, at most [`Failure::MAX_MESSAGE`] bytes.
    pub message: String,
}

impl Failure {
    /// The most bytes of a message.
    pub const MAX_MESSAGE: usize = 200;

    /// Cuts the message where it is too long: those of a KMS have no bound.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(Self::MAX_MESSAGE));
        Failure { kind, message }
    }
}

/// Kinds of failure, by what to do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// No key file, or an unknown provider: set it up.
    NotConfigured,
    /// The provider said no: permissions, a disabled key.
    Refused,
    /// The wrapped key does not unwrap with this wrapping key and context.
    WrongKey,
    /// Try again later.
    Unavailable,
    /// The request makes no sense.
    Invalid,
}
