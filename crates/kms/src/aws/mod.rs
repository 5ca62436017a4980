//! Provider `aws`: the wrapping key is a symmetric key in AWS KMS.
//!
//! A vault's `kek` is the key's id, its ARN, or an alias (`alias/cards`, or its ARN). An ARN's own
//! region is used, others go to the region of the options or of AWS's ordinary chain. A wrapped
//! key is KMS's `CiphertextBlob` as it is, so that `aws kms decrypt` reads it, too.
//!
//! The SDK keeps copies of what it sends and receives which nobody wipes; they stay in the memory
//! that `pgpci keyd` locks and keeps out of core files.
//!
//! What a write-only server needs is `kms:GenerateDataKey`; reading adds `kms:Decrypt`, and
//! moving to another wrapping key `kms:Encrypt`, `kms:ReEncryptFrom`, `kms:ReEncryptTo` and
//! `kms:DescribeKey`.

mod answer;
mod clients;
mod context;
mod failure;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use pgpci_core::key::Context;
use pgpci_core::wire::{Description, Failure};

use crate::{Answer, DataKeyBytes, Provider};
use answer::{can_be_wrapped, data_key, description, not_understood, wrapped};
use clients::Clients;
use context::{encryption_context, region_of};
use failure::{Call, told};

/// How provider `aws` reaches KMS. What is not set comes from AWS's ordinary chain: environment,
/// profile files, web identity, container and instance roles.
#[derive(Debug, Clone, Default)]
pub struct AwsConfig {
    /// The region, such as `eu-west-1`.
    pub region: Option<String>,
    /// Where KMS is, if not at the region's public address: a VPC endpoint or an emulator. Plain
    /// http is for loopback only, since data keys travel in it.
    pub endpoint_url: Option<String>,
}

/// Provider `aws`.
pub struct Aws {
    clients: Clients,
}

impl Aws {
    /// The provider's name.
    pub const NAME: &'static str = "aws";

    /// How often one request asks KMS at most: after throttling, failures of KMS and of the
    /// network, with exponential backoff and jitter in between.
    pub const MAX_ATTEMPTS: u32 = 3;

    /// The longest wait before the second attempt; it doubles up to [`Aws::MAX_BACKOFF`].
    pub const FIRST_BACKOFF: Duration = Duration::from_millis(200);

    /// The longest wait before any attempt.
    pub const MAX_BACKOFF: Duration = Duration::from_secs(1);

    /// Time limit of connecting.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

    /// Time limit of one attempt.
    pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

    /// Time limit of all attempts of one call together, credentials included.
    pub const CALL_TIMEOUT: Duration = Duration::from_secs(8);

    /// The provider; nothing is read or contacted yet.
    pub fn new(config: AwsConfig) -> Aws {
        Aws::with_loader(config, || aws_config::defaults(BehaviorVersion::latest()))
    }

    /// The provider with credentials from elsewhere than AWS's ordinary chain: `loader` is asked
    /// whenever credentials are needed anew. Region, endpoint, retries and time limits are set
    /// here.
    pub fn with_loader(config: AwsConfig, loader: impl Fn() -> ConfigLoader + Send + Sync + 'static) -> Aws {
        Aws { clients: Clients::new(config, Box::new(loader)) }
    }

    /// Runs a call with the client for `kek`, and forgets clients whose credentials do not work,
    /// so that the next request reads them anew.
    async fn call<T, F, Fut>(&self, kek: &str, call: F) -> Result<T, Failure>
    where
        F: FnOnce(Client) -> Fut,
        Fut: Future<Output = Result<T, failure::Told>>,
    {
        let result = call(self.clients.get(kek).await?).await;
        result.map_err(|told| {
            if told.is_about_credentials {
                self.clients.forget();
            }
            told.failure
        })
    }
}

impl Provider for Aws {
    fn name(&self) -> &'static str {
        Aws::NAME
    }

    fn prepare(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.clients.prepare())
    }

    fn generate<'a>(&'a self, kek: &'a str, context: &'a Context) -> Answer<'a, (DataKeyBytes, Vec<u8>)> {
        Box::pin(self.call(kek, async move |client: Client| {
            let output = client
                .generate_data_key()
                .key_id(kek)
                .key_spec(DataKeySpec::Aes256)
                .set_encryption_context(Some(encryption_context(context)))
                .send()
                .await
                .map_err(|error| told(Call::GenerateDataKey, &error))?;
            let key = data_key(output.plaintext)?;
            Ok((key, wrapped(output.ciphertext_blob)?))
        }))
    }

    fn wrap<'a>(&'a self, kek: &'a str, context: &'a Context, key: &'a DataKeyBytes) -> Answer<'a, Vec<u8>> {
        Box::pin(self.call(kek, async move |client: Client| {
            let output = client
                .encrypt()
                .key_id(kek)
                .plaintext(Blob::new(key.expose().as_slice()))
                .set_encryption_context(Some(encryption_context(context)))
                .send()
                .await
                .map_err(|error| told(Call::Encrypt, &error))?;
            Ok(wrapped(output.ciphertext_blob)?)
        }))
    }

    fn unwrap<'a>(
        &'a self,
        kek: &'a str,
        context: &'a Context,
        wrapped: &'a [u8],
    ) -> Answer<'a, DataKeyBytes> {
        Box::pin(async move {
            can_be_wrapped(wrapped)?;
            self.call(kek, async move |client: Client| {
                let output = client
                    .decrypt()
                    // Without it KMS would take whichever key the blob names.
                    .key_id(kek)
                    .ciphertext_blob(Blob::new(wrapped))
                    .set_encryption_context(Some(encryption_context(context)))
                    .send()
                    .await
                    .map_err(|error| told(Call::Decrypt, &error))?;
                Ok(data_key(output.plaintext)?)
            })
            .await
        })
    }

    fn rewrap<'a>(
        &'a self,
        kek: &'a str,
        context: &'a Context,
        wrapped_key: &'a [u8],
        to_kek: &'a str,
    ) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            can_be_wrapped(wrapped_key)?;
            if self.clients.region(kek).await? != self.clients.region(to_kek).await? {
                let key = self.unwrap(kek, context, wrapped_key).await?;
                return self.wrap(to_kek, context, &key).await;
            }
            self.call(kek, async move |client: Client| {
                let output = client
                    .re_encrypt()
                    .source_key_id(kek)
                    .ciphertext_blob(Blob::new(wrapped_key))
                    .set_source_encryption_context(Some(encryption_context(context)))
                    .destination_key_id(to_kek)
                    .set_destination_encryption_context(Some(encryption_context(context)))
                    .send()
                    .await
                    .map_err(|error| told(Call::ReEncrypt, &error))?;
                Ok(wrapped(output.ciphertext_blob)?)
            })
            .await
        })
    }

    fn describe<'a>(&'a self, kek: &'a str) -> Answer<'a, Description> {
        Box::pin(self.call(kek, async move |client: Client| {
            let output = client
                .describe_key()
                .key_id(kek)
                .send()
                .await
                .map_err(|error| told(Call::DescribeKey, &error))?;
            Ok(output.key_metadata.as_ref().map(description).ok_or_else(not_understood)?)
        }))
    }
}
