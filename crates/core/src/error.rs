//! Everything that can go wrong here. No variant carries input, so that an error message can never
//! leak a card number or a key.

/// An error of this crate. `Display` is a PostgreSQL primary message: one sentence, no capital.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing but white space.
    #[error("card number is empty")]
    Empty,
    /// Something else than digits and single separators.
    #[error("card number contains something else than digits")]
    NotDigits,
    /// Digits U+FF10 to U+FF19, as East Asian input methods produce them.
    #[error("card number contains full-width digits")]
    FullWidthDigits,
    /// Not 12 to 19 digits.
    #[error("card number must have 12 to 19 digits")]
    Length,
    /// The Luhn sum (ISO/IEC 7812-1 annex B) is not a multiple of ten.
    #[error("card number has an invalid check digit")]
    Luhn,
    /// A mask was given where the whole number is needed.
    #[error("a masked card number cannot be stored")]
    Mask,
    /// More digits were to be shown than the length allows.
    #[error("at least four digits of a card number must stay hidden")]
    Truncation,
    /// Bad base64, cut short, or a header no version of pgpci writes.
    #[error("sealed card number is malformed")]
    SealedSyntax,
    /// A version of the sealed form that this one does not know.
    #[error("sealed card number has an unsupported version")]
    SealedVersion,
    /// Stored bytes that are impossible or fail authentication.
    #[error("stored card number is corrupt")]
    Corrupt,
    /// A value made to be compared with; it holds no digits.
    #[error("card number was made for comparison only")]
    Comparand,
    /// A key that is not 32 bytes long.
    #[error("key must be 32 bytes long")]
    KeySize,
    /// A frame from the key helper that cannot be read.
    #[error("message between server and key helper is malformed")]
    WireSyntax,
    /// A frame longer than [`crate::wire::MAX_PAYLOAD`].
    #[error("message between server and key helper is too long")]
    WireSize,
}

impl Error {
    /// A PostgreSQL hint: what to do about it, where something can be done.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Error::NotDigits => Some("Single spaces or dashes may separate groups of digits, nothing else."),
            Error::FullWidthDigits => Some("Use the ASCII digits 0 to 9."),
            Error::Mask => {
                Some("Reading a card number gives its mask; to copy it, assign the pan value itself.")
            }
            Error::SealedSyntax => {
                Some("A sealed card number starts with \"pan:1:\" and must be copied whole.")
            }
            Error::SealedVersion => Some("It was written by a later version of pgpci."),
            Error::Corrupt => Some("Restore the row from a backup, and find out what changed it."),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_the_style_of_postgresql() {
        for error in [Error::Empty, Error::Luhn, Error::Mask, Error::Corrupt, Error::WireSize] {
            let message = error.to_string();
            assert!(message.starts_with(char::is_lowercase), "{message}");
            assert!(!message.ends_with('.'), "{message}");
            if let Some(hint) = error.hint() {
                assert!(hint.starts_with(char::is_uppercase) && hint.ends_with('.'), "{hint}");
            }
        }
    }
}
