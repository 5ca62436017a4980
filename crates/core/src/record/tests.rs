#![allow(clippy::unwrap_used)]
use super::*;

fn line(record: &Record, limits: &Limits) -> String {
    let mut out = Vec::new();
    encode(record, limits, &mut out);
    String::from_utf8(out).unwrap()
}

fn record(body: Body) -> Record {
    Record { seq: 7, prev: [0xab; 32], time: Time::from_micros(1_795_529_864_123_456), body }
}

fn event<'a>() -> Event<'a> {
    Event::new(Class::Read, "SELECT")
}

fn of_event(event: Event) -> Record {
    record(Body::Event(Box::new(event)))
}

#[track_caller]
fn reads_back(text: &str, record: &Record<'_>) {
    assert_eq!(parse(text.as_bytes()).as_ref(), Ok(record));
}

/// Pinned: trails that exist depend on it.
#[test]
fn the_line_of_an_event() {
    let objects = ["shop.payments".into(), "shop.payments.card".into()];
    let event = Event {
        session_user: Some("ann".into()),
        current_user: Some("shop_owner".into()),
        app_user: Some("k.e@example.org".into()),
        os_user: Some("ann@EXAMPLE.ORG".into()),
        class: Class::Reveal,
        event: "SELECT".into(),
        statement: Some("SELECT pci.reveal(card)\n FROM \"shop\".payments\twhere 'é€😀' = '\\'".into()),
        statement_bytes: None,
        rows: Some(1),
        revealed: Some(1),
        purpose: Some("refund".into()),
        xid: Some(18_446_744_073_709_551_615),
        success: Some(false),
        sqlstate: Sqlstate::new(b"42501"),
        message: Some("no".into()),
        client_addr: Some("10.0.0.7".into()),
        client_port: Some(65535),
        application_name: Some("psql".into()),
        pid: Some(4711),
        session_id: Some("6925.1267".into()),
        database: Some("shop".into()),
        objects: Objects::Borrowed(&objects),
        objects_total: None,
    };
    let expected = r#"{"v":1,"seq":7,"prev":"abababababababababababababababababababababababababababababababab","time":"2026-11-24T14:17:44.123456Z","kind":"event","session_user":"ann","current_user":"shop_owner","app_user":"k.e@example.org","os_user":"ann@EXAMPLE.ORG","class":"REVEAL","event":"SELECT","statement":"SELECT pci.reveal(card)\n FROM \"shop\".payments\twhere 'é€😀' = '\\'","rows":1,"revealed":1,"purpose":"refund","xid":18446744073709551615,"success":false,"sqlstate":"42501","message":"no","client_addr":"10.0.0.7","client_port":65535,"application_name":"psql","pid":4711,"session_id":"6925.1267","database":"shop","objects":["shop.payments","shop.payments.card"]}"#;
    let record = of_event(event);
    let text = line(&record, &Limits::default());
    assert_eq!(text, expected);
    reads_back(&text, &record);
}

