#![allow(clippy::unwrap_used)]
use super::*;
use crate::key::{Context, KeyId, Purpose};
use crate::secret::Secret;

fn request(id: u64, wrapped: Vec<u8>) -> Request {
    let context = Context { installation: [7; 16], vault: 1, key_id: KeyId(id), purpose: Purpose::Data };
    let (provider, kek) = ("local".into(), String::new());
    let op = Op::Unwrap { provider, kek, context, wrapped };
    Request { id, op }
}

#[test]
fn frames_arrive_whole_however_they_are_cut() {
    let sent = [request(1, vec![1; 300]), request(2, vec![]), Request { id: 3, op: Op::Ping }];
    let mut stream = Vec::new();
    for message in &sent {
        encode(message, &mut stream).unwrap();
    }
    for size in [1, 3, 7, 100, stream.len()] {
        let mut decoder = Decoder::default();
        let mut received = Vec::new();
        for piece in stream.chunks(size) {
            decoder.push(piece);
            while let Some(message) = decoder.next::<Request>().unwrap() {
                received.push(message);
            }
        }
        assert_eq!(received, sent);
    }
}

#[test]
fn keys_come_through_and_are_not_printed() {
    let key = Secret::new([0xAB; 32]);
    let result = Ok(Outcome::Generated { key, wrapped: vec![1, 2] });
    let mut stream = Vec::new();
    encode(&Response { id: 9, result }, &mut stream).unwrap();

    let mut decoder = Decoder::default();
    decoder.push(&stream);
    let received = decoder.next::<Response>().unwrap().unwrap();
    assert!(!format!("{received:?}").contains("171"));
    match received.result {
        Ok(Outcome::Generated { key, wrapped }) => {
            assert_eq!((*key.expose(), wrapped), ([0xAB; 32], vec![1, 2]));
        }
        other => panic!("{other:?}"),
    }
}

/// Server and helper may be of two versions while an upgrade goes on: what there is keeps its number.
#[test]
fn numbers_of_operations_and_outcomes_are_pinned() {
    let Request { op: Op::Unwrap { provider, kek, context, wrapped }, .. } = request(1, vec![]) else {
        unreachable!()
    };
    let rewrap = Op::Rewrap {
        provider: provider.clone(),
        kek: kek.clone(),
        context: context.clone(),
        wrapped: wrapped.clone(),
        to_provider: "aws".into(),
        to_kek: "alias/cards".into(),
    };
    let generate = Op::Generate { provider: provider.clone(), kek: kek.clone(), context: context.clone() };
    let describe = Op::Describe { provider: provider.clone(), kek: kek.clone() };
    let unwrap = Op::Unwrap { provider, kek, context, wrapped };
    let operations = [Op::Ping, generate, unwrap, rewrap, describe];
    for (number, op) in operations.into_iter().enumerate() {
        let mut frame = Vec::new();
        encode(&Request { id: 0, op: op.clone() }, &mut frame).unwrap();
        assert_eq!(usize::from(frame[5]), number, "{op:?}");
        let mut decoder = Decoder::default();
        decoder.push(&frame);
        assert_eq!(decoder.next::<Request>(), Ok(Some(Request { id: 0, op })));
    }

    let key = || Secret::new([1; 32]);
    let described = Outcome::Described(Description {
        provider: "aws".into(),
        kek: "arn:aws:kms:eu-west-1:111122223333:key/x".into(),
        strength_bits: 256,
        is_compliant: true,
        is_enabled: false,
        note: "the key is disabled".into(),
    });
    let outcomes = [
        Outcome::Pong,
        Outcome::Generated { key: key(), wrapped: vec![] },
        Outcome::Unwrapped { key: key() },
        Outcome::Rewrapped { wrapped: vec![1] },
        described,
    ];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let printed = format!("{outcome:?}");
        let mut frame = Vec::new();
        encode(&Response { id: 0, result: Ok(outcome) }, &mut frame).unwrap();
        assert_eq!(usize::from(frame[6]), number, "{printed}");
        let mut decoder = Decoder::default();
        decoder.push(&frame);
        let received = decoder.next::<Response>().unwrap().unwrap().result.unwrap();
        assert_eq!(format!("{received:?}"), printed);
    }
}

#[test]
fn a_frame_too_long_is_refused_on_both_sides() {
    let mut out = vec![1, 2, 3];
    let refused = encode(&request(1, vec![0; MAX_PAYLOAD]), &mut out);
    assert_eq!((refused, &out[..]), (Err(Error::WireSize), &[1, 2, 3][..]));

    let mut decoder = Decoder::default();
    decoder.push(&(MAX_PAYLOAD as u32 + 1).to_le_bytes());
    assert!(matches!(decoder.next::<Request>(), Err(Error::WireSize)));
}

#[test]
fn a_frame_that_makes_no_sense_is_an_error() {
    let mut longer = Vec::new();
    encode(&Request { id: 1, op: Op::Ping }, &mut longer).unwrap();
    longer[0] += 1;
    longer.push(0);
    for wrong in [&[1, 0, 0, 0, 0xFF][..], &[0, 0, 0, 0], &longer] {
        let mut decoder = Decoder::default();
        decoder.push(wrong);
        assert!(matches!(decoder.next::<Request>(), Err(Error::WireSyntax)), "{wrong:?}");
    }
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let failure = Failure::new(FailureKind::Refused, "é".repeat(150) + "x");
    assert_eq!(failure.message, "é".repeat(100));
    let failure = Failure::new(FailureKind::Refused, "x".to_string() + &"é".repeat(150));
    assert_eq!(failure.message.len(), 199);
}
