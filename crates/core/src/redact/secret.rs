//! Passwords, keys and verifiers.

use super::cursor::{Text, at, before, is_identifier, skip_space, word_at};
use super::{End, Found, literal};

/// How far is looked back for the beginning of a key, and ahead for the end of a name.
const LOOK_AROUND: usize = 64;
/// How long the rest of a format may be.
const FORMAT: usize = 256;

/// Functions whose name stays readable after `password =`; their literals do not.
const FUNCTIONS: &[&[u8]] =
    &[b"crypt", b"digest", b"encode", b"encrypt", b"hmac", b"md5", b"pgp_sym_encrypt", b"sha256", b"sha512"];

/// What stands between a key and its value.
#[derive(Clone, Copy, PartialEq)]
enum Separator {
    None,
    /// `=` or `:=`
    Assign,
    /// `=>`, `:`, or a comma after a key in quotes
    Other,
}

/// Hides the value after the key `…password` or `…passwd`, of which `hit` is the w. Returns where
/// to go on.
pub(super) fn after_key(text: &mut impl Text, hit: usize, done: &mut usize, found: &mut Found) -> usize {
    let bytes = text.bytes();
    let is_key = hit >= 4 && word_at(bytes, hit - 4, b"pass");
    let key_end = match (word_at(bytes, hit, b"word"), word_at(bytes, hit, b"wd")) {
        (true, _) if is_key => hit + 4,
        (_, true) if is_key => hit + 2,
        _ => return hit + 1,
    };
    if is_identifier(at(bytes, key_end)) {
        return key_end;
    }
    let closing = closing_quotes(bytes, hit, key_end);
    let after = skip_space(bytes, key_end + closing);
    // What a function of that name is given, such as `pci.check_password('…')`.
    if at(bytes, after) == b'(' {
        if hit >= *done {
            *done = hide_arguments(text, after, found);
        }
        return after;
    }
    let (separator, len) = match (at(bytes, after), at(bytes, after + 1)) {
        (b'=', b'>') => (Separator::Other, 2),
        (b':', b'=') => (Separator::Assign, 2),
        (b':', b':') => return after, // a cast
        (b'=', _) => (Separator::Assign, 1),
        (b':', _) => (Separator::Other, 1),
        (b',', _) if closing > 0 => (Separator::Other, 1),
        _ => (Separator::None, 0),
    };
    let mut value = after + len;
    // A bare password may look like a comment.
    if separator != Separator::Assign || at(bytes, value).is_ascii_whitespace() {
        value = skip_space(bytes, value);
    }
    if let Some(rest) = from_elsewhere(bytes, value) {
        if hit >= *done {
            *done = hide_rest(text, rest, 1, found);
        }
        return value;
    }
    let hidden = match literal::hide(text, value) {
        None if separator != Separator::None => literal::hide_double(text, value),
        hidden => hidden,
    };
    match hidden {
        Some((end, any)) => {
            found.secrets += usize::from(any);
            end
        }
        None if separator == Separator::Assign => bare(text, hit, value, found),
        None => key_end,
    }
}

/// Where to look for a password that is put into a literal from outside of it: `'… PASSWORD ' || quote_literal(…)`, or
/// `format('… PASSWORD %L', …)`.
fn from_elsewhere(text: &[u8], value: usize) -> Option<usize> {
    let quotes = text.get(value..)?.iter().take_while(|it| **it == b'\'').count();
    let next = skip_space(text, value + quotes);
    if quotes > 0 && (at(text, next), at(text, next + 1)) == (b'|', b'|') {
        return Some(next);
    }
    let place = value + quotes;
    if at(text, place) != b'%' {
        return None;
    }
    let which = |it: &&u8| it.is_ascii_digit() || **it == b'$';
    let kind = place + 1 + text.get(place + 1..)?.iter().take(LOOK_AROUND).take_while(which).count();
    if !matches!(at(text, kind), b'L' | b'I' | b's') {
        return None;
    }
    // The arguments begin at the comma behind the quote that closes the format.
    let is_comma =
        |i: &usize| matches!(at(text, *i), b'\'' | b'$') && at(text, skip_space(text, i + 1)) == b',';
    let limit = text.len().min(kind + FORMAT);
    (kind..limit).find(is_comma).map(|quote| skip_space(text, quote + 1))
}

/// How many bytes close the quotes that a key stands in: `'password'`, `"password"`,
/// `\"password\"`, or doubled ones.
fn closing_quotes(text: &[u8], hit: usize, key_end: usize) -> usize {
    let part = |it: &&u8| is_identifier(**it) || matches!(**it, b'.' | b'-');
    let lead = text[..hit].iter().rev().take(LOOK_AROUND).take_while(part).count();
    let quote = before(text, hit - lead);
    let escape = usize::from(at(text, key_end) == b'\\');
    if !matches!(quote, b'\'' | b'"') || at(text, key_end + escape) != quote {
        return 0;
    }
    let doubled = escape == 0 && at(text, key_end + 1) == quote && before(text, hit - lead - 1) == quote;
    1 + escape + usize::from(doubled)
}