/// Pinned, too.
#[test]
fn the_lines_of_the_trail_itself() {
    let tree = Tree::from_parts(6, vec![[1; 32], [2; 32]]).unwrap();
    let (one, two) = ("01".repeat(32), "02".repeat(32));
    let segment = Segment { segment: 3, origin: "node/1".into(), boot: 2, tree, predecessor: None };
    let head =
        format!(r#""segment","segment":3,"origin":"node/1","boot":2,"size":6,"tree":["{one}","{two}"]"#);
    let first = Segment { tree: Tree::default(), predecessor: Some("a\n".into()), ..segment.clone() };
    let crash = Crash { boot: 2, segment: 3, torn: 5, torn_sha256: Some([1; 32]) };
    for (body, fields) in [
        (Body::Segment(segment), head),
        (
            Body::Segment(first),
            r#""segment","segment":3,"origin":"node/1","boot":2,"size":0,"tree":[],"predecessor":"a\n""#
                .to_string(),
        ),
        (
            Body::Start { server_version: "18.6".into(), pgpci_version: "0.1.0".into() },
            r#""start","server_version":"18.6","pgpci_version":"0.1.0""#.to_string(),
        ),
        (Body::Stop, r#""stop""#.to_string()),
        (
            Body::Crash(crash.clone()),
            format!(r#""crash","boot":2,"segment":3,"torn":5,"torn_sha256":"{one}""#),
        ),
        (
            Body::Crash(Crash { torn: 0, torn_sha256: None, ..crash }),
            r#""crash","boot":2,"segment":3,"torn":0"#.to_string(),
        ),
        (Body::Torn { pid: 4711 }, r#""torn","pid":4711"#.to_string()),
        (
            Body::Gap { lost: 9, message: "ring full".into() },
            r#""gap","lost":9,"message":"ring full""#.to_string(),
        ),
        (Body::Clock { back: 3_600_000_000 }, r#""clock","back":3600000000"#.to_string()),
        (Body::Key { note: "a\nkey\n".into() }, r#""key","note":"a\nkey\n""#.to_string()),
        (Body::Checkpoint { note: "a\n1\n".into() }, r#""checkpoint","note":"a\n1\n""#.to_string()),
    ] {
        let record = record(body);
        let text = line(&record, &Limits::default());
        let prev = "ab".repeat(32);
        let expected = format!(
            r#"{{"v":1,"seq":7,"prev":"{prev}","time":"2026-11-24T14:17:44.123456Z","kind":{fields}}}"#
        );
        assert_eq!(text, expected);
        reads_back(&text, &record);
    }
}

#[test]
fn what_is_cut_says_so() {
    let statement = "é".repeat(100);
    let long = "x".repeat(2000);
    let objects = vec![Text::from("o"); 9000];
    let event = Event {
        statement: Some(statement.as_str().into()),
        message: Some(long.as_str().into()),
        objects: Objects::Borrowed(&objects),
        ..event()
    };
    let text = line(&of_event(event.clone()), &Limits::new(51));
    let Ok(Record { body: Body::Event(cut), .. }) = parse(text.as_bytes()) else {
        panic!("{text}");
    };
    assert_eq!(cut.statement, Some("é".repeat(25).into()));
    assert_eq!(cut.statement_bytes, Some(200));
    assert_eq!(cut.message, Some(format!("{}…", "x".repeat(1021)).into()));
    assert!(cut.objects.len() > 1000 && cut.objects.len() < 9000);
    assert_eq!(cut.objects_total, Some(9000));
    // What was cut before it came here keeps its length.
    let before = Event { statement_bytes: Some(5000), objects_total: Some(10_000), ..event };
    let text = line(&of_event(before), &Limits::default());
    assert!(text.contains(r#","statement_bytes":5000,"#) && text.contains(r#","objects_total":10000"#));
}

#[test]
fn no_line_is_too_long() {
    let worst = vec![1u8; 100_000];
    let text = || Some(Text::from(&worst[..]));
    let objects = vec![text().unwrap(); 100];
    let event = Event {
        session_user: text(),
        current_user: text(),
        app_user: text(),
        os_user: text(),
        statement: text(),
        purpose: text(),
        message: text(),
        client_addr: text(),
        application_name: text(),
        session_id: text(),
        database: text(),
        objects: Objects::Borrowed(&objects),
        ..Event::new(Class::Read, &worst[..])
    };
    let text = line(&of_event(event), &Limits::new(usize::MAX));
    assert!(text.len() <= MAX_LINE, "{}", text.len());
    assert!(parse(text.as_bytes()).is_ok());
}

#[test]
fn characters_that_need_care() {
    for (bytes, written) in [
        (&b"a\"b\\c/d"[..], r#"a\"b\\c/d"#),
        (b"\x08\x0c\n\r\t", r"\b\f\n\r\t"),
        (b"\x01\x1f\x7f", "\\u0001\\u001f\x7f"),
        (b"a\0b", r"a\\x00b"),
        (b"\xe9t\xe9", r"\\xe9t\\xe9"),
        (b"\xe2\x82", r"\\xe2\\x82"),
        ("\u{85}\u{2028}\u{2029}\u{a0}€".as_bytes(), "\\u0085\\u2028\\u2029\u{a0}€"),
    ] {
        let text = line(&of_event(Event { statement: Some(bytes.into()), ..event() }), &Limits::default());
        assert!(text.contains(&format!(r#""statement":"{written}""#)), "{text}");
        assert!(parse(text.as_bytes()).is_ok());
    }
}

#[test]
fn nothing_else_is_a_record() {
    let good = line(&of_event(Event { rows: Some(1), ..event() }), &Limits::default());
    assert!(parse(good.as_bytes()).is_ok());
    for (from, to, error) in [
        ("{", " {", ParseError::NotCanonical),
        ("\"rows\":1", "\"rows\": 1", ParseError::NotCanonical),
        ("\"rows\":1", "\"rows\":null", ParseError::NotCanonical),
        ("SELECT", "SELEC\\u0054", ParseError::NotCanonical),
        ("abab", "ABAB", ParseError::NotCanonical),
        (
            "\"class\":\"READ\",\"event\":\"SELECT\"",
            "\"event\":\"SELECT\",\"class\":\"READ\"",
            ParseError::NotCanonical,
        ),
        ("\"rows\":1", "\"rows\":1,\"rows\":1", ParseError::Syntax),
        ("\"rows\":1", "\"rows\":-1", ParseError::Syntax),
        ("\"rows\":1", "\"columns\":1", ParseError::Syntax),
        ("abab", "ab", ParseError::Syntax),
        ("2026", "2o26", ParseError::Syntax),
        ("}", "", ParseError::Syntax),
        ("}", "}}", ParseError::Syntax),
        ("\"v\":1", "\"v\":2", ParseError::Version),
        ("\"v\":1,\"seq\"", "\"v\":2,\"number\"", ParseError::Version),
        ("\"seq\":7", "\"seq\":0", ParseError::Fields),
        ("\"seq\":7", "\"seq\":9223372036854775808", ParseError::Fields),
        ("READ", "READS", ParseError::Fields),
        ("\"event\",", "\"events\",", ParseError::Fields),
        ("\"rows\":1", "\"rows\":1,\"lost\":1", ParseError::Fields),
        ("\"rows\":1", "\"sqlstate\":\"42\"", ParseError::Fields),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_eq!(parse(bad.as_bytes()), Err(error), "{bad}");
    }
    assert_eq!(parse(b""), Err(ParseError::Syntax));
    assert_eq!(parse(b"\xff"), Err(ParseError::Syntax));
    assert_eq!(parse(&[b' '; MAX_LINE + 1]), Err(ParseError::TooLong));
}

#[test]
fn classes_round_trip() {
    for it in Class::ALL {
        assert_eq!(Class::parse(it.as_str()), Some(it));
    }
    assert_eq!(Class::parse("read"), None);
    assert_eq!(Sqlstate::new(b"42p01"), None);
}
