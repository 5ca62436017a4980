//! The life of a key (NIST SP 800-57 part 1 rev. 5, section 7).

use serde::{Deserialize, Serialize};

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyState {
    /// Made, not yet in use.
    PreActivation,
    /// Seals and opens.
    Active,
    /// Out of use for the moment: opens what was sealed before.
    Suspended,
    /// Replaced: opens what was sealed before.
    Deactivated,
    /// Known, or feared to be known, to somebody else.
    Compromised,
    /// The key is gone; its row stays.
    Destroyed,
}

impl KeyState {
    /// Every state, in the order of a life.
    pub const ALL: [KeyState; 6] = [
        Self::PreActivation,
        Self::Active,
        Self::Suspended,
        Self::Deactivated,
        Self::Compromised,
        Self::Destroyed,
    ];

    /// The name used in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreActivation => "pre-activation",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        }
    }

    /// The state of that exact name.
    pub fn parse(name: &str) -> Option<KeyState> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    /// Whether it may seal.
    pub fn may_encrypt(self) -> bool {
        self == Self::Active
    }

    /// Whether it may open what was sealed before.
    pub fn may_decrypt(self) -> bool {
        matches!(self, Self::Active | Self::Suspended | Self::Deactivated)
    }

    /// Whether it may open a value in order to seal it anew under another key: the "controlled
    /// conditions" under which a compromised key is still processed.
    pub fn may_reencrypt(self) -> bool {
        self.may_decrypt() || self == Self::Compromised
    }

    /// Whether a key may go from this state to the other (SP 800-57 part 1 rev. 5, section 7). No key comes back
    /// from being deactivated, compromised or destroyed.
    pub fn may_become(self, next: KeyState) -> bool {
        use KeyState::*;
        match self {
            PreActivation => matches!(next, Active | Compromised | Destroyed),
            Active => matches!(next, Suspended | Deactivated | Compromised | Destroyed),
            Suspended => matches!(next, Active | Deactivated | Compromised | Destroyed),
            Deactivated => matches!(next, Compromised | Destroyed),
            Compromised => matches!(next, Destroyed),
            Destroyed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for it in KeyState::ALL {
            assert_eq!(KeyState::parse(it.as_str()), Some(it));
        }
    }

    #[test]
    fn only_an_active_key_seals_and_a_compromised_one_only_reencrypts() {
        let names = |may: fn(KeyState) -> bool| {
            KeyState::ALL.into_iter().filter(|&it| may(it)).map(KeyState::as_str).collect::<Vec<_>>()
        };
        assert_eq!(names(KeyState::may_encrypt), ["active"]);
        assert_eq!(names(KeyState::may_decrypt), ["active", "suspended", "deactivated"]);
        assert_eq!(names(KeyState::may_reencrypt), ["active", "suspended", "deactivated", "compromised"]);
    }

    #[test]
    fn transitions_are_those_of_the_standard() {
        let arrows: Vec<String> = KeyState::ALL
            .into_iter()
            .flat_map(|from| KeyState::ALL.map(|to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .map(|(from, to)| format!("{} > {}", from.as_str(), to.as_str()))
            .collect();
        let expected = [
            "pre-activation > active",
            "pre-activation > compromised",
            "pre-activation > destroyed",
            "active > suspended",
            "active > deactivated",
            "active > compromised",
            "active > destroyed",
            "suspended > active",
            "suspended > deactivated",
            "suspended > compromised",
            "suspended > destroyed",
            "deactivated > compromised",
            "deactivated > destroyed",
            "compromised > destroyed",
        ];
        assert_eq!(arrows, expected);
    }
}
