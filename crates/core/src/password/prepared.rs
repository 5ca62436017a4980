//! A password in the form that PostgreSQL makes its verifier of: SASLprep (RFC 4013), or as it is where that fails.

use crate::secret::Secret;
use stringprep::{saslprep, tables::commonly_mapped_to_nothing};
use zeroize::Zeroize;

/// A password, prepared. Wiped on drop, never printed.
#[derive(Debug)]
pub struct Prepared {
    /// What a verifier is made of.
    bytes: Secret<Vec<u8>>,
    /// What was given, where that differs: a verifier may have been made by somebody who prepares otherwise.
    raw: Option<Secret<Vec<u8>>>,
}

impl Prepared {
    /// Prepares what was given.
    pub fn new(given: &[u8]) -> Self {
        let prepared = std::str::from_utf8(given).ok().and_then(|text| saslprep(text).ok());
        match prepared {
            Some(text) if text.as_bytes() != given => Prepared {
                bytes: Secret::new(text.into_owned().into_bytes()),
                raw: Some(Secret::new(given.to_vec())),
            },
            _ => Prepared { bytes: Secret::new(given.to_vec()), raw: None },
        }
    }

    /// What a verifier is made of: the prepared form first.
    pub(crate) fn forms(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.bytes.expose().as_slice())
            .chain(self.raw.iter().map(|raw| raw.expose().as_slice()))
    }

    /// Its characters; of an encoding that is not known, its bytes. What preparing takes away never counts, not even
    /// where preparing failed.
    pub(super) fn characters(&self) -> Secret<String> {
        let bytes = self.bytes.expose();
        Secret::new(match std::str::from_utf8(bytes) {
            Ok(text) => text.chars().filter(|c| !commonly_mapped_to_nothing(*c)).collect(),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        })
    }

    /// The same in lower case.
    pub(super) fn folded(&self) -> Secret<String> {
        let mut characters = self.characters();
        let folded = super::fold(characters.expose());
        characters.expose_mut().zeroize();
        Secret::new(folded)
    }
}
