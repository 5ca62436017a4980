//! pgpci: PCI DSS enforced inside PostgreSQL.
//!
//! A reading list: `pan` is the type; `key` what seals it; `access` who may do what with it; `enforce` where
//! hooks become decisions; `hook` the hooks; `audit` what is recorded; `auth` passwords and accounts; `pg` PostgreSQL as safe functions.

use pgrx::prelude::*;

mod access;
mod audit;
mod auth;
mod directory;
mod enforce;
mod error;
mod guc;
mod hook;
mod key;
mod pan;
mod pg;

pgrx::pg_module_magic!();

extension_sql_file!("../sql/bootstrap.sql", name = "bootstrap", bootstrap);
extension_sql_file!("../sql/tables.sql", name = "tables", requires = ["bootstrap"]);
extension_sql_file!("../sql/pan.sql", name = "pan", requires = ["tables"]);
extension_sql_file!("../sql/access.sql", name = "access", requires = ["pan"]);
extension_sql_file!("../sql/keys.sql", name = "keys", requires = ["access"]);
extension_sql_file!("../sql/audit.sql", name = "audit", requires = ["keys"]);
extension_sql_file!("../sql/accounts.sql", name = "accounts", requires = ["audit"]);
extension_sql_file!("../sql/finalize.sql", name = "finalize", finalize);

#[cfg(any(test, feature = "pg_test"))]
#[path = "../pg_test/mod.rs"]
pub mod pg_test;

/// Called when the library is loaded.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    if !pg::session::is_preloading() {
        error::Error::state("pgpci must be preloaded")
            .hint("Add pgpci at the end of shared_preload_libraries and restart the server.")
            .raise();
    }
    pg::session::keep_backtraces_out_of_errors();
    pgpci_core::key::ask_processor();
    guc::define();
    if let Err(problem) = directory::prepare() {
        error::Error::argument(problem).hint("Set pgpci.directory to a directory of its own.").raise();
    }
    pg::region::register();
    pg::counters::register();
    pg::facts::register();
    pg::label::register();
    pg::worker::register();
    audit::register();
    auth::register();
    hook::install();
}
