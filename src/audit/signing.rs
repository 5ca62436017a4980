//! The key that signs checkpoints: an Ed25519 seed, made and wrapped by a key provider as other keys are, and unwrapped
//! when the trail worker starts. Until it is there records go on, chained, and checkpoints wait.
//!
//! It is wrapped by what `pgpci.audit_key` names: after a change of that, it is wrapped anew, and that form is kept once
//! the key was had from it. `pci.rotate_audit_key` has another one made, for which the one before vouches in the trail.
//!
//! Unwrapped it is in the memory of the trail worker, which serves nobody and runs no SQL.

use std::time::{Duration, Instant};

use pgpci_core::chain::{Signer, VerifyingKey};
use pgpci_core::key::{Context, KeyId, Purpose};
use pgpci_core::secret::Secret;

use super::node::{self, Identity, Wrapped};
use crate::guc::{self, KeyMode};
use crate::key::asked::{self, Asked};

/// An answer that fails is asked for again: soon, then ever later.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// A key on its way.
pub struct Signing {
    identity: Identity,
    state: State,
    pause: Duration,
    /// Why it is not there, or not as it should be.
    complaint: String,
    /// Whether a signer was handed out.
    has_signer: bool,
    /// What `pgpci.audit_key` names.
    wanted: By,
    /// Another key was asked for.
    is_rotation_due: bool,
    /// The next key, until it is adopted.
    next: Option<(Wrapped, VerifyingKey)>,
}

enum State {
    NotBefore(Instant),
    Asked(Asked, Question),
    Done,
}

/// What was asked.
enum Question {
    /// The key.
    Known(KeyId),
    /// A new one, wrapped by these.
    New(KeyId, By),
    /// The key in another form.
    Form(KeyId, By),
    /// The key from that form.
    Proof(KeyId, By),
}

/// Provider and wrapping key.
type By = (String, String);

/// What came of it.
pub enum News {
    /// The key.
    Signer(Signer),
    /// The next key, which signs once it was vouched for and [adopted](Signing::adopt).
    Next(Signer),
    /// The key is wrapped otherwise now: that is an event.
    Rewrapped(String),
}

impl Signing {
    /// Of this node.
    pub fn new(identity: Identity) -> Self {
        Signing {
            identity,
            state: State::NotBefore(Instant::now()),
            pause: AGAIN_MIN,
            complaint: String::new(),
            has_signer: false,
            wanted: wanted(),
            is_rotation_due: false,
            next: None,
        }
    }

    /// Why checkpoints wait, or a change of the key does; empty if nothing is known to be wrong.
    pub fn complaint(&self) -> &str {
        &self.complaint
    }

    /// Settings may have changed, or a key file: it is tried again now.
    pub fn try_now(&mut self) {
        self.wanted = wanted();
        if let State::NotBefore(since) = &mut self.state {
            *since = Instant::now();
        }
    }

    /// Another key is to sign.
    pub fn rotate(&mut self) {
        self.is_rotation_due = true;
    }

