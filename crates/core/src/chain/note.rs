//! Signed notes and the checkpoints in them (<https://c2sp.org/signed-note>,
//! <https://c2sp.org/tlog-checkpoint>).

use super::sign::{VerifyingKey, is_key_name};
use super::tree::Hash;
use base64ct::{Base64, Encoding};

/// A longer note is refused: ours have a few hundred bytes.
const MAX_LEN: usize = 64 * 1024;
/// The specification wants at least 16 to be accepted.
const MAX_SIGNATURES: usize = 64;
/// What a signature line begins with: an em dash and a space.
pub(super) const SIGNATURE_LINE: &str = "\u{2014} ";

/// Why a note is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a note as the specification describes it.
    #[error("signed note is malformed")]
    Syntax,
    /// Its text is no checkpoint.
    #[error("checkpoint is malformed")]
    Checkpoint,
    /// No signature by any of the keys; there may be others.
    #[error("note is not signed by the given key")]
    UnknownSigner,
    /// A signature that claims to be by one of the keys, and is not.
    #[error("signature is invalid")]
    Signature,
    /// Not `name+hash+base64`, of an Ed25519 key.
    #[error("key is malformed")]
    Key,
}

/// The state of a log: this many leaves, and this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the same name as that of its signing key.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, Base64::encode_string(&self.root))
    }

    /// Reads the text of a note. Extension lines are allowed and mean nothing.
    pub fn parse(text: &str) -> Result<Checkpoint, NoteError> {
        let mut lines = text.strip_suffix('\n').ok_or(NoteError::Checkpoint)?.split('\n');
        let (origin, size, root) = match (lines.next(), lines.next(), lines.next()) {
            (Some(origin), Some(size), Some(root)) if !origin.is_empty() => (origin, size, root),
            _ => return Err(NoteError::Checkpoint),
        };
        let is_decimal =
            size.bytes().all(|it| it.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
        let size = size.parse().ok().filter(|_| is_decimal).ok_or(NoteError::Checkpoint)?;
        let root = decode(root).and_then(|it| it.try_into().ok()).ok_or(NoteError::Checkpoint)?;
        if lines.any(str::is_empty) {
            return Err(NoteError::Checkpoint);
        }
        Ok(Checkpoint { origin: origin.to_string(), size, root })
    }
}

/// A note that was parsed, but is not verified.
#[derive(Debug, Clone)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

#[derive(Debug, Clone)]
struct Signature<'a> {
    name: &'a str,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    /// Reads a note.
    pub fn parse(note: &'a [u8]) -> Result<Note<'a>, NoteError> {
        let note =
            std::str::from_utf8(note).ok().filter(|it| it.len() <= MAX_LEN).ok_or(NoteError::Syntax)?;
        if note.bytes().any(|it| it < b' ' && it != b'\n') {
            return Err(NoteError::Syntax);
        }
        // The last empty line ends the text: the text may have others.
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Syntax)?;
        let text = &note[..text.len() + 1];
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Syntax)?;
        let signatures: Vec<_> = signatures
            .split('\n')
            .map(|it| Signature::parse(it).ok_or(NoteError::Syntax))
            .collect::<Result<_, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::Syntax);
        }
        Ok(Note { text, signatures })
    }

    /// The text after verifying it: at least one signature is by one of the keys, and every one
    /// that claims to be is valid. Signatures by others are ignored.
    pub fn verify(&self, keys: &[VerifyingKey]) -> Result<&'a str, NoteError> {
        let mut verified = false;
        for signature in &self.signatures {
            for key in keys.iter().filter(|it| it.name() == signature.name && it.id() == signature.key_id) {
                if !key.verify(self.text.as_bytes(), &signature.bytes) {
                    return Err(NoteError::Signature);
                }
                verified = true;
            }
        }
        if verified { Ok(self.text) } else { Err(NoteError::UnknownSigner) }
    }

    /// The text, whoever signed it.
    pub fn unverified_text(&self) -> &'a str {
        self.text
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(SIGNATURE_LINE)?.split_once(' ')?;
        let bytes = decode(base64).filter(|it| it.len() > 4 && is_key_name(name))?;
        let (key_id, bytes) = bytes.split_first_chunk::<4>()?;
        Some(Signature { name, key_id: *key_id, bytes: bytes.to_vec() })
    }
}

