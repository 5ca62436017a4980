//! Something that a worker of its own does and commits, whatever becomes of the transaction that needs it.

use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::{PgSqlErrorCode as S, pg_guard, pg_sys};

use crate::error::{Error, Result};
use crate::key::fresh;
use crate::pg::session;

/// Runs the worker in this database and waits for its end. Whether it did its work shows in what it has written.
pub fn run(name: &str, function: &str, argument: i32) -> Result<()> {
    let worker = BackgroundWorkerBuilder::new(name)
        .set_type(name)
        .set_library("pgpci")
        .set_function(function)
        .set_argument(Some(pg_sys::Datum::from(argument)))
        .set_extra(&session::database().to_u32().to_string())
        .set_notify_pid(std::process::id() as i32)
        .enable_spi_access()
        .set_restart_time(None::<Duration>)
        .load_dynamic();
    let Ok(worker) = worker else {
        return Err(Error::new(S::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, "no background worker is free")
            .hint("Raise max_worker_processes, or try again."));
    };
    worker.wait_for_shutdown().map_err(|_| Error::key("the server is stopping"))
}

/// Makes a fresh data key for the vault that the argument names.
// SAFETY: started by the postmaster for `run`.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pgpci_fresh_key_main(vault: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let Ok(database) = BackgroundWorker::get_extra().parse::<u32>() else { return };
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(pg_sys::Oid::from(database)), None);
    BackgroundWorker::transaction(|| {
        if let Err(error) = fresh::make(vault.value() as i32) {
            error.raise();
        }
    });
}
