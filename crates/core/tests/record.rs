//! Properties of audit records that hold for every input.
#![allow(clippy::unwrap_used)]

use pgpci_core::record::{Body, Class, Event, Limits, MAX_LINE, Objects, Record, Text, Time, encode, parse};
use proptest::prelude::*;

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "\\PC{0,40}".prop_map(String::into_bytes),
        "[\\x00-\\x7f]{0,60}".prop_map(String::into_bytes),
        "[\"\\\\\u{85}\u{2028}é€😀\n]{0,60}".prop_map(String::into_bytes),
    ]
}

fn line(record: &Record, limits: &Limits) -> Vec<u8> {
    let mut out = Vec::new();
    encode(record, limits, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_one_canonical_line(
        texts in prop::collection::vec(prop::option::of(any_bytes()), 10),
        objects in prop::collection::vec(any_bytes(), 0..5),
        (rows, xid, success) in any::<(Option<u64>, Option<u64>, Option<bool>)>(),
        (class, micros) in (prop::sample::select(&Class::ALL[..]), any::<i64>()),
        limit in prop_oneof![Just(8192), 0usize..60],
    ) {
        let text = |i: usize| texts[i].as_deref().map(Text::from);
        let objects: Vec<_> = objects.iter().map(|it| Text::from(&it[..])).collect();
        let event = Event {
            session_user: text(0),
            current_user: text(1),
            app_user: text(2),
            os_user: text(3),
            statement: text(4),
            purpose: text(5),
            message: text(6),
            application_name: text(7),
            session_id: text(8),
            database: text(9),
            rows,
            xid,
            success,
            objects: Objects::Owned(objects),
            ..Event::new(class, "x")
        };
        let body = Body::Event(Box::new(event));
        let record = Record { seq: 1, prev: [3; 32], time: Time::from_micros(micros), body };
        let written = line(&record, &Limits::new(limit));
        prop_assert!(written.len() <= MAX_LINE && !written.contains(&b'\n'));
        // For readers that are not ours: any JSON parser, and jsonb, which has no NUL.
        let value: serde_json::Value = serde_json::from_slice(&written).unwrap();
        prop_assert_eq!(value["seq"].as_u64(), Some(1));
        prop_assert!(!String::from_utf8(written.clone()).unwrap().contains("\\u0000"));
        let statement = value["statement"].as_str().unwrap_or_default();
        let valid = texts[4].as_deref().and_then(|it| std::str::from_utf8(it).ok()).filter(|it| !it.contains('\0'));
        if let Some(whole) = valid {
            prop_assert!(whole.starts_with(statement));
            prop_assert_eq!(value["statement_bytes"].is_null(), statement == whole);
        }
        let again = parse(&written).unwrap();
        prop_assert_eq!(line(&again, &Limits::new(usize::MAX)), written);
    }

    #[test]
    fn parser_never_panics(bytes: Vec<u8>) {
        let _ = parse(&bytes);
    }

    #[test]
    fn a_changed_line_is_another_record_or_none(place: prop::sample::Index, byte: u8) {
        let event = Event { statement: Some("SELECT 1".into()), rows: Some(12), ..Event::new(Class::Read, "SELECT") };
        let body = Body::Event(Box::new(event));
        let record = Record { seq: 12, prev: [0x1a; 32], time: Time::from_micros(0), body };
        let mut written = line(&record, &Limits::default());
        let place = place.index(written.len());
        prop_assume!(written[place] != byte);
        written[place] = byte;
        prop_assert_ne!(parse(&written), Ok(record));
    }
}
