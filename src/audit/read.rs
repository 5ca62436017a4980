//! Reading the trail in SQL: auditors only, each reading an event.

use std::fs;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use pgpci_core::chain::leaf_hash;
use pgpci_core::record::{Body, Class, Event, Field, MAX_LINE, Record, Text, Time, parse};
use pgpci_core::trail::Node;
use pgrx::PgSqlErrorCode as S;

use super::emit::{Room, emit};
use super::lines::{Line, Lines};
use super::{closed, node};
use crate::access;
use crate::error::{Error, Result};
use crate::pg::call::{Call, Value};
use crate::pg::rows::{Cell, Rows};

/// Microseconds from 1970 to PostgreSQL's epoch.
const EPOCH: i64 = 946_684_800_000_000;
/// What a line begins with before its time, at most: version, number, hash.
const BEFORE_TIME: usize = 128;

/// `pci.audit(from, to)`
pub fn audit(call: &mut Call) -> Result<Value> {
    let (from, to) = (time(call.i64(0)), time(call.i64(1)));
    begin("pci.audit", &format!("{from} to {to}"))?;
    let mut rows = Rows::new(call).ok_or_else(|| Error::argument("pci.audit is called in FROM"))?;
    for (path, is_last) in segments().map_err(|error| unreadable(&error))? {
        if may_hold(&path, is_last, from, to) {
            read(&path, from, to, &mut rows).map_err(|error| unreadable(&error))?;
        }
    }
    Ok(call.null())
}

/// 42501 unless an auditor asks. That the trail is read, is an event of it.
pub fn begin(what: &str, object: &str) -> Result<()> {
    access::require_duty("pci_auditor")?;
    emit(Class::Audit, Room::Wait, |packer| {
        packer.text(Field::Event, what.as_bytes()).number(Field::Success, 1);
        if !object.is_empty() {
            packer.object(object.as_bytes());
        }
    });
    Ok(())
}

/// 58030: the trail's files cannot be read.
pub fn unreadable(error: &std::io::Error) -> Error {
    Error::new(S::ERRCODE_IO_ERROR, format!("the audit trail cannot be read: {error}"))
        .hint("It is in the directory trail of pgpci.directory.")
}

/// The segments of all nodes, in order, and whether one is its node's last.
pub fn segments() -> std::io::Result<Vec<(PathBuf, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(node::segments())? {
        let entry = entry?;
        if let Some(name) = Node::parse_file_name(&entry.file_name().to_string_lossy()) {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    // The compressed form of one that is there, too, is about to take its place.
    found.dedup_by_key(|(name, _)| *name);
    let is_last = |i: usize| found.get(i + 1).is_none_or(|((node, _), _)| *node != found[i].0.0);
    Ok((0..found.len()).map(|i| (found[i].1.clone(), is_last(i))).collect())
}

/// The first line of a file, without its line feed.
pub fn first_line(path: &Path) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    closed::open(path).ok()?.take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).ok()?;
    line.pop_if(|byte| *byte == b'\n').map(|_| line)
}

/// Whether a segment may hold records of that time: it does not begin after, nor was it last written before.
fn may_hold(path: &Path, is_last: bool, from: Time, to: Time) -> bool {
    let begins = first_line(path).and_then(|line| time_of(&line).map(<[u8]>::to_vec));
    if begins.is_some_and(|begins| begins[..] > to.text()[..]) {
        return false;
    }
    let written = fs::metadata(path).and_then(|it| it.modified()).ok();
    let written = written.and_then(|it| it.duration_since(std::time::UNIX_EPOCH).ok());
    is_last || written.is_none_or(|it| it.as_micros() as i64 + 2_000_000 >= from.micros())
}

fn read(path: &Path, from: Time, to: Time, rows: &mut Rows) -> std::io::Result<()> {
    let (node, _) = Node::parse_file_name(&path.file_name().unwrap_or_default().to_string_lossy())
        .ok_or_else(|| std::io::Error::other("a segment lost its name"))?;
    let node = node.to_string();
    let (from, to) = (from.text(), to.text());
    let mut lines = Lines::of(path)?;
    while let Line::Whole(line) = lines.next()? {
        let Some(time) = time_of(line) else { break };
        if time < &from[..] || time > &to[..] {
            continue;
        }
        match parse(line) {
            Ok(record) => push(rows, &node, line, &record),
            Err(_) => break,
        }
    }
    Ok(())
}

/// The time of a line as it is written, without parsing the rest: times are ordered as their texts are.
fn time_of(line: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b",\"time\":\"";
    let at =
        line[..line.len().min(BEFORE_TIME + NAME.len())].windows(NAME.len()).position(|it| it == NAME)?;
    line.get(at + NAME.len()..at + NAME.len() + Time::LEN)
}

fn push(rows: &mut Rows, node: &str, line: &[u8], record: &Record) {
    let none = Event::new(Class::Audit, record.body.kind());
    let (event, is_event) = match &record.body {
        Body::Event(event) => (&**event, true),
        _ => (&none, false),
    };
    let note = match &record.body {
        Body::Checkpoint { note } | Body::Key { note } => Some(note.clone()),
        Body::Gap { lost, message } => Some(format!("{lost} lost: {}", message.to_str_lossy()).into()),
        Body::Crash(crash) => Some(format!("boot {}", crash.boot).into()),
        Body::Torn { pid } => Some(format!("process {pid}").into()),
        _ => event.message.clone(),
    };
    let texts: Vec<Option<String>> = [
        &event.session_user,
        &event.current_user,
        &event.app_user,
        &event.os_user,
        &event.statement,
        &event.purpose,
        &note,
        &event.client_addr,
        &event.application_name,
        &event.session_id,
        &event.database,
    ]
    .map(|text: &Option<Text>| text.as_ref().map(|it| it.to_str_lossy().into_owned()))
    .into();
    let text = |i: usize| texts[i].as_deref().map_or(Cell::Null, Cell::Text);
    let number = |number: Option<u64>| number.map_or(Cell::Null, |it| Cell::Number(it as i64));
    let (name, hash, prev) = (event.event.to_str_lossy(), hex(&leaf_hash(line)), hex(&record.prev));
    let objects = event.objects.iter().map(|it| it.to_str_lossy().into_owned()).collect::<Vec<_>>();
    rows.push(&[
        Cell::Number(record.seq as i64),
        Cell::Time(record.time.micros()),
        Cell::Text(record.body.kind()),
        if is_event { Cell::Text(event.class.as_str()) } else { Cell::Null },
        Cell::Text(&name),
        text(0),
        text(1),
        text(2),
        text(3),
        text(4),
        number(event.rows),
        number(event.revealed),
        text(5),
        number(event.xid),
        event.success.map_or(Cell::Null, Cell::Bool),
        event.sqlstate.as_ref().map_or(Cell::Null, |it| Cell::Text(it.as_str())),
        text(6),
        text(7),
        number(event.client_port.map(u64::from)),
        text(8),
        number(event.pid.map(u64::from)),
        text(9),
        text(10),
        if objects.is_empty() { Cell::Null } else { Cell::Texts(objects) },
        Cell::Text(node),
        Cell::Text(&prev),
        Cell::Text(&hash),
    ]);
}

fn time(timestamptz: i64) -> Time {
    Time::from_micros(timestamptz.saturating_add(EPOCH))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
