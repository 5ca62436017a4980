//! What a login must know.

use super::Account;
use serde::{Deserialize, Serialize};

/// An account that logs in, and what holds for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Arrival {
    /// The account, without its history.
    pub account: Account,
    /// That of the role that stands for all.
    pub all: Account,
    /// Whether accounts are kept.
    pub is_in_force: bool,
}

impl Arrival {
    /// From what was read.
    pub fn new(account: Account, all: Account, is_in_force: bool) -> Self {
        let without_history = |account| Account { sealed: Vec::new(), ..account };
        Arrival { account: without_history(account), all: without_history(all), is_in_force }
    }

    /// As bytes, if there is room for them.
    pub fn to_bytes<'a>(&self, room: &'a mut [u8]) -> Option<&'a [u8]> {
        postcard::to_slice(self, room).ok().map(|bytes| &*bytes)
    }

    /// From those bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}
