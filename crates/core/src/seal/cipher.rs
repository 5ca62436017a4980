//! Sealing and opening.

use super::stored::{CIPHERTEXT_LEN, EQUALITY_LEN, HEADER_LEN, Pan, PanBuf, bcd, fits};
use crate::brand::Truncation;
use crate::error::Error;
use crate::key::{DataKey, EqualityKey, KeyId};
use crate::pan::ClearPan;
use crate::xaes::{NONCE_LEN, TAG_LEN};
use zeroize::Zeroize;

/// Keeps what is authenticated here apart from anything else a data key might ever authenticate.
/// 30 bytes fill the associated data of a searchable value up to 64, which GHASH takes in one step.
const DOMAIN: &[u8; 30] = b"pgpci sealed card number, v. 1";

/// Seals a number. `nonce` must never have been used before with this key; `equality` is `None`
/// in an unsearchable vault.
pub fn seal(
    key: &mut DataKey,
    equality: Option<&EqualityKey>,
    pan: &ClearPan,
    shown: Truncation,
    nonce: &[u8; NONCE_LEN],
) -> Result<PanBuf, Error> {
    seal_hashed(key, equality.map(|it| it.hash(pan)), pan, shown, nonce)
}

/// [`seal`] where the equality hash is at hand already.
pub fn seal_hashed(
    key: &mut DataKey,
    hash: Option<[u8; 16]>,
    pan: &ClearPan,
    shown: Truncation,
    nonce: &[u8; NONCE_LEN],
) -> Result<PanBuf, Error> {
    if !fits(shown, pan.len()) {
        return Err(Error::Truncation);
    }
    let sealed = PanBuf::with_room(key.id(), hash, pan, shown);
    Ok(with_digits(sealed, key, pan, nonce))
}

/// A value of no vault yet: it can be compared (where a hash is at hand), shows nothing, and is never stored; what
/// it carries is sealed for [`open_unbound`], which binds it.
pub fn unbound(key: &mut DataKey, hash: Option<[u8; 16]>, pan: &ClearPan, nonce: &[u8; NONCE_LEN]) -> PanBuf {
    let nothing = Truncation { first: 0, last: 0 };
    with_digits(PanBuf::with_room(key.id(), hash, pan, nothing).into_unbound(), key, pan, nonce)
}

/// Fills the room between the header and the hash.
fn with_digits(mut sealed: PanBuf, key: &mut DataKey, pan: &ClearPan, nonce: &[u8; NONCE_LEN]) -> PanBuf {
    let mut digits = pan.packed().to_be_bytes();
    let aad = AssociatedData::of(sealed.as_pan());
    let tag = key.xaes.seal_in_place(nonce, aad.as_bytes(), &mut digits);
    let body = &mut sealed.bytes[HEADER_LEN..];
    body[..NONCE_LEN].copy_from_slice(nonce);
    body[NONCE_LEN..][..CIPHERTEXT_LEN].copy_from_slice(&digits);
    body[NONCE_LEN + CIPHERTEXT_LEN..][..TAG_LEN].copy_from_slice(&tag);
    sealed
}

/// A value to compare stored ones with, for somebody who may search but not store: it has the
/// equality hash, shows nothing and cannot be opened.
pub fn comparand(equality: &EqualityKey, pan: &ClearPan) -> PanBuf {
    let nothing = Truncation { first: 0, last: 0 };
    PanBuf::with_room(KeyId(0), Some(equality.hash(pan)), pan, nothing).into_comparand()
}

/// Opens a stored value with the key of its [`key_id`](Pan::key_id).
pub fn open(key: &mut DataKey, pan: Pan<'_>) -> Result<ClearPan, Error> {
    if pan.is_comparand() {
        return Err(Error::Comparand);
    }
    open_digits(key, pan)
}

/// Opens a value of [`unbound`] with the key of its [`key_id`](Pan::key_id).
pub fn open_unbound(key: &mut DataKey, pan: Pan<'_>) -> Result<ClearPan, Error> {
    if !pan.is_unbound() {
        return Err(Error::Comparand);
    }
    open_digits(key, pan)
}

fn open_digits(key: &mut DataKey, pan: Pan<'_>) -> Result<ClearPan, Error> {
    let body = &pan.0[HEADER_LEN..];
    let (nonce, body) = body.split_first_chunk().ok_or(Error::Corrupt)?;
    let (ciphertext, tag) = body.split_first_chunk::<CIPHERTEXT_LEN>().ok_or(Error::Corrupt)?;
    let tag = tag.first_chunk().ok_or(Error::Corrupt)?;

    let aad = AssociatedData::of(pan);
    let mut digits = *ciphertext;
    key.xaes.open_in_place(nonce, aad.as_bytes(), &mut digits, tag)?;
    let opened = ClearPan::from_packed(u64::from_be_bytes(digits), pan.pan_len());
    digits.zeroize();
    // Authentic, so only a bug in sealing could make these differ; never show what was not sealed.
    let opened = opened.ok_or(Error::Corrupt)?;
    if bcd(&opened, pan.truncation()) != pan.0[4..10] {
        return Err(Error::Corrupt);
    }
    Ok(opened)
}

/// The domain and everything of a value that is not sealed.
struct AssociatedData {
    bytes: [u8; DOMAIN.len() + HEADER_LEN + EQUALITY_LEN],
    len: usize,
}

impl AssociatedData {
    fn of(pan: Pan<'_>) -> Self {
        let mut bytes = [0; DOMAIN.len() + HEADER_LEN + EQUALITY_LEN];
        let (header, hash) = pan.clear_parts();
        let (domain, rest) = bytes.split_at_mut(DOMAIN.len());
        domain.copy_from_slice(DOMAIN);
        rest[..HEADER_LEN].copy_from_slice(header);
        rest[HEADER_LEN..][..hash.len()].copy_from_slice(hash);
        AssociatedData { bytes, len: DOMAIN.len() + HEADER_LEN + hash.len() }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
