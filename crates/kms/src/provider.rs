//! What a key provider must do.

use std::future::Future;
use std::pin::Pin;

use pgpci_core::key::Context;
use pgpci_core::secret::Secret;
use pgpci_core::wire::Failure;

/// Length of a data key in bytes: AES-256.
pub const DATA_KEY_LEN: usize = 32;

/// A data key in clear; wiped when dropped.
pub type DataKeyBytes = Secret<[u8; DATA_KEY_LEN]>;

/// What a provider's method returns. It is boxed, so that the registry can hold providers of
/// different types, and `Send`, so that requests can run as tasks.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A holder of wrapping keys: a key file, a KMS or an HSM.
///
/// Both methods bind the wrapped key to its [`Context`]: a blob presented with another context,
/// or to another wrapping key, must be refused, and never yields other bytes.
pub trait Provider: Send + Sync {
    /// The name by which vaults refer to this provider.
    fn name(&self) -> &'static str;

    /// Makes a data key; returns it in clear, and wrapped by `kek` for `context`.
    fn generate<'a>(&'a self, kek: &'a str, context: &'a Context) -> Answer<'a, (DataKeyBytes, Vec<u8>)>;

    /// Unwraps what [`Provider::generate`] returned for the same `kek` and `context`.
    fn unwrap<'a>(
        &'a self,
        kek: &'a str,
        context: &'a Context,
        wrapped: &'a [u8],
    ) -> Answer<'a, DataKeyBytes>;
}
