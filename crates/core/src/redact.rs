//! Takes card numbers and secrets out of statements, messages and log lines.
//!
//! Every hidden byte becomes `*`, so a text keeps its length and its line and column numbers, and
//! can be redacted where it lies: [`in_place`] neither allocates nor fails, as the log hook needs.
//! Texts are bytes in any encoding that keeps ASCII apart (all server encodings do), valid or not.
//! One pass, linear in the length whatever the text.
//!
//! **Card numbers**: 12 to 19 digits with the Luhn sum, IIN and length of a brand, in one piece or
//! in groups as printed, separated by up to three of: space, dash, dot, `_`, `+`, `%20`, no-break
//! space. Also in full-width digits. What is kept is what `pci.mask` shows: first 6, last 4. A longer run of digits
//! is no card number, nor are the decimals after a point, nor a UUID.
//!
//! **Secrets**: the literal after a key that ends in `password` or `passwd` (`PASSWORD '…'`,
//! `OPTIONS (password '…')`, `password => '…'`, `'password', '…'`, JSON), with or without quotes
//! after `=` (connection strings); `scheme://user:…@host`; SCRAM verifiers and md5 hashes of
//! passwords; every literal in the arguments of `crypt`, `encrypt`, `pgp_sym_encrypt` and all other
//! functions with `crypt` in their name, of `hmac`, and of those whose name ends in `password`. Literals are understood in every form:
//! `'…'` with doubled quotes and continued on the next line, `E'…'`, `U&'…'`, `$tag$…$tag$`,
//! nested in another literal; comments may come between. A literal without an end is hidden to the
//! end of the text.
//!
//! Where it is put there from elsewhere (`format('… PASSWORD %L', …)`, `'… PASSWORD ' || …`), all literals that follow.
//!
//! **Not covered**: digits put together from pieces (`'4111' || …`), passwords so by variables and functions,
//! encoded ones (`\x3431…`, base64), numbers of brands that are not in [`crate::brand`],
//! passwords given by position (`INSERT … VALUES`), in XML or YAML, keys called otherwise (`pwd`, `passphrase`,
//! `password_hash`), and what a syntax error quotes (`at or near "…"`).

mod card;
mod cursor;
mod literal;
mod scan;
mod secret;

use crate::redact::cursor::Text;
use std::borrow::Cow;

/// What was hidden.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Card numbers, a number that can be read in two ways counted twice.
    pub cards: usize,
    /// Passwords, keys and verifiers.
    pub secrets: usize,
}

impl Found {
    /// Whether nothing was hidden.
    pub fn is_empty(self) -> bool {
        self == Found::default()
    }
}

/// Whether the text ends where its author ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The text is whole.
    Whole,
    /// The text was cut to fit: digits at its end may be the beginning of a card number, of which
    /// the first six stay readable.
    Cut,
}

/// The text with every card number and secret hidden; the text itself if there was nothing.
pub fn redact(text: &[u8]) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(text);
    run(&mut text, End::Whole);
    text
}

/// Hides every card number and secret where it lies. Does not allocate, fail or panic.
pub fn in_place(text: &mut [u8], end: End) -> Found {
    run(&mut { text }, end)
}

/// Hides every literal, whatever it is: for statements that could not be parsed, and may hold a password anywhere.
pub fn literals_in_place(text: &mut [u8]) -> Found {
    let (text, mut found, mut at) = (&mut { text }, Found::default(), 0);
    // Statements and closed parentheses end it; the text goes on.
    while at < text.len() {
        at = secret::hide_rest(text, at, 1, &mut found) + 1;
    }
    found
}

fn run(text: &mut impl Text, end: End) -> Found {
    let mut found = Found::default();
    // Up to here the literals are hidden already, as the arguments of an outer call.
    let mut in_call = 0;
    let mut at = 0;
    while let Some(hit) = scan::next(text.bytes(), at) {
        at = match scan::what(text.bytes(), hit) {
            scan::What::Digit(from) => match secret::verifier(text, from, end, &mut found) {
                Some(to) => to,
                None => card::cluster(text, from, end, &mut found),
            },
            scan::What::Password => secret::after_key(text, hit, &mut in_call, &mut found),
            scan::What::Uri => secret::in_uri(text, hit, end, &mut found),
            scan::What::Crypt => secret::in_call(text, hit, &mut in_call, &mut found),
        }
        .max(hit + 1);
    }
    found
}

#[cfg(test)]
mod tests;
