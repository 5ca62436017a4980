//! The ring: events on their way from every process to the trail worker, in a memfd that the postmaster maps before
//! it forks and never writes events to. It survives a crash-restart of the server.
//!
//! Many producers, one consumer, no lock: a producer claims slots by moving `head`, fills them, and stamps each when
//! it is complete; the worker takes them in order, and moves `tail` when what they held is on the disk. A part of the
//! slots is left to the log hook and to transactions that have committed, which never wait.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys;

use crate::pg::ring_chunks::Chunks;
use crate::pg::ring_wait;

/// Bytes of a slot.
pub(super) const SLOT: usize = 512;
const DATA: usize = SLOT - 48;
/// One part in so many is left to those that never wait, and half of that to whoever repairs the trail's disk.
const RESERVE: u64 = 8;

/// No place is so far behind.
const NEVER: u64 = u64::MAX;

/// How much of the ring an event may fill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// What sessions fill that wait for room.
    Common,
    /// That and what is left to those that never wait: the log hook, and what follows a commit.
    Unwaiting,
    /// All: for whoever repairs the trail's disk.
    Repair,
}
/// Bytes of the worker's complaint.
pub(super) const MESSAGE: usize = 240;

/// How the worker fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// It has not begun.
    Starting = 0,
    /// What comes reaches the disk.
    Running,
    /// The disk is full.
    Full,
    /// It cannot write, and tries again.
    Failing,
    /// What is there was changed: it must not go on by itself.
    Refusing,
}

#[repr(C, align(64))]
pub(super) struct Counter(pub(super) AtomicU64);

/// What stands before the slots.
#[repr(C)]
pub struct Head {
    slots: u64,
    head: Counter,
    tail: Counter,
    /// Claims below are of processes that are gone.
    dead: Counter,
    /// The highest place that somebody waits for.
    wanted: Counter,
    /// The worker sleeps, and whoever fills a place at or behind this one wakes it; NEVER: nobody need.
    alarm: Counter,
    pub(super) state: AtomicU32,
    /// Events that found no place while the worker could not write.
    lost: AtomicU64,
    /// How often a session waited for a place.
    waits: AtomicU64,
    /// Number of the last record on the disk, its segment, and its boot.
    pub seq: AtomicU64,
    /// See `seq`.
    pub segment: AtomicU64,
    /// See `seq`.
    pub boot: AtomicU64,
    /// Records that the last checkpoint covers.
    pub sealed: AtomicU64,
    /// Syncs since the server started.
    pub syncs: AtomicU64,
    /// When the last one was done, in microseconds of PostgreSQL's epoch.
    pub synced_at: AtomicU64,
    /// Records of which somebody else holds a checkpoint.
    pub shipped: AtomicU64,
    /// How often another signing key was asked for.
    pub rotations: AtomicU64,
    /// Bytes that are free on the trail's disk.
    pub free: AtomicU64,
    /// How few that is: 0 enough, 1 few, 2 hardly any.
    pub scarcity: AtomicU64,
    pub(super) message_len: AtomicU32,
    pub(super) message: [AtomicU32; MESSAGE / 4],
    pub(super) chunks: Chunks,
}

#[repr(C, align(64))]
struct Slot {
    /// Its place + 1 when it is complete.
    stamp: AtomicU64,
    /// Number of the record that it became, set by the worker before it writes it.
    seq: AtomicU64,
    pid: AtomicU32,
    /// Which part of how many.
    part: AtomicU32,
    parts: AtomicU32,
    /// Bytes of the whole.
    len: AtomicU32,
    crc: AtomicU32,
    data: [u8; DATA],
}

const _: () = assert!(size_of::<Slot>() == SLOT);

pub use crate::pg::ring_memory::{head, register};

/// In the postmaster at start and after a crash, while no other process is alive.
pub(super) fn processes_are_gone() {
    if let Some(head) = head() {
        head.producers_are_gone();
        head.wanted.0.store(0, Ordering::Release);
        head.alarm.0.store(NEVER, Ordering::Release);
        head.set_state(State::Starting, "the trail worker has not started");
    }
}

