//! `pgpci verify` against every known attack on a log, with the exact verdict.

#[path = "verify/attacks.rs"]
mod attacks;
#[path = "verify/trail.rs"]
mod trail;

use std::fs;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;
use trail::{Trail, node, signer};

const OK: i32 = 0;
const USAGE: i32 = 2;
const TAMPERED: i32 = 3;
const TRUNCATED: i32 = 4;
const INCOMPLETE: i32 = 5;
const UNANCHORED: i32 = 6;

#[test]
fn an_intact_trail() {
    let trail = Trail::new();
    let (code, found) = trail.verify(&trail.last_anchor());
    assert_eq!((code, &found["verdict"]), (OK, &json!("ok")));
    let of_node = &found["nodes"][0];
    assert_eq!(of_node["first_seq"], 1);
    assert_eq!(of_node["last_seq"], trail.last_seq());
    assert_eq!(of_node["sealed"], trail.last_seq() - 1);
    assert_eq!(
        (&of_node["unsealed"], &of_node["missing"], &of_node["first_bad_seq"]),
        (&json!(0), &json!([]), &json!(null))
    );
    assert_eq!(of_node["anchors"], json!([{ "size": trail.last_seq() - 1, "state": "holds" }]));
    // The records are of 2026-11-24.
    assert!(of_node["anchor_age_seconds"].is_i64());
    assert_eq!(found["segments"].as_array().expect("segments").len(), 3);

    let (code, found) = trail.verify(&[]);
    assert_eq!((code, &found["verdict"]), (UNANCHORED, &json!("unanchored")));
    // Every checkpoint there ever was holds.
    assert_eq!(trail.verify(&trail.anchors()).0, OK);
}

#[test]
fn what_people_read() {
    let trail = Trail::new();
    let anchor = trail.write("anchor", trail.notes.last().expect("a checkpoint").as_bytes());
    let output = trail.command().arg("--anchor").arg(anchor).output().expect("pgpci verify");
    let text = String::from_utf8(output.stdout).expect("text");
    let last = trail.last_seq();
    for expected in [
        format!("{}  records 1 to ", node(1).file_name(1)),
        format!("\nnode {}: ok\n  records:  1 to {last}, the last at 2026-11-24T", node(1)),
        format!("\n  sealed:   up to {}; 0 behind the last checkpoint\n", last - 1),
        format!("\n  anchor:   {} records: holds, ", last - 1),
        format!("\n  only the node's own signature holds records {last} and later\n"),
        "\nOK: every record is there and unchanged".to_string(),
    ] {
        assert!(text.contains(&expected), "{expected}\n{text}");
    }
    assert!(output.stderr.is_empty());
}

#[test]
fn keys_and_anchors_from_files() {
    let trail = Trail::new();
    let keys = format!("# of the node\n\n{}\n", signer(1).verifying_key());
    let keys = trail.write("keys", keys.as_bytes());
    // A checkpoint line, as a log host would have it.
    let segment = trail.lines(3);
    let line = segment.last().expect("a checkpoint").clone() + "\n";
    let anchor = trail.write("anchors", line.as_bytes());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgpci"));
    command.arg("verify").arg(trail.directory()).arg("--key").arg(keys).arg("--anchor").arg(anchor);
    assert_eq!(command.output().expect("pgpci verify").status.code(), Some(OK));
    // All checkpoints, one behind the other, as a command appends them.
    let (code, found) = trail.verify(&trail.anchor(&trail.notes.concat()));
    let anchors = found["nodes"][0]["anchors"].as_array().expect("anchors");
    assert_eq!((code, anchors.len()), (OK, trail.notes.len()));
    assert!(anchors.iter().all(|it| it["state"] == "holds"), "{found:#}");
}

