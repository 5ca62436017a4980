//! The trail verified in SQL, its state, and its last checkpoint for another place.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use pgpci_core::chain::{Checkpoint, Note, VerifyingKey};
use pgpci_core::record::{MAX_LINE, ParseError};
use pgpci_core::trail::{Fault, Node, Report, Tail, Verifier};
use sha2::{Digest, Sha256};

use super::lines::{Line, Lines};
use super::read::{begin, segments, unreadable};
use super::space::Scarcity;
use super::{node, ship};
use crate::error::{Error, Result};
use crate::pg::call::{Call, Value, varlena};
use crate::pg::ring::{self, State};
use crate::pg::rows::{Cell, Rows};
use crate::pg::session;

/// `pci.verify_audit(anchor)`
pub fn verify_audit(call: &mut Call) -> Result<Value> {
    begin("pci.verify_audit", "")?;
    let anchor = call.opt_text(0).map(std::borrow::Cow::into_owned);
    let mut rows = Rows::new(call).ok_or_else(|| Error::argument("pci.verify_audit is called in FROM"))?;
    let keys = node::verifying_keys().map_err(|error| unreadable(&error))?;
    let anchor = anchor.map(|note| checkpoint(&note, &keys)).transpose()?;
    let mut verifiers: BTreeMap<Node, Verifier> = BTreeMap::new();
    for (path, is_last) in segments().map_err(|error| unreadable(&error))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((node, segment)) = Node::parse_file_name(&name) else { continue };
        let verifier = verifiers.entry(node).or_insert_with(|| {
            let anchors = anchor.iter().filter(|it| it.origin == node.origin()).cloned().collect();
            Verifier::new(node, &keys, anchors, 0)
        });
        if verifier.segment(segment) {
            let tail = read(&path, is_last, verifier).map_err(|error| unreadable(&error))?;
            verifier.end(tail);
        }
    }
    for (node, verifier) in verifiers {
        let report = verifier.finish();
        let number = |number: u64| Cell::Number(number as i64);
        let (node, detail) = (node.to_string(), detail(&report));
        rows.push(&[
            Cell::Text(&node),
            Cell::Text(report.verdict().as_str()),
            number(report.records),
            number(report.first_seq),
            number(report.last_seq),
            number(report.sealed),
            number(report.unsealed),
            detail.as_deref().map_or(Cell::Null, Cell::Text),
        ]);
    }
    Ok(call.null())
}

/// `pci.export_checkpoint()`: the last signed checkpoint, which the caller takes elsewhere.
pub fn export_checkpoint(call: &mut Call) -> Result<Value> {
    begin("pci.export_checkpoint", "")?;
    let note = std::fs::read_to_string(node::checkpoint()).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::state("the audit trail has no checkpoint yet")
            .hint("See pci.audit_status: checkpoints wait until the signing key can be had."),
        _ => unreadable(&error),
    })?;
    let keys = node::verifying_keys().map_err(|error| unreadable(&error))?;
    let records = checkpoint(&note, &keys)?.size;
    if records > ship::elsewhere() {
        ship::is_elsewhere(records).map_err(|error| unreadable(&error))?;
        if let Some(head) = ring::head() {
            head.shipped.store(records, Ordering::Relaxed);
        }
    }
    let _ = call;
    Ok(varlena(note.as_bytes()))
}

/// `pci.audit_status_text()`: the fields of the view, apart by tabs.
pub fn status(_call: &mut Call) -> Result<Value> {
    let Some(head) = ring::head() else {
        return Ok(varlena(b"none\tno memory for the ring"));
    };
    let state = match head.state() {
        State::Starting => "starting",
        State::Running => "running",
        State::Full => "disk full",
        State::Failing => "failing",
        State::Refusing => "refusing",
    };
    let (lost, waits) = head.pressure();
    let load = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    let used = head.claimed().saturating_sub(head.tail());
    let fields = [
        state.to_string(),
        head.message().replace(['\t', '\n'], " "),
        load(&head.seq).to_string(),
        load(&head.sealed).to_string(),
        load(&head.shipped).to_string(),
        load(&head.segment).to_string(),
        load(&head.boot).to_string(),
        session::iso_time(load(&head.synced_at) as i64),
        load(&head.syncs).to_string(),
        format!("{:.1}", used as f64 * 100.0 / head.slots() as f64),
        waits.to_string(),
        lost.to_string(),
        load(&head.free).to_string(),
        Scarcity::name(load(&head.scarcity)).to_string(),
    ];
    Ok(varlena(fields.join("\t").as_bytes()))
}

fn checkpoint(note: &str, keys: &[VerifyingKey]) -> Result<Checkpoint> {
    let bad = |error| Error::argument(format!("not a checkpoint of this trail: {error}"));
    let note = Note::parse(note.as_bytes()).map_err(bad)?;
    let text = note.verify(keys).map_err(bad)?;
    Checkpoint::parse(text).map_err(bad)
}

fn detail(report: &Report) -> Option<String> {
    let broken =
        report.broken.iter().map(|it| format!("segment {}, record {}: {}", it.segment, it.seq, it.fault));
    let missing = report.missing.iter().map(|(from, to)| format!("records {from} to {to} are missing"));
    let all: Vec<_> = broken.chain(missing).take(20).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn read(path: &Path, is_last: bool, verifier: &mut Verifier) -> std::io::Result<Option<Tail>> {
    let mut lines = Lines::of(path)?;
    let fault = loop {
        let checked = match lines.next()? {
            Line::Whole(line) => verifier.line(line),
            Line::Part(line) if line.len() > MAX_LINE => Err(Fault::Line(ParseError::TooLong)),
            // It is being written this very moment.
            Line::Part(_) if is_last => return Ok(None),
            Line::Part(_) => Err(Fault::Torn),
            Line::End => return Ok(None),
        };
        if let Err(fault) = checked {
            break fault;
        }
    };
    let rest = lines.rest()?;
    Ok(Some(Tail { fault, bytes: rest.len() as u64, sha256: Sha256::digest(&rest).into() }))
}
