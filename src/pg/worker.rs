//! The broker: the background worker between backends and the helper. It alone talks to the helper,
//! puts unwrapped keys into slots, and wipes them when their time is over. Runs on standbys too.

use std::ffi::CString;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgpci_core::secret::Secret;
use pgpci_core::wire::{FailureKind, Op, Outcome, Request, Response};
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::{pg_guard, pg_sys};

use crate::guc;
use crate::pg::helper::{Config, Helper};
use crate::pg::mailbox::{self, Letter, State};
use crate::pg::region::{self, Region};
use crate::pg::{session, slice};

/// A helper that has not answered for so long is stuck.
const STUCK: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

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
        wait(broker.helper.as_ref().map(Helper::descriptor));
    }
    region.broker.store(std::ptr::null_mut(), Ordering::Release);
    region::wipe();
}

/// Hash of a wrapped key: tells blobs apart in slots.
pub fn blob_hash(blob: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(blob);
    hasher.finish()
}

#[derive(Default)]
struct Broker {
    helper: Option<Helper>,
    /// When the helper may be started again, and how long to wait after that.
    not_before: Option<Instant>,
    backoff: Duration,
    /// When the oldest request that is still open was sent.
    asked: Option<Instant>,
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
        let mut posted = Vec::new();
        region::locked(|r| {
            r.slots.iter_mut().filter(|s| s.full && s.expires <= now).for_each(region::Slot::wipe);
            r.letters.iter_mut().for_each(forget_dead);
            posted = take_posted(r);
        });
        slice::wipe_expired(now);
        if !posted.is_empty() {
            self.send(posted);
        }
        if self.asked.is_some_and(|asked| asked.elapsed() > STUCK) {
            self.stop("it did not answer");
        }
    }

    fn send(&mut self, requests: Vec<Request>) {
        if self.helper.is_none() && self.not_before.is_none_or(|t| t <= Instant::now()) {
            self.start();
        }
        for request in requests {
            let id = request.id;
            if let Some(region) = region::get() {
                region.calls.fetch_add(1, Ordering::Relaxed);
            }
            let sent = self.helper.as_mut().is_some_and(|h| h.send(&request));
            if sent {
                self.asked.get_or_insert_with(Instant::now);
            } else {
                fail(Some(id), FailureKind::Unavailable, "the key helper is not running");
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
                if !responses.is_empty() {
                    self.backoff = Duration::ZERO;
                }
                responses.into_iter().for_each(deliver);
                let open = region::locked(|r| {
                    r.letters.iter().any(|l| matches!(l.state, State::Sent | State::Abandoned))
                });
                if open != Some(true) {
                    self.asked = None;
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
        self.asked = None;
        set_running(0);
        self.back_off();
        fail(None, FailureKind::Unavailable, "the key helper stopped while it worked on the request");
    }

    fn back_off(&mut self) {
        self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        self.not_before = Some(Instant::now() + self.backoff);
    }
}

fn config() -> Config {
    let path = |setting: Option<CString>| setting.map(|s| PathBuf::from(s.to_string_lossy().into_owned()));
    Config {
        command: path(guc::COMMAND_PATH.get()).unwrap_or_else(|| session::program_directory().join("pgpci")),
        local_key_file: path(guc::LOCAL_KEY_FILE.get())
            .unwrap_or_else(|| crate::directory::path().join("local.key")),
    }
}

fn set_running(state: u32) {
    if let Some(region) = region::get() {
        region.helper.store(state, Ordering::Relaxed);
    }
}

/// One request in flight for a key: letters that ask for the same are answered with it.
fn take_posted(region: &mut Region) -> Vec<Request> {
    let mut requests = Vec::new();
    for i in 0..region.letters.len() {
        let letter = &region.letters[i];
        if letter.state != State::Posted {
            continue;
        }
        let same = |other: &Letter| other.state == State::Sent && is_same(other, letter);
        if region.letters.iter().any(same) {
            continue;
        }
        let letter = &mut region.letters[i];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (provider, kek, context) =
            (text(letter.provider.get()), text(letter.kek.get()), letter.context());
        let op = if letter.generate {
            Op::Generate { provider, kek, context }
        } else {
            Op::Unwrap { provider, kek, context, wrapped: letter.blob.get().to_vec() }
        };
        letter.state = State::Sent;
        requests.push(Request { id: letter.serial, op });
    }
    requests
}

/// A session that was terminated while it waited did not take its letter back.
fn forget_dead(letter: &mut Letter) {
    // SAFETY: signal 0 only asks whether the process is there.
    let is_dead = letter.pid != 0 && unsafe { libc::kill(letter.pid, 0) } != 0;
    match letter.state {
        State::Sent if is_dead => letter.state = State::Abandoned,
        State::Posted | State::Done if is_dead => letter.clear(),
        _ => {}
    }
}

fn is_same(a: &Letter, b: &Letter) -> bool {
    !a.generate
        && !b.generate
        && a.database == b.database
        && a.key_id == b.key_id
        && a.blob.get() == b.blob.get()
}

fn deliver(response: Response) {
    let Response { id, result } = response;
    match result {
        Ok(Outcome::Generated { key, wrapped }) => arrived(id, &key, Some(&wrapped)),
        Ok(Outcome::Unwrapped { key }) => arrived(id, &key, None),
        Ok(Outcome::Pong) => {}
        Err(failure) => fail(Some(id), failure.kind, &failure.message),
    }
}

fn arrived(id: u64, key: &Secret<[u8; 32]>, wrapped: Option<&[u8]>) {
    let now = session::now();
    let expires = now + i64::from(guc::KEY_CACHE_TTL.get()) * 1_000_000;
    region::locked(|region| {
        let Some(i) = region.letters.iter().position(|l| l.serial == id && is_open(l)) else {
            return;
        };
        if let Some(wrapped) = wrapped
            && !region.letters[i].blob.set(wrapped)
        {
            return finish(&mut region.letters[i], FailureKind::Invalid, "the wrapped key is too long");
        }
        let letter = &region.letters[i];
        let (database, key_id, blob) = (letter.database, letter.key_id, blob_hash(letter.blob.get()));
        let slot = region.slots.iter_mut().min_by_key(|s| match (s.full, s.database, s.key_id, s.blob) {
            (true, d, k, b) if (d, k, b) == (database, key_id, blob) => (0, 0),
            (false, ..) => (1, 0),
            _ => (2, s.used),
        });
        if let Some(slot) = slot {
            slot.wipe();
            (slot.database, slot.key_id, slot.blob, slot.expires, slot.used) =
                (database, key_id, blob, expires, now);
            slot.key.copy_from_slice(key.expose());
            slot.full = true;
        }
        complete(region, i, 0, "");
    });
}

fn fail(id: Option<u64>, kind: FailureKind, message: &str) {
    region::locked(|region| {
        for i in 0..region.letters.len() {
            let letter = &region.letters[i];
            if is_open(letter) && id.is_none_or(|id| id == letter.serial) {
                complete(region, i, number(kind), message);
            }
        }
    });
}

fn is_open(letter: &Letter) -> bool {
    matches!(letter.state, State::Sent | State::Abandoned | State::Posted)
}

fn finish(letter: &mut Letter, kind: FailureKind, message: &str) {
    answer(letter, number(kind), message);
}

/// Answers the letter, and every other that waits for the same key.
fn complete(region: &mut Region, i: usize, failure: u8, message: &str) {
    for other in 0..region.letters.len() {
        if other != i
            && region.letters[other].state == State::Posted
            && is_same(&region.letters[other], &region.letters[i])
        {
            answer(&mut region.letters[other], failure, message);
        }
    }
    answer(&mut region.letters[i], failure, message);
}

fn answer(letter: &mut Letter, failure: u8, message: &str) {
    if letter.state == State::Abandoned {
        return letter.clear();
    }
    letter.failure = failure;
    let mut cut = message.len().min(mailbox::MESSAGE);
    while !message.is_char_boundary(cut) {
        cut -= 1;
    }
    letter.message.set(&message.as_bytes()[..cut]);
    letter.state = State::Done;
    letter.wake();
}

fn number(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::NotConfigured => 1,
        FailureKind::Refused => 2,
        FailureKind::WrongKey => 3,
        FailureKind::Unavailable => 4,
        FailureKind::Invalid => 5,
    }
}

fn wait(descriptor: Option<i32>) {
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
            500,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
