//! The registry: finds the provider that a request names, and answers it in bounded time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pgpci_core::key::Context;
use pgpci_core::wire::{Failure, FailureKind, Op, Outcome, Request, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::{Aws, AwsConfig, Local, Pkcs11, Pkcs11Config, Provider};

/// Which providers there are.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The key file of provider `local`.
    pub local_key_file: Option<PathBuf>,
    /// A shell command that writes the key file's content; takes precedence over the file.
    /// Without either, provider `local` is not configured.
    pub local_key_command: Option<String>,
    /// Provider `aws`, which needs no option where the server's environment or profile names its region.
    pub aws: AwsConfig,
    /// Provider `pkcs11`.
    pub pkcs11: Pkcs11Config,
}

/// The configured providers, by name.
#[derive(Default)]
pub struct Providers(BTreeMap<&'static str, Entry>);

struct Entry {
    provider: Box<dyn Provider>,
    /// One provider that hangs must not take what the others need.
    places: Semaphore,
}

impl Providers {
    /// The longest that a request takes, waiting for others included; then it is answered with
    /// [`FailureKind::Unavailable`]. Below the time after which the broker takes this process for
    /// stuck.
    pub const LIMIT: Duration = Duration::from_secs(20);

    /// Requests that one provider works on at once; more wait for a place.
    pub const PLACES: usize = 32;

    /// The providers that `config` asks for. Nothing is opened or contacted yet: a provider
    /// that is away now may be back at the first request.
    pub fn from_config(config: Config) -> Providers {
        let mut providers = Providers::default();
        if let Some(command) = config.local_key_command {
            providers.register(Box::new(Local::from_command(command)));
        } else if let Some(path) = config.local_key_file {
            providers.register(Box::new(Local::new(path)));
        }
        providers.register(Box::new(Aws::new(config.aws)));
        providers.register(Box::new(Pkcs11::new(config.pkcs11)));
        providers
    }

    /// Adds a provider; one of the same name is replaced.
    pub fn register(&mut self, provider: Box<dyn Provider>) {
        let places = Semaphore::new(Self::PLACES);
        self.0.insert(provider.name(), Entry { provider, places });
    }

    /// Gets them ready for their first requests.
    pub async fn prepare(&self) {
        for entry in self.0.values() {
            entry.provider.prepare().await;
        }
    }

    /// Answers one request. Whatever goes wrong is a [`Failure`] in the response.
    pub async fn handle(&self, request: Request) -> Response {
        let result = match timeout(Self::LIMIT, self.outcome(request.op)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(
                FailureKind::Unavailable,
                format!("see to the key provider: no answer within {} s", Self::LIMIT.as_secs()),
            )),
        };
        Response { id: request.id, result }
    }

    async fn outcome(&self, op: Op) -> Result<Outcome, Failure> {
        match op {
            Op::Ping => Ok(Outcome::Pong),
            Op::Generate { provider, kek, context } => {
                let entry = self.named(&provider)?;
                let _place = entry.places.acquire().await;
                let (key, wrapped) = entry.provider.generate(&kek, &context).await?;
                Ok(Outcome::Generated { key, wrapped })
            }
            Op::Unwrap { provider, kek, context, wrapped } => {
                let entry = self.named(&provider)?;
                let _place = entry.places.acquire().await;
                let key = entry.provider.unwrap(&kek, &context, &wrapped).await?;
                Ok(Outcome::Unwrapped { key })
            }
            Op::Rewrap { provider, kek, context, wrapped, to_provider, to_kek } => {
                let (from, to) = ((&*provider, &*kek), (&*to_provider, &*to_kek));
                let wrapped = self.rewrap(from, to, &context, &wrapped).await?;
                Ok(Outcome::Rewrapped { wrapped })
            }
            Op::Describe { provider, kek } => {
                let entry = self.named(&provider)?;
                let _place = entry.places.acquire().await;
                Ok(Outcome::Described(entry.provider.describe(&kek).await?))
            }
        }
    }

    /// `from` and `to`: name of a provider, and of a wrapping key in it.
    async fn rewrap(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        context: &Context,
        wrapped: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let (source, target) = (self.named(from.0)?, self.named(to.0)?);
        let place = source.places.acquire().await;
        if from.0 == to.0 {
            return source.provider.rewrap(from.1, context, wrapped, to.1).await;
        }
        let key = source.provider.unwrap(from.1, context, wrapped).await?;
        drop(place); // holding one while waiting for another could wait for ever
        let _place = target.places.acquire().await;
        target.provider.wrap(to.1, context, &key).await
    }

    fn named(&self, name: &str) -> Result<&Entry, Failure> {
        // {:?} because the name comes from a row and goes to a log.
        self.0.get(name).ok_or_else(|| {
            Failure::new(FailureKind::NotConfigured, format!("key provider is not configured: {name:?}"))
        })
    }
}
