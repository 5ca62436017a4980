#![forbid(unsafe_code)]
//! Where data keys are made and unwrapped, outside PostgreSQL.
//!
//! A *provider* holds wrapping keys (KEKs) and never lets go of them; data keys leave it in
//! clear only towards the asker, and are stored wrapped. Reading list:
//!
//! - [`Provider`]: what every provider must do.
//! - [`Providers`]: the registry that answers a request of the wire protocol.
//! - [`Aws`]: AWS KMS.
//! - [`Pkcs11`]: an HSM or another token behind a PKCS#11 module.
//! - [`Local`]: the key file, for development and the first minute.
//! - [`keyfile`]: the format of that file and its making; [`private`]: files nobody else can read.
//!
//! A further provider is a file of its own that implements [`Provider`], a field in [`Config`]
//! and a line in [`Providers::from_config`]; `tests/conformance` is what it must pass.

mod aws;
mod keycommand;
pub mod keyfile;
mod local;
mod pkcs11;
pub mod private;
mod provider;
mod providers;

pub use aws::{Aws, AwsConfig};
pub use local::Local;
pub use pkcs11::{Pkcs11, Pkcs11Config};
pub use provider::{Answer, DATA_KEY_LEN, DataKeyBytes, Provider};
pub use providers::{Config, Providers};
