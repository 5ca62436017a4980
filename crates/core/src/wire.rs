//! Frames between the broker in the server and the helper process `pgpci keyd`: the length of the
//! payload as u32 little-endian, then the payload in postcard format.

mod message;

pub use message::{Description, Failure, FailureKind, Op, Outcome, Request, Response};

use crate::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The most bytes of a payload; wrapped keys are a few hundred bytes long.
pub const MAX_PAYLOAD: usize = 64 * 1024;

const LENGTH_LEN: usize = 4;

/// Appends one frame. `out` may now hold a key: the caller wipes it.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let len = postcard::experimental::serialized_size(message).or(Err(Error::WireSyntax))?;
    if len > MAX_PAYLOAD {
        return Err(Error::WireSize);
    }
    let start = out.len();
    grow(out, LENGTH_LEN + len);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.resize(start + LENGTH_LEN + len, 0);
    match postcard::to_slice(message, &mut out[start + LENGTH_LEN..]) {
        Ok(_) => Ok(()),
        Err(_) => {
            out[start..].zeroize();
            out.truncate(start);
            Err(Error::WireSyntax)
        }
    }
}

/// Takes bytes as they arrive and gives messages as they are complete. Wipes what it held, since
/// any frame may hold a key.
#[derive(Default, ZeroizeOnDrop)]
pub struct Decoder {
    held: Vec<u8>,
}

impl Decoder {
    /// Takes some bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        grow(&mut self.held, bytes.len());
        self.held.extend_from_slice(bytes);
    }

    /// The next message, if all of it has arrived. After an error the stream is out of step: close
    /// it.
    #[allow(clippy::should_implement_trait)] // each call may expect another type
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let Some((length, rest)) = self.held.split_first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*length) as usize;
        if len > MAX_PAYLOAD {
            self.held.zeroize();
            return Err(Error::WireSize);
        }
        let Some(payload) = rest.get(..len) else {
            return Ok(None);
        };
        let message = match postcard::take_from_bytes(payload) {
            Ok((message, [])) => Ok(Some(message)),
            _ => Err(Error::WireSyntax),
        };
        self.consume(LENGTH_LEN + len);
        message
    }

    fn consume(&mut self, len: usize) {
        let left = self.held.len() - len;
        self.held.copy_within(len.., 0);
        self.held[left..].zeroize();
        self.held.truncate(left);
    }
}

/// Makes room as `Vec::reserve` does, but wipes the memory it moves away from.
fn grow(bytes: &mut Vec<u8>, more: usize) {
    if bytes.capacity() - bytes.len() < more {
        let mut larger = Vec::with_capacity((bytes.len() + more).next_power_of_two());
        larger.extend_from_slice(bytes);
        bytes.zeroize();
        *bytes = larger;
    }
}

#[cfg(test)]
mod tests;
