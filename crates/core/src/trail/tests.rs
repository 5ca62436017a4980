#![allow(clippy::unwrap_used)]
use super::*;
use crate::chain::{Checkpoint, Note, NoteError, Signer, VerifyingKey};
use crate::record::{Body, Class, Event, Limits, ParseError, Time, parse};
use crate::secret::Secret;
use sha2::{Digest, Sha256};

const NODE: Node = Node([7; 16]);
const SECOND: i64 = 1_000_000;

fn signer() -> Signer {
    Signer::new(&NODE.origin(), &Secret::new([1; 32])).unwrap()
}

fn keys() -> [VerifyingKey; 1] {
    [signer().verifying_key()]
}

fn time(seconds: i64) -> Time {
    Time::from_micros(1_795_529_864_000_000 + seconds * SECOND)
}

fn policy() -> Policy {
    Policy { segment_bytes: 2000, checkpoint_records: 3, ..Policy::default() }
}

fn start(state: State, now: Time, out: &mut Vec<u8>) -> Writer {
    let start = Start { server_version: "18.6", pgpci_version: "0.1.0", predecessor: None };
    Writer::start(NODE, signer(), (Limits::default(), policy()), state, &start, now, out).unwrap()
}

fn event<'a>() -> Body<'a> {
    Body::Event(Box::new(Event { statement: Some("SELECT 1".into()), ..Event::new(Class::Read, "SELECT") }))
}

/// Events as a worker would write them; returns the finished segments.
fn write(writer: &mut Writer, current: &mut Vec<u8>, from: i64, count: i64) -> Vec<Vec<u8>> {
    let mut finished = Vec::new();
    for i in from..from + count {
        writer.append(time(i), event(), current);
        match writer.due(time(i)) {
            Due::Nothing => {}
            Due::Checkpoint => drop(writer.checkpoint(time(i), current)),
            Due::Rotate => {
                let mut next = Vec::new();
                writer.rotate(time(i), current, &mut next);
                finished.push(std::mem::replace(current, next));
            }
        }
    }
    finished
}

fn checkpoint(note: &str) -> Checkpoint {
    Checkpoint::parse(Note::parse(note.as_bytes()).unwrap().verify(&keys()).unwrap()).unwrap()
}

fn verify(segments: &[Vec<u8>], anchors: Vec<Checkpoint>) -> Report {
    let mut verifier = Verifier::new(NODE, &keys(), anchors, 0);
    for (i, bytes) in segments.iter().enumerate() {
        assert!(verifier.segment(i as u64 + 1));
        let mut rest = &bytes[..];
        let mut tail = None;
        while !rest.is_empty() {
            let end = rest.iter().position(|it| *it == b'\n');
            match end.map_or(Err(Fault::Torn), |end| verifier.line(&rest[..end])) {
                Ok(()) => rest = &rest[end.unwrap() + 1..],
                Err(fault) => {
                    tail =
                        Some(Tail { fault, bytes: rest.len() as u64, sha256: Sha256::digest(rest).into() });
                    break;
                }
            }
        }
        verifier.end(tail);
    }
    verifier.finish()
}

fn kinds(segment: &[u8]) -> Vec<&'static str> {
    segment
        .split_inclusive(|it| *it == b'\n')
        .map(|it| parse(&it[..it.len() - 1]).unwrap().body.kind())
        .collect()
}

#[test]
fn a_boot_from_start_to_stop() {
    let mut current = Vec::new();
    let mut writer = start(State::default(), time(0), &mut current);
    let mut segments = write(&mut writer, &mut current, 0, 10);
    let note = writer.stop(time(11), &mut current).unwrap();
    segments.push(current);
    assert!(segments.len() > 1);
    assert_eq!(kinds(&segments[0])[..5], ["segment", "start", "event", "checkpoint", "event"]);
    for segment in &segments {
        let kinds = kinds(segment);
        assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("segment", "checkpoint"));
    }
    assert_eq!(kinds(segments.last().unwrap()).iter().rev().nth(1), Some(&"stop"));

    let report = verify(&segments, vec![]);
    assert_eq!((report.verdict(), report.first_seq, report.unsealed), (Verdict::Unanchored, 1, 0));
    let report = verify(&segments, vec![checkpoint(&note)]);
    assert_eq!((report.verdict(), report.sealed), (Verdict::Ok, report.last_seq - 1));
    assert_eq!(report.anchors[0].state, AnchorState::Holds(time(11)));
}

