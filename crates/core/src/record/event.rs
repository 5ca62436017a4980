//! Something that was done in the database.

use std::borrow::Cow;

/// A text in any encoding, mostly UTF-8.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text<'a>(Cow<'a, [u8]>);

impl Text<'_> {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text with what is not UTF-8 replaced.
    pub fn to_str_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.to_str_lossy())
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Text(Cow::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Text(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Text(Cow::Owned(text.into_bytes()))
    }
}

/// A list of objects, the caller's or parsed.
#[derive(Clone)]
pub enum Objects<'a> {
    /// The caller's.
    Borrowed(&'a [Text<'a>]),
    /// Parsed.
    Owned(Vec<Text<'a>>),
}

impl<'a> std::ops::Deref for Objects<'a> {
    type Target = [Text<'a>];

    fn deref(&self) -> &[Text<'a>] {
        match self {
            Objects::Borrowed(objects) => objects,
            Objects::Owned(objects) => objects,
        }
    }
}

impl Default for Objects<'_> {
    fn default() -> Self {
        Objects::Borrowed(&[])
    }
}

impl PartialEq for Objects<'_> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Objects<'_> {}

impl std::fmt::Debug for Objects<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self[..].fmt(f)
    }
}

/// What kind of thing was done (the type of event of PCI DSS 10.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Class {
    Read,
    Write,
    Ddl,
    Role,
    Grant,
    Auth,
    Reveal,
    Key,
    Policy,
    Audit,
    Config,
    Copy,
    Function,
    Replication,
    Session,
}

impl Class {
    /// Every class, in the order of the manual.
    pub const ALL: [Class; 15] = [
        Self::Read,
        Self::Write,
        Self::Ddl,
        Self::Role,
        Self::Grant,
        Self::Auth,
        Self::Reveal,
        Self::Key,
        Self::Policy,
        Self::Audit,
        Self::Config,
        Self::Copy,
        Self::Function,
        Self::Replication,
        Self::Session,
    ];

    /// The name in the trail and in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Ddl => "DDL",
            Self::Role => "ROLE",
            Self::Grant => "GRANT",
            Self::Auth => "AUTH",
            Self::Reveal => "REVEAL",
            Self::Key => "KEY",
            Self::Policy => "POLICY",
            Self::Audit => "AUDIT",
            Self::Config => "CONFIG",
            Self::Copy => "COPY",
            Self::Function => "FUNCTION",
            Self::Replication => "REPLICATION",
            Self::Session => "SESSION",
        }
    }

    /// The class of that exact name.
    pub fn parse(name: &str) -> Option<Class> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

/// An SQLSTATE: five digits or upper-case letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sqlstate([u8; 5]);

impl Sqlstate {
    /// The state of that text, if it is one.
    pub fn new(text: &[u8]) -> Option<Sqlstate> {
        let text: [u8; 5] = text.try_into().ok()?;
        text.iter().all(|it| it.is_ascii_digit() || it.is_ascii_uppercase()).then_some(Sqlstate(text))
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

/// An event. Statement and message come redacted ([`mod@crate::redact`]). An empty field is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// Who: the authenticated user.
    pub session_user: Option<Text<'a>>,
    /// Who: the user whose rights counted, if another.
    pub current_user: Option<Text<'a>>,
    /// Who: the application's end user, from `pgpci.app_user`.
    pub app_user: Option<Text<'a>>,
    /// Who: the identity that the authentication method established, or the peer's system user.
    pub os_user: Option<Text<'a>>,
    /// What: the class.
    pub class: Class,
    /// What: the command tag or the name of the event.
    pub event: Text<'a>,
    /// What: the statement, redacted.
    pub statement: Option<Text<'a>>,
    /// The whole length in bytes of a statement that was cut before it came here.
    pub statement_bytes: Option<u64>,
    /// What: rows read or changed.
    pub rows: Option<u64>,
    /// What: card numbers revealed.
    pub revealed: Option<u64>,
    /// What for, as given to `pci.reveal`.
    pub purpose: Option<Text<'a>>,
    /// The transaction, a full transaction id.
    pub xid: Option<u64>,
    /// Success or failure; absent while unknown: an intent, closed by the record of the same `xid`.
    pub success: Option<bool>,
    /// The failure's SQLSTATE.
    pub sqlstate: Option<Sqlstate>,
    /// The failure's message, redacted.
    pub message: Option<Text<'a>>,
    /// Source: address of the client, or `[local]`.
    pub client_addr: Option<Text<'a>>,
    /// Source: port of the client.
    pub client_port: Option<u16>,
    /// Source: what the client says that it is.
    pub application_name: Option<Text<'a>>,
    /// Source: process id of the session's process.
    pub pid: Option<u32>,
    /// Source: the session, unique on its node.
    pub session_id: Option<Text<'a>>,
    /// Object: the database.
    pub database: Option<Text<'a>>,
    /// Objects: tables, columns, roles, keys, settings.
    pub objects: Objects<'a>,
    /// How many objects there were, if the list was cut before it came here.
    pub objects_total: Option<u64>,
}

impl<'a> Event<'a> {
    /// An event of which nothing else is known.
    pub fn new(class: Class, event: impl Into<Text<'a>>) -> Self {
        Event {
            session_user: None,
            current_user: None,
            app_user: None,
            os_user: None,
            class,
            event: event.into(),
            statement: None,
            statement_bytes: None,
            rows: None,
            revealed: None,
            purpose: None,
            xid: None,
            success: None,
            sqlstate: None,
            message: None,
            client_addr: None,
            client_port: None,
            application_name: None,
            pid: None,
            session_id: None,
            database: None,
            objects: Objects::default(),
            objects_total: None,
        }
    }
}
