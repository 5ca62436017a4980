//! Transactions that said what they intend and nothing since: their session was killed, or the server crashed. The
//! commit log knows what became of them.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use pgpci_core::record::{Body, Class, Event, Record, Text, parse};

use crate::pg::commit_log::{self, Fate};

/// A session that is alive closes its intent within this time, or is found in progress.
const PATIENCE: Duration = Duration::from_secs(2);
/// Older than this the commit log may not be: a quarter of the transaction numbers.
const FORGOTTEN: u64 = 1 << 30;
/// In so many segments before the last an intent is looked for.
const SEGMENTS: usize = 2;

/// An intent, and whose it is.
struct Intent {
    since: Option<Instant>,
    session_user: Option<String>,
    database: Option<String>,
    session_id: Option<String>,
}

/// The open intents, by transaction.
#[derive(Default)]
pub struct Intents {
    open: BTreeMap<u64, Intent>,
    /// The next transaction's number when recovery was first seen to be over.
    first_next: Option<u64>,
}

impl Intents {
    /// Those that the last boot left open.
    pub fn of_last_boot(segments: &[(u64, std::path::PathBuf)], boot: u64) -> std::io::Result<Self> {
        let mut intents = Intents::default();
        let from = segments.len().saturating_sub(SEGMENTS + 1);
        for (_, path) in &segments[from..] {
            for (i, line) in fs::read(path)?.split(|byte| *byte == b'\n').enumerate() {
                let Ok(Record { body, .. }) = parse(line) else { break };
                match body {
                    Body::Segment(head) if i == 0 && head.boot != boot => break,
                    Body::Event(event) => intents.note(&event, None),
                    _ => {}
                }
            }
        }
        Ok(intents)
    }

    /// An event may be an intent, or close one.
    pub fn note(&mut self, event: &Event, since: Option<Instant>) {
        let (Some(xid), Class::Write) = (event.xid, event.class) else { return };
        if !matches!(event.event.as_bytes(), b"COMMIT" | b"PREPARE TRANSACTION" | b"ROLLBACK") {
            return;
        }
        if event.success.is_some() {
            self.open.remove(&xid);
            return;
        }
        let text = |text: &Option<Text>| text.as_ref().map(|it| it.to_str_lossy().into_owned());
        let (session_user, database) = (text(&event.session_user), text(&event.database));
        self.open.insert(xid, Intent { since, session_user, database, session_id: text(&event.session_id) });
    }

    /// Whether any is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The records that close what is over. Forgets the closed ones.
    pub fn closed(&mut self) -> Vec<Event<'static>> {
        let due = |intent: &Intent| intent.since.is_none_or(|since| since.elapsed() > PATIENCE);
        if !self.open.values().any(due) {
            return Vec::new();
        }
        let Some(next) = commit_log::next() else { return Vec::new() };
        let first_next = *self.first_next.get_or_insert(next);
        let mut closed = Vec::new();
        self.open.retain(|xid, intent| {
            if !due(intent) {
                return true;
            }
            let fate = match *xid {
                // The crash took its number with it, and another transaction may have it now.
                xid if intent.since.is_none() && xid >= first_next => Fate::Aborted,
                xid if next.saturating_sub(xid) > FORGOTTEN => return false,
                xid => commit_log::fate(xid),
            };
            if fate == Fate::Open {
                return true;
            }
            closed.push(intent.close(*xid, fate == Fate::Committed));
            false
        });
        closed
    }
}

impl Intent {
    fn close(&mut self, xid: u64, is_committed: bool) -> Event<'static> {
        Event {
            session_user: self.session_user.take().map(Text::from),
            database: self.database.take().map(Text::from),
            session_id: self.session_id.take().map(Text::from),
            xid: Some(xid),
            success: Some(is_committed),
            message: Some("found in the commit log after its session was gone".into()),
            ..Event::new(Class::Write, if is_committed { "COMMIT" } else { "ROLLBACK" })
        }
    }
}