#[test]
fn what_is_due() {
    let mut out = Vec::new();
    let mut writer = start(State::default(), time(0), &mut out);
    assert_eq!(writer.due(time(59)), Due::Nothing);
    assert_eq!(writer.due(time(60)), Due::Checkpoint);
    assert_eq!(writer.due(time(86_400)), Due::Rotate);
    writer.append(time(1), event(), &mut out);
    assert_eq!(writer.due(time(1)), Due::Checkpoint);
    writer.checkpoint(time(1), &mut out);
    assert_eq!(writer.due(time(1)), Due::Nothing);
    // A clock that was set back is recorded soon, and a minute is a minute again.
    assert_eq!(writer.due(time(0)), Due::Nothing);
    assert_eq!(writer.due(time(-3600)), Due::Checkpoint);
    writer.checkpoint(time(-3600), &mut out);
    assert_eq!(writer.due(time(-3541)), Due::Nothing);
    assert_eq!(writer.due(time(-3540)), Due::Checkpoint);
    while out.len() < 2000 {
        writer.append(time(-3540), event(), &mut out);
    }
    assert_eq!(writer.due(time(-3540)), Due::Rotate);
    let other = Signer::new("other", &Secret::new([1; 32])).unwrap();
    let start = Start { server_version: "", pgpci_version: "", predecessor: None };
    assert!(
        Writer::start(NODE, other, <_>::default(), State::default(), &start, time(0), &mut out).is_none()
    );
}

#[test]
fn the_clock_may_step_back() {
    let mut out = Vec::new();
    let mut writer = start(State::default(), time(100), &mut out);
    writer.append(time(99), event(), &mut out);
    writer.append(time(40), event(), &mut out);
    writer.checkpoint(time(20), &mut out);
    let mut next = Vec::new();
    writer.rotate(time(10), &mut out, &mut next);
    assert_eq!(
        kinds(&out),
        ["segment", "start", "event", "clock", "event", "clock", "checkpoint", "clock", "checkpoint"]
    );
    let times: Vec<_> = out.split(|it| *it == b'\n').take(9).map(|it| parse(it).unwrap().time).collect();
    assert_eq!(times, [100, 100, 100, 40, 40, 20, 20, 10, 10].map(time));
    writer.stop(time(5), &mut next);
    assert_eq!(kinds(&next), ["segment", "clock", "stop", "checkpoint"]);
    let report = verify(&[out, next], vec![]);
    assert_eq!((report.verdict(), report.unsealed), (Verdict::Unanchored, 0));
}

/// Three boots: one that stops, one that crashes at any byte (some of them, and all at the ends of
/// lines), one after it.
#[test]
fn goes_on_after_a_crash_at_any_byte() {
    let mut first = Vec::new();
    start(State::default(), time(0), &mut first).stop(time(1), &mut first);
    let recovered = recover(NODE, &keys(), vec![], 1, &first).unwrap();
    assert_eq!((recovered.state.crash.as_ref(), recovered.valid), (None, first.len()));

    let mut second = Vec::new();
    let mut writer = start(recovered.state.clone(), time(2), &mut second);
    write(&mut writer, &mut second, 2, 3);
    let at_line_end =
        |cut: usize| second[cut.saturating_sub(2)..cut].contains(&b'\n') || second[cut] == b'\n';
    for cut in (0..second.len()).filter(|cut| cut % 97 == 0 || at_line_end(*cut)) {
        let torn = &second[..cut];
        let recovered = match recover(NODE, &keys(), vec![], 2, torn) {
            Ok(recovered) => recovered,
            Err(error) => {
                assert_eq!(error, RecoveryError::Empty);
                assert!(!torn.contains(&b'\n'));
                continue;
            }
        };
        assert_eq!(recovered.valid, torn.iter().rposition(|it| *it == b'\n').unwrap() + 1);
        let crash = recovered.state.crash.clone().unwrap();
        assert_eq!((crash.boot, crash.segment, crash.torn), (2, 2, (cut - recovered.valid) as u64));
        let mut third = Vec::new();
        let note = start(recovered.state, time(0), &mut third).stop(time(0), &mut third).unwrap();
        assert_eq!(kinds(&third), ["segment", "crash", "start", "stop", "checkpoint"]);
        let segments = [first.clone(), torn.to_vec(), third];
        assert_eq!(verify(&segments, vec![checkpoint(&note)]).verdict(), Verdict::Ok, "{cut}");
        // A crash accounts for the bytes it left, not for others.
        let mut more = segments.clone();
        more[1].push(b'x');
        let report = verify(&more, vec![checkpoint(&note)]);
        assert_eq!(report.verdict(), Verdict::Tampered, "{cut}");
        assert_eq!((report.broken[0].segment, report.broken[0].fault), (2, Fault::Foreign));
    }
}

