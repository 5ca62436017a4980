//! `pgpci key`: the key file of provider `local`, and a check of any provider by hand.

mod check;

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use pgpci_core::key::{Purpose, check_value};
use pgpci_kms::keyfile::{self, WrappingKey};

/// What to do with a wrapping key.
#[derive(Subcommand)]
pub enum Command {
    /// Makes a key file with a random key; never overwrites one
    ///
    /// Keep a copy of the file in a safe place: without it no card number can be read again.
    Init(Place),
    /// Checks that a wrapping key can be used by this user
    ///
    /// With --file: the key file, and prints its fingerprint. With --provider: makes a data key
    /// there, unwraps it again, compares, and prints what worked; run it as the server's user, in
    /// its environment. Exit code 1 if something that storing and revealing need does not work.
    Check(check::Options),
}

/// Where the key file is to be.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// The key file to make; its directory must exist
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// The server's data directory: the key file will be DIR.pgpci/local.key, beside it
    #[arg(long, value_name = "DIR")]
    pgdata: Option<PathBuf>,
}

/// Runs the command; an error is one line for the user.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Init(place) => init(place),
        Command::Check(options) => check::run(options),
    }
}

fn init(place: &Place) -> Result<(), String> {
    let path = match (&place.file, &place.pgdata) {
        (Some(file), _) => file.clone(),
        (None, Some(pgdata)) => {
            let path = default_path(pgdata)?;
            make_directory(&path)?;
            path
        }
        (None, None) => return Err("--file or --pgdata is needed".to_string()),
    };
    let key = keyfile::create(&path).map_err(|error| about(&path, &error))?;
    report(&path, &key)?;
    if let Some(pgdata) = &place.pgdata {
        warn_of_another_owner(&path, pgdata);
    }
    Ok(())
}

/// `<DIR>.pgpci/local.key`, beside the data directory and never inside it: a stolen copy of
/// the data directory must not bring the key along.
fn default_path(pgdata: &Path) -> Result<PathBuf, String> {
    // Absolute as the server makes it: "." has a name, and symbolic links are kept.
    let absolute = std::path::absolute(pgdata).map_err(|error| about(pgdata, &error))?;
    let Some(name) = absolute.file_name() else {
        return Err(format!("{}: no name of a directory", pgdata.display()));
    };
    let mut name = name.to_os_string();
    name.push(".pgpci");
    Ok(absolute.with_file_name(name).join("local.key"))
}

fn make_directory(key_file: &Path) -> Result<(), String> {
    let Some(directory) = key_file.parent() else {
        return Ok(());
    };
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => keyfile::sync_directory(directory).map_err(|error| about(directory, &error)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(about(directory, &error)),
    }
}

fn report(path: &Path, key: &WrappingKey) -> Result<(), String> {
    let mut fingerprint = String::new();
    for byte in check_value(key.expose(), Purpose::Data) {
        fingerprint.push_str(&format!("{byte:02x}"));
    }
    let path = path.display();
    writeln!(std::io::stdout(), "key file:    {path}\nfingerprint: {fingerprint}")
        .map_err(|error| format!("key file {path} is good, but stdout: {error}"))
}

/// Root may make the file before or after the data directory changes hands, so this is no
/// error; but nothing works until the file belongs to the server's user.
fn warn_of_another_owner(path: &Path, pgdata: &Path) {
    let (Ok(file), Ok(pgdata)) = (fs::metadata(path), fs::metadata(pgdata)) else {
        return;
    };
    if file.uid() != pgdata.uid() {
        crate::complain(&format!(
            "pgpci: warning: the data directory belongs to uid {owner}; give the key to it: chown -R {owner} {}",
            path.parent().unwrap_or(path).display(),
            owner = pgdata.uid(),
        ));
    }
}

fn about(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_path_is_beside_the_data_directory() {
        for pgdata in ["/srv/pg/data", "/srv/pg/data/", "/srv/pg/data//", "/srv/pg/data/."] {
            assert_eq!(default_path(Path::new(pgdata)), Ok(PathBuf::from("/srv/pg/data.pgpci/local.key")));
        }
        for pgdata in ["", "/", "/srv/pg/.."] {
            assert!(default_path(Path::new(pgdata)).is_err(), "{pgdata}");
        }
        let here = default_path(Path::new(".")).map(|path| path.is_absolute());
        assert_eq!(here, Ok(true));
    }
}
