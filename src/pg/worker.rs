//! The broker: the background worker between backends and the helper. It alone talks to the helper,
//! puts unwrapped keys into slots, and wipes them when their time is over. Runs on standbys too.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgpci_core::wire::{FailureKind, Op, Request};
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::{GucSetting, pg_guard, pg_sys};

use crate::guc::{self, KeyMode};
use crate::pg::delivery;
use crate::pg::helper::{Config, Helper};
use crate::pg::mailbox::{self, State};
use crate::pg::{region, session, slice};

/// A helper that was asked and has answered nothing for so long is stuck.
const STUCK: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A helper that may be started again within this time is waited for.
const WORTH_WAITING: Duration = Duration::from_millis(500);

/// Registers the worker; called once, while the library is preloaded.
pub fn register() {
    BackgroundWorkerBuilder::new("pgpci key broker")
        .set_type("pgpci key broker")
        .set_function("pgpci_broker_main")
        .set_library("pgpci")
        .enable_shmem_access(None)
        .set_start_time(BgWorkerStartTime::PostmasterStart)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// The broker's main function.
// SAFETY: started by the postmaster, which registered it.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pgpci_broker_main(_arg: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let Some(region) = region::get() else { return };
    region.broker.store(mailbox::my_latch(), Ordering::Release);
    let mut broker = Broker::default();
    while !BackgroundWorker::sigterm_received() {
        if BackgroundWorker::sighup_received() {
            // SAFETY: the worker is at its top level.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            broker.config_changed();
        }
        broker.round();
        wait(
            broker.helper.as_ref().map(Helper::descriptor),
            if broker.is_backing_off_shortly() { 50 } else { 500 },
        );
    }
    region.broker.store(std::ptr::null_mut(), Ordering::Release);
    region::wipe();
}

#[derive(Default)]
struct Broker {
    helper: Option<Helper>,
    /// When the helper may be started again, and how long to wait after that.
    not_before: Option<Instant>,
    backoff: Duration,
    /// While a request is open: since when the helper has answered nothing.
    silent_since: Option<Instant>,
}

impl Broker {
    fn config_changed(&mut self) {
        if self.helper.as_ref().is_some_and(|h| h.config != config()) {
            self.stop("its settings changed");
        }
    }

    fn round(&mut self) {
        self.receive();
        let now = session::now();
        let is_waiting = self.is_backing_off_shortly();
        let mut requests = Vec::new();
        region::locked(|r| {
            r.slots.iter_mut().filter(|s| s.full && s.expires <= now).for_each(region::Slot::wipe);
            r.letters.iter_mut().for_each(delivery::forget_dead);
            if !is_waiting {
                requests = delivery::take_posted(r, now);
                requests.extend(delivery::take_due(r, now));
            }
        });
        // Sessions wait for this first.
        if !requests.is_empty() {
            self.send(requests);
        }
        slice::wipe_expired(now);
        if self.silent_since.is_some_and(|since| since.elapsed() > STUCK) {
            self.stop("it did not answer");
        }
    }

    /// Whether the helper may be started again so soon that sessions had better wait for that.
    fn is_backing_off_shortly(&self) -> bool {
        let left = self.not_before.map(|t| t.saturating_duration_since(Instant::now()));
        self.helper.is_none() && left.is_some_and(|left| !left.is_zero() && left <= WORTH_WAITING)
    }

    fn send(&mut self, requests: Vec<Request>) {
        if self.helper.is_none() && self.not_before.is_none_or(|t| t <= Instant::now()) {
            self.start();
        }
        for request in requests {
            let id = request.id;
            // Sessions do not ask for anything else; this is the last door to the provider.
            if guc::KEY_MODE.get() == KeyMode::EncryptOnly && !matches!(request.op, Op::Generate { .. }) {
                delivery::fail(Some(id), FailureKind::Refused, "this node only encrypts");
                continue;
            }
            if let Some(region) = region::get() {
                region.calls.fetch_add(1, Ordering::Relaxed);
            }
            let sent = self.helper.as_mut().is_some_and(|h| h.send(&request));
            if sent {
                self.silent_since.get_or_insert_with(Instant::now);
            } else {
                delivery::fail(
                    Some(id),
                    FailureKind::Unavailable,
                    &format!("{} is not running", delivery::HELPER),
                );
                if self.helper.is_some() {
                    self.stop("it does not read");
                }
            }
        }
    }

    fn receive(&mut self) {
        let Some(helper) = &mut self.helper else {
            return;
        };
        match helper.receive() {
            Some(responses) => {
                if responses.is_empty() {
                    return;
                }
                responses.into_iter().for_each(delivery::deliver);
                let open = region::locked(|r| {
                    r.letters.iter().any(|l| matches!(l.state, State::Sent | State::Abandoned))
                });
                self.silent_since = (open == Some(true)).then(Instant::now);
                // What is open may still be what it dies of.
                if self.silent_since.is_none() {
                    self.backoff = Duration::ZERO;
                }
            }
            None => self.stop("it ended"),
        }
    }

    fn start(&mut self) {
        let config = config();
        match Helper::start(config) {
            Ok(helper) => {
                pgrx::log!("pgpci: key helper started, process {}", helper.pid());
                self.helper = Some(helper);
                set_running(1);
            }
            Err(error) => {
                pgrx::log!("pgpci: key helper cannot be started: {}", error.kind());
                self.back_off();
            }
        }
    }

    fn stop(&mut self, why: &str) {
        pgrx::log!("pgpci: key helper stopped: {why}");
        self.helper = None;
        self.silent_since = None;
        set_running(0);
        self.back_off();
        delivery::fail(
            None,
            FailureKind::Unavailable,
            &format!("{} stopped while it worked on the request", delivery::HELPER),
        );
    }

    fn back_off(&mut self) {
        self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        self.not_before = Some(Instant::now() + self.backoff);
    }
}

fn text(setting: &GucSetting<Option<CString>>) -> Option<OsString> {
    setting.get().filter(|s| !s.is_empty()).map(|s| OsString::from_vec(s.into_bytes()))
}

/// The `pgpci` command.
pub fn command() -> PathBuf {
    text(&guc::COMMAND_PATH).map_or_else(|| session::program_directory().join("pgpci"), PathBuf::from)
}

fn config() -> Config {
    let key_file =
        text(&guc::LOCAL_KEY_FILE).unwrap_or_else(|| crate::directory::path().join("local.key").into());
    let options = [
        ("--local-key-file", Some(key_file)),
        ("--local-key-command", text(&guc::LOCAL_KEY_COMMAND)),
        ("--aws-region", text(&guc::AWS_REGION)),
        ("--aws-endpoint-url", text(&guc::AWS_ENDPOINT_URL)),
        ("--pkcs11-module", text(&guc::PKCS11_MODULE)),
        ("--pkcs11-token", text(&guc::PKCS11_TOKEN)),
        ("--pkcs11-pin-file", text(&guc::PKCS11_PIN_FILE)),
    ];
    Config {
        command: command(),
        options: options.into_iter().filter_map(|(option, value)| Some((option, value?))).collect(),
    }
}

fn set_running(state: u32) {
    if let Some(region) = region::get() {
        region.helper.store(state, Ordering::Relaxed);
    }
}

fn wait(descriptor: Option<i32>, milliseconds: i64) {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    if descriptor.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    // SAFETY: the worker's own latch and socket.
    unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            descriptor.unwrap_or(pg_sys::PGINVALID_SOCKET),
            milliseconds,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
