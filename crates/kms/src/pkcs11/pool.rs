//! Threads for calls that block. A call that hangs keeps its thread; requests for which none is
//! left are given up by the registry's time limit, and not begun any more.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pgpci_core::wire::{Failure, FailureKind};
use tokio::sync::oneshot;

use super::library::Library;
use super::session::Worker;

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// A bounded number of threads, each with a [`Worker`] of its own.
pub(super) struct Pool {
    library: Arc<Library>,
    threads: usize,
    jobs: OnceLock<Sender<Job>>,
}

impl Pool {
    /// The threads are started at the first job.
    pub(super) fn new(library: Arc<Library>, threads: usize) -> Pool {
        Pool { library, threads, jobs: OnceLock::new() }
    }

    /// Runs `job` on one of the threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            // Whoever waited may have given up.
            if !answer.is_closed() {
                let _ = answer.send(job(worker));
            }
        });
        let unavailable = || Failure::new(FailureKind::Unavailable, "no thread for the PKCS#11 module");
        self.jobs.get_or_init(|| self.start()).send(job).map_err(|_| unavailable())?;
        answered.await.map_err(|_| unavailable())?
    }

    fn start(&self) -> Sender<Job> {
        let (sender, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..self.threads {
            let (jobs, library) = (jobs.clone(), self.library.clone());
            // Where none can be started, those that were do the work; without any, sending fails.
            let _ = std::thread::Builder::new().name(format!("pkcs11-{number}")).spawn(move || {
                let mut worker = Worker::new(library);
                while let Some(job) = next(&jobs) {
                    job(&mut worker);
                }
            });
        }
        sender
    }
}

fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
