//! What an attacker who can write the files does.

use super::*;
use pgpci_core::record::{Body, Time};
use trail::signer_of;

/// Checks the verdict with and without an anchor, and the first bad record.
#[track_caller]
fn found(trail: &Trail, with_anchor: i32, without: i32, first_bad: Option<u64>) -> Value {
    assert_eq!(trail.verify(&[]).0, without, "without an anchor");
    let (code, found) = trail.verify(&trail.last_anchor());
    assert_eq!(code, with_anchor, "{found:#}");
    assert_eq!(found["nodes"][0]["first_bad_seq"].as_u64(), first_bad, "{found:#}");
    found
}

#[track_caller]
fn fault(found: &Value) -> &str {
    found["nodes"][0]["broken"][0]["fault"].as_str().expect("a fault")
}

/// Number of a record: the line of a segment, both counted from 0.
fn seq(trail: &Trail, segment: u64, line: usize) -> u64 {
    trail.record(segment, line)["seq"].as_u64().expect("seq")
}

#[test]
fn edit() {
    let trail = Trail::new();
    trail.edit(2, |lines| lines[3] = lines[3].replace("SELECT 15", "SELECT 16"));
    let found = found(&trail, TAMPERED, TAMPERED, Some(seq(&trail, 2, 3)));
    assert_eq!(fault(&found), "record does not match the hash that the next one has of it");
}

#[test]
fn edit_so_that_it_is_no_record() {
    let trail = Trail::new();
    trail.edit(2, |lines| lines[4] = lines[4].replace("\"kind\"", "\"Kind\""));
    let expected = seq(&trail, 2, 3) + 1;
    assert_eq!(fault(&found(&trail, TAMPERED, TAMPERED, Some(expected))), "line is no audit record");
}

#[test]
fn delete() {
    let trail = Trail::new();
    let deleted = seq(&trail, 2, 4);
    trail.edit(2, |lines| drop(lines.drain(4..6)));
    let found = found(&trail, TAMPERED, TAMPERED, Some(deleted));
    assert_eq!(found["nodes"][0]["missing"], json!([[deleted, deleted + 1]]));
}

#[test]
fn insert() {
    let trail = Trail::new();
    let place = seq(&trail, 2, 4);
    trail
        .edit(2, |lines| lines.insert(4, lines[3].replace(&format!(":{}", place - 1), &format!(":{place}"))));
    let found = found(&trail, TAMPERED, TAMPERED, Some(place - 1));
    assert_eq!(fault(&found), "record does not match the hash that the next one has of it");
}

#[test]
fn reorder() {
    let trail = Trail::new();
    let place = seq(&trail, 2, 4);
    trail.edit(2, |lines| lines.swap(4, 5));
    found(&trail, TAMPERED, TAMPERED, Some(place));
}

#[test]
fn cut_the_tail() {
    let trail = Trail::new();
    trail.edit(3, |lines| drop(lines.drain(5..)));
    let found = found(&trail, TRUNCATED, UNANCHORED, None);
    assert_eq!(found["nodes"][0]["anchors"][0]["state"], "beyond");
    // An anchor before the cut says nothing of it.
    assert_eq!(trail.verify(&trail.anchor(&trail.notes[0])).0, OK);
}

#[test]
fn cut_the_tail_within_a_line() {
    let trail = Trail::new();
    let (last, bytes) = (trail.last_seq(), fs::read(trail.path(3)).expect("a segment"));
    fs::write(trail.path(3), &bytes[..bytes.len() - 1]).expect("written");
    // The last line is a checkpoint of all before it, which are all there.
    assert_eq!(fault(&found(&trail, TRUNCATED, TRUNCATED, Some(last))), "file ends within a line");
    fs::write(trail.path(3), b"").expect("written");
    assert_eq!(trail.verify(&trail.last_anchor()).0, TRUNCATED);
    fs::remove_file(trail.path(3)).expect("removed");
    found(&trail, TRUNCATED, UNANCHORED, None);
}

#[test]
fn cut_the_tail_of_a_segment_in_the_middle() {
    let trail = Trail::new();
    let (cut, next) = (seq(&trail, 2, 5), seq(&trail, 3, 0));
    trail.edit(2, |lines| drop(lines.drain(5..)));
    let found = found(&trail, TRUNCATED, TRUNCATED, None);
    assert_eq!(found["nodes"][0]["missing"], json!([[cut, next - 1]]));
    assert_eq!(found["nodes"][0]["anchors"][0]["state"], "holds");
}

#[test]
fn add_to_a_finished_segment() {
    for (added, said) in
        [(&b"x"[..], "bytes that no crash accounts for"), (b"x\n", "line is no audit record")]
    {
        let trail = Trail::new();
        let bytes = fs::read(trail.path(2)).expect("a segment");
        fs::write(trail.path(2), [&bytes[..], added].concat()).expect("written");
        assert_eq!(fault(&found(&trail, TAMPERED, TAMPERED, Some(seq(&trail, 3, 0)))), said);
    }
}