/// Where the slots begin, behind what stands before them.
pub(super) const FIRST: usize = size_of::<Head>().next_multiple_of(64);

/// What the worker finds at a place.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet.
    Nothing,
    /// A whole event of so many slots, which was copied out.
    Event(u64),
    /// Slots of a process that died while it filled them.
    Torn {
        /// How many slots.
        slots: u64,
        /// Whose, 0 if it did not get so far.
        pid: u32,
    },
}

impl Head {
    /// An empty ring of so many slots, of which nobody else knows yet.
    pub(super) fn lay_out(&mut self, slots: u64) {
        self.slots = self.chunks.lay_out(slots);
        self.alarm.0 = AtomicU64::new(NEVER);
    }

    /// The slot of a place that was claimed; some slot for any other.
    fn slot(&self, place: u64) -> *mut Slot {
        let index = self.chunks.index(place) as usize;
        // SAFETY: slots follow the head in the same mapping.
        unsafe { std::ptr::from_ref(self).cast::<u8>().add(FIRST + index * SLOT).cast_mut().cast() }
    }

    /// Puts an event into the ring. Returns the place behind it, or None if there is no room. Takes no lock, never waits
    /// and never raises.
    pub fn push(&self, event: &[u8], share: Share) -> Option<u64> {
        // SAFETY: reads process-local variables. The postmaster's memory is every child's.
        let pid = unsafe {
            if !pg_sys::IsUnderPostmaster {
                return None;
            }
            pg_sys::MyProcPid as u32
        };
        let parts = event.len().div_ceil(DATA).max(1) as u64;
        let from = self.claim(parts, share)?;
        for (i, data) in (0..parts).zip(event.chunks(DATA).chain(std::iter::once(&[][..]))) {
            let slot = self.slot(from + i);
            // SAFETY: the slot is ours by the claim until it is stamped.
            unsafe {
                (*slot).pid.store(pid, Ordering::Relaxed);
                (*slot).seq.store(0, Ordering::Relaxed);
                (*slot).part.store(i as u32, Ordering::Relaxed);
                (*slot).parts.store(parts as u32, Ordering::Relaxed);
                (*slot).len.store(event.len() as u32, Ordering::Relaxed);
                (*slot).crc.store(crc32fast::hash(data), Ordering::Relaxed);
                std::ptr::copy_nonoverlapping(data.as_ptr(), (&raw mut (*slot).data).cast(), data.len());
                (*slot).stamp.store(from + i + 1, Ordering::Release);
            }
        }
        let end = from + parts;
        self.fetch_ahead(end);
        // The worker sets it before it looks a last time at what is claimed, which was moved before.
        if self.alarm.0.load(Ordering::SeqCst) < end && self.alarm.0.swap(NEVER, Ordering::SeqCst) != NEVER {
            ring_wait::wake_worker();
        }
        Some(end)
    }

