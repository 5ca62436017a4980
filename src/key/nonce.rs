//! Nonces: 24 random bytes. A backend repeats the first 12 for a while, so that values stored in bulk share a cipher
//! set-up, but never beyond a transaction: so they tell which values it has made itself. Buffered, never shared
//! across fork.

use std::cell::RefCell;

use crate::error::{Error, Result};

/// Values under one prefix: far below the 2^32 that 96 random bits allow.
const PREFIX_USES: u32 = 1 << 20;
const HALF: usize = 12;
const BUFFER: usize = HALF * 340;

struct State {
    /// Those of the running transaction; the last one is in use.
    prefixes: Vec<[u8; HALF]>,
    uses: u32,
    buffer: [u8; BUFFER],
    position: usize,
}

thread_local! {
    // Empty in the postmaster, which seals nothing, and so after each fork.
    static STATE: RefCell<State> = const {
        RefCell::new(State { prefixes: Vec::new(), uses: 0, buffer: [0; BUFFER], position: BUFFER })
    };
}

/// A nonce that was never used.
pub fn next() -> Result<[u8; 24]> {
    STATE.with_borrow_mut(|state| {
        let prefix = match state.prefixes.last() {
            Some(prefix) if state.uses < PREFIX_USES => *prefix,
            _ => {
                let prefix = state.take()?;
                state.prefixes.push(prefix);
                state.uses = 0;
                prefix
            }
        };
        state.uses += 1;
        let mut nonce = [0; 24];
        nonce[..HALF].copy_from_slice(&prefix);
        nonce[HALF..].copy_from_slice(&state.take()?);
        Ok(nonce)
    })
}

/// A nonce that was never used, and that does not say that the running transaction made the value: for one that was
/// there before, sealed anew.
pub fn of_stored() -> Result<[u8; 24]> {
    STATE.with_borrow_mut(|state| {
        let mut nonce = [0; 24];
        nonce[..HALF].copy_from_slice(&state.take()?);
        nonce[HALF..].copy_from_slice(&state.take()?);
        Ok(nonce)
    })
}

/// Whether the running transaction made the value of this nonce.
pub fn is_mine(nonce: &[u8; 24]) -> bool {
    STATE.with_borrow(|state| state.prefixes.iter().rev().any(|prefix| nonce[..HALF] == *prefix))
}

/// A transaction ends: the values that it made are stored ones from now on.
pub fn transaction_ends() {
    STATE.with_borrow_mut(|state| state.prefixes.clear());
}

/// Random bytes from the kernel.
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|_| Error::key("the operating system gives no random numbers"))
}

impl State {
    fn take(&mut self) -> Result<[u8; HALF]> {
        if self.position == BUFFER {
            fill(&mut self.buffer)?;
            self.position = 0;
        }
        let mut half = [0; HALF];
        half.copy_from_slice(&self.buffer[self.position..][..HALF]);
        self.position += HALF;
        Ok(half)
    }
}