#[test]
fn put_everything_back() {
    let (old, new) = (Trail::with_events(30), Trail::new());
    assert_eq!(old.verify(&old.last_anchor()).0, OK);
    assert_eq!(old.verify(&[]).0, UNANCHORED);
    assert_eq!(old.verify(&old.anchor(new.notes.last().expect("a checkpoint"))).0, TRUNCATED);
}

#[test]
fn fork() {
    let (one, other) = (Trail::new(), Trail::new());
    other.recompute(Some(&signer(1)), |record| {
        if record.seq == 20 {
            record.body = Body::Stop;
        }
    });
    // Both are signed by the node itself.
    assert_eq!(other.verify(&[]).0, UNANCHORED);
    let (code, found) = other.verify(&one.last_anchor());
    assert_eq!((code, &found["nodes"][0]["anchors"][0]["state"]), (TAMPERED, &json!("contradicts")));
    // Before the fork they are the same.
    assert_eq!(other.verify(&other.anchor(&one.notes[0])).0, OK);
}

#[test]
fn recompute_without_the_key() {
    let trail = Trail::new();
    trail.recompute(None, |record| {
        if record.seq == 20 {
            record.body = Body::Stop;
        }
    });
    let found = found(&trail, TAMPERED, TAMPERED, trail.sealed_before(20).map(|sealed| sealed + 1));
    assert_eq!(fault(&found), "checkpoint is one of other records");
}

#[test]
fn recompute_with_another_key() {
    let trail = Trail::new();
    trail.recompute(Some(&signer_of(1, 9)), |_| {});
    let first_checkpoint = 3;
    let found = found(&trail, TAMPERED, TAMPERED, Some(first_checkpoint));
    assert_eq!(fault(&found), "checkpoint: note is not signed by the given key");
}

#[test]
fn recompute_with_the_key_of_another_node() {
    let trail = Trail::new();
    trail.recompute(Some(&signer(2)), |_| {});
    let key = ["--key".to_string(), signer(2).verifying_key().to_string()];
    assert_eq!(trail.verify(&key).0, TAMPERED);
}

#[test]
fn swap_segments() {
    let trail = Trail::new();
    let away = trail.directory().join("away");
    for (from, to) in
        [(trail.path(1), &away), (trail.path(2), &trail.path(1)), (away.clone(), &trail.path(2))]
    {
        fs::rename(from, to).expect("renamed");
    }
    let found = found(&trail, TAMPERED, TAMPERED, Some(1));
    assert_eq!(fault(&found), "file has the name of another segment");
}

#[test]
fn duplicate_a_segment() {
    let trail = Trail::new();
    fs::copy(trail.path(3), trail.path(4)).expect("copied");
    let last = trail.last_seq();
    let found = found(&trail, TAMPERED, TAMPERED, Some(last + 1));
    assert_eq!(fault(&found), "file has the name of another segment");
}

#[test]
fn turn_the_clock_back() {
    let trail = Trail::new();
    trail.recompute(Some(&signer(1)), |record| {
        if record.seq == 20 {
            record.time = Time::from_micros(record.time.micros() - 3_600_000_000);
        }
    });
    let found = found(&trail, TAMPERED, TAMPERED, Some(20));
    assert_eq!(fault(&found), "time goes back");
}

#[test]
fn change_a_checkpoint() {
    for (from, to, said) in [
        ("\\n\\n\u{2014} ", "x\\n\\n\u{2014} ", "checkpoint: signature is invalid"),
        ("note\":\"pgpci/", "note\":\"pgpcj/", "checkpoint: signature is invalid"),
        ("\u{2014} ", "\u{2013} ", "checkpoint: signed note is malformed"),
    ] {
        let trail = Trail::new();
        trail.edit(1, |lines| lines[2] = lines[2].replacen(from, to, 1));
        assert_eq!(fault(&found(&trail, TAMPERED, TAMPERED, Some(3))), said);
    }
}

#[test]
fn move_a_checkpoint() {
    let trail = Trail::new();
    let note = trail.notes[0].clone();
    trail.recompute(None, |record| {
        if let Body::Checkpoint { note: it } = &mut record.body {
            *it = note.clone().into();
        }
    });
    // The first one is where it belongs.
    let found = found(&trail, TAMPERED, TAMPERED, Some(3));
    assert_eq!(fault(&found), "checkpoint is one of other records");
}

/// Nothing tells new records from forged ones until a checkpoint is due; but they are counted.
#[test]
fn append_without_the_key() {
    let trail = Trail::new();
    trail.forge_record();
    let found = found(&trail, OK, UNANCHORED, None);
    assert_eq!(found["nodes"][0]["unsealed"], 1);
    let output = trail.command().output().expect("pgpci verify");
    let said = format!("records {} and later are not signed yet", trail.last_seq());
    assert!(String::from_utf8_lossy(&output.stdout).contains(&said));
}
