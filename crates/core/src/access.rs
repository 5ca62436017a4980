//! What a role may be allowed to do with the card numbers of a vault.

/// A capability on a vault. Nobody has one that was not granted by name, superusers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Turn digits into a stored card number.
    Store,
    /// Compare card numbers in a query, or look one up by its digits.
    Search,
    /// Get clear digits back, always audited.
    Reveal,
    /// Get the sealed form out, to restore it elsewhere.
    Export,
}

impl Capability {
    /// Every capability, in the order of the manual.
    pub const ALL: [Capability; 4] = [Self::Store, Self::Search, Self::Reveal, Self::Export];

    /// The name used in SQL and in the audit trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Search => "search",
            Self::Reveal => "reveal",
            Self::Export => "export",
        }
    }

    /// The capability of that exact name.
    pub fn parse(name: &str) -> Option<Capability> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for it in Capability::ALL {
            assert_eq!(Capability::parse(it.as_str()), Some(it));
        }
        assert_eq!(Capability::parse("Store"), None);
    }
}
