//! SQL literals in all their forms.

use super::cursor::{Text, at, is_identifier, skip_space};

/// Longest tag of a dollar quote: an identifier.
const MAX_TAG: usize = 64;

/// Hides what is in the literal at `i`, and in what continues it on the next line. Returns where it
/// ends, and whether anything was in it; `None` if no literal begins there.
pub(super) fn hide(text: &mut impl Text, i: usize) -> Option<(usize, bool)> {
    let mut any = false;
    let mut part = literal(text.bytes(), i)?;
    loop {
        text.hide(part.from..part.to);
        any |= part.from < part.to;
        let next = skip_space(text.bytes(), part.end);
        let continued = at(text.bytes(), next) == b'\''
            && text.bytes().get(part.end..next).is_some_and(|it| it.contains(&b'\n'));
        match continued.then(|| quoted(text.bytes(), next)) {
            Some(next) => part = next,
            None => return Some((part.end, any)),
        }
    }
}

/// Hides what is in the double quotes at `i`, as JSON and identifiers have them.
pub(super) fn hide_double(text: &mut impl Text, i: usize) -> Option<(usize, bool)> {
    let bytes = text.bytes();
    let part = match (at(bytes, i), at(bytes, i + 1)) {
        (b'"', _) => quoted(bytes, i),
        (b'\\', b'"') => escaped(bytes, i),
        _ => return None,
    };
    text.hide(part.from..part.to);
    Some((part.end, part.from < part.to))
}

/// A literal: its content, and where it ends.
struct Part {
    from: usize,
    to: usize,
    end: usize,
}

fn literal(text: &[u8], i: usize) -> Option<Part> {
    match (at(text, i), at(text, i + 1), at(text, i + 2)) {
        (b'\'', _, _) => Some(quoted(text, i)),
        (b'\\', b'\'', _) => Some(escaped(text, i)),
        (b'E' | b'e' | b'N' | b'n' | b'B' | b'b' | b'X' | b'x', b'\'', _) => Some(quoted(text, i + 1)),
        (b'U' | b'u', b'&', b'\'') => Some(quoted(text, i + 2)),
        (b'$', _, _) => dollar_quoted(text, i),
        _ => None,
    }
}

/// The literal that begins with the quotes at `i`: one, or two to the power of the number of
/// literals it is nested in.
fn quoted(text: &[u8], i: usize) -> Part {
    let quote = at(text, i);
    let opening = run(text, i, quote);
    // Of three quotes the first opens and two are content; of six, two and four.
    let depth = opening & opening.wrapping_neg();
    if depth == opening && depth > 1 && ends_value(at(text, i + opening)) {
        return Part { from: i + 1, to: i + opening - 1, end: i + opening };
    }
    let from = i + depth;
    let mut at_byte = from;
    while let Some(&byte) = text.get(at_byte) {
        if byte == b'\\' {
            // Escapes in any literal: without standard_conforming_strings, in E'…', in connection
            // strings. Elsewhere a backslash before the last quote hides too much, never too little.
            at_byte += 1 + run(text, at_byte + 1, quote).clamp(1, depth);
        } else if byte == quote {
            let quotes = run(text, at_byte, quote);
            let doubled = quotes - quotes % (2 * depth);
            if quotes - doubled >= depth {
                return Part { from, to: at_byte + doubled, end: at_byte + doubled + depth };
            }
            at_byte += quotes;
        } else {
            at_byte += 1;
        }
    }
    Part { from, to: text.len(), end: text.len() }
}

/// Between `\'` and `\'`, or `\"` and `\"`: quotes inside of another string.
fn escaped(text: &[u8], i: usize) -> Part {
    let quote = at(text, i + 1);
    let from = i + 2;
    let mut to = from;
    while to < text.len() && (at(text, to), at(text, to + 1)) != (b'\\', quote) {
        // An escaped backslash, so that the quote behind it is none of ours: \\\"
        to += if (at(text, to), at(text, to + 1)) == (b'\\', b'\\') { 2 } else { 1 };
    }
    let to = to.min(text.len());
    Part { from, to, end: (to + 2).min(text.len()) }
}

fn dollar_quoted(text: &[u8], i: usize) -> Option<Part> {
    let tag = text.get(i + 1..)?.iter().take(MAX_TAG).take_while(|it| is_identifier(**it)).count();
    if at(text, i + 1).is_ascii_digit() || at(text, i + 1 + tag) != b'$' {
        return None; // a parameter
    }
    let from = i + tag + 2;
    let delimiter = text.get(i..from)?;
    let close = memchr::memmem::find(text.get(from..)?, delimiter).map(|it| from + it);
    let to = close.unwrap_or(text.len());
    Some(Part { from, to, end: close.map_or(text.len(), |it| it + delimiter.len()) })
}

fn run(text: &[u8], i: usize, byte: u8) -> usize {
    text.get(i..).unwrap_or_default().iter().take_while(|it| **it == byte).count()
}

fn ends_value(byte: u8) -> bool {
    matches!(byte, 0 | b' ' | b'\t' | b'\n' | b'\r' | b',' | b';' | b')' | b'|' | b':')
}
