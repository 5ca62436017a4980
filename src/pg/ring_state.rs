//! How the trail worker fares, told to everybody.

use std::sync::atomic::Ordering;

use crate::pg::ring::{Head, MESSAGE, State};
use crate::pg::ring_wait;

impl Head {
    /// How the worker fares.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            1 => State::Running,
            2 => State::Full,
            3 => State::Failing,
            4 => State::Refusing,
            _ => State::Starting,
        }
    }

    /// Tells everybody how the worker fares, and why. Only the worker, and the postmaster while it is alone.
    pub fn set_state(&self, state: State, why: &str) {
        let why = why.as_bytes().get(..MESSAGE).unwrap_or(why.as_bytes());
        for (word, bytes) in self.message.iter().zip(why.chunks(4)) {
            let mut four = [0; 4];
            four[..bytes.len()].copy_from_slice(bytes);
            word.store(u32::from_ne_bytes(four), Ordering::Relaxed);
        }
        self.message_len.store(why.len() as u32, Ordering::Relaxed);
        if self.state.swap(state as u32, Ordering::AcqRel) != state as u32 {
            ring_wait::wake_waiters();
        }
    }

    /// Why it does not fare well.
    pub fn message(&self) -> String {
        let len = (self.message_len.load(Ordering::Relaxed) as usize).min(MESSAGE);
        let bytes: Vec<u8> = self
            .message
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .take(len)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
