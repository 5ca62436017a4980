//! The proof that nobody changed the trail: a Merkle tree over its lines (RFC 6962), and signed
//! checkpoints of it (C2SP tlog-checkpoint, signed-note).
//!
//! A line of the trail, without its line feed, is a leaf. The hash of a leaf is what the trail calls
//! the hash of a record, and what the next record names as `prev`:
//! `(printf '\0'; printf '%s' "$line") | sha256sum`. So one hash serves the chain and the tree.

mod next_key;
mod note;
mod proof;
mod sign;
mod tree;

pub use next_key::NextKey;
pub use note::{Checkpoint, Note, NoteError};
pub use proof::{consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
pub use sign::{Signer, VerifyingKey};
pub use tree::{EMPTY_ROOT, Hash, Tree, leaf_hash};
