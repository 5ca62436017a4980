#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn every_field_comes_back() {
    let mut buffer = [0; MAX_PACKED];
    let mut packer = Packer::new(&mut buffer, Class::Session, Time::from_micros(-7));
    let texts = [
        Field::SessionUser,
        Field::CurrentUser,
        Field::AppUser,
        Field::OsUser,
        Field::Event,
        Field::Purpose,
        Field::Message,
        Field::ClientAddr,
        Field::ApplicationName,
        Field::SessionId,
        Field::Database,
    ];
    for field in texts {
        packer.text(field, format!("{field:?}").as_bytes());
    }
    let numbers = [Field::Rows, Field::Revealed, Field::Xid, Field::Success, Field::ClientPort, Field::Pid];
    for field in numbers {
        packer.number(field, field as u64);
    }
    packer
        .text(Field::Sqlstate, b"42501")
        .statement(b"SELECT 1")
        .object(b"a.4111111111111111")
        .object(b"c.d");
    packer.number(Field::Encoding, 8);
    let unpacked = unpack(packer.finish()).unwrap();
    let event = unpacked.event;
    assert_eq!((unpacked.time, unpacked.encoding), (Time::from_micros(-7), Some(8)));
    for (text, field) in [
        (&event.session_user, Field::SessionUser),
        (&event.current_user, Field::CurrentUser),
        (&event.app_user, Field::AppUser),
        (&event.os_user, Field::OsUser),
        (&Some(event.event.clone()), Field::Event),
        (&event.purpose, Field::Purpose),
        (&event.message, Field::Message),
        (&event.client_addr, Field::ClientAddr),
        (&event.application_name, Field::ApplicationName),
        (&event.session_id, Field::SessionId),
        (&event.database, Field::Database),
    ] {
        assert_eq!(text.as_ref().unwrap().as_bytes(), format!("{field:?}").as_bytes());
    }
    assert_eq!(event.class, Class::Session);
    assert_eq!((event.rows, event.revealed), (Some(8), Some(9)));
    assert_eq!((event.xid, event.success), (Some(11), Some(true)));
    assert_eq!((event.client_port, event.pid), (Some(16), Some(18)));
    assert_eq!(event.sqlstate, Sqlstate::new(b"42501"));
    assert_eq!((event.statement, event.statement_bytes), (Some("SELECT 1".into()), None));
    assert_eq!(event.objects[..], ["a.411111******1111".into(), "c.d".into()]);
}

#[test]
fn a_statement_is_redacted_before_it_is_cut() {
    let mut statement = b"SELECT '4111111111111111'".to_vec();
    // The cut goes through the second number.
    statement.resize(STATEMENT - 8, b' ');
    statement.extend_from_slice(b"4111111111111111 more");
    let mut buffer = [0; MAX_PACKED];
    let mut packer = Packer::new(&mut buffer, Class::Read, Time::from_micros(0));
    packer.statement(&statement);
    let unpacked = unpack(packer.finish()).unwrap();
    let kept = unpacked.event.statement.clone().unwrap();
    let kept = Text::from(kept.to_str_lossy().into_owned());
    assert!(kept.as_bytes().starts_with(b"SELECT '411111******1111' "));
    assert!(kept.as_bytes().ends_with(b" 411111**"));
    assert_eq!(unpacked.event.statement_bytes, Some(statement.len() as u64));
    // Said to be clean, it is cut all the same, and then redacted.
    let mut packer = Packer::new(&mut buffer, Class::Read, Time::from_micros(0));
    packer.clean_statement(&statement);
    assert_eq!(unpack(packer.finish()).unwrap().event.statement.unwrap(), kept);
    let mut packer = Packer::new(&mut buffer, Class::Read, Time::from_micros(0));
    packer.clean_statement(b"SELECT 1");
    assert_eq!(unpack(packer.finish()).unwrap().event.statement, Some("SELECT 1".into()));
}

#[test]
fn whatever_does_not_fit_is_left_out() {
    for size in 0..200 {
        let mut buffer = vec![0; size];
        let mut packer = Packer::new(&mut buffer, Class::Read, Time::from_micros(1));
        packer.text(Field::Event, b"SELECT").statement(&[b'x'; 100]).number(Field::Rows, 3);
        packer.object(b"public.t").fields(&[Field::Pid as u8, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let packed = packer.finish();
        assert!(unpack(packed).is_some() || size < 9, "{size}");
    }
    let many: Vec<_> = (0..3000).map(|i| format!("public.table_{i:04}")).collect();
    let mut buffer = [0; MAX_PACKED];
    let mut packer = Packer::new(&mut buffer, Class::Read, Time::from_micros(1));
    for object in &many {
        packer.object(object.as_bytes());
    }
    let event = unpack(packer.finish()).unwrap().event;
    assert!(event.objects.len() > 400 && event.objects_total == Some(3000));
}

#[test]
fn what_was_not_packed() {
    for bytes in [&b""[..], b"12345678", b"12345678\xff", b"12345678\x00\x05", b"12345678\x00\x05\x09\x00x"] {
        let good = bytes.get(9..).is_some_and(<[u8]>::is_empty);
        assert_eq!(unpack(bytes).is_some(), good && bytes[8] < 15, "{bytes:?}");
    }
}
