//! Nonces: 24 bytes that no other value under the key has. The first 12 are random and drawn anew for each transaction:
//! values stored in bulk share a cipher set-up by them, and they tell which values a session has made itself. The rest
//! says which statement made the value, how deep in triggers, and counts.

use std::cell::RefCell;

use pgpci_core::redact::redact;

use crate::error::{Error, Result};
use crate::pg::local::Local;
use crate::pg::{activity, session};

/// Values under one prefix: far below the 2^32 that a key for AES-GCM allows.
const PREFIX_USES: u64 = 1 << 20;
const PREFIX: usize = 12;
const BUFFER: usize = PREFIX * 340;

struct State {
    /// Those of the running transaction; the last one is in use.
    prefixes: Vec<[u8; PREFIX]>,
    uses: u64,
    /// Random bytes, fetched from the kernel many at a time.
    buffer: [u8; BUFFER],
    position: usize,
}

// Empty in the postmaster, which seals nothing, and so after each fork.
static STATE: Local<RefCell<State>> =
    Local::new(RefCell::new(State { prefixes: Vec::new(), uses: 0, buffer: [0; BUFFER], position: BUFFER }));

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
        let depth = u16::try_from(session::trigger_depth()).unwrap_or(u16::MAX);
        let mut nonce = [0; 24];
        nonce[..12].copy_from_slice(&prefix);
        nonce[12..16].copy_from_slice(&activity::writing().to_be_bytes());
        nonce[16..18].copy_from_slice(&depth.to_be_bytes());
        nonce[18..].copy_from_slice(&state.uses.to_be_bytes()[2..]);
        Ok(nonce)
    })
}

/// One for a value that is stored already and only sealed anew: it is nobody's.
pub fn of_stored() -> Result<[u8; 24]> {
    STATE.with_borrow_mut(State::take)
}

/// Whether this session made the value in the running transaction.
pub fn is_of_transaction(nonce: &[u8; 24]) -> bool {
    STATE.with_borrow(|state| state.prefixes.iter().rev().any(|prefix| nonce[..PREFIX] == *prefix))
}

/// Whether it did so at this depth of triggers or deeper: a trigger's code may be somebody else's than who typed what
/// fires it.
pub fn is_mine(nonce: &[u8; 24]) -> bool {
    let depth = u16::from_be_bytes([nonce[16], nonce[17]]);
    is_of_transaction(nonce) && i32::from(depth) >= session::trigger_depth()
}

/// Whether, beyond that, it is this statement's to write: made in it or before it, but not by one that it is nested in,
/// nor before that began.
pub fn is_mine_to_write(nonce: &[u8; 24]) -> bool {
    let statement = u32::from_be_bytes([nonce[12], nonce[13], nonce[14], nonce[15]]);
    let around = activity::writing_around();
    is_mine(nonce) && (around == 0 || statement > around)
}

/// A transaction ends: the values that it made are stored ones from now on.
pub fn transaction_ends() {
    STATE.with_borrow_mut(|state| state.prefixes.clear());
}

/// Random bytes from the kernel.
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|_| Error::key("the operating system gives no random numbers"))
}

/// A number for a key: random, unique for all practical purposes, positive as SQL's bigint is, and none that would be
/// taken for a card number where it is printed.
pub fn key_id() -> Result<u64> {
    loop {
        let mut id = [0; 8];
        fill(&mut id)?;
        let id = u64::from_be_bytes(id) >> 1 | 1;
        let text = id.to_string();
        if *redact(text.as_bytes()) == *text.as_bytes() {
            return Ok(id);
        }
    }
}

impl State {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        if self.position + N > BUFFER {
            fill(&mut self.buffer)?;
            self.position = 0;
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[self.position..][..N]);
        // What was handed out is not kept.
        self.buffer[self.position..][..N].fill(0);
        self.position += N;
        Ok(bytes)
    }
}
