//! Rules for passwords (PCI DSS 8.3.6), on the form that PostgreSQL makes a verifier of.

mod common;
mod prepared;
mod verifier;

pub use prepared::Prepared;
pub use verifier::{MAX_ITERATIONS, MIN_ITERATIONS, Verifier, looks_like_verifier};

use common::is_common;

/// Names shorter than this are in too many words to be looked for in a password.
const MIN_NAME: usize = 3;

/// What a password must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Characters, at least.
    pub min_length: usize,
    /// An upper-case letter.
    pub upper: bool,
    /// A lower-case letter.
    pub lower: bool,
    /// A character that is neither letter nor digit.
    pub special: bool,
}

/// What is wrong with a password or verifier. `Display` is a PostgreSQL primary message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Fewer characters than this.
    #[error("password is too short")]
    Short(usize),
    /// No letter.
    #[error("password contains no letter")]
    NoLetter,
    /// No digit.
    #[error("password contains no digit")]
    NoDigit,
    /// No upper-case letter.
    #[error("password contains no upper-case letter")]
    NoUpper,
    /// No lower-case letter.
    #[error("password contains no lower-case letter")]
    NoLower,
    /// Nothing but letters and digits.
    #[error("password contains no special character")]
    NoSpecial,
    /// The role's name is in it.
    #[error("password contains the name of the role")]
    HoldsName,
    /// It is one of those that are tried first.
    #[error("password is too common")]
    Common,
    /// It was used before.
    #[error("password was used before")]
    Reused,
    /// It looks like a verifier, and is none: PostgreSQL would take it for the password itself.
    #[error("password looks like a verifier and is none")]
    Malformed,
    /// A verifier by MD5.
    #[error("password verifiers made by MD5 are not accepted")]
    Md5,
    /// Fewer iterations than PostgreSQL's own.
    #[error("password verifier has too few iterations")]
    FewIterations,
    /// So many that each login would keep the server busy.
    #[error("password verifier has too many iterations")]
    ManyIterations,
    /// Less than 16 bytes of salt.
    #[error("password verifier has a salt that is too short")]
    ShortSalt,
}

impl Weakness {
    /// What to do about it.
    pub fn hint(self) -> String {
        match self {
            Weakness::Short(minimum) => format!("Use at least {minimum} characters."),
            Weakness::NoLetter => "Use at least one letter.".into(),
            Weakness::NoDigit => "Use at least one digit.".into(),
            Weakness::NoUpper => "Use at least one upper-case letter.".into(),
            Weakness::NoLower => "Use at least one lower-case letter.".into(),
            Weakness::NoSpecial => "Use at least one character that is neither a letter nor a digit.".into(),
            Weakness::HoldsName => "Use one without the name of the role.".into(),
            Weakness::Common => {
                "Use one that nobody would try: several unrelated words, or a random one.".into()
            }
            Weakness::Reused => "Use one that this role never had.".into(),
            Weakness::Malformed => {
                "Send the password itself, over TLS, or a well-formed SCRAM verifier.".into()
            }
            Weakness::Md5 => "Send the password itself, over TLS, or a SCRAM verifier.".into(),
            Weakness::FewIterations => format!("Use at least {MIN_ITERATIONS} iterations."),
            Weakness::ManyIterations => format!("Use at most {MAX_ITERATIONS} iterations."),
            Weakness::ShortSalt => "Use at least 16 random bytes of salt.".into(),
        }
    }
}

impl Policy {
    /// Everything that is wrong with a password for the role of this name. `banned` are those of the site, in addition
    /// to the ones that everybody tries.
    pub fn check<'a>(
        &self,
        password: &Prepared,
        role: &str,
        banned: impl IntoIterator<Item = &'a str>,
    ) -> Vec<Weakness> {
        let text = password.characters();
        let has = |is: fn(char) -> bool| text.expose().chars().any(is);
        let folded = password.folded();
        let name = fold(role);
        let holds_name = match name.chars().count() {
            0 => false,
            1..MIN_NAME => *folded.expose() == name,
            _ => folded.expose().contains(&name),
        };
        let is_banned =
            || is_common(folded.expose()) || banned.into_iter().any(|it| fold(it) == *folded.expose());
        let checks = [
            (text.expose().chars().count() < self.min_length, Weakness::Short(self.min_length)),
            (!has(char::is_alphabetic), Weakness::NoLetter),
            (!has(char::is_numeric), Weakness::NoDigit),
            (self.upper && !has(char::is_uppercase), Weakness::NoUpper),
            (self.lower && !has(char::is_lowercase), Weakness::NoLower),
            (self.special && !has(|c| !c.is_alphanumeric()), Weakness::NoSpecial),
            (holds_name, Weakness::HoldsName),
            (is_banned(), Weakness::Common),
        ];
        checks.into_iter().filter_map(|(is_wrong, weakness)| is_wrong.then_some(weakness)).collect()
    }
}

fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests;