    /// Has the processor bring a slot near, which the next event will most likely take: it was last touched by the worker,
    /// long ago.
    #[inline]
    fn fetch_ahead(&self, place: u64) {
        #[cfg(target_arch = "x86_64")]
        for line in (0..SLOT).step_by(64) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: within the mapping; nothing is read.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.slot(place).cast::<i8>().add(line)) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = place;
    }

    /// Takes so many places, to be filled; None if there is no room.
    pub fn claim(&self, parts: u64, share: Share) -> Option<u64> {
        let room = self.slots
            - match share {
                Share::Common => self.slots / RESERVE,
                Share::Unwaiting => self.slots / RESERVE / 2,
                Share::Repair => 0,
            };
        let mut from = self.head.0.load(Ordering::Relaxed);
        loop {
            if from + parts - self.tail.0.load(Ordering::Acquire) > room
                || !self.chunks.provide(from, from + parts, &self.tail.0)
            {
                return None;
            }
            match self.head.0.compare_exchange_weak(from, from + parts, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Some(from),
                Err(now) => from = now,
            }
        }
    }

    /// Whoever claimed a place and did not complete it is gone.
    pub fn producers_are_gone(&self) {
        self.dead.0.store(self.head.0.load(Ordering::Acquire), Ordering::Release);
        self.chunks.takers_are_gone(self.slots, self.tail());
    }

    /// What is at a place; an event is copied to `out`. Only the worker asks.
    pub fn next(&self, place: u64, out: &mut Vec<u8>) -> Next {
        let end = self.head.0.load(Ordering::Acquire);
        if place >= end {
            return Next::Nothing;
        }
        out.clear();
        let (mut at, mut parts, mut whole) = (place, 1, 0);
        while at - place < parts {
            let slot = self.slot(at);
            // SAFETY: mapped. What is not stamped is only looked at by its atomics.
            let slot = unsafe { &*slot };
            let is_complete = slot.stamp.load(Ordering::Acquire) == at + 1;
            if !is_complete && at >= self.dead.0.load(Ordering::Acquire) {
                return Next::Nothing;
            }
            if at == place {
                (parts, whole) = (
                    u64::from(slot.parts.load(Ordering::Relaxed)),
                    slot.len.load(Ordering::Relaxed) as usize,
                );
            }
            let len = DATA.min(whole.saturating_sub(out.len()));
            let is_good = is_complete
                && u64::from(slot.part.load(Ordering::Relaxed)) == at - place
                && crc32fast::hash(&slot.data[..len]) == slot.crc.load(Ordering::Relaxed);
            if !is_good {
                // An older event's process id may stand where nobody wrote.
                let pid = if is_complete || at > place { slot.pid.load(Ordering::Relaxed) } else { 0 };
                return Next::Torn { slots: at - place + 1, pid };
            }
            out.extend_from_slice(&slot.data[..len]);
            at += 1;
        }
        Next::Event(parts)
    }

    /// Notes the number of the record that the event at a place becomes. Only the worker.
    pub fn set_seq(&self, place: u64, seq: u64) {
        // SAFETY: mapped.
        unsafe { (*self.slot(place)).seq.store(seq, Ordering::Release) };
    }

    /// The number that was noted, 0 if none was.
    pub fn seq_at(&self, place: u64) -> u64 {
        // SAFETY: mapped.
        unsafe { (*self.slot(place)).seq.load(Ordering::Acquire) }
    }

    /// Up to here all is on the disk.
    pub fn tail(&self) -> u64 {
        self.tail.0.load(Ordering::Acquire)
    }

    /// Places below were claimed before the last crash.
    pub fn dead(&self) -> u64 {
        self.dead.0.load(Ordering::Acquire)
    }

    /// Up to here places are claimed.
    pub fn claimed(&self) -> u64 {
        self.head.0.load(Ordering::Acquire)
    }

    /// Up to here all is on the disk; those who wait for it or for room are woken. Only the worker.
    pub fn durable(&self, place: u64) {
        self.chunks.release(self.tail(), place);
        self.tail.0.store(place, Ordering::Release);
        ring_wait::wake_waiters();
    }

    /// Slots.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Whether somebody waits for what is behind the place.
    pub fn is_wanted(&self, place: u64) -> bool {
        self.wanted.0.load(Ordering::Acquire) > place
    }

    /// Somebody waits for it.
    pub fn want(&self, place: u64) {
        self.wanted.0.fetch_max(place, Ordering::AcqRel);
        self.alarm.0.store(NEVER, Ordering::Release);
        ring_wait::wake_worker();
    }

    /// The worker is about to sleep, and is woken when a place from this one on is filled. False if one is claimed already.
    /// Only the worker.
    pub fn set_alarm(&self, place: u64) -> bool {
        self.alarm.0.store(place, Ordering::SeqCst);
        let nothing = self.head.0.load(Ordering::SeqCst) <= place;
        if !nothing {
            self.alarm.0.store(NEVER, Ordering::SeqCst);
        }
        nothing
    }

    /// An event found no room.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How many events found no room since it was asked last.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::AcqRel)
    }

    /// How many events found no room and are not recorded yet, and how often a session waited for room.
    pub fn pressure(&self) -> (u64, u64) {
        (self.lost.load(Ordering::Relaxed), self.waits.load(Ordering::Relaxed))
    }

    /// A session waits for room.
    pub fn count_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }
}