#[test]
fn garbage_at_the_end_is_torn_and_what_was_sealed_is_not() {
    let mut out = Vec::new();
    let mut writer = start(State::default(), time(0), &mut out);
    writer.append(time(1), event(), &mut out);
    let unsealed = out.clone();
    let note = writer.checkpoint(time(2), &mut out).unwrap();
    let recover = |bytes: &[u8], kept: Vec<Checkpoint>| recover(NODE, &keys(), kept, 1, bytes);

    let zeros = [&out[..], &[0; 4096], b"\n"].concat();
    let recovered = recover(&zeros, vec![]).unwrap();
    assert_eq!((recovered.valid, recovered.state.crash.unwrap().torn), (out.len(), 4097));
    assert_eq!(recovered.sealed, 3);

    // A line before the checkpoint is damaged.
    let mut damaged = out.clone();
    let place = out.iter().position(|it| *it == b'\n').unwrap() + 10;
    damaged[place] = 0;
    assert_eq!(recover(&damaged, vec![]), Err(RecoveryError::Sealed));
    // One is changed so that it is still a record.
    let changed = String::from_utf8(out.clone()).unwrap().replace("SELECT 1", "SELECT 2").into_bytes();
    assert_eq!(recover(&changed, vec![]), Err(RecoveryError::Changed(Fault::Prev)));
    // The file was cut before a checkpoint that others have, or is another branch.
    assert_eq!(
        recover(&unsealed[..unsealed.len() / 2], vec![checkpoint(&note)]),
        Err(RecoveryError::PutBack)
    );
    let other = Checkpoint { root: [0; 32], ..checkpoint(&note) };
    assert_eq!(recover(&out, vec![other]), Err(RecoveryError::PutBack));
    assert!(recover(&unsealed, vec![checkpoint(&note)]).is_ok());

    assert_eq!(recover(b"", vec![]), Err(RecoveryError::Empty));
    assert_eq!(recover(b"x\n", vec![]), Err(RecoveryError::Changed(Fault::Head)));
    let elsewhere = super::recover(NODE, &keys(), vec![], 2, &out);
    assert_eq!(elsewhere, Err(RecoveryError::Changed(Fault::Name)));
}

#[test]
fn versions_to_come_are_not_called_tampered() {
    let mut out = Vec::new();
    start(State::default(), time(0), &mut out).stop(time(1), &mut out);
    let later = String::from_utf8(out).unwrap().replace("{\"v\":1", "{\"v\":2").into_bytes();
    let report = verify(&[later], vec![]);
    assert_eq!(report.verdict(), Verdict::Incomplete);
    assert_eq!(report.broken[0].fault, Fault::Line(ParseError::Version));
}

