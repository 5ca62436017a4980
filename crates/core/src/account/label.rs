//! Labels: an account as text, with a MAC by the cluster's key, bound to the role's name; and that key, wrapped.

use super::Account;
use crate::key::PolicyKey;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

const PREFIX: &str = "account:1:";
const MAC: usize = 16;
/// A longer one would not stay in its row, and a login could not read it.
const LONGEST: usize = 1900;

/// A label as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// What it says.
    pub account: Account,
    payload: Vec<u8>,
    mac: [u8; MAC],
}

impl Label {
    /// From a text.
    pub fn parse(label: &str) -> Option<Label> {
        let mut payload = Base64UrlUnpadded::decode_vec(label.strip_prefix(PREFIX)?).ok()?;
        let mac = *payload.last_chunk::<MAC>()?;
        payload.truncate(payload.len() - MAC);
        Some(Label { account: postcard::from_bytes(&payload).ok()?, payload, mac })
    }

    /// Whether it was written with this key, for the role of this name.
    pub fn is_genuine(&self, key: &[u8; 32], role: &str) -> bool {
        mac(key, role, &self.payload).ct_eq(&self.mac).into()
    }
}

impl Account {
    /// As a label; None if it is too long.
    pub fn to_label(&self, key: &[u8; 32], role: &str) -> Option<String> {
        let mut bytes = postcard::to_allocvec(self).ok()?;
        bytes.extend(mac(key, role, &bytes));
        let label = format!("{PREFIX}{}", Base64UrlUnpadded::encode_string(&bytes));
        (label.len() <= LONGEST).then_some(label)
    }
}

fn mac(key: &[u8; 32], role: &str, payload: &[u8]) -> [u8; MAC] {
    let whole = PolicyKey::new(key).mac(&[Some(b"account"), Some(role.as_bytes()), Some(payload)]);
    let mut half = [0; MAC];
    half.copy_from_slice(&whole[..MAC]);
    half
}

/// The key that seals histories and authenticates labels, wrapped: the cluster's, in the label of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterKey {
    /// The installation that its context names.
    pub installation: [u8; 16],
    /// Its identifier.
    pub id: u64,
    /// Who unwraps it.
    pub provider: String,
    /// With which wrapping key.
    pub kek: String,
    /// The wrapped form.
    pub wrapped: Vec<u8>,
    /// Its check value.
    pub check: [u8; 8],
}

impl ClusterKey {
    /// What its label begins with.
    pub const PREFIX: &str = "key:1:";

    /// From a label.
    pub fn parse(label: &str) -> Option<ClusterKey> {
        let bytes = Base64UrlUnpadded::decode_vec(label.strip_prefix(Self::PREFIX)?).ok()?;
        postcard::from_bytes(&bytes).ok()
    }

    /// As a label.
    pub fn to_label(&self) -> String {
        let bytes = postcard::to_allocvec(self).unwrap_or_default();
        format!("{}{}", Self::PREFIX, Base64UrlUnpadded::encode_string(&bytes))
    }
}
