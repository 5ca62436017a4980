//! What a wrapped key belongs to.

use serde::{Deserialize, Serialize};

/// The id of a data key: random, unique in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyId(pub u64);

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// Sealing card numbers.
    Data,
    /// The equality hash stored with a sealed number.
    Equality,
    /// The hash that `pci.hash_pan` gives out.
    Hash,
    /// The MAC over policy rows.
    Policy,
    /// Signing the checkpoints of the audit trail.
    Trail,
    /// Sealing what is kept of accounts; the cluster's, of no database.
    Account,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Purpose; 6] =
        [Self::Data, Self::Equality, Self::Hash, Self::Policy, Self::Trail, Self::Account];

    /// The name used in SQL, and towards a key management service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Equality => "equality",
            Self::Hash => "hash",
            Self::Policy => "policy",
            Self::Trail => "trail",
            Self::Account => "account",
        }
    }

    /// The purpose of that exact name.
    pub fn parse(name: &str) -> Option<Purpose> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

/// The encryption context of a wrapped key: it unwraps for nothing else. No OIDs and no names of
/// databases, so that a dump restores elsewhere; nothing secret, it appears in clear in KMS logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// UUID of the installation; travels with its dumps.
    pub installation: [u8; 16],
    /// Number of the vault.
    pub vault: i32,
    /// Id of the key.
    pub key_id: KeyId,
    /// What the key is for.
    pub purpose: Purpose,
}

impl Context {
    /// The same bytes for the same context, for ever: the associated data of local wrapping. Only
    /// the last field varies in length, so no two contexts give the same bytes.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = b"pgpci key context 1\0".to_vec();
        out.extend_from_slice(&self.installation);
        out.extend_from_slice(&self.vault.to_be_bytes());
        out.extend_from_slice(&self.key_id.0.to_be_bytes());
        out.extend_from_slice(self.purpose.as_str().as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for it in Purpose::ALL {
            assert_eq!(Purpose::parse(it.as_str()), Some(it));
        }
        assert_eq!(Purpose::parse(""), None);
    }

    #[test]
    fn every_field_counts() {
        let context = Context { installation: [1; 16], vault: 2, key_id: KeyId(3), purpose: Purpose::Data };
        let others = [
            Context { installation: [2; 16], ..context.clone() },
            Context { vault: 3, ..context.clone() },
            Context { key_id: KeyId(4), ..context.clone() },
            Context { purpose: Purpose::Hash, ..context.clone() },
        ];
        // Pinned: wrapped keys in existing installations depend on these bytes.
        let pinned = b"pgpci key context 1\0\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\
            \x01\x01\x01\0\0\0\x02\0\0\0\0\0\0\0\x03data";
        assert_eq!(context.canonical(), pinned);
        for other in others {
            assert_ne!(other.canonical(), pinned);
        }
    }
}
