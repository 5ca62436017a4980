//! The registry: finds the provider that a request names, and answers it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pgpci_core::wire::{Failure, FailureKind, Op, Outcome, Request, Response};

use crate::{Local, Provider};

/// Which providers there are; a field for each.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The key file of provider `local`; without it, that provider is not configured.
    pub local_key_file: Option<PathBuf>,
}

/// The configured providers, by name.
#[derive(Default)]
pub struct Providers(BTreeMap<&'static str, Box<dyn Provider>>);

impl Providers {
    /// The providers that `config` asks for. Nothing is opened or contacted yet: a provider
    /// that is away now may be back at the first request.
    pub fn from_config(config: Config) -> Providers {
        let mut providers = Providers::default();
        if let Some(path) = config.local_key_file {
            providers.register(Box::new(Local::new(path)));
        }
        providers
    }

    /// Adds a provider; one of the same name is replaced.
    pub fn register(&mut self, provider: Box<dyn Provider>) {
        self.0.insert(provider.name(), provider);
    }

    /// Answers one request. Whatever goes wrong is a [`Failure`] in the response.
    pub async fn handle(&self, request: Request) -> Response {
        Response { id: request.id, result: self.outcome(request.op).await }
    }

    async fn outcome(&self, op: Op) -> Result<Outcome, Failure> {
        match op {
            Op::Ping => Ok(Outcome::Pong),
            Op::Generate { provider, kek, context } => {
                let (key, wrapped) = self.named(&provider)?.generate(&kek, &context).await?;
                Ok(Outcome::Generated { key, wrapped })
            }
            Op::Unwrap { provider, kek, context, wrapped } => {
                let provider = self.named(&provider)?;
                let key = provider.unwrap(&kek, &context, &wrapped).await?;
                Ok(Outcome::Unwrapped { key })
            }
        }
    }

    fn named(&self, name: &str) -> Result<&dyn Provider, Failure> {
        match self.0.get(name) {
            Some(provider) => Ok(provider.as_ref()),
            // {:?} because the name comes from a row and goes to a log.
            None => Err(Failure::new(
                FailureKind::NotConfigured,
                format!("key provider is not configured: {name:?}"),
            )),
        }
    }
}
