//! A provider that is another process: what the conformance tests want, by way of `pgpci keyd`.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use pgpci_core::key::Context;
use pgpci_core::wire::{Description, Failure, Op, Outcome};
use pgpci_kms::{Answer, DataKeyBytes, Local, Provider};

use crate::support::Keyd;

/// A provider inside a keyd, which also has a provider `local`.
pub struct Remote {
    name: &'static str,
    keyd: Mutex<Keyd>,
    /// The local provider's key file.
    key_file: PathBuf,
}

impl Remote {
    pub fn new(name: &'static str, keyd: Keyd, key_file: PathBuf) -> Remote {
        Remote { name, keyd: Mutex::new(keyd), key_file }
    }

    fn keyd(&self) -> MutexGuard<'_, Keyd> {
        self.keyd.lock().expect("no test panicked")
    }

    fn ask(&self, op: Op) -> Result<Outcome, Failure> {
        self.keyd().ask(op).result
    }

    fn names(&self, kek: &str) -> (String, String) {
        (self.name.to_string(), kek.to_string())
    }

    fn move_key(
        &self,
        from: (&str, &str),
        context: &Context,
        wrapped: &[u8],
        to: &str,
    ) -> Result<Vec<u8>, Failure> {
        let (to_provider, to_kek) = self.names(to);
        let op = Op::Rewrap {
            provider: from.0.to_string(),
            kek: from.1.to_string(),
            context: context.clone(),
            wrapped: wrapped.to_vec(),
            to_provider,
            to_kek,
        };
        match self.ask(op)? {
            Outcome::Rewrapped { wrapped } => Ok(wrapped),
            other => panic!("{other:?}"),
        }
    }
}

impl Provider for Remote {
    fn name(&self) -> &'static str {
        self.name
    }

    fn generate<'a>(&'a self, kek: &'a str, context: &'a Context) -> Answer<'a, (DataKeyBytes, Vec<u8>)> {
        Box::pin(async move {
            let (provider, kek) = self.names(kek);
            match self.ask(Op::Generate { provider, kek, context: context.clone() })? {
                Outcome::Generated { key, wrapped } => Ok((key, wrapped)),
                other => panic!("{other:?}"),
            }
        })
    }

    /// No clear key goes into keyd, so it is wrapped by the key file first.
    fn wrap<'a>(&'a self, kek: &'a str, context: &'a Context, key: &'a DataKeyBytes) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            let wrapped = Local::new(&self.key_file).wrap(Local::NAME, context, key).await?;
            self.move_key((Local::NAME, Local::NAME), context, &wrapped, kek)
        })
    }

    fn unwrap<'a>(
        &'a self,
        kek: &'a str,
        context: &'a Context,
        wrapped: &'a [u8],
    ) -> Answer<'a, DataKeyBytes> {
        Box::pin(async move {
            let (provider, kek) = self.names(kek);
            let op = Op::Unwrap { provider, kek, context: context.clone(), wrapped: wrapped.to_vec() };
            match self.ask(op)? {
                Outcome::Unwrapped { key } => Ok(key),
                other => panic!("{other:?}"),
            }
        })
    }

    fn rewrap<'a>(
        &'a self,
        kek: &'a str,
        context: &'a Context,
        wrapped: &'a [u8],
        to_kek: &'a str,
    ) -> Answer<'a, Vec<u8>> {
        Box::pin(async move { self.move_key((self.name, kek), context, wrapped, to_kek) })
    }

    fn describe<'a>(&'a self, kek: &'a str) -> Answer<'a, Description> {
        Box::pin(async move {
            let (provider, kek) = self.names(kek);
            match self.ask(Op::Describe { provider, kek })? {
                Outcome::Described(description) => Ok(description),
                other => panic!("{other:?}"),
            }
        })
    }
}
