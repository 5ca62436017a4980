//! Provider `local`: the wrapping key is a file, or what a command writes.
//!
//! It exists so that the first minute works, and is reported as not compliant: the key lies on
//! a disk of the same machine.
//!
//! A wrapped key is: version 1 (1 byte) ‖ nonce (24) ‖ ciphertext (32) ‖ tag (16), by
//! XAES-256-GCM (C2SP) with [`Context::canonical`] as its associated data.

use std::path::{Path, PathBuf};

use pgpci_core::key::{Context, Purpose, check_value};
use pgpci_core::wire::{Description, Failure, FailureKind};
use pgpci_core::xaes::{NONCE_LEN, TAG_LEN, Xaes};

use crate::keyfile::{self, WrappingKey};
use crate::{Answer, DATA_KEY_LEN, DataKeyBytes, Provider};
use crate::{keycommand, private};

/// Provider `local`. The file is read, or the command run, at every request: it heals by itself
/// when the file comes back, and no wrapping key stays in memory.
#[derive(Debug)]
pub struct Local {
    source: Source,
}

/// Where the wrapping key comes from.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    Command(String),
}

impl Local {
    /// The provider's name, and that of its only wrapping key.
    pub const NAME: &'static str = "local";

    /// Length of a wrapped data key in bytes.
    pub const WRAPPED_LEN: usize = 1 + NONCE_LEN + DATA_KEY_LEN + TAG_LEN;

    /// The provider whose key file is at `path`; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Local {
        Local { source: Source::File(path.into()) }
    }

    /// The provider whose key file is what the shell command writes to stdout; nothing is run yet.
    pub fn from_command(command: impl Into<String>) -> Local {
        Local { source: Source::Command(command.into()) }
    }

    async fn wrapping_key(&self, kek: &str) -> Result<WrappingKey, Failure> {
        // The file is the key. Accepting any name would let somebody believe that another
        // name is another key.
        if !matches!(kek, "" | Local::NAME) {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("provider local has one wrapping key, named local: {kek:?}"),
            ));
        }
        match &self.source {
            Source::File(path) => keyfile::read(path).map_err(|error| told(&error, path)),
            Source::Command(command) => keycommand::run(command).await,
        }
    }
}

impl Provider for Local {
    fn name(&self) -> &'static str {
        Local::NAME
    }

    fn generate<'a>(&'a self, kek: &'a str, context: &'a Context) -> Answer<'a, (DataKeyBytes, Vec<u8>)> {
        Box::pin(async move {
            let wrapping = self.wrapping_key(kek).await?;
            let mut key = DataKeyBytes::new([0; DATA_KEY_LEN]);
            random(key.expose_mut())?;
            let wrapped = wrap(&wrapping, context, &key)?;
            Ok((key, wrapped))
        })
    }

    fn wrap<'a>(&'a self, kek: &'a str, context: &'a Context, key: &'a DataKeyBytes) -> Answer<'a, Vec<u8>> {
        Box::pin(async move { wrap(&self.wrapping_key(kek).await?, context, key) })
    }

    fn unwrap<'a>(
        &'a self,
        kek: &'a str,
        context: &'a Context,
        wrapped: &'a [u8],
    ) -> Answer<'a, DataKeyBytes> {
        Box::pin(async move {
            let wrapping = self.wrapping_key(kek).await?;
            unwrap(&wrapping, context, wrapped).ok_or_else(|| {
                Failure::new(FailureKind::WrongKey, "the local wrapping key does not unwrap this data key")
            })
        })
    }

    fn describe<'a>(&'a self, kek: &'a str) -> Answer<'a, Description> {
        Box::pin(async move {
            let wrapping = self.wrapping_key(kek).await?;
            let fingerprint = check_value(wrapping.expose(), Purpose::Data);
            let fingerprint: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(Description {
                provider: Local::NAME.to_string(),
                kek: format!("{}:{fingerprint}", Local::NAME),
                strength_bits: 256,
                is_compliant: false,
                is_enabled: true,
                note: "the wrapping key is in reach of the server: use a KMS or an HSM".to_string(),
            })
        })
    }
}

const VERSION: u8 = 1;

fn wrap(wrapping: &WrappingKey, context: &Context, key: &DataKeyBytes) -> Result<Vec<u8>, Failure> {
    let mut nonce = [0; NONCE_LEN];
    random(&mut nonce)?;
    // The clear key is only ever in the Secret: sealing in a copy that wipes itself.
    let mut sealed = key.clone();
    let tag = Xaes::new(wrapping.expose()).seal_in_place(&nonce, &context.canonical(), sealed.expose_mut());
    let mut wrapped = Vec::with_capacity(Local::WRAPPED_LEN);
    wrapped.push(VERSION);
    wrapped.extend_from_slice(&nonce);
    wrapped.extend_from_slice(sealed.expose());
    wrapped.extend_from_slice(&tag);
    Ok(wrapped)
}

/// `None` for whatever was not made by [`wrap`] with the same key and context.
fn unwrap(wrapping: &WrappingKey, context: &Context, wrapped: &[u8]) -> Option<DataKeyBytes> {
    let (version, rest) = wrapped.split_first()?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
    let (sealed, tag) = rest.split_first_chunk::<DATA_KEY_LEN>()?;
    let tag: &[u8; TAG_LEN] = tag.try_into().ok()?;
    if *version != VERSION {
        return None;
    }
    let mut key = DataKeyBytes::new(*sealed);
    Xaes::new(wrapping.expose()).open_in_place(nonce, &context.canonical(), key.expose_mut(), tag).ok()?;
    Some(key)
}

fn random(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes)
        .map_err(|_| Failure::new(FailureKind::Unavailable, "no random bytes from the kernel"))
}

/// What the server is told of a key file's trouble: the remedy first, as paths may be long.
fn told(error: &keyfile::Error, path: &Path) -> Failure {
    use keyfile::Error;
    let kind = match error {
        Error::Missing => FailureKind::NotConfigured,
        // Out of descriptors, a disk away: may pass.
        Error::Random | Error::Os(..) | Error::Private(private::Error::Os(..)) => FailureKind::Unavailable,
        Error::Private(_) | Error::Exists => FailureKind::Refused,
        Error::Malformed => FailureKind::Invalid,
    };
    Failure::new(kind, format!("{error}: {}", path.display()))
}
