//! JSON strings with as few escapes as can be, and hex.

use crate::chain::Hash;

/// What a cut text ends in.
const ELLIPSIS: &str = "\u{2026}";

/// Appends a string in quotes. Returns how many bytes of the text there was room for, if at most
/// `limit` bytes may stand between the quotes.
pub(super) fn string(out: &mut Vec<u8>, text: &[u8], limit: usize) -> usize {
    out.push(b'"');
    let taken = characters(out, text, limit);
    out.push(b'"');
    taken
}

/// [`string`], marked with an ellipsis where it is cut.
pub(super) fn marked_string(out: &mut Vec<u8>, text: &[u8], limit: usize) {
    let start = out.len();
    if string(out, text, limit) < text.len() {
        out.truncate(start + 1);
        characters(out, text, limit.saturating_sub(ELLIPSIS.len()));
        out.extend_from_slice(ELLIPSIS.as_bytes());
        out.push(b'"');
    }
}

pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub(super) fn hash(out: &mut Vec<u8>, hash: &Hash) {
    let mut text = [b'"'; 66];
    for (place, byte) in text[1..65].as_chunks_mut::<2>().0.iter_mut().zip(hash) {
        *place = hex(*byte);
    }
    out.extend_from_slice(&text);
}

pub(super) fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Bytes that may need an escape: all others stand for themselves. 0xc2 and 0xe2 begin the few
/// characters above ASCII that some readers take for the end of a line.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte < 0x20 || matches!(byte as u8, b'"' | b'\\' | 0xc2 | 0xe2);
        byte += 1;
    }
    table
};

/// Whether every byte is a character that stands for itself: the compiler makes vector instructions of it.
fn is_plain(text: &[u8]) -> bool {
    text.iter()
        .fold(true, |plain, byte| plain & matches!(byte, 0x20..0x80) & (*byte != b'"') & (*byte != b'\\'))
}

fn characters(out: &mut Vec<u8>, text: &[u8], limit: usize) -> usize {
    // Nearly every text is.
    if text.len() <= limit && is_plain(text) {
        out.extend_from_slice(text);
        return text.len();
    }
    let end = out.len() + limit;
    let mut taken = 0;
    // No byte takes less than one byte of room, so the rest of a long text is not looked at.
    let text = &text[..text.len().min(limit + 4)];
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        while !rest.is_empty() {
            let plain = rest.bytes().position(|it| SPECIAL[usize::from(it)]).unwrap_or(rest.len());
            let fits = rest.floor_char_boundary(plain.min(end - out.len()));
            out.extend_from_slice(&rest.as_bytes()[..fits]);
            taken += fits;
            if fits < plain {
                return taken;
            }
            rest = &rest[plain..];
            let Some(character) = rest.chars().next() else {
                break;
            };
            let len = character.len_utf8();
            let mut buffer = [0; 6];
            let escape = escape(character, &mut buffer);
            if escape.len() > end - out.len() {
                return taken;
            }
            out.extend_from_slice(escape);
            taken += len;
            rest = &rest[len..];
        }
        for byte in chunk.invalid() {
            let [high, low] = hex(*byte);
            if end - out.len() < 5 {
                return taken;
            }
            out.extend_from_slice(&[b'\\', b'\\', b'x', high, low]);
            taken += 1;
        }
    }
    taken
}

/// How a character is written.
fn escape(character: char, buffer: &mut [u8; 6]) -> &[u8] {
    match character {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        '\x08' => b"\\b",
        '\x0c' => b"\\f",
        '\0' => b"\\\\x00",
        '\x01'..='\x1f' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
            let code = character as u32;
            let ([a, b], [c, d]) = (hex((code >> 8) as u8), hex(code as u8));
            *buffer = [b'\\', b'u', a, b, c, d];
            buffer
        }
        other => {
            let len = other.len_utf8();
            other.encode_utf8(buffer);
            &buffer[..len]
        }
    }
}