#[test]
fn names() {
    let name = NODE.file_name(12);
    assert_eq!(name, "07070707070707070707070707070707-0000000012.jsonl");
    assert_eq!(Node::parse_file_name(&name), Some((NODE, 12)));
    assert_eq!(Node::parse_file_name(&format!("{name}.gz")), Some((NODE, 12)));
    assert_eq!(Node::parse_file_name(&NODE.file_name(u64::MAX)), Some((NODE, u64::MAX)));
    assert_eq!(Node::from_origin(&NODE.origin()), Some(NODE));
    for bad in [
        "",
        "x",
        &name[1..],
        &name.replace("-0", "-"),
        &name.replace("-0", "-00"),
        &name.replace("-0", "-+"),
        &name.replace("07-", "0A-"),
        &format!("{name}.zst"),
        "é7070707070707070707070707070707-0000000012.jsonl",
    ] {
        assert_eq!(Node::parse_file_name(bad), None, "{bad}");
    }
}

#[test]
fn without_its_key_checkpoints_wait() {
    let mut out = Vec::new();
    let first = Start { server_version: "18.6", pgpci_version: "0.1.0", predecessor: None };
    let settings = (Limits::default(), policy());
    let mut writer =
        Writer::start(NODE, None, settings, State::default(), &first, time(0), &mut out).unwrap();
    for _ in 0..4 {
        writer.append(time(1), event(), &mut out);
    }
    assert_eq!(writer.due(time(3600)), Due::Nothing);
    assert_eq!(writer.checkpoint(time(2), &mut out), None);
    assert!(!writer.set_signer(Signer::new("other", &Secret::new([1; 32])).unwrap()));
    assert!(writer.set_signer(signer()));
    assert_eq!(writer.due(time(2)), Due::Checkpoint);
    let note = writer.checkpoint(time(2), &mut out).unwrap();
    assert_eq!(verify(&[out], vec![checkpoint(&note)]).verdict(), Verdict::Ok);

    // A boot that stops in order before the key came is none that crashed.
    let mut out = Vec::new();
    let writer = Writer::start(NODE, None, settings, State::default(), &first, time(0), &mut out).unwrap();
    assert_eq!(writer.stop(time(1), &mut out), None);
    assert_eq!(recover(NODE, &keys(), vec![], 1, &out).unwrap().state.crash, None);
}

fn next_signer(seed: u8) -> Signer {
    Signer::new(&NODE.origin(), &Secret::new([seed; 32])).unwrap()
}

/// A trail whose key was changed twice.
fn rotated(out: &mut Vec<u8>) -> Writer {
    let mut writer = start(State::default(), time(0), out);
    assert!(writer.vouch(&next_signer(2).verifying_key(), time(1), out));
    // Until the next key signs, the one before may: the server may crash in between.
    writer.checkpoint(time(2), out).unwrap();
    writer.set_signer(next_signer(2));
    writer.checkpoint(time(3), out).unwrap();
    assert!(writer.vouch(&next_signer(3).verifying_key(), time(4), out));
    writer.set_signer(next_signer(3));
    writer.checkpoint(time(5), out).unwrap();
    writer
}

#[test]
fn a_key_vouches_for_the_next_one() {
    let mut out = Vec::new();
    let mut writer = rotated(&mut out);
    let other = Signer::new("other", &Secret::new([9; 32])).unwrap().verifying_key();
    assert!(!writer.vouch(&other, time(7), &mut Vec::new()), "another node's");
    let report = verify(&[out], vec![]);
    assert_eq!((report.verdict(), report.unsealed), (Verdict::Unanchored, 0), "{:?}", report.broken);
    // One that was replaced signs nothing any more, nor does one that nobody vouched for.
    for seed in [1, 2, 4] {
        let mut out = Vec::new();
        let mut writer = rotated(&mut out);
        writer.set_signer(next_signer(seed));
        writer.checkpoint(time(6), &mut out).unwrap();
        let fault = verify(&[out], vec![]).broken.first().map(|it| it.fault);
        assert_eq!(fault, Some(Fault::Note(NoteError::UnknownSigner)), "{seed}");
    }
    // A key that vouches for itself is none.
    let mut out = Vec::new();
    let mut writer = start(State::default(), time(0), &mut out);
    writer.set_signer(next_signer(4));
    assert!(writer.vouch(&next_signer(4).verifying_key(), time(1), &mut out));
    let fault = verify(&[out], vec![]).broken.first().map(|it| it.fault);
    assert_eq!(fault, Some(Fault::Note(NoteError::UnknownSigner)));
}
