//! Ed25519 keys with a name (C2SP signed-note, signature type 0x01).

use super::note::{NoteError, SIGNATURE_LINE, decode};
use crate::secret::Secret;
use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use sha2::{Digest, Sha256};
use std::fmt;

/// Ed25519 among the signature types of the specification.
const ED25519: u8 = 1;

/// What signs checkpoints. Wiped on drop, never printed.
pub struct Signer {
    key: SigningKey,
    public: VerifyingKey,
}

impl Signer {
    /// A key from its 32 secret bytes. `None` if the name cannot be that of a key: empty, or with
    /// white space, `+` or control characters.
    pub fn new(name: &str, seed: &Secret<[u8; 32]>) -> Option<Signer> {
        let key = SigningKey::from_bytes(seed.expose());
        let public = VerifyingKey::new(name, key.verifying_key())?;
        Some(Signer { key, public })
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }

    /// The name, which is also the origin of its log.
    pub fn name(&self) -> &str {
        self.public.name()
    }

    /// The signed note of a text, which must end in a line feed.
    pub fn sign(&self, text: &str) -> String {
        let mut bytes = [0; 68];
        bytes[..4].copy_from_slice(&self.public.id);
        bytes[4..].copy_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        format!("{text}\n{SIGNATURE_LINE}{} {}\n", self.name(), Base64::encode_string(&bytes))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, ***)", self.public)
    }
}

/// What verifies checkpoints. `Display` and [`parse`](Self::parse) use the form that the
/// specification calls vkey: `name+key id+base64 of 0x01 and the 32 bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    id: [u8; 4],
    key: ed25519_dalek::VerifyingKey,
}

impl VerifyingKey {
    /// Reads a vkey; white space around is ignored.
    pub fn parse(vkey: &str) -> Result<VerifyingKey, NoteError> {
        // The base64 part may contain a plus sign, the others not.
        let mut parts = vkey.trim_ascii().splitn(3, '+');
        let (name, id, base64) = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(id), Some(base64)) => (name, id, base64),
            _ => return Err(NoteError::Key),
        };
        let bytes = decode(base64).ok_or(NoteError::Key)?;
        let Some((&[ED25519], bytes)) = bytes.split_first_chunk::<1>() else {
            return Err(NoteError::Key);
        };
        let bytes = bytes.try_into().or(Err(NoteError::Key))?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).or(Err(NoteError::Key))?;
        let key = VerifyingKey::new(name, key).ok_or(NoteError::Key)?;
        if hex(key.id) == id { Ok(key) } else { Err(NoteError::Key) }
    }

    fn new(name: &str, key: ed25519_dalek::VerifyingKey) -> Option<VerifyingKey> {
        if !is_key_name(name) {
            return None;
        }
        let hash =
            Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key.as_bytes());
        let mut id = [0; 4];
        id.copy_from_slice(&hash.finalize()[..4]);
        Some(VerifyingKey { name: name.to_string(), id, key })
    }

    /// The name, which is also the origin of its log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id in signatures: the beginning of a hash over name and key.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Whether a signature of 64 bytes belongs to a text. Weak keys and malleable signatures are
    /// refused.
    pub(super) fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else {
            return false;
        };
        self.key.verify_strict(text, &signature).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [ED25519; 33];
        bytes[1..].copy_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex(self.id), Base64::encode_string(&bytes))
    }
}

/// Whether a name can stand in a signature line and in a vkey.
pub(super) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|it: char| it.is_whitespace() || it.is_control() || it == '+')
}

fn hex(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_round_trip() {
        let signer = Signer::new("example.org/log", &Secret::new([1; 32])).unwrap();
        let vkey = signer.verifying_key().to_string();
        assert_eq!(VerifyingKey::parse(&vkey), Ok(signer.verifying_key()));
        assert_eq!(VerifyingKey::parse(&format!(" {vkey}\n")), Ok(signer.verifying_key()));
        assert_eq!(format!("{signer:?}"), format!("Signer({vkey}, ***)"));
    }

    #[test]
    fn malformed_keys() {
        let vkey = Signer::new("a", &Secret::new([1; 32])).unwrap().verifying_key().to_string();
        let bad = [
            "",
            "+",
            "a++",
            &vkey[1..],
            &vkey.replacen('a', "b", 1),
            &vkey[..vkey.len() - 4],
            &vkey.to_uppercase(),
        ];
        for vkey in bad {
            assert_eq!(VerifyingKey::parse(vkey), Err(NoteError::Key), "{vkey}");
        }
        for name in ["", "a b", "a+b", "a\n", "a\u{a0}"] {
            assert!(Signer::new(name, &Secret::new([1; 32])).is_none(), "{name:?}");
        }
    }
}
