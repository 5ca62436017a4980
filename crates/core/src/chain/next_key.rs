//! The key that signs from now on, vouched for by the one that signed so far: a signed note.

use super::note::{Note, NoteError};
use super::sign::{Signer, VerifyingKey};

/// What stands where a checkpoint has its size, so that no note can be taken for both.
const MARK: &str = "next key";

/// A log's next signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextKey {
    /// The key that vouches.
    pub from: VerifyingKey,
    /// The key that it vouches for.
    pub to: VerifyingKey,
}

impl NextKey {
    /// The note by which a key vouches for the next one; `None` if that is another log's.
    pub fn note(from: &Signer, to: &VerifyingKey) -> Option<String> {
        (from.name() == to.name()).then(|| from.sign(&format!("{}\n{MARK}\n{to}\n", to.name())))
    }

    /// Reads a note, signed by one of the keys.
    pub fn verify(note: &[u8], keys: &[VerifyingKey]) -> Result<NextKey, NoteError> {
        let note = Note::parse(note)?;
        let mut signers = keys.iter().filter(|key| note.verify(std::slice::from_ref(*key)).is_ok());
        let Some(from) = signers.next() else {
            return Err(note.verify(keys).err().unwrap_or(NoteError::UnknownSigner));
        };
        let mut lines = note.unverified_text().strip_suffix('\n').ok_or(NoteError::Key)?.split('\n');
        let (origin, mark, vkey) = (lines.next(), lines.next(), lines.next());
        let to = VerifyingKey::parse(vkey.ok_or(NoteError::Key)?)?;
        let is_one = origin == Some(to.name()) && to.name() == from.name() && mark == Some(MARK);
        if is_one && lines.next().is_none() {
            Ok(NextKey { from: from.clone(), to })
        } else {
            Err(NoteError::Key)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::Checkpoint;
    use crate::secret::Secret;

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::new(name, &Secret::new([seed; 32])).unwrap()
    }

    #[test]
    fn the_next_key_is_vouched_for() {
        let (old, new) = (signer("a/log", 1), signer("a/log", 2));
        let note = NextKey::note(&old, &new.verifying_key()).unwrap();
        let keys = [signer("a/log", 3).verifying_key(), old.verifying_key()];
        let found = NextKey::verify(note.as_bytes(), &keys).unwrap();
        assert_eq!((found.from, found.to), (old.verifying_key(), new.verifying_key()));
        assert_eq!(NextKey::verify(note.as_bytes(), &keys[..1]), Err(NoteError::UnknownSigner));
        let forged = note.replace(&new.verifying_key().to_string(), &keys[0].to_string());
        assert_eq!(NextKey::verify(forged.as_bytes(), &keys), Err(NoteError::Signature));
        assert!(Checkpoint::parse(Note::parse(note.as_bytes()).unwrap().unverified_text()).is_err());
    }

    #[test]
    fn what_vouches_for_nothing() {
        let (old, other) = (signer("a/log", 1), signer("b/log", 2));
        let keys = [old.verifying_key()];
        assert_eq!(NextKey::note(&old, &other.verifying_key()), None);
        let checkpoint = Checkpoint { origin: "a/log".to_string(), size: 1, root: [0; 32] };
        let (vkey, theirs) = (signer("a/log", 3).verifying_key(), other.verifying_key());
        for text in [
            checkpoint.text(),
            format!("a/log\n{MARK}\n{theirs}\n"),
            format!("b/log\n{MARK}\n{vkey}\n"),
            format!("a/log\nkey\n{vkey}\n"),
            format!("a/log\n{MARK}\n{vkey}\nmore\n"),
            format!("a/log\n{MARK}\n"),
        ] {
            assert_eq!(NextKey::verify(old.sign(&text).as_bytes(), &keys), Err(NoteError::Key), "{text}");
        }
    }
}
