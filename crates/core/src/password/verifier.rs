//! What PostgreSQL stores of a password: SCRAM-SHA-256 (RFC 5803, RFC 7677), or an old MD5.

use super::{Prepared, Weakness};
use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// PostgreSQL's own number of iterations.
pub const MIN_ITERATIONS: u32 = 4096;
/// More would let whoever sets a password keep the server busy at each login.
pub const MAX_ITERATIONS: u32 = 100_000;
const MIN_SALT: usize = 16;
const SCRAM: &str = "SCRAM-SHA-256$";

/// A verifier.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verifier {
    /// SCRAM-SHA-256.
    Scram {
        /// Iterations of PBKDF2.
        iterations: u32,
        /// Salt.
        salt: Vec<u8>,
        /// Hash of the client's key: what a login is checked against.
        stored: [u8; 32],
        /// The server's key.
        server: [u8; 32],
    },
    /// MD5 of password and role name.
    Md5 {
        /// The hash.
        digest: [u8; 16],
        /// The name that the role had.
        role: String,
    },
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(***)")
    }
}

impl Verifier {
    /// The verifier that a text is, exactly as PostgreSQL reads it; None if PostgreSQL takes it for a password.
    pub fn parse(text: &str, role: &str) -> Option<Verifier> {
        if let Some(rest) = text.strip_prefix(SCRAM) {
            let (iterations, rest) = rest.split_once(':')?;
            let (salt, rest) = rest.split_once('$')?;
            let (stored, server) = rest.split_once(':')?;
            let key = |text: &str| Base64::decode_vec(text).ok()?.try_into().ok();
            return Some(Verifier::Scram {
                iterations: iterations.parse().ok()?,
                salt: Base64::decode_vec(salt).ok()?,
                stored: key(stored)?,
                server: key(server)?,
            });
        }
        let digits = text.strip_prefix("md5").filter(|it| it.len() == 32)?;
        let is_hex = digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let digest = u128::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        Some(Verifier::Md5 { digest: digest.to_be_bytes(), role: role.into() })
    }

    /// Whether it may be stored.
    pub fn check(&self) -> Result<(), Weakness> {
        match self {
            Verifier::Md5 { .. } => Err(Weakness::Md5),
            Verifier::Scram { iterations, .. } if *iterations < MIN_ITERATIONS => {
                Err(Weakness::FewIterations)
            }
            Verifier::Scram { iterations, .. } if *iterations > MAX_ITERATIONS => {
                Err(Weakness::ManyIterations)
            }
            Verifier::Scram { salt, .. } if salt.len() < MIN_SALT => Err(Weakness::ShortSalt),
            Verifier::Scram { .. } => Ok(()),
        }
    }

    /// Whether the password is the one it was made of. Either key of a SCRAM verifier tells: a login needs only the
    /// first, and somebody may have made up the other one.
    pub fn matches(&self, password: &Prepared) -> bool {
        password.forms().any(|form| self.matches_form(form))
    }

    /// Whether two verifiers are of one password, as far as can be told without it: of the same salt.
    pub fn is_same(&self, other: &Verifier) -> bool {
        match (self, other) {
            (
                Verifier::Scram { stored, server, .. },
                Verifier::Scram { stored: other_stored, server: other_server, .. },
            ) => bool::from(stored.ct_eq(other_stored) | server.ct_eq(other_server)),
            (Verifier::Md5 { digest, .. }, Verifier::Md5 { digest: other, .. }) => digest.ct_eq(other).into(),
            _ => false,
        }
    }

    fn matches_form(&self, form: &[u8]) -> bool {
        match self {
            Verifier::Scram { iterations, salt, stored, server } => {
                // What is stored was accepted by others, once: the time it takes stays bounded.
                let iterations = (*iterations).min(10 * MAX_ITERATIONS);
                let mut salted = [0; 32];
                pbkdf2::pbkdf2_hmac::<Sha256>(form, salt, iterations, &mut salted);
                let client_key = hmac(&salted, b"Client Key");
                let same_stored = Sha256::digest(client_key).ct_eq(stored);
                let same_server = hmac(&salted, b"Server Key").ct_eq(server);
                (same_stored | same_server).into()
            }
            Verifier::Md5 { digest, role } => {
                let made: [u8; 16] = Md5::new().chain_update(form).chain_update(role).finalize().into();
                made.ct_eq(digest).into()
            }
        }
    }
}

/// Whether a text that is no verifier looks like one: its maker believes that it is, and PostgreSQL would hash it as
/// the password.
pub fn looks_like_verifier(text: &str) -> bool {
    let is_md5 = text.len() >= 30
        && text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("md5"))
        && text[3..].bytes().all(|c| c.is_ascii_hexdigit());
    is_md5 || text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("SCRAM-"))
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // HMAC pads a short key with zeros.
    let mut padded = [0; 64];
    padded[..32].copy_from_slice(key);
    Hmac::<Sha256>::new(&padded.into()).chain_update(message).finalize().into_bytes().into()
}
