//! `pgpci verify`: an audit trail checked from its files alone, by anyone with the public key.
//!
//! Memory does not grow with the trail: segments are read line by line.

mod input;
mod keys;
mod output;
mod segments;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use pgpci_core::chain::{Checkpoint, VerifyingKey};
use pgpci_core::trail::{Node, Report, Verdict, Verifier};

use crate::complain;
use keys::Keys;
use segments::{Directory, SegmentReport};

/// What to verify, and against what.
#[derive(clap::Args)]
pub struct Options {
    /// The directory with the trail's segments, as they were written or with gzip
    directory: PathBuf,
    /// The public key that signs the checkpoints: name+id+base64, or a file with such lines
    #[arg(long, value_name = "VKEY|FILE", required = true)]
    key: Vec<String>,
    /// A checkpoint that was kept elsewhere: a signed note, or checkpoint lines of the trail
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
    /// Records up to this number were archived elsewhere: that they are absent is no fault
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    archived: u64,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Why there is no verdict.
enum Failure {
    /// Keys or anchors that are of no use.
    Usage(String),
    /// The system failed.
    System(String),
}

/// Everything that was found.
struct Findings {
    nodes: Vec<(Node, Report)>,
    segments: Vec<SegmentReport>,
    /// Names of files that look like segments and are none.
    not_checked: Vec<String>,
    bytes: u64,
    seconds: f64,
}

impl Findings {
    fn verdict(&self) -> Verdict {
        let worst = self.nodes.iter().map(|(_, report)| report.verdict()).max();
        let worst = worst.unwrap_or(Verdict::Incomplete);
        if self.not_checked.is_empty() { worst } else { worst.max(Verdict::Incomplete) }
    }
}

/// Verifies, and prints what was found.
pub fn run(options: &Options) -> ExitCode {
    let (message, code) = match verified(options).and_then(|findings| {
        output::print(&findings, options.json)
            .map_err(|error| Failure::System(format!("stdout: {error}")))?;
        Ok(exit_code(findings.verdict()))
    }) {
        Ok(code) => return ExitCode::from(code),
        Err(Failure::System(message)) => (message, 1),
        Err(Failure::Usage(message)) => (message, 2),
    };
    complain(&format!("pgpci verify: {message}"));
    ExitCode::from(code)
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Ok => 0,
        Verdict::Tampered => 3,
        Verdict::Truncated => 4,
        Verdict::Incomplete => 5,
        Verdict::Unanchored => 6,
    }
}

fn verified(options: &Options) -> Result<Findings, Failure> {
    let start = Instant::now();
    let given = input::keys(&options.key)?;
    let directory = Directory::list(&options.directory)?;
    let mut keys = Keys::new(given, &directory);
    let mut anchors = input::anchors(&options.anchor, &mut keys)?;
    // What a successor's trail says of its predecessor binds that one, if it is here.
    for node in directory.nodes() {
        if let Some((node, checkpoint)) = directory.predecessor(node, &mut keys)? {
            anchors.entry(node).or_default().push(checkpoint);
        }
    }
    let keys = keys.given;
    let mut findings = Findings {
        nodes: Vec::new(),
        segments: Vec::new(),
        not_checked: directory.not_checked.clone(),
        bytes: 0,
        seconds: 0.0,
    };
    // A node that one asks for by its key, and of which nothing is there, is incomplete.
    let of_keys = keys.iter().filter_map(|key| Node::from_origin(key.name()));
    let nodes: std::collections::BTreeSet<Node> = directory.nodes().chain(of_keys).collect();
    for node in nodes {
        let report = node_verified(node, &directory, &keys, &mut anchors, options.archived, &mut findings)?;
        findings.nodes.push((node, report));
    }
    findings.seconds = start.elapsed().as_secs_f64();
    Ok(findings)
}

fn node_verified(
    node: Node,
    directory: &Directory,
    keys: &[VerifyingKey],
    anchors: &mut BTreeMap<Node, Vec<Checkpoint>>,
    archived: u64,
    findings: &mut Findings,
) -> Result<Report, Failure> {
    let mut verifier = Verifier::new(node, keys, anchors.remove(&node).unwrap_or_default(), archived);
    let files = directory.segments(node);
    for (i, file) in files.iter().enumerate() {
        if let Some(before) = i.checked_sub(1).map(|i| &files[i])
            && before.segment == file.segment
            && file.is_form_of(before)?
        {
            continue;
        }
        if !verifier.segment(file.segment) {
            continue; // twice: a finding, and not read again
        }
        let report = segments::read(file, &mut verifier)?;
        findings.bytes += report.bytes;
        findings.segments.push(report);
    }
    Ok(verifier.finish())
}