    /// Looks after it, without waiting. True beside: the complaint is another one.
    pub fn look(&mut self) -> (Option<News>, bool) {
        let done = match std::mem::replace(&mut self.state, State::Done) {
            State::NotBefore(then) if then > Instant::now() => {
                self.state = State::NotBefore(then);
                return (None, false);
            }
            State::Asked(asked, question) => match self.answer(&asked, question) {
                Ok(answer) => answer,
                Err(question) => {
                    self.state = State::Asked(asked, question);
                    return (None, false);
                }
            },
            _ => self.ask().map(|()| None),
        };
        match done {
            Ok(None) if !matches!(self.state, State::Done) => (None, false),
            Ok(news) => {
                let is_new = !std::mem::take(&mut self.complaint).is_empty();
                self.pause = AGAIN_MIN;
                (news, is_new)
            }
            Err(why) => {
                let what = if self.has_signer {
                    "its signing key stays as it is"
                } else {
                    "checkpoints wait for the signing key"
                };
                self.state = State::NotBefore(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(AGAIN_MAX);
                let complaint = format!("{what}: {why}");
                let is_new = self.complaint != complaint;
                self.complaint = complaint;
                (None, is_new)
            }
        }
    }

    /// Asks for what is missing. Nothing is, mostly.
    fn ask(&mut self) -> Result<(), String> {
        // A node that never unwraps has another key at each start.
        let known = self.identity.key.as_ref().filter(|_| guc::KEY_MODE.get() == KeyMode::Normal);
        let wanted = self.wanted.clone();
        let (asked, question) = match known {
            Some(key) if !self.has_signer => {
                let asked = asked::ask(&self.context(key.id), of(&key.by), Some(&key.blob));
                (asked, Question::Known(key.id))
            }
            _ if !self.has_signer || self.is_rotation_due => {
                let random = node::random().map_err(|error| error.to_string())?;
                let id = KeyId(u64::from_ne_bytes(random) >> 1);
                (asked::ask(&self.context(id), of(&wanted), None), Question::New(id, wanted))
            }
            Some(key) if key.by != wanted => {
                let asked = asked::ask_rewrap(&self.context(key.id), of(&key.by), of(&wanted), &key.blob);
                (asked, Question::Form(key.id, wanted))
            }
            _ => return Ok(()),
        };
        match asked.map_err(|_| "a wrapping key has too long a name")? {
            Some(asked) => self.state = State::Asked(asked, question),
            None => return Err("too many keys are asked for".into()),
        }
        Ok(())
    }

    /// The question again if there is no answer yet.
    fn answer(
        &mut self,
        asked: &Asked,
        question: Question,
    ) -> Result<Result<Option<News>, String>, Question> {
        if let Question::Form(id, by) = question {
            return match asked.form() {
                None => Err(Question::Form(id, by)),
                Some(form) => Ok(form.and_then(|blob| self.prove(id, by, &blob).map(|()| None))),
            };
        }
        let (Question::Known(id) | Question::New(id, _) | Question::Form(id, _) | Question::Proof(id, _)) =
            question;
        let Some(answer) = asked.answer(id) else { return Err(question) };
        Ok(answer.and_then(|(seed, blob)| self.take(&seed, question, blob)))
    }

    /// The new form is good for the key before it takes the old one's place.
    fn prove(&mut self, id: KeyId, by: By, blob: &[u8]) -> Result<(), String> {
        let asked = asked::ask(&self.context(id), of(&by), Some(blob));
        match asked.map_err(|_| "a wrapping key has too long a name")? {
            Some(asked) => self.state = State::Asked(asked, Question::Proof(id, by)),
            None => return Err("too many keys are asked for".into()),
        }
        Ok(())
    }

    fn take(
        &mut self,
        seed: &Secret<[u8; 32]>,
        question: Question,
        blob: Vec<u8>,
    ) -> Result<Option<News>, String> {
        let signer =
            Signer::new(&self.identity.node.origin(), seed).ok_or("the node has no name for a key")?;
        let vkey = signer.verifying_key();
        let is_ours = self.identity.vkeys.last() == Some(&vkey);
        let kept = |done: std::io::Result<()>| done.map_err(|error| format!("it cannot be kept: {error}"));
        Ok(Some(match question {
            Question::New(id, by) => {
                let key = Wrapped { id, by, blob };
                if self.has_signer {
                    self.is_rotation_due = false;
                    self.next = Some((key, vkey));
                    News::Next(signer)
                } else {
                    kept(self.identity.adopt(key, vkey))?;
                    self.has_signer = true;
                    News::Signer(signer)
                }
            }
            Question::Proof(id, by) if is_ours => {
                let what = format!("the trail's signing key is wrapped by {}", by.0);
                kept(self.identity.rewrap(Wrapped { id, by, blob }))?;
                News::Rewrapped(what)
            }
            Question::Known(_) if is_ours => {
                self.has_signer = true;
                News::Signer(signer)
            }
            _ => return Err("what was unwrapped is another key".into()),
        }))
    }

    /// The next key was vouched for, and that is on the disk: from now on it is the key.
    pub fn adopt(&mut self) -> std::io::Result<()> {
        match self.next.take() {
            Some((key, vkey)) => self.identity.adopt(key, vkey),
            None => Ok(()),
        }
    }

    fn context(&self, key_id: KeyId) -> Context {
        Context { installation: self.identity.node.0, vault: 0, key_id, purpose: Purpose::Trail }
    }
}

/// What `pgpci.audit_key` names.
fn wanted() -> By {
    let named = guc::AUDIT_KEY.get();
    let named = named.as_ref().map(|it| it.to_string_lossy()).unwrap_or_default();
    let (provider, kek) = named.split_once(':').unwrap_or((&named, ""));
    (if provider.is_empty() { "local" } else { provider }.into(), kek.into())
}

fn of(by: &By) -> (&str, &str) {
    (&by.0, &by.1)
}
