//! What a password must be like.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use pgpci_core::account::Control;
use pgpci_core::password::{Policy, Prepared, Weakness};
use pgrx::PgSqlErrorCode;

use super::limits::Limits;
use super::state;
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::call::{Call, Value, varlena};
use crate::pg::local::Local;
use crate::pg::{port, session};

/// More is not read of a file of banned passwords.
const MAX_BANNED: u64 = 16 << 20;

/// `pci.check_password(password)`: what would be wrong with it for the user, a line each; NULL if nothing. Nothing of it is
/// stored.
pub fn check_password(call: &mut Call) -> Result<Value> {
    check_way()?;
    let password = Prepared::new(call.bytes(0));
    let account = state::get(session::user());
    let wrong = weaknesses(&password, &session::role_name(session::user()), &Limits::of(&account))?;
    if wrong.is_empty() {
        return Ok(call.null());
    }
    let lines: Vec<String> = wrong.iter().map(|it| format!("{it}: {}", it.hint())).collect();
    Ok(varlena(lines.join("\n").as_bytes()))
}

/// 28000 where whoever listens on the network has the password, too (PCI DSS 8.3.2). It should not be used any more then.
pub fn check_way() -> Result<()> {
    if !guc::REQUIRE_ENCRYPTED_PASSWORDS.get() || !port::can_be_overheard() {
        return Ok(());
    }
    let message = "a password is not taken over a connection that is not encrypted";
    Err(Error::new(PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, message)
        .hint("Connect with sslmode=require, or on the server itself, and choose another password: this one may have been read."))
}

/// 22023 unless the password may be one of the role's, as far as can be told by looking at it.
pub fn check(password: &Prepared, role: &str, limits: &Limits<'_>) -> Result<()> {
    let wrong = weaknesses(password, role, limits)?;
    let Some(first) = wrong.first() else { return Ok(()) };
    let hints: Vec<String> = wrong.iter().map(|it| it.hint()).collect();
    Err(Error::argument(first.to_string()).hint(hints.join(" ")))
}

/// The error that a weakness is.
pub fn refuse(weakness: Weakness) -> Error {
    Error::argument(weakness.to_string()).hint(weakness.hint())
}

fn weaknesses(password: &Prepared, role: &str, limits: &Limits<'_>) -> Result<Vec<Weakness>> {
    let policy = Policy {
        min_length: usize::try_from(limits.get(Control::MinLength)).unwrap_or(usize::MAX),
        upper: guc::PASSWORD_REQUIRE_UPPER.get(),
        lower: guc::PASSWORD_REQUIRE_LOWER.get(),
        special: guc::PASSWORD_REQUIRE_SPECIAL.get(),
    };
    Ok(policy.check(password, role, banned()?.lines()))
}

/// A file as it was when it was read.
struct Banned {
    path: PathBuf,
    /// Device, inode, size, and when it was last changed.
    state: (u64, u64, u64, i64, i64),
    lines: Rc<str>,
}

static BANNED: Local<RefCell<Option<Banned>>> = Local::new(RefCell::new(None));

/// The site's own, read once a session, and again when the file has changed.
fn banned() -> Result<Rc<str>> {
    let Some(path) = guc::BANNED_PASSWORDS_FILE.get().filter(|path| !path.is_empty()) else {
        return Ok("".into());
    };
    let path = PathBuf::from(&*path.to_string_lossy());
    read(&path).map_err(|error| {
        Error::key(format!("the file of banned passwords cannot be read: {}", error.kind()))
            .hint("pgpci.banned_passwords_file names it.")
    })
}

fn read(path: &Path) -> std::io::Result<Rc<str>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    let state = (about.dev(), about.ino(), about.size(), about.mtime(), about.mtime_nsec());
    let known = BANNED.with_borrow(|known| {
        known.as_ref().filter(|it| it.path == path && it.state == state).map(|it| it.lines.clone())
    });
    if let Some(lines) = known {
        return Ok(lines);
    }
    let mut bytes = Vec::new();
    file.take(MAX_BANNED).read_to_end(&mut bytes)?;
    let lines: Rc<str> = String::from_utf8_lossy(&bytes).into();
    BANNED.set(Some(Banned { path: path.into(), state, lines: lines.clone() }));
    Ok(lines)
}
