//! The key that signs checkpoints: an Ed25519 seed, made and wrapped by a key provider as other keys are, and unwrapped
//! when the trail worker starts. Until it is there records go on, chained, and checkpoints wait.
//!
//! Unwrapped it is in the memory of the trail worker, which serves nobody and runs no SQL.

use std::time::{Duration, Instant};

use pgpci_core::chain::Signer;
use pgpci_core::key::{Context, KeyId, Purpose};

use super::node::{self, Identity, Wrapped};
use crate::guc::{self, KeyMode};
use crate::key::asked::{self, Asked};

/// Provider and wrapping key of new signing keys.
const BY: (&str, &str) = ("local", "");
/// An answer that fails is asked for again: soon, then ever later.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// A key on its way.
pub struct Signing {
    identity: Identity,
    state: State,
    pause: Duration,
    /// Why it is not there.
    complaint: String,
}

enum State {
    NotBefore(Instant),
    /// A new one is asked for unless its wrapped form is known.
    Asked(Asked, KeyId, bool),
    Done,
}

impl Signing {
    /// Of this node.
    pub fn new(identity: Identity) -> Self {
        let state = State::NotBefore(Instant::now());
        Signing { identity, state, pause: AGAIN_MIN, complaint: String::new() }
    }

    /// Why checkpoints wait; empty if nothing is known to be wrong.
    pub fn complaint(&self) -> &str {
        &self.complaint
    }

    /// Settings may have changed, or a key file: it is tried again now.
    pub fn try_now(&mut self) {
        if let State::NotBefore(since) = &mut self.state {
            *since = Instant::now();
        }
    }

    /// Looks after it, without waiting; the key, once. True beside: the complaint is a new one.
    pub fn look(&mut self) -> (Option<Signer>, bool) {
        let done = match &self.state {
            State::NotBefore(then) if *then <= Instant::now() => self.ask().map(|()| None),
            State::Asked(asked, id, is_new) => match asked.answer(*id) {
                Some(answer) => {
                    let (id, is_new) = (*id, *is_new);
                    answer.and_then(|(seed, blob)| self.take(&seed, id, is_new.then_some(blob))).map(Some)
                }
                None => return (None, false),
            },
            _ => return (None, false),
        };
        let complaint = match done {
            Ok(None) => return (None, false),
            Ok(Some(signer)) => {
                (self.state, self.complaint) = (State::Done, String::new());
                return (Some(signer), true);
            }
            Err(why) => format!("checkpoints wait for the signing key: {why}"),
        };
        self.state = State::NotBefore(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(AGAIN_MAX);
        let is_new = self.complaint != complaint;
        self.complaint = complaint;
        (None, is_new)
    }

    fn ask(&mut self) -> Result<(), String> {
        // A node that never unwraps has another key at each start.
        let known = self.identity.key.as_ref().filter(|_| guc::KEY_MODE.get() == KeyMode::Normal);
        let id = match known {
            Some(key) => key.id,
            None => KeyId(u64::from_ne_bytes(node::random().map_err(|error| error.to_string())?) >> 1),
        };
        let context =
            Context { installation: self.identity.node.0, vault: 0, key_id: id, purpose: Purpose::Trail };
        let by = known.map_or(BY, |key| (&key.by.0, &key.by.1));
        let asked = asked::ask(&context, by, known.map(|key| &key.blob[..]));
        match asked.map_err(|_| "a wrapping key has too long a name")? {
            Some(asked) => self.state = State::Asked(asked, id, known.is_none()),
            None => return Err("too many keys are asked for".into()),
        }
        Ok(())
    }

    /// `new`: the wrapped form of a key that was just made.
    fn take(
        &mut self,
        seed: &pgpci_core::secret::Secret<[u8; 32]>,
        id: KeyId,
        new: Option<Vec<u8>>,
    ) -> Result<Signer, String> {
        let signer =
            Signer::new(&self.identity.node.origin(), seed).ok_or("the node has no name for a key")?;
        let vkey = signer.verifying_key();
        match new {
            Some(blob) => {
                let key = Wrapped { id, by: (BY.0.into(), BY.1.into()), blob };
                self.identity.adopt(key, vkey).map_err(|error| format!("it cannot be kept: {error}"))?;
            }
            None if self.identity.vkeys.last() != Some(&vkey) => {
                return Err("what trail.key has wrapped is another key".into());
            }
            None => {}
        }
        Ok(signer)
    }
}
