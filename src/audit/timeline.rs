//! Which database the trail is of: that it was promoted or restored to an earlier time is an event, and so is another
//! one in its place. The trail itself goes on: it is of the server, and was not put back.

use std::fs;
use std::path::PathBuf;

use pgpci_core::record::{Class, Event};

use super::node;
use crate::pg::timeline::Timeline;

/// The timeline that was seen last.
#[derive(Default)]
pub struct Known(Option<Timeline>);

fn file() -> PathBuf {
    crate::directory::path().join("trail.timeline")
}

fn read() -> Option<Timeline> {
    let text = fs::read_to_string(file()).ok()?;
    let (system, number) = text.trim().split_once(' ')?;
    Some(Timeline { system: system.parse().ok()?, number: number.parse().ok()? })
}

impl Known {
    /// Looks whether it is another one now.
    pub fn look(&mut self) -> Option<Event<'static>> {
        let now = Timeline::now().filter(|now| self.0 != Some(*now))?;
        let before = self.0.or_else(read);
        if before != Some(now) {
            let Timeline { system, number } = now;
            // Until it is kept, it is not told.
            node::replace(&file(), format!("{system} {number}\n").as_bytes(), 0o600).ok()?;
        }
        self.0 = Some(now);
        let before = before.filter(|before| *before != now)?;
        let message = if before.system == now.system {
            format!(
                "timeline {} follows timeline {}: promoted, or restored to an earlier time",
                now.number, before.number
            )
        } else {
            format!("database system {} is in the place of {}", now.system, before.system)
        };
        Some(Event { message: Some(message.into()), ..Event::new(Class::Replication, "TIMELINE") })
    }
}