pub(super) fn decode(base64: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(base64).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::Signer;
    use crate::secret::Secret;

    /// The example of the specification.
    const EXAMPLE_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const EXAMPLE: &str = "This is an example message.\n\n\u{2014} example.com/foo \
        Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn signer() -> Signer {
        Signer::new("example.org/log", &Secret::new([1; 32])).unwrap()
    }

    fn verify(note: &str, keys: &[VerifyingKey]) -> Result<String, NoteError> {
        Note::parse(note.as_bytes())?.verify(keys).map(str::to_string)
    }

    #[test]
    fn published_example() {
        let key = VerifyingKey::parse(EXAMPLE_KEY).unwrap();
        assert_eq!(
            verify(EXAMPLE, std::slice::from_ref(&key)),
            Ok("This is an example message.\n".to_string())
        );
        let changed = EXAMPLE.replace("an example", "no example");
        assert_eq!(verify(&changed, &[key]), Err(NoteError::Signature));
        assert_eq!(verify(EXAMPLE, &[signer().verifying_key()]), Err(NoteError::UnknownSigner));
    }

    #[test]
    fn signatures_by_others_are_ignored_and_bad_ones_by_us_are_not() {
        let ours = signer().sign("text\n\nmore\n");
        let other = Signer::new("example.org/log", &Secret::new([2; 32])).unwrap();
        let theirs = other.sign("text\n\nmore\n");
        let both = format!("{ours}{}", theirs.rsplit_once("\n\n").unwrap().1);
        let keys = [signer().verifying_key(), other.verifying_key()];
        for keys in [&keys[..], &keys[..1], &keys[1..]] {
            assert_eq!(verify(&both, keys), Ok("text\n\nmore\n".to_string()));
        }
        let forged = both.replacen("more", "less", 1);
        assert_eq!(verify(&forged, &keys), Err(NoteError::Signature));
    }

    #[test]
    fn checkpoints_round_trip() {
        let checkpoint = Checkpoint { origin: "example.org/log".to_string(), size: 42, root: [7; 32] };
        let text = checkpoint.text();
        assert_eq!(text, "example.org/log\n42\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n");
        assert_eq!(Checkpoint::parse(&text), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::parse(&format!("{text}extension\n")), Ok(checkpoint));
        for bad in [
            "",
            "\n",
            &text[..text.len() - 1],
            &text.replace("42", "042"),
            &text.replace("42", "+42"),
            &text.replace("42", ""),
            &text.replace("42", "18446744073709551616"),
            &text.replace("wc=", "wd="),
            &text.replace("BwcH", ""),
            &text["example.org/log".len()..],
            &format!("{text}\n"),
        ] {
            assert_eq!(Checkpoint::parse(bad), Err(NoteError::Checkpoint), "{bad:?}");
        }
    }

    #[test]
    fn malformed_notes() {
        let note = signer().sign("text\n");
        for bad in [
            "",
            "\n\n",
            "text\n",
            "text\n\n",
            &note[..note.len() - 1],
            &note.replace('\u{2014}', "-"),
            &note.replace("example.org/log ", ""),
            &note.replace("text", "te\tt"),
            &note.replace("text", "te\rt"),
            &format!("{note}x\n"),
            &format!("{note}\n"),
            &format!("text\n\n{}", "\u{2014} a AAAAAAA=\n".repeat(65)),
        ] {
            assert_eq!(Note::parse(bad.as_bytes()).err(), Some(NoteError::Syntax), "{bad:?}");
        }
        assert_eq!(Note::parse(b"\xff\n\n").err(), Some(NoteError::Syntax));
    }
}
