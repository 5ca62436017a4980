//! Provider `pkcs11`: the wrapping key is an AES key on a PKCS#11 token, and never leaves it.
//!
//! A vault's `kek` is the key's label. A wrapped key is: version 1 (1 byte) ‖ IV (12) ‖ ciphertext
//! (32) ‖ tag (16), by CKM_AES_GCM on the token with [`Context::canonical`] as its associated data.
//!
//! The vendor's module is loaded into this process at the first request, so what crashes in it
//! takes this process along, and nothing else. Calls run on threads of their own, as they block.

mod failure;
mod library;
mod pin;
mod pool;
mod session;

use std::path::PathBuf;
use std::sync::Arc;

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use pgpci_core::key::Context;
use pgpci_core::wire::{Description, Failure, FailureKind};
use zeroize::Zeroizing;

use crate::{Answer, DATA_KEY_LEN, DataKeyBytes, Provider};
use library::Library;
use pool::Pool;

/// Which token provider `pkcs11` uses. Without all three it is not configured.
#[derive(Debug, Clone, Default)]
pub struct Pkcs11Config {
    /// The vendor's module, a shared library.
    pub module: Option<PathBuf>,
    /// The token's label.
    pub token: Option<String>,
    /// A file that holds the PIN of the token's user, readable by nobody else.
    pub pin_file: Option<PathBuf>,
}

/// Provider `pkcs11`.
pub struct Pkcs11 {
    pool: Pool,
}

impl Pkcs11 {
    /// The provider's name.
    pub const NAME: &'static str = "pkcs11";

    /// Threads that call the module, each with a session of its own.
    pub const THREADS: usize = 4;

    /// Length of a wrapped data key in bytes.
    pub const WRAPPED_LEN: usize = 1 + IV_LEN + DATA_KEY_LEN + TAG_LEN;

    /// The provider; nothing is loaded yet.
    pub fn new(config: Pkcs11Config) -> Pkcs11 {
        Pkcs11 { pool: Pool::new(Arc::new(Library::new(config)), Pkcs11::THREADS) }
    }
}

impl Provider for Pkcs11 {
    fn name(&self) -> &'static str {
        Pkcs11::NAME
    }

    fn generate<'a>(&'a self, kek: &'a str, context: &'a Context) -> Answer<'a, (DataKeyBytes, Vec<u8>)> {
        Box::pin(async move {
            let mut key = DataKeyBytes::new([0; DATA_KEY_LEN]);
            random(key.expose_mut())?;
            let wrapped = self.wrap(kek, context, &key).await?;
            Ok((key, wrapped))
        })
    }

    fn wrap<'a>(&'a self, kek: &'a str, context: &'a Context, key: &'a DataKeyBytes) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            let (kek, aad, key) = (kek.to_string(), context.canonical(), key.clone());
            let mut iv = [0; IV_LEN];
            random(&mut iv)?;
            self.pool
                .run(move |worker| {
                    worker.with_key(&kek, |session, handle| wrap(session, handle, iv, &aad, key.expose()))
                })
                .await
        })
    }

    fn unwrap<'a>(
        &'a self,
        kek: &'a str,
        context: &'a Context,
        wrapped: &'a [u8],
    ) -> Answer<'a, DataKeyBytes> {
        Box::pin(async move {
            let wrong =
                || Failure::new(FailureKind::WrongKey, "the token's key does not unwrap this data key");
            let Some((&VERSION, blob)) = wrapped.split_first() else { return Err(wrong()) };
            if wrapped.len() != Pkcs11::WRAPPED_LEN {
                return Err(wrong());
            }
            let (kek, aad, blob) = (kek.to_string(), context.canonical(), blob.to_vec());
            let opened = self
                .pool
                .run(move |worker| {
                    worker.with_key(&kek, |session, handle| unwrap(session, handle, &aad, &blob))
                })
                .await?;
            opened.ok_or_else(wrong)
        })
    }

    fn describe<'a>(&'a self, kek: &'a str) -> Answer<'a, Description> {
        Box::pin(async move {
            let kek = kek.to_string();
            self.pool.run(move |worker| worker.describe(&kek)).await
        })
    }
}

const VERSION: u8 = 1;
const IV_LEN: usize = 12;
const TAG_LEN: usize = 16;

fn wrap(
    session: &Session,
    key: ObjectHandle,
    mut iv: [u8; IV_LEN],
    aad: &[u8],
    clear: &[u8],
) -> Result<Vec<u8>, Error> {
    let sealed = session.encrypt(&gcm(&mut iv, aad)?, key, clear)?;
    let mut wrapped = Vec::with_capacity(Pkcs11::WRAPPED_LEN);
    wrapped.push(VERSION);
    wrapped.extend_from_slice(&iv); // only now: some tokens put one of their own in
    wrapped.extend_from_slice(&sealed);
    if wrapped.len() != Pkcs11::WRAPPED_LEN {
        return Err(Error::InvalidValue);
    }
    Ok(wrapped)
}

/// `None` if the token works, but not with these bytes.
fn unwrap(
    session: &Session,
    key: ObjectHandle,
    aad: &[u8],
    blob: &[u8],
) -> Result<Option<DataKeyBytes>, Error> {
    let Some((iv, sealed)) = blob.split_first_chunk::<IV_LEN>() else { return Ok(None) };
    match session.decrypt(&gcm(&mut iv.clone(), aad)?, key, sealed).map(Zeroizing::new) {
        Ok(clear) => {
            let mut opened = DataKeyBytes::new([0; DATA_KEY_LEN]);
            if clear.len() != DATA_KEY_LEN {
                return Ok(None);
            }
            opened.expose_mut().copy_from_slice(&clear);
            Ok(Some(opened))
        }
        // Modules have no common word for a tag that does not match, and many say that something
        // went wrong. One that can encrypt in the same session is well.
        Err(error) if failure::may_be_the_blob(&error) => {
            session.encrypt(&gcm(&mut [0; IV_LEN], b"probe")?, key, &[0; DATA_KEY_LEN])?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn gcm<'a>(iv: &'a mut [u8; IV_LEN], aad: &'a [u8]) -> Result<Mechanism<'a>, Error> {
    let tag_bits = (TAG_LEN as u64 * 8).into();
    Ok(Mechanism::AesGcm(GcmParams::new(iv, aad, tag_bits)?))
}

fn random(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes)
        .map_err(|_| Failure::new(FailureKind::Unavailable, "no random bytes from the kernel"))
}