/// Hides a value without quotes, as connection strings have them.
fn bare(text: &mut impl Text, hit: usize, value: usize, found: &mut Found) -> usize {
    let bytes = text.bytes();
    let name = name_len(bytes, value);
    let word = &bytes[value.min(bytes.len())..value + name];
    if at(bytes, value + name) == b'(' && FUNCTIONS.iter().any(|it| it.eq_ignore_ascii_case(word)) {
        hide_arguments(text, value + name, found);
        return value + name;
    }
    if word.eq_ignore_ascii_case(b"null") || word.eq_ignore_ascii_case(b"default") {
        return value + name;
    }
    if at(bytes, value) == b'$' {
        let digits = bytes[value + 1..].iter().take_while(|it| it.is_ascii_digit()).count();
        let end = value + 1 + digits;
        if digits > 0
            && matches!(at(bytes, end), 0 | b',' | b')' | b';' | b':' | b' ' | b'\n' | b'\t' | b'\r')
        {
            return value; // a parameter
        }
    }
    // In a URI the next parameter is not part of it.
    let in_uri = matches!(before(bytes, hit.saturating_sub(4)), b'?' | b'&');
    let mut end = value;
    while let Some(&byte) = bytes.get(end) {
        match byte {
            b'\\' if !matches!(at(bytes, end + 1), b'\'' | b'"') => end += 1,
            b'\\' | b'\'' | b'"' => break,
            b'&' if in_uri => break,
            _ if byte.is_ascii_whitespace() => break,
            _ => {}
        }
        end += 1;
    }
    let end = end.min(bytes.len());
    found.secrets += usize::from(end > value);
    text.hide(value..end);
    end
}

/// Hides the password in `scheme://user:password@`, of which `hit` is the first slash.
pub(super) fn in_uri(text: &mut impl Text, hit: usize, end: End, found: &mut Found) -> usize {
    let bytes = text.bytes();
    if at(bytes, hit + 1) != b'/' || !before(bytes, hit - 1).is_ascii_alphanumeric() {
        return hit + 1;
    }
    let from = hit + 2;
    let ends =
        |it: &u8| it.is_ascii_whitespace() || matches!(it, b'/' | b'?' | b'#' | b'\'' | b'"' | b'<' | b'>');
    let authority = bytes.get(from..).unwrap_or_default();
    let authority = &authority[..authority.iter().position(ends).unwrap_or(authority.len())];
    let user_info = match memchr::memrchr(b'@', authority) {
        Some(at_sign) => at_sign,
        // The end of a password, or of a host with its port.
        None if end == End::Cut && from + authority.len() == bytes.len() => authority.len(),
        None => return from,
    };
    if let Some(colon) = memchr::memchr(b':', &authority[..user_info]) {
        found.secrets += usize::from(colon + 1 < user_info);
        text.hide(from + colon + 1..from + user_info);
    }
    from + user_info
}

/// Hides every literal in the arguments of a function whose name goes on at `hit`, unless that was
/// done as part of an outer call, up to `done`.
pub(super) fn in_call(text: &mut impl Text, hit: usize, done: &mut usize, found: &mut Found) -> usize {
    let bytes = text.bytes();
    let name_end = if hit >= 3 && word_at(bytes, hit - 3, b"crypt") {
        let suffixes: [&[u8]; 3] = [b"_bytea", b"_iv", b"_raw"];
        let suffix = suffixes.iter().find(|it| word_at(bytes, hit + 2, it)).map_or(0, |it| it.len());
        hit + 2 + suffix
    } else if word_at(bytes, hit - 2, b"hmac") {
        hit + 2
    } else {
        return hit + 1;
    };
    let open = skip_space(bytes, name_end);
    if at(bytes, open) != b'(' {
        return hit + 1;
    }
    if hit >= *done {
        *done = hide_arguments(text, open, found);
    }
    open
}

/// Hides the literals between the parenthesis at `open` and the one that closes it.
fn hide_arguments(text: &mut impl Text, open: usize, found: &mut Found) -> usize {
    hide_rest(text, open, 0, found)
}

/// Hides the literals from `i` on to the end of the statement, or of the parentheses of which so many are open.
pub(super) fn hide_rest(text: &mut impl Text, mut i: usize, mut depth: usize, found: &mut Found) -> usize {
    while let Some(&byte) = text.bytes().get(i) {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 1 => return i + 1,
            b')' => depth = depth.saturating_sub(1),
            b';' if depth == 1 => return i,
            b'\'' | b'$' | b'\\' => {
                if let Some((end, any)) = literal::hide(text, i) {
                    found.secrets += usize::from(any);
                    i = end;
                    continue;
                }
            }
            _ => {}
        }
        i += 1;
    }
    i
}

/// Hides a SCRAM verifier or md5 hash of a password, if the digits at `from` are part of one.
pub(super) fn verifier(text: &mut impl Text, from: usize, end: End, found: &mut Found) -> Option<usize> {
    let bytes = text.bytes();
    let hidden = match at(bytes, from) {
        b'5' if from >= 2 && word_at(bytes, from - 2, b"md") => {
            let hash = bytes[from + 1..].iter().take(33).take_while(|it| it.is_ascii_hexdigit()).count();
            let cut = end == End::Cut && from + 1 + hash == bytes.len();
            if is_identifier(before(bytes, from - 2)) || !(hash == 32 || cut && hash < 32) {
                return None;
            }
            from + 1..from + 1 + hash
        }
        b'2' if from >= 10 && word_at(bytes, from - 10, b"scram-sha-") && word_at(bytes, from, b"256$") => {
            // Iterations:salt$keys; the iterations stay.
            let part =
                |it: &&u8| it.is_ascii_alphanumeric() || matches!(**it, b'+' | b'/' | b'=' | b':' | b'$');
            let rest = &bytes[from + 4..];
            let len = rest.iter().take_while(part).count();
            let kept = memchr::memchr(b':', &rest[..len]).map_or(0, |it| it + 1);
            from + 4 + kept..from + 4 + len
        }
        _ => return None,
    };
    if hidden.is_empty() {
        return None;
    }
    let end = hidden.end;
    found.secrets += 1;
    text.hide(hidden);
    Some(end)
}

fn name_len(text: &[u8], i: usize) -> usize {
    text.get(i..).unwrap_or_default().iter().take(LOOK_AROUND).take_while(|it| is_identifier(**it)).count()
}
