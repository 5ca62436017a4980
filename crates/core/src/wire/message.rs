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
