//! The findings, for people and for programs.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use pgpci_core::record::Time;
use pgpci_core::trail::{Anchor, AnchorState, Node, Report, Verdict};
use serde_json::{Value, json};

use super::{Findings, exit_code};

/// Prints everything to stdout.
pub(super) fn print(findings: &Findings, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", object(findings))?;
    } else {
        text(findings, &mut out)?;
    }
    out.flush()
}

fn text(findings: &Findings, out: &mut impl Write) -> io::Result<()> {
    for segment in &findings.segments {
        write!(out, "{}  ", segment.name)?;
        match segment.last.checked_sub(segment.first) {
            Some(more) => write!(out, "records {} to {} ({})", segment.first, segment.last, more + 1)?,
            None => write!(out, "no good record")?,
        }
        match segment.tail {
            None => writeln!(out, ", {} bytes: good", segment.bytes)?,
            Some((fault, bytes)) => writeln!(out, ", then {bytes} bytes: {fault}")?,
        }
    }
    for name in &findings.not_checked {
        writeln!(out, "{name}  not checked: no name of a segment")?;
    }
    for (node, report) in &findings.nodes {
        node_text(*node, report, out)?;
    }
    let (bytes, seconds) = (findings.bytes as f64 / 1e6, findings.seconds);
    writeln!(out, "\n{bytes:.1} MB in {seconds:.2} s, {:.0} MB/s", bytes / seconds.max(1e-9))?;
    let verdict = findings.verdict();
    writeln!(out, "{}: {}", verdict.as_str().to_uppercase(), meaning(verdict))
}

fn node_text(node: Node, report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nnode {node}: {}", report.verdict().as_str())?;
    if report.records > 0 {
        let time = report.last_time.map(|time| time.to_string()).unwrap_or_default();
        writeln!(out, "  records:  {} to {}, the last at {time}", report.first_seq, report.last_seq)?;
        writeln!(out, "  sealed:   up to {}; {} behind the last checkpoint", report.sealed, report.unsealed)?;
        if report.unsealed > 0 {
            let first = report.last_seq + 1 - report.unsealed;
            writeln!(out, "  records {first} and later are not signed yet: anybody may have written them")?;
        }
    } else {
        writeln!(out, "  records:  none")?;
    }
    for broken in &report.broken {
        writeln!(
            out,
            "  bad:      from record {} on, segment {}: {}",
            broken.seq, broken.segment, broken.fault
        )?;
    }
    for (first, last) in &report.missing {
        writeln!(out, "  missing:  records {first} to {last}")?;
    }
    for Anchor { checkpoint, state } in &report.anchors {
        let state = match state {
            AnchorState::Holds(time) => format!("holds, {} s old", age(*time)),
            AnchorState::Contradicts => "the trail has other records".to_string(),
            AnchorState::Beyond => "the trail is shorter".to_string(),
            AnchorState::Unchecked => "not checked: its records are not here".to_string(),
        };
        writeln!(out, "  anchor:   {} records: {state}", checkpoint.size)?;
    }
    match newest_anchor(report) {
        Some((size, _)) if size < report.last_seq => {
            writeln!(out, "  only the node's own signature holds records {} and later", size + 1)
        }
        Some(_) => Ok(()),
        None => writeln!(out, "  no anchor: a trail that was cut short or put back looks the same"),
    }
}

fn object(findings: &Findings) -> Value {
    let verdict = findings.verdict();
    let segments = findings.segments.iter().map(|it| {
        json!({
            "file": it.name,
            "first_seq": it.first,
            "last_seq": it.last,
            "bytes": it.bytes,
            "fault": it.tail.map(|(fault, _)| fault.to_string()),
            "tail_bytes": it.tail.map(|(_, bytes)| bytes),
        })
    });
    json!({
        "verdict": verdict.as_str(),
        "exit_code": exit_code(verdict),
        "nodes": findings.nodes.iter().map(|(node, report)| node_object(*node, report)).collect::<Vec<_>>(),
        "segments": segments.collect::<Vec<_>>(),
        "not_checked": findings.not_checked,
        "bytes": findings.bytes,
        "seconds": findings.seconds,
    })
}

fn node_object(node: Node, report: &Report) -> Value {
    let broken = report
        .broken
        .iter()
        .map(|it| json!({ "segment": it.segment, "seq": it.seq, "fault": it.fault.to_string() }));
    let anchors = report.anchors.iter().map(|it| {
        let state = match it.state {
            AnchorState::Holds(_) => "holds",
            AnchorState::Contradicts => "contradicts",
            AnchorState::Beyond => "beyond",
            AnchorState::Unchecked => "unchecked",
        };
        json!({ "size": it.checkpoint.size, "state": state })
    });
    json!({
        "node": node.to_string(),
        "verdict": report.verdict().as_str(),
        "first_seq": report.first_seq,
        "last_seq": report.last_seq,
        "last_time": report.last_time.map(|it| it.to_string()),
        "records": report.records,
        "sealed": report.sealed,
        "unsealed": report.unsealed,
        "first_bad_seq": report.broken.iter().map(|it| it.seq).min(),
        "broken": broken.collect::<Vec<_>>(),
        "missing": report.missing,
        "anchors": anchors.collect::<Vec<_>>(),
        "anchored": newest_anchor(report).map(|(size, _)| size),
        "anchor_age_seconds": newest_anchor(report).map(|(_, time)| age(time)),
        "predecessor": report.predecessor,
    })
}

/// Size and time of the newest anchor that holds.
fn newest_anchor(report: &Report) -> Option<(u64, Time)> {
    let held = report.anchors.iter().filter_map(|it| match it.state {
        AnchorState::Holds(time) => Some((it.checkpoint.size, time)),
        _ => None,
    });
    held.max()
}

/// Seconds from a time until now.
fn age(time: Time) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX) - time.micros().div_euclid(1_000_000)
}

fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "every record is there and unchanged, and the trail goes on from the anchors",
        Verdict::Unanchored => "nothing is wrong, but no anchor tells whether the end is missing",
        Verdict::Incomplete => "segments are missing or could not be checked",
        Verdict::Truncated => "records at the end of the trail or of a segment are missing",
        Verdict::Tampered => "records were changed, added, removed or put elsewhere",
    }
}
