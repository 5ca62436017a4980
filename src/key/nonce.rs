//! Nonces: 24 random bytes, of which a backend repeats the first 12 for a while, so that values stored in
//! bulk share a cipher set-up. Buffered, and never shared across fork.

use std::cell::RefCell;

use crate::error::{Error, Result};

/// Values under one prefix: far below the 2^32 that 96 random bits allow.
const PREFIX_USES: u32 = 1 << 20;
const BUFFER: usize = 12 * 340;

struct State {
    pid: u32,
    prefix: [u8; 12],
    uses: u32,
    buffer: [u8; BUFFER],
    position: usize,
}

thread_local! {
    static STATE: RefCell<State> = const {
        RefCell::new(State { pid: 0, prefix: [0; 12], uses: 0, buffer: [0; BUFFER], position: BUFFER })
    };
}

/// A nonce that was never used.
pub fn next() -> Result<[u8; 24]> {
    STATE.with_borrow_mut(|state| {
        if state.position + 12 > BUFFER || state.pid == 0 {
            let pid = std::process::id();
            if state.pid != pid || state.uses > PREFIX_USES {
                fill(&mut state.prefix)?;
                (state.pid, state.uses) = (pid, 0);
            }
            fill(&mut state.buffer)?;
            state.position = 0;
        }
        state.uses += 1;
        let mut nonce = [0; 24];
        nonce[..12].copy_from_slice(&state.prefix);
        nonce[12..].copy_from_slice(&state.buffer[state.position..state.position + 12]);
        state.position += 12;
        Ok(nonce)
    })
}

/// Random bytes from the kernel.
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|_| Error::key("the operating system gives no random numbers"))
}
