//! Transactions that said what they intend and nothing since: their session was killed, or the server crashed. The
//! commit log knows what became of them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use memchr::memmem;
use pgpci_core::record::{Body, Class, Event, Record, Text, parse};

use super::closed;
use crate::pg::commit_log::{self, Fate};

/// A session that is alive closes its intent within this time, or is found in progress.
const PATIENCE: Duration = Duration::from_secs(2);
/// Older than this the commit log may not be: a quarter of the transaction numbers.
const FORGOTTEN: u64 = 1 << 30;
/// In more than so many bytes before the end no intent is looked for: it is closed within seconds.
const ENOUGH: usize = 128 << 20;
/// What lines about intents contain.
const MARK: &[u8] = b"\"class\":\"WRITE\",\"event\":\"";

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
    /// The next transaction's number when recovery was over.
    first_next: Option<u64>,
    /// What those came to whose number another transaction has by now.
    lost: Vec<Event<'static>>,
}

impl Intents {
    /// Those that were left open since the server last stopped in order: perhaps by more than one boot, each of which
    /// crashed before it could look.
    pub fn left_open(segments: &[(u64, PathBuf)]) -> io::Result<Self> {
        let mut texts = Vec::new();
        let mut bytes = 0;
        for (i, (_, path)) in segments.iter().rev().enumerate() {
            let text = closed::read(path)?;
            bytes += text.len();
            if i > 0 && (bytes > ENOUGH || memmem::rfind(&text, b"\"kind\":\"stop\"").is_some()) {
                break;
            }
            texts.push(text);
        }
        let mut intents = Intents::default();
        for text in texts.iter().rev() {
            // Few lines are about that, and the sessions of the new boot wait.
            let lines = text.split(|byte| *byte == b'\n').filter(|line| memmem::find(line, MARK).is_some());
            for record in lines.map_while(|line| parse(line).ok()) {
                if let Record { body: Body::Event(event), .. } = record {
                    let lost = intents.note(&event, None);
                    intents.lost.extend(lost);
                }
            }
        }
        Ok(intents)
    }

    /// An event may be an intent, or close one. An intent whose number another transaction has now was lost in a crash: what
    /// is returned closes it, and comes first.
    pub fn note(&mut self, event: &Event, since: Option<Instant>) -> Option<Event<'static>> {
        let (Some(xid), Class::Write) = (event.xid, event.class) else { return None };
        if !matches!(event.event.as_bytes(), b"COMMIT" | b"PREPARE TRANSACTION" | b"ROLLBACK") {
            return None;
        }
        if event.success.is_some() {
            self.open.remove(&xid);
            return None;
        }
        let text = |text: &Option<Text>| text.as_ref().map(|it| it.to_str_lossy().into_owned());
        let (session_user, database) = (text(&event.session_user), text(&event.database));
        let session_id = text(&event.session_id);
        let before =
            self.open.insert(xid, Intent { since, session_user, database, session_id: session_id.clone() });
        // Said again by the same session, it is the same.
        before.filter(|it| it.session_id != session_id).map(|mut it| it.close(xid, false))
    }

    /// Whether any is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.lost.is_empty()
    }

    /// The records that close what is over. Forgets the closed ones.
    pub fn closed(&mut self) -> Vec<Event<'static>> {
        let mut closed = std::mem::take(&mut self.lost);
        let due = |intent: &Intent| intent.since.is_none_or(|since| since.elapsed() > PATIENCE);
        if !self.open.values().any(due) {
            return closed;
        }
        let Some(next) = commit_log::next() else { return closed };
        let first_next = *self.first_next.get_or_insert_with(|| commit_log::first_after_recovery(next));
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