#[test]
fn compressed_segments() {
    let trail = Trail::new();
    let path = trail.path(2);
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(&fs::read(&path).expect("a segment")).expect("compressed");
    let gz = gz.finish().expect("compressed");
    let compressed = path.with_extension("jsonl.gz");
    fs::write(&compressed, &gz).expect("written");

    // The server is about to remove the plain one, and compresses another.
    fs::write(trail.path(3).with_extension("jsonl.gz.new"), b"").expect("written");
    assert_eq!(trail.verify(&trail.last_anchor()).0, OK);
    // But not if they differ.
    let plain = fs::read(&path).expect("a segment");
    for other in [&plain[..plain.len() - 1], &[&plain[..], b"\n"].concat()[..]] {
        fs::write(&path, other).expect("written");
        let (code, found) = trail.verify(&trail.last_anchor());
        let broken = found["nodes"][0]["broken"].as_array().expect("faults");
        assert_eq!(code, TAMPERED);
        assert!(broken.iter().any(|it| it["fault"] == "segment is there more than once"), "{found:#}");
    }
    fs::remove_file(&path).expect("removed");
    let (code, found) = trail.verify(&trail.last_anchor());
    assert_eq!((code, found["bytes"].as_u64()), (OK, Some(trail.bytes)));

    fs::write(&compressed, &gz[..gz.len() / 2]).expect("written");
    let (code, found) = trail.verify(&trail.last_anchor());
    assert_eq!(
        (code, &found["nodes"][0]["broken"][0]["fault"]),
        (TRUNCATED, &json!("file ends within a line"))
    );
    let mut damaged = gz.clone();
    damaged[gz.len() - 6] ^= 1; // the checksum
    fs::write(&compressed, damaged).expect("written");
    let (code, found) = trail.verify(&trail.last_anchor());
    assert_eq!(
        (code, &found["nodes"][0]["broken"][0]["fault"]),
        (TAMPERED, &json!("compressed file is damaged"))
    );
}

#[test]
fn archived_and_missing_segments() {
    let trail = Trail::new();
    let first_of = |segment| trail.record(segment, 0)["seq"].as_u64().expect("seq");
    let (second, third) = (first_of(2), first_of(3));
    fs::rename(trail.path(2), trail.directory().join("away")).expect("renamed");
    let (code, found) = trail.verify(&trail.last_anchor());
    assert_eq!((code, &found["nodes"][0]["missing"]), (INCOMPLETE, &json!([[second, third - 1]])));
    assert_eq!(found["nodes"][0]["anchors"][0]["state"], "holds");

    fs::rename(trail.path(1), trail.directory().join("away")).expect("renamed");
    let (code, found) = trail.verify(&trail.last_anchor());
    assert_eq!((code, &found["nodes"][0]["missing"]), (INCOMPLETE, &json!([[1, third - 1]])));
    let archived = |seq: u64| {
        let archived = ["--archived".to_string(), seq.to_string()];
        trail.verify(&[&trail.last_anchor()[..], &archived].concat())
    };
    assert_eq!(archived(third - 1).0, OK);
    let (code, found) = archived(third - 5);
    assert_eq!((code, &found["nodes"][0]["missing"]), (INCOMPLETE, &json!([[third - 4, third - 1]])));
}

#[test]
fn nothing_passes_unchecked() {
    let trail = Trail::new();
    let stranger = trail.directory().join("old.jsonl");
    fs::write(&stranger, b"").expect("written");
    let (code, found) = trail.verify(&trail.last_anchor());
    assert_eq!((code, &found["not_checked"]), (INCOMPLETE, &json!(["old.jsonl"])));
    fs::remove_file(stranger).expect("removed");

    // A node of which there is a key, but no trail.
    let key = ["--key".to_string(), signer(2).verifying_key().to_string()];
    let (code, found) = trail.verify(&[&trail.last_anchor()[..], &key].concat());
    assert_eq!((code, &found["nodes"][1]["verdict"]), (INCOMPLETE, &json!("incomplete")));

    let empty = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgpci"));
    command.arg("verify").arg(empty.path()).arg("--key").arg(signer(1).verifying_key().to_string());
    assert_eq!(command.output().expect("pgpci verify").status.code(), Some(INCOMPLETE));
}

