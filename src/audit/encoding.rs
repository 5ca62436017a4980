//! Texts of databases in other encodings become UTF-8, in the worker, which has no database to ask.

use encoding_rs as known;
use pgpci_core::record::{Event, Objects, Text, Unpacked};

/// Converts the texts of an event. Those of encodings without a table here stay bytes, and are written as such.
pub fn to_utf8(unpacked: &mut Unpacked) {
    let Some(encoding) = unpacked.encoding else { return };
    let convert = |text: &mut Text| {
        if !text.as_bytes().is_ascii()
            && let Some(converted) = converted(encoding, text.as_bytes())
        {
            *text = Text::from(converted);
        }
    };
    let Event { session_user, current_user, app_user, os_user, event, statement, purpose, message, .. } =
        &mut unpacked.event;
    for text in [session_user, current_user, app_user, os_user, statement, purpose, message] {
        text.iter_mut().for_each(convert);
    }
    convert(event);
    let Event { application_name, database, objects, .. } = &mut unpacked.event;
    for text in [application_name, database] {
        text.iter_mut().for_each(convert);
    }
    if let Objects::Owned(objects) = objects {
        objects.iter_mut().for_each(convert);
    }
}

/// By PostgreSQL's number of the encoding (pg_wchar.h).
fn converted(encoding: u64, text: &[u8]) -> Option<String> {
    let table = match encoding {
        1 | 5 => known::EUC_JP,
        2 => known::GBK,
        3 => known::EUC_KR,
        // ISO 8859-1 is the beginning of Unicode.
        8 => return Some(text.iter().map(|byte| char::from(*byte)).collect()),
        9 => known::ISO_8859_2,
        10 => known::ISO_8859_3,
        11 => known::ISO_8859_4,
        12 => known::WINDOWS_1254,
        13 => known::ISO_8859_10,
        14 => known::ISO_8859_13,
        15 => known::ISO_8859_14,
        16 => known::ISO_8859_15,
        17 => known::ISO_8859_16,
        18 => known::WINDOWS_1256,
        19 => known::WINDOWS_1258,
        20 => known::IBM866,
        21 => known::WINDOWS_874,
        22 => known::KOI8_R,
        23 => known::WINDOWS_1251,
        24 => known::WINDOWS_1252,
        25 => known::ISO_8859_5,
        26 => known::ISO_8859_6,
        27 => known::ISO_8859_7,
        28 => known::ISO_8859_8,
        29 => known::WINDOWS_1250,
        30 => known::WINDOWS_1253,
        31 => known::WINDOWS_1254,
        32 => known::WINDOWS_1255,
        33 => known::WINDOWS_1257,
        34 => known::KOI8_U,
        _ => return None,
    };
    table.decode_without_bom_handling_and_without_replacement(text).map(|text| text.into_owned())
}
