//! Real trails in directories, and what an attacker can do to the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgpci_core::chain::{Checkpoint, Hash, Signer, Tree, leaf_hash};
use pgpci_core::record::{Body, Class, Event, Limits, Record, Segment, Time, encode, parse};
use pgpci_core::secret::Secret;
use pgpci_core::trail::{Node, Policy, Start, State, Writer, recover};
use serde_json::Value;
use tempfile::TempDir;

pub fn node(id: u8) -> Node {
    Node([id; 16])
}

pub fn signer(id: u8) -> Signer {
    signer_of(id, id)
}

/// A key with the name of a node, and of other secret bytes.
pub fn signer_of(node_id: u8, seed: u8) -> Signer {
    Signer::new(&node(node_id).origin(), &Secret::new([seed; 32])).expect("a node's name")
}

fn time(i: i64) -> Time {
    Time::from_micros(1_795_529_864_000_000 + i * 1_000_000)
}

fn event<'a>(i: i64) -> Body<'a> {
    let statement = format!("SELECT {i}");
    Body::Event(Box::new(Event { statement: Some(statement.into()), ..Event::new(Class::Read, "SELECT") }))
}

/// Three segments of a node: a checkpoint after every fifth record, stopped in order.
pub struct Trail {
    directory: TempDir,
    /// Anchors and keys, which are no part of the trail.
    elsewhere: TempDir,
    /// Its checkpoints.
    pub notes: Vec<String>,
    /// Of all segments.
    pub bytes: u64,
}

impl Trail {
    pub fn new() -> Trail {
        Trail::with_events(36)
    }

    /// The same trail, longer or shorter.
    pub fn with_events(events: i64) -> Trail {
        let mut trail = Trail {
            directory: tempfile::tempdir().expect("a directory"),
            elsewhere: tempfile::tempdir().expect("a directory"),
            notes: Vec::new(),
            bytes: 0,
        };
        let mut out = Vec::new();
        let mut writer = start(1, None, &mut out);
        trail.notes.extend(writer.checkpoint(time(0), &mut out));
        for i in 1..=events {
            writer.append(time(i), event(i), &mut out);
            if i % 12 == 0 && i < 36 {
                let (name, mut next) = (writer.file_name(), Vec::new());
                trail.notes.extend(writer.rotate(time(i), &mut out, &mut next));
                trail.save(&name, &out);
                out = next;
            } else if i % 5 == 0 {
                trail.notes.extend(writer.checkpoint(time(i), &mut out));
            }
        }
        let name = writer.file_name();
        trail.notes.extend(writer.stop(time(events), &mut out));
        trail.save(&name, &out);
        trail
    }

    /// The trail of node 2, which goes on from a checkpoint of this one.
    pub fn successor(&self, note: &str) {
        let mut out = Vec::new();
        let writer = start(2, Some(note), &mut out);
        let name = writer.file_name();
        writer.stop(time(100), &mut out);
        fs::write(self.directory().join(name), out).expect("written");
    }

    /// Goes on in a fourth segment, whose fourth line is a key record: another key signs from then on. Returns its first
    /// checkpoint.
    pub fn change_key(&self) -> String {
        let text = fs::read(self.path(3)).expect("a segment");
        let state = recover(node(1), &[signer(1).verifying_key()], vec![], 3, &text).expect("a trail").state;
        let start = Start { server_version: "18.6", pgpci_version: "0.1.0", predecessor: None };
        let settings = (Limits::default(), Policy::default());
        let mut out = Vec::new();
        let mut writer =
            Writer::start(node(1), signer(1), settings, state, &start, time(50), &mut out).expect("its key");
        let next = signer_of(1, 9);
        assert!(writer.vouch(&next.verifying_key(), time(51), &mut out));
        writer.set_signer(next);
        let note = writer.checkpoint(time(52), &mut out).expect("signed");
        fs::write(self.path(4), out).expect("written");
        note
    }

    /// Appends a checkpoint of all records by a key.
    pub fn forge_checkpoint(&self, segment: u64, signer: &Signer) {
        let mut tree = Tree::default();
        let lines: Vec<_> = (1..=segment).flat_map(|it| self.lines(it)).collect();
        lines.iter().for_each(|line| tree.push(leaf_hash(line.as_bytes())));
        let last = lines.last().expect("a line");
        let checkpoint = Checkpoint { origin: node(1).origin(), size: tree.size(), root: tree.root() };
        let record = Record {
            seq: tree.size() + 1,
            prev: leaf_hash(last.as_bytes()),
            time: parse(last.as_bytes()).expect("a record").time,
            body: Body::Checkpoint { note: signer.sign(&checkpoint.text()).into() },
        };
        let mut out = Vec::new();
        encode(&record, &Limits::default(), &mut out);
        self.edit(segment, |lines| lines.push(String::from_utf8(out).expect("text")));
    }