#[test]
fn a_promoted_node_binds_its_predecessor() {
    let trail = Trail::new();
    let note = trail.notes.last().expect("a checkpoint");
    trail.successor(note);
    let key = ["--key".to_string(), signer(2).verifying_key().to_string()];
    let (code, found) = trail.verify(&key);
    let nodes: Vec<&Value> = found["nodes"].as_array().expect("nodes").iter().collect();
    assert_eq!(
        (nodes[0]["verdict"].as_str(), nodes[1]["verdict"].as_str()),
        (Some("ok"), Some("unanchored"))
    );
    assert_eq!((code, nodes[1]["predecessor"].as_str()), (UNANCHORED, Some(note.as_str())));
    // The old node's end is cut; its successor knows better.
    trail.edit(3, |lines| drop(lines.drain(2..)));
    let (code, found) = trail.verify(&key);
    assert_eq!((code, &found["nodes"][0]["anchors"][0]["state"]), (TRUNCATED, &json!("beyond")));
}

#[test]
fn a_changed_key() {
    let trail = Trail::new();
    let (note, old) = (trail.change_key(), trail.notes[0].clone());
    // Whoever trusts the first key needs no other, for anchors neither.
    let (code, found) = trail.verify(&trail.anchor(&note));
    assert_eq!((code, &found["nodes"][0]["anchors"][0]["state"]), (OK, &json!("holds")), "{found:#}");
    assert_eq!(trail.verify(&trail.anchor(&old)).0, OK);
    // The last line is a checkpoint: by the old key it counts no more.
    trail.edit(4, |lines| drop(lines.drain(3..)));
    trail.forge_checkpoint(4, &signer(1));
    let (code, found) = trail.verify(&trail.anchor(&old));
    assert_eq!(code, OK, "{found:#}");
    let trail = Trail::new();
    trail.change_key();
    trail.forge_checkpoint(4, &signer(1));
    let (code, found) = trail.verify(&[]);
    assert_eq!(
        (code, &found["nodes"][0]["broken"][0]["fault"]),
        (TAMPERED, &json!("checkpoint: note is not signed by the given key"))
    );
}

#[test]
fn wrong_usage() {
    let trail = Trail::new();
    let key = signer(1).verifying_key().to_string();
    let other_key = signer(2).verifying_key().to_string();
    let garbage = trail.write("garbage", b"x");
    let directory = trail.directory().display().to_string();
    let forged = trail.notes[0].replacen("\n2\n", "\n4\n", 1);
    let forged = trail.write("forged", forged.as_bytes());
    let line = trail.write("line", (trail.lines(1)[0].clone() + "\n").as_bytes());
    let theirs = trail.write("theirs", trail.notes[0].as_bytes());
    for (arguments, said) in [
        (vec![directory.as_str()], "--key"),
        (vec![&directory, "--key", "nowhere"], "neither a public key nor a file"),
        (vec![&directory, "--key", &garbage], "key is malformed"),
        (vec![&directory, "--key", "a+b3a96e1b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"], "key"),
        (vec!["nowhere", "--key", &key], "nowhere: No such file"),
        (vec![&directory, "--key", &key, "--anchor", "nowhere"], "nowhere: No such file"),
        (vec![&directory, "--key", &key, "--anchor", &garbage], "signed note is malformed"),
        (vec![&directory, "--key", &key, "--anchor", &forged], "signature is invalid"),
        (vec![&directory, "--key", &key, "--anchor", &line], "no checkpoint of a trail"),
        (vec![&directory, "--key", &other_key, "--anchor", &theirs], "not signed by the given key"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pgpci")).arg("verify").args(&arguments).output();
        let output = output.expect("pgpci verify");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(USAGE), "{arguments:?} {stderr}");
        assert!(stderr.contains(said), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}
