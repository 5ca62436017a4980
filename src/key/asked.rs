//! A key that belongs to the cluster and to no database. A worker asks for it, which has other things to do: it looks
//! now and then whether an answer has come.

use pgpci_core::key::{Context, KeyId};
use pgpci_core::secret::Secret;

use super::broker::{Posted, Question};
use crate::error::Result;
use crate::pg::delivery::blob_hash;
use crate::pg::mailbox::{Ask, Waiter};
use crate::pg::region::{self, Slot};

/// A question that is open. Dropped, it is taken back.
pub struct Asked(Posted);

/// Asks for the key that is `wrapped`, or for a new one. `by`: provider and wrapping key. None while others ask too
/// much.
pub fn ask(context: &Context, by: (&str, &str), wrapped: Option<&[u8]>) -> Result<Option<Asked>> {
    let ask = if wrapped.is_some() { Ask::Unwrap } else { Ask::Generate };
    let question = Question { ask, context, by, to: ("", ""), blob: wrapped.unwrap_or_default() };
    Ok(question.post(Waiter::Session)?.map(Asked))
}

/// Asks for the wrapped key in another wrapped form: `to` another provider and wrapping key. None as above.
pub fn ask_rewrap(
    context: &Context,
    by: (&str, &str),
    to: (&str, &str),
    wrapped: &[u8],
) -> Result<Option<Asked>> {
    let question = Question { ask: Ask::Rewrap, context, by, to, blob: wrapped };
    Ok(question.post(Waiter::Session)?.map(Asked))
}

/// The key and its wrapped form, or why there is none.
pub type Answer = std::result::Result<(Secret<[u8; 32]>, Vec<u8>), String>;

impl Asked {
    /// None as long as there is no answer. The key's slot is wiped: whoever asked keeps it.
    pub fn answer(&self, key_id: KeyId) -> Option<Answer> {
        Some(self.0.read()?.and_then(|wrapped| {
            let key = carry_off(key_id, &wrapped).ok_or("the key was wiped before it could be used")?;
            Ok((key, wrapped))
        }))
    }
}

impl Asked {
    /// The other form, see `ask_rewrap`. None as long as there is no answer.
    pub fn form(&self) -> Option<std::result::Result<Vec<u8>, String>> {
        self.0.read()
    }
}

fn carry_off(key_id: KeyId, wrapped: &[u8]) -> Option<Secret<[u8; 32]>> {
    let blob = blob_hash(wrapped);
    region::locked(|r| {
        let is_it = |s: &&mut Slot| s.full && (s.database, s.key_id, s.blob) == (0, key_id.0, blob);
        r.slots.iter_mut().find(is_it).map(|slot| {
            let key = Secret::new(slot.key);
            slot.wipe();
            key
        })
    })?
}
