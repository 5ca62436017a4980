//! What a key provider must do.

use std::future::Future;
use std::pin::Pin;

use pgpci_core::key::Context;
use pgpci_core::secret::Secret;
use pgpci_core::wire::{Description, Failure};

/// Length of a data key in bytes: AES-256.
pub const DATA_KEY_LEN: usize = 32;

/// A data key in clear; wiped when dropped.
pub type DataKeyBytes = Secret<[u8; DATA_KEY_LEN]>;

/// What a provider's method returns. It is boxed, so that the registry can hold providers of
/// different types, and `Send`, so that requests can run as tasks.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A holder of wrapping keys: a key file, a KMS or an HSM.
///
/// All methods bind the wrapped key to its [`Context`]: a blob presented with another context,
/// or to another wrapping key, must be refused, and never yields other bytes.
///
/// A database that only stores card numbers needs no more than [`Provider::generate`] from the
/// wrapping key: with `kms:GenerateDataKey` alone it cannot read what it stored yesterday.
pub trait Provider: Send + Sync {
    /// The name by which vaults refer to this provider.
    fn name(&self) -> &'static str;

    /// Gets ready for the first request, which then takes no longer than others. Asks no key holder for anything, and
    /// what fails is told by the requests.
    fn prepare(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }

    /// Makes a data key; returns it in clear, and wrapped by `kek` for `context`.
    fn generate<'a>(&'a self, kek: &'a str, context: &'a Context) -> Answer<'a, (DataKeyBytes, Vec<u8>)>;

    /// Wraps a data key that another wrapping key had before.
    fn wrap<'a>(&'a self, kek: &'a str, context: &'a Context, key: &'a DataKeyBytes) -> Answer<'a, Vec<u8>>;

    /// Unwraps what [`Provider::generate`] or [`Provider::wrap`] returned for the same `kek` and
    /// `context`.
    fn unwrap<'a>(
        &'a self,
        kek: &'a str,
        context: &'a Context,
        wrapped: &'a [u8],
    ) -> Answer<'a, DataKeyBytes>;

    /// The same data key under another wrapping key of this provider. Providers that can do so
    /// without showing the key to this process do.
    fn rewrap<'a>(
        &'a self,
        kek: &'a str,
        context: &'a Context,
        wrapped: &'a [u8],
        to_kek: &'a str,
    ) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            let key = self.unwrap(kek, context, wrapped).await?;
            self.wrap(to_kek, context, &key).await
        })
    }

    /// What `kek` is; reading only.
    fn describe<'a>(&'a self, kek: &'a str) -> Answer<'a, Description>;
}
