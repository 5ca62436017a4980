//! Room on the trail's disk: it is warned before there is none, while what repairs it can still be recorded.

use std::sync::atomic::Ordering;

use pgpci_core::record::{Class, Event};

use super::node;
use crate::guc;
use crate::pg::disk;
use crate::pg::ring::Head;

/// How little room there is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[repr(u64)]
pub enum Scarcity {
    /// For four segments or more.
    None = 0,
    /// For less than four.
    Low,
    /// For less than half of one.
    Critical,
}

impl Scarcity {
    fn of(free: u64) -> Self {
        let segment = (guc::AUDIT_SEGMENT_SIZE.get() as u64) << 20;
        match free {
            _ if free < segment / 2 => Self::Critical,
            _ if free < segment * 4 => Self::Low,
            _ => Self::None,
        }
    }

    /// What the status shows.
    pub fn name(number: u64) -> &'static str {
        match number {
            0 => "enough",
            1 => "low",
            _ => "critical",
        }
    }
}

/// What the status shows of the room there is.
pub fn measure(head: &Head) -> Option<u64> {
    let free = disk::free(&node::segments())?;
    head.free.store(free, Ordering::Relaxed);
    Some(free)
}

/// Looks how much room there is. A change for the worse or the better is logged, and an event.
pub fn look(head: &Head) -> Option<Event<'static>> {
    let free = measure(head)?;
    let now = Scarcity::of(free);
    if head.scarcity.swap(now as u64, Ordering::Relaxed) == now as u64 {
        return None;
    }
    let megabytes = free >> 20;
    let message = match now {
        Scarcity::None => format!("the disk of the audit trail has room again: {megabytes} MB"),
        Scarcity::Low => format!("the disk of the audit trail has {megabytes} MB left"),
        Scarcity::Critical => {
            format!(
                "the disk of the audit trail is nearly full, protected work will stop: {megabytes} MB left"
            )
        }
    };
    pgrx::warning!("pgpci: {message}");
    Some(Event { message: Some(message.into()), ..Event::new(Class::Audit, "DISK SPACE") })
}
