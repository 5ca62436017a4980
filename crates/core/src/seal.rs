//! The stored card number: what of it may be shown, its equality hash, and the sealed digits.
//!
//! ```text
//!  0  version, 1          10  key id, big-endian
//!  1  flags               18  nonce (24), ciphertext (8), tag (16), unless a comparand
//!  2  number of digits     +  equality hash (16 bytes), only if searchable
//!  3  shown: first<<4|last
//!  4  shown digits, BCD, first and last ones side by side, zeros after (6 bytes)
//! ```
//!
//! A value made before it is known where it goes is unbound: a comparand that carries its sealed digits.
//!
//! 82 bytes, or 66 without the equality hash: every number seals to the same length. Everything
//! but the nonce is authenticated together with the ciphertext, so nothing of it can be changed
//! or moved to another row's digits. The hash comes last: where PostgreSQL compares rows by their
//! bytes, what differs first is the nonce, and their order tells nothing.

mod cipher;
mod order;
mod stored;
mod text;

pub use cipher::{comparand, open, open_unbound, seal, seal_hashed, unbound};
pub use order::{cmp_equality, cmp_searchable, cmp_stored, hash_equality};
pub use stored::{MAX_SEALED, MAX_SHOWN, Pan, PanBuf};
pub use text::{SEALED_PREFIX, is_sealed_text};

#[cfg(test)]
mod tests;
