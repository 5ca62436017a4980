//! The sealed form: a stored value as text, for dumps and replication.

use super::stored::{MAX_SEALED, Pan, PanBuf};
use crate::error::Error;
use base64ct::{Base64UrlUnpadded, Encoding};

/// What every sealed form of this version starts with; base64url of the stored bytes follows.
pub const SEALED_PREFIX: &str = "pan:1:";

/// What sealed forms of all versions start with.
const MARK: &[u8] = b"pan:";
const MAX_BASE64: usize = (MAX_SEALED * 4).div_ceil(3);

/// Whether a text is meant as a sealed form, well-formed or not.
pub fn is_sealed_text(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(MARK)
}

impl Pan<'_> {
    /// Appends the sealed form.
    pub fn write_text(self, out: &mut Vec<u8>) {
        let mut base64 = [0; MAX_BASE64];
        let base64 = Base64UrlUnpadded::encode(self.0, &mut base64)
            .expect("the buffer holds the longest stored value");
        out.extend_from_slice(SEALED_PREFIX.as_bytes());
        out.extend_from_slice(base64.as_bytes());
    }
}

impl PanBuf {
    /// Reads a sealed form. Comparands are refused: nothing writes them, and stored they would be
    /// values that can never be opened.
    pub fn parse_sealed(text: &[u8]) -> Result<PanBuf, Error> {
        let base64 = strip_version(text.trim_ascii())?;
        let mut bytes = [0; MAX_SEALED];
        let decoded = Base64UrlUnpadded::decode(base64, &mut bytes).or(Err(Error::SealedSyntax))?;
        let pan = Pan::from_stored(decoded).or(Err(Error::SealedSyntax))?;
        if pan.is_comparand() {
            return Err(Error::SealedSyntax);
        }
        let len = decoded.len() as u8;
        Ok(PanBuf { bytes, len })
    }
}

/// What follows `pan:1:`.
fn strip_version(text: &[u8]) -> Result<&[u8], Error> {
    let rest = text.strip_prefix(MARK).ok_or(Error::SealedSyntax)?;
    let colon = rest.iter().position(|&b| b == b':').ok_or(Error::SealedSyntax)?;
    let (version, base64) = (&rest[..colon], &rest[colon + 1..]);
    if version == b"1" {
        Ok(base64)
    } else if !version.is_empty() && version.iter().all(u8::is_ascii_digit) {
        Err(Error::SealedVersion)
    } else {
        Err(Error::SealedSyntax)
    }
}
