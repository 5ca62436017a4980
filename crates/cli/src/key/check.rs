//! `pgpci key check`: what the server would do with a wrapping key, done by hand.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use pgpci_core::key::{Context, KeyId, Purpose};
use pgpci_core::wire::{Description, Failure, FailureKind, Op, Outcome, Request};
use pgpci_kms::{DataKeyBytes, Providers, keyfile};

use super::{about, report};
use crate::harden;
use crate::options::ProviderOptions;

/// Which wrapping key.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "provider"]))]
pub struct Options {
    /// A key file
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// A provider: local, aws, pkcs11
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The wrapping key, as the provider names it: key id, ARN or alias/… of aws, label of pkcs11
    #[arg(long, value_name = "NAME", default_value = "", requires = "provider")]
    kek: String,
    #[command(flatten)]
    providers: ProviderOptions,
}

/// Runs the check; an error is one line for the user.
pub fn run(options: &Options) -> Result<(), String> {
    if let Some(file) = &options.file {
        let key = keyfile::read(file).map_err(|error| about(file, &error))?;
        return report(file, &key);
    }
    harden::process().map_err(|error| format!("hardening the process failed: {error}"))?;
    let provider = options.provider.clone().unwrap_or_default();
    let check = Check {
        providers: Providers::from_config(options.providers.clone().into()),
        provider,
        kek: options.kek.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the runtime failed: {error}"))?;
    let result = runtime.block_on(check.run());
    runtime.shutdown_background();
    result
}

struct Check {
    providers: Providers,
    provider: String,
    kek: String,
}

impl Check {
    async fn run(&self) -> Result<(), String> {
        // No installation has only zeros, so what is made here serves nothing else.
        let context = Context { installation: [0; 16], vault: 0, key_id: KeyId(0), purpose: Purpose::Data };
        match self.ask(self.describe()).await {
            Ok(Outcome::Described(description)) => say(&told(&description))?,
            Ok(_) => {}
            // Storing and revealing do not need it.
            Err(failure) => say(&format!("describe:     not possible: {}\n", failure.message))?,
        }
        let (provider, kek) = self.names();
        let made = self.step("generate", Op::Generate { provider, kek, context: context.clone() }).await?;
        let Outcome::Generated { key, wrapped } = made else { return Err(odd("generate")) };
        let opened = self.step("unwrap", self.unwrap(&context, &wrapped)).await?;
        compare(opened, &key)?;
        let other = Context { vault: 1, ..context };
        match self.ask(self.unwrap(&other, &wrapped)).await {
            Err(Failure { kind: FailureKind::WrongKey, .. }) => say("context:      another one is refused\n"),
            Err(failure) => Err(format!("unwrap for another context: {}", failure.message)),
            Ok(_) => Err("the provider unwraps a data key for another context".to_string()),
        }
    }

    fn names(&self) -> (String, String) {
        (self.provider.clone(), self.kek.clone())
    }

    fn describe(&self) -> Op {
        let (provider, kek) = self.names();
        Op::Describe { provider, kek }
    }

    fn unwrap(&self, context: &Context, wrapped: &[u8]) -> Op {
        let (provider, kek) = self.names();
        Op::Unwrap { provider, kek, context: context.clone(), wrapped: wrapped.to_vec() }
    }

    async fn step(&self, name: &str, op: Op) -> Result<Outcome, String> {
        let start = Instant::now();
        let outcome = self.ask(op).await.map_err(|failure| format!("{name}: {}", failure.message))?;
        say(&format!("{:<14}ok, {} ms\n", format!("{name}:"), start.elapsed().as_millis()))?;
        Ok(outcome)
    }

    async fn ask(&self, op: Op) -> Result<Outcome, Failure> {
        self.providers.handle(Request { id: 0, op }).await.result
    }
}

fn compare(opened: Outcome, key: &DataKeyBytes) -> Result<(), String> {
    match opened {
        Outcome::Unwrapped { key: opened } if opened.expose() == key.expose() => {
            say("compare:      the same key\n")
        }
        _ => Err("compare: unwrapping gave another key".to_string()),
    }
}

fn told(description: &Description) -> String {
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let Description { provider, kek, strength_bits, is_compliant, is_enabled, note } = description;
    format!(
        "provider:     {provider}\nwrapping key: {kek}\nstrength:     {strength_bits} bits\n\
         enabled:      {}\ncompliant:    {}\nnote:         {note}\n",
        yes(*is_enabled),
        yes(*is_compliant)
    )
}

fn odd(what: &str) -> String {
    format!("{what}: an answer to another question")
}

fn say(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("stdout: {error}"))
}