    fn save(&mut self, name: &str, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        fs::write(self.directory().join(name), bytes).expect("written");
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, segment: u64) -> PathBuf {
        self.directory().join(node(1).file_name(segment))
    }

    /// Writes a file that is no part of the trail; returns its path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.elsewhere.path().join(name);
        fs::write(&path, bytes).expect("written");
        path.display().to_string()
    }

    pub fn lines(&self, segment: u64) -> Vec<String> {
        let text = fs::read_to_string(self.path(segment)).expect("a segment");
        text.lines().map(str::to_string).collect()
    }

    pub fn record(&self, segment: u64, line: usize) -> Value {
        serde_json::from_str(&self.lines(segment)[line]).expect("JSON")
    }

    pub fn last_seq(&self) -> u64 {
        let line = self.lines(3).pop().expect("a line");
        parse(line.as_bytes()).expect("a record").seq
    }

    /// How many records the last checkpoint before a record covers.
    pub fn sealed_before(&self, seq: u64) -> Option<u64> {
        let sizes = self.notes.iter().filter_map(|note| note.lines().nth(1)?.parse().ok());
        sizes.filter(|size| *size < seq).max()
    }

    /// Changes the lines of a segment.
    pub fn edit(&self, segment: u64, change: impl FnOnce(&mut Vec<String>)) {
        let before = self.lines(segment);
        self.rewrite(segment, change);
        assert_ne!(self.lines(segment), before, "an attack that does nothing");
    }

    fn rewrite(&self, segment: u64, change: impl FnOnce(&mut Vec<String>)) {
        let mut lines = self.lines(segment);
        change(&mut lines);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.path(segment), text).expect("written");
    }

    /// Writes all records anew with right numbers and hashes after `change`, and with checkpoints
    /// signed by `signer`, or left as they were.
    pub fn recompute(&self, signer: Option<&Signer>, mut change: impl FnMut(&mut Record)) {
        let (mut tree, mut prev) = (Tree::default(), Hash::default());
        for segment in 1..=3 {
            self.rewrite(segment, |lines| {
                for line in lines {
                    let old = line.clone();
                    let mut record = parse(old.as_bytes()).expect("a record");
                    change(&mut record);
                    record.prev = prev;
                    record.body = match (record.body, signer) {
                        (Body::Segment(head), _) => Body::Segment(Segment { tree: tree.clone(), ..head }),
                        (Body::Checkpoint { .. }, Some(signer)) => {
                            let origin = node(1).origin();
                            let checkpoint = Checkpoint { origin, size: tree.size(), root: tree.root() };
                            Body::Checkpoint { note: signer.sign(&checkpoint.text()).into() }
                        }
                        (body, _) => body,
                    };
                    let mut out = Vec::new();
                    encode(&record, &Limits::default(), &mut out);
                    prev = leaf_hash(&out);
                    tree.push(prev);
                    *line = String::from_utf8(out).expect("text");
                }
            });
        }
    }

    /// Appends a record that is right in everything a key is not needed for.
    pub fn forge_record(&self) {
        self.edit(3, |lines| {
            let last = lines.last().expect("a line");
            let record = parse(last.as_bytes()).expect("a record");
            let forged = Record {
                seq: record.seq + 1,
                prev: leaf_hash(last.as_bytes()),
                time: record.time,
                body: event(1),
            };
            let mut out = Vec::new();
            encode(&forged, &Limits::default(), &mut out);
            lines.push(String::from_utf8(out).expect("text"));
        });
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpci"));
        command.arg("verify").arg(self.directory()).arg("--key").arg(signer(1).verifying_key().to_string());
        command
    }

    /// Exit code and JSON.
    pub fn verify(&self, arguments: &[String]) -> (i32, Value) {
        let output = self.command().arg("--json").args(arguments).output().expect("pgpci verify");
        assert!(output.stderr.is_empty(), "{output:?}");
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let code = output.status.code().expect("an exit code");
        assert_eq!(found["exit_code"], code);
        (code, found)
    }

    /// Arguments for the newest checkpoint.
    pub fn last_anchor(&self) -> Vec<String> {
        self.anchor(self.notes.last().expect("a checkpoint"))
    }

    /// Arguments for a checkpoint, which may be of another trail.
    pub fn anchor(&self, note: &str) -> Vec<String> {
        vec!["--anchor".to_string(), self.write("anchor", note.as_bytes())]
    }

    /// Arguments for all checkpoints.
    pub fn anchors(&self) -> Vec<String> {
        let files =
            self.notes.iter().enumerate().map(|(i, note)| self.write(&i.to_string(), note.as_bytes()));
        files.flat_map(|file| ["--anchor".to_string(), file]).collect()
    }
}

fn start(id: u8, predecessor: Option<&str>, out: &mut Vec<u8>) -> Writer {
    let start = Start { server_version: "18.6", pgpci_version: "0.1.0", predecessor };
    let settings = (Limits::default(), Policy::default());
    Writer::start(node(id), signer(id), settings, State::default(), &start, time(0), out).expect("its key")
}
