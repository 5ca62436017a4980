//! In-backend tests: what only the inside can see. A file a domain; each test runs in a transaction that is
//! rolled back, as the superuser of a cluster of its own. `scripts/backend.sh` runs them.

mod blob;
mod catalog;
mod counters;
mod mailbox;
mod nonce;
mod report;
mod ring;
mod secret_memory;
mod set_up;
mod tree;
mod walk;

/// What pgrx asks for before each test.
pub fn setup(_options: Vec<&str>) {}

/// The server's settings for the tests.
#[must_use]
pub fn postgresql_conf_options() -> Vec<&'static str> {
    let mut options = vec!["shared_preload_libraries = 'pgpci'", "fsync = off"];
    if let Ok(directory) = std::env::var("PGPCI_TEST_DIRECTORY") {
        options.push(format!("pgpci.local_key_file = '{directory}/local.key'").leak());
    }
    options
}
