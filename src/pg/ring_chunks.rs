//! Which memory the places of the ring are in. Places only ever grow; their memory is taken chunk by chunk, the lowest
//! that is free, so that a ring of any size keeps to the little that a processor's caches hold while the disk keeps up.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::pg::ring::Counter;
#[cfg(any(test, feature = "pg_test"))]
use crate::pg::ring::Head;

/// How many chunks there are at most: a bit each.
pub(super) const CHUNKS: u64 = 64;

/// Who has which chunk.
#[repr(C)]
pub(super) struct Chunks {
    /// Slots of one: 2 to this power.
    shift: u32,
    /// A bit for each that is free.
    free: Counter,
    /// By its number modulo `CHUNKS`: the number + 1 of a chunk of places, and in the lowest byte its memory; 0 for none.
    taken: [AtomicU64; CHUNKS as usize],
}

impl Chunks {
    /// Lays out so many slots; returns how many there will be. Once, before anybody else sees it.
    pub(super) fn lay_out(&mut self, slots: u64) -> u64 {
        let size = slots.div_ceil(CHUNKS).next_power_of_two();
        self.shift = size.trailing_zeros();
        let chunks = slots / size;
        self.free.0 = AtomicU64::new(u64::MAX >> (CHUNKS - chunks));
        chunks * size
    }

    /// Which slot of the memory a place has. The place was claimed.
    #[inline]
    pub(super) fn index(&self, place: u64) -> u64 {
        let memory = self.entry(place >> self.shift).load(Ordering::Acquire) & 0xff;
        (memory << self.shift) + (place & ((1 << self.shift) - 1))
    }

    /// Sees to it that the places have memory, before they are claimed. False if there is none.
    pub(super) fn provide(&self, from: u64, to: u64, tail: &AtomicU64) -> bool {
        (from >> self.shift..=(to - 1) >> self.shift).all(|chunk| self.provide_chunk(chunk, tail))
    }

    fn provide_chunk(&self, chunk: u64, tail: &AtomicU64) -> bool {
        let entry = self.entry(chunk);
        loop {
            let found = entry.load(Ordering::Acquire);
            let memory = match (found >> 8).checked_sub(1) {
                Some(number) if number == chunk => return true,
                // Left behind by somebody who came late: all its places were claimed by others meanwhile, and are done with.
                Some(number) if (number + 1) << self.shift <= tail.load(Ordering::Acquire) => found & 0xff,
                Some(_) => return false,
                None => match self.take() {
                    Some(memory) => memory,
                    None => return false,
                },
            };
            let new = (chunk + 1) << 8 | memory;
            if entry.compare_exchange(found, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return true;
            }
            if found == 0 {
                self.free.0.fetch_or(1 << memory, Ordering::AcqRel);
            }
        }
    }

    fn take(&self) -> Option<u64> {
        let mut free = self.free.0.load(Ordering::Relaxed);
        while free != 0 {
            match self.free.0.compare_exchange_weak(
                free,
                free & (free - 1),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(u64::from(free.trailing_zeros())),
                Err(now) => free = now,
            }
        }
        None
    }

    /// All places from the one up to the other are done with: whole chunks are free again. Only the worker, before it
    /// moves `tail`.
    pub(super) fn release(&self, from: u64, to: u64) {
        for chunk in from >> self.shift..to >> self.shift {
            let found = self.entry(chunk).swap(0, Ordering::AcqRel);
            if found != 0 {
                self.free.0.fetch_or(1 << (found & 0xff), Ordering::AcqRel);
            }
        }
    }

    /// What somebody took who died before it was written down is free again. While nobody else is alive.
    pub(super) fn takers_are_gone(&self, slots: u64, tail: u64) {
        let mut free = u64::MAX >> (CHUNKS - (slots >> self.shift));
        for entry in &self.taken {
            let found = entry.load(Ordering::Acquire);
            if (found >> 8) << self.shift <= tail {
                entry.store(0, Ordering::Release);
            } else {
                free &= !(1 << (found & 0xff));
            }
        }
        self.free.0.store(free, Ordering::Release);
    }

    fn entry(&self, chunk: u64) -> &AtomicU64 {
        &self.taken[(chunk % CHUNKS) as usize]
    }
}

#[cfg(any(test, feature = "pg_test"))]
impl Head {
    /// Which slot of the memory a place has that was claimed.
    pub fn index(&self, place: u64) -> u64 {
        self.chunks.index(place)
    }
}
