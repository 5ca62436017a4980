//! The SDK's clients: built at the first request, one for each region, sharing connections and
//! credentials.

use std::collections::HashMap;
use std::net::IpAddr;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, ConfigLoader, Region, SdkConfig};
use aws_sdk_kms::Client;
use pgpci_core::wire::{Failure, FailureKind};
use tokio::sync::Mutex;

use super::{Aws, AwsConfig, region_of};

/// The name of some key in the default region.
const ANY_KEK: &str = "alias/any";

pub(super) struct Clients {
    config: AwsConfig,
    loader: Box<dyn Fn() -> ConfigLoader + Send + Sync>,
    /// Held while AWS's chain is asked, so that one request asks and the others wait for it.
    built: Mutex<Option<Built>>,
}

struct Built {
    sdk: SdkConfig,
    by_region: HashMap<String, Client>,
}

impl Clients {
    pub(super) fn new(config: AwsConfig, loader: Box<dyn Fn() -> ConfigLoader + Send + Sync>) -> Clients {
        Clients { config, loader, built: Mutex::new(None) }
    }

    /// Builds the client of the region that the options name: reading the trusted certificates takes longer than a
    /// request. Without such a region this server may have nothing to do with AWS, and AWS's chain could ask the network
    /// for one.
    pub(super) async fn prepare(&self) {
        if self.config.region.is_some() {
            // What is wrong is told to whoever needs the client.
            let _ = self.get(ANY_KEK).await;
        }
    }

    /// The client for the region of `kek`.
    pub(super) async fn get(&self, kek: &str) -> Result<Client, Failure> {
        if kek.is_empty() {
            return Err(not_configured(
                "name a wrapping key: provider aws needs a key id, an ARN or alias/…",
            ));
        }
        let mut built = self.built.lock().await;
        let Built { sdk, by_region } = self.load(&mut built).await?;
        let region = region_or_default(kek, sdk)?;
        if let Some(client) = by_region.get(&region) {
            return Ok(client.clone());
        }
        let config = aws_sdk_kms::config::Builder::from(&*sdk).region(Region::new(region.clone())).build();
        let client = Client::from_conf(config);
        by_region.insert(region, client.clone());
        Ok(client)
    }

    /// The region that requests with `kek` go to.
    pub(super) async fn region(&self, kek: &str) -> Result<String, Failure> {
        let mut built = self.built.lock().await;
        region_or_default(kek, &self.load(&mut built).await?.sdk)
    }

    /// Builds everything anew at the next request: the SDK reads its files only once.
    pub(super) fn forget(&self) {
        // Somebody who holds the lock is about to build or to use what is newer.
        if let Ok(mut built) = self.built.try_lock() {
            *built = None;
        }
    }

    async fn load<'a>(&self, built: &'a mut Option<Built>) -> Result<&'a mut Built, Failure> {
        if let Some(url) = &self.config.endpoint_url {
            check_endpoint(url)?;
        }
        // A chain that found no region is not kept: it may find one next time.
        if built.as_ref().is_none_or(|built| built.sdk.region().is_none()) {
            *built = Some(Built { sdk: self.sdk().await, by_region: HashMap::new() });
        }
        built.as_mut().ok_or_else(|| not_configured("set the AWS region"))
    }

    async fn sdk(&self) -> SdkConfig {
        // The SDK takes backoffs at random below these: full jitter.
        let retries = RetryConfig::standard()
            .with_max_attempts(Aws::MAX_ATTEMPTS)
            .with_initial_backoff(Aws::FIRST_BACKOFF)
            .with_max_backoff(Aws::MAX_BACKOFF);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Aws::CONNECT_TIMEOUT)
            .operation_attempt_timeout(Aws::ATTEMPT_TIMEOUT)
            .operation_timeout(Aws::CALL_TIMEOUT)
            .build();
        let mut loader = (self.loader)().retry_config(retries).timeout_config(timeouts);
        // Who asked, in CloudTrail.
        if let Ok(name) = AppName::new("pgpci") {
            loader = loader.app_name(name);
        }
        if let Some(region) = &self.config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(url) = &self.config.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        loader.load().await
    }
}

fn region_or_default(kek: &str, sdk: &SdkConfig) -> Result<String, Failure> {
    let default = || sdk.region().map(Region::as_ref);
    match region_of(kek).or_else(default) {
        Some(region) => Ok(region.to_string()),
        None => Err(not_configured("set the AWS region: no option, environment or profile names one")),
    }
}

/// Data keys travel in clear within the connection.
fn check_endpoint(url: &str) -> Result<(), Failure> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(not_configured("correct the endpoint URL of AWS KMS: it must begin with https://"));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        // A user name could make another host of what looks like one.
        _ if authority.contains('@') => {
            Err(not_configured("take the user out of the endpoint URL of AWS KMS"))
        }
        "https" if !host.is_empty() => Ok(()),
        "http" if is_loopback => Ok(()),
        "http" => Err(not_configured("use an https endpoint of AWS KMS: plain http is for loopback only")),
        _ => Err(not_configured("correct the endpoint URL of AWS KMS: it must begin with https://")),
    }
}

fn not_configured(message: &str) -> Failure {
    Failure::new(FailureKind::NotConfigured, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_travel_in_plain_http_on_loopback_only() {
        for good in [
            "https://vpce-1.kms.eu-west-1.vpce.amazonaws.com",
            "http://127.0.0.1:5000",
            "http://[::1]:1/x",
            "http://localhost",
        ] {
            assert_eq!(check_endpoint(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "kms",
            "http://10.0.0.1",
            "http://localhost.example",
            "http://user@kms",
            "https://",
            "ftp://127.0.0.1",
            "http://127.0.0.1:80@kms.example",
        ] {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }
}
