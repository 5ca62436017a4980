//! How long the trail is kept.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use pgpci_core::record::{Body, Class, Event, Objects, Text, parse};
use pgpci_core::trail::Node;

use super::{files, node};
use crate::guc;
use crate::pg::ring::Head;

/// Three months.
const LEAST: i32 = 92;

/// Removes what may go. What it did is an event.
pub fn look(head: &Head, current: &str) -> Option<Event<'static>> {
    let directory = node::segments();
    // Less than PCI DSS 10.5.1 has at hand is not kept on purpose.
    let days = match guc::AUDIT_RETENTION.get() {
        0 => 0,
        days => days.max(LEAST) as u64,
    };
    let (node, _) = Node::parse_file_name(current)?;
    if days == 0 {
        return None;
    }
    let oldest = SystemTime::now().checked_sub(Duration::from_secs(days * 86_400))?;
    let segments = files::list(&directory, node).ok()?;
    let shipped = head.shipped.load(Ordering::Relaxed);
    let mut gone = Vec::new();
    // The last one is being written, and what the next begins with says where one ends.
    for pair in segments.windows(2) {
        let [(_, path), (_, next)] = pair else { break };
        let is_old = fs::metadata(path).and_then(|it| it.modified()).is_ok_and(|it| it < oldest);
        let is_proven = records_before(next).is_some_and(|records| records <= shipped);
        // In order, so that what is left has no holes.
        if !is_old || !is_proven || fs::remove_file(path).is_err() {
            break;
        }
        gone.push(Text::from(format!("segment {}", path.file_name().unwrap_or_default().to_string_lossy())));
    }
    (!gone.is_empty()).then(|| Event {
        objects: Objects::Owned(gone),
        success: Some(true),
        ..Event::new(Class::Audit, "RETENTION")
    })
}

/// How many records there are before a segment.
fn records_before(path: &std::path::Path) -> Option<u64> {
    match parse(&super::read::first_line(path)?).ok()?.body {
        Body::Segment(head) => Some(head.tree.size()),
        _ => None,
    }
}
