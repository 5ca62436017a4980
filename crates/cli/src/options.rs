//! Where the key providers are: the options that `keyd` and `key check` share.

use std::path::PathBuf;

use clap::Args;
use pgpci_kms::{AwsConfig, Config, Pkcs11Config};

/// What providers are told at the start. None of it is secret: secrets are in files.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Key providers")]
pub struct ProviderOptions {
    /// The key file of provider `local`; it is read at each request
    #[arg(long, value_name = "PATH")]
    local_key_file: Option<PathBuf>,
    /// A shell command that writes a key file's content to stdout, instead of the key file
    ///
    /// It is run at each request, by `sh -c`, and may take 10 seconds.
    #[arg(long, value_name = "COMMAND")]
    local_key_command: Option<String>,
    /// The region of AWS KMS, if the environment or profile names none, or another
    #[arg(long, value_name = "REGION")]
    aws_region: Option<String>,
    /// Where AWS KMS is, if not at its public address; plain http on loopback only
    #[arg(long, value_name = "URL")]
    aws_endpoint_url: Option<String>,
    /// The PKCS#11 module of an HSM's vendor, a shared library
    #[arg(long, value_name = "PATH")]
    pkcs11_module: Option<PathBuf>,
    /// The label of the PKCS#11 token
    #[arg(long, value_name = "LABEL")]
    pkcs11_token: Option<String>,
    /// The file with the PIN of the token's user, with mode 0600
    #[arg(long, value_name = "PATH")]
    pkcs11_pin_file: Option<PathBuf>,
}

impl From<ProviderOptions> for Config {
    fn from(options: ProviderOptions) -> Config {
        // What is empty was not set: the server passes its settings as they are.
        let set = |text: Option<String>| text.filter(|text| !text.is_empty());
        let path = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        Config {
            local_key_file: path(options.local_key_file),
            local_key_command: set(options.local_key_command),
            aws: AwsConfig { region: set(options.aws_region), endpoint_url: set(options.aws_endpoint_url) },
            pkcs11: Pkcs11Config {
                module: path(options.pkcs11_module),
                token: set(options.pkcs11_token),
                pin_file: path(options.pkcs11_pin_file),
            },
        }
    }
}
