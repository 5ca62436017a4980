//! A role gets a password: may it be this one, and what is kept of it afterwards. Nothing is kept before PostgreSQL has
//! allowed and done the change, and all of it goes with the transaction.

use std::cell::RefCell;

use pgpci_core::account::{self, Account, Control, History, Kind};
use pgpci_core::password::{
    MAX_ITERATIONS, MIN_ITERATIONS, Prepared, Verifier, Weakness, looks_like_verifier,
};
use pgrx::{PgSqlErrorCode, pg_sys};

use super::limits::Limits;
use super::{exemptions, first_use, is_in_force, lockout, rules, state};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::guc;
use crate::key::{cluster, nonce};
use crate::pg::local::Local;
use crate::pg::role::{self, Statement};
use crate::pg::session;

const MINUTE: i64 = 60_000_000;

/// A statement about a role that is running.
#[derive(Default)]
struct Running {
    /// What the role was before; None: it is being made.
    before: Option<(pg_sys::Oid, role::Role)>,
    /// The name of a role that is being made.
    name: Vec<u8>,
    /// Tells the password that it is given, in clear, from others.
    given: Option<[u8; 16]>,
    /// What it gets was looked at.
    is_checked: bool,
    /// It gets a verifier that a restore brings: of a password that its user chose.
    is_restored: bool,
}

static RUNNING: Local<RefCell<Option<Running>>> = Local::new(RefCell::new(None));

/// A utility statement is about to run; it may yet be refused.
pub fn begins(node: *mut pg_sys::Node) {
    if !role::is_about_roles(node) {
        return;
    }
    // What an earlier one left that failed.
    RUNNING.set(None);
    let running = match role::statement(node) {
        None => return,
        Some(Statement::Creates(name)) => Running { name, ..Running::default() },
        Some(Statement::Alters { role, .. } | Statement::Renames(role)) => {
            if is_in_force() {
                state::begins_to_change(role);
            }
            Running { before: role::read(role).map(|it| (role, it)), ..Running::default() }
        }
    };
    RUNNING.set(Some(running));
}

/// PostgreSQL is about to store this password, or a verifier made of one.
pub fn check(name: &[u8], password: &[u8], is_verifier: bool) -> Result<()> {
    RUNNING.with_borrow_mut(|running| {
        if let Some(running) = running {
            running.is_checked = true;
        }
    });
    let role = session::role_by_name(name);
    let name = &*String::from_utf8_lossy(name);
    let is_kept = is_in_force();
    let account = match role {
        Some(role) if is_kept => state::to_change(role)?,
        _ => Account::default(),
    };
    let present = role.and_then(role::read).and_then(|it| Verifier::parse(it.password.as_deref()?, name));
    let history = match is_kept && !account.sealed.is_empty() {
        true => cluster::with(|key| Ok(account.history(key)?))?,
        false => History::default(),
    };
    let limits = Limits::of(&account);
    let keep = kept(&limits).saturating_sub(1);
    let past: Vec<&Verifier> = present.iter().chain(history.past.iter().take(keep)).collect();
    if is_verifier {
        return check_verifier(name, &String::from_utf8_lossy(password), account.kind, is_kept, &past);
    }
    rules::check_way()?;
    if looks_like_verifier(&String::from_utf8_lossy(password)) {
        return Err(rules::refuse(Weakness::Malformed));
    }
    check_storage()?;
    let password = Prepared::new(password);
    rules::check(&password, name, &limits)?;
    if past.iter().any(|old| old.matches(&password)) {
        return Err(rules::refuse(Weakness::Reused));
    }
    if is_kept && role == Some(session::user()) {
        check_age(&account)?;
    } else if is_kept {
        let given = cluster::with(|key| Ok(account::given(key, &password)))?;
        check_unique(role, given)?;
        RUNNING.with_borrow_mut(|running| {
            if let Some(running) = running {
                running.given = Some(given);
            }
        });
    }
    Ok(())
}

/// The statement has run.
pub fn ends(node: *mut pg_sys::Node) -> Result<()> {
    // What encloses it ends, too, even where it failed and that was caught.
    if !role::is_about_roles(node) {
        return Ok(());
    }
    let Some(running) = RUNNING.take() else { return Ok(()) };
    role::command_counter_increment();
    let role =
        running.before.as_ref().map(|(role, _)| *role).or_else(|| session::role_by_name(&running.name));
    let Some((role, now)) = role.and_then(|role| Some((role, role::read(role)?))) else { return Ok(()) };
    let before = running.before.as_ref().map(|(_, before)| before);
    let old = before.as_ref().and_then(|it| it.password.as_deref());
    let has_new_password = now.password.as_deref() != old;
    if has_new_password && now.password.is_some() && !running.is_checked {
        return Err(Error::state("another library has kept pgpci from checking the password")
            .hint("Put pgpci at the end of shared_preload_libraries, and restart the server."));
    }
    if !is_in_force() {
        return Ok(());
    }
    let old_name = before.as_ref().map_or(&now.name, |it| &it.name);
    let is_renamed = *old_name != now.name;
    let is_untouched =
        !is_renamed && !has_new_password && now.valid_until == before.as_ref().and_then(|it| it.valid_until);
    if is_untouched {
        return Ok(());
    }
    let mut account = state::to_change_as(role, old_name)?;
    if is_renamed && state::is_kept(role) {
        // What is kept of it is bound to its name.
        state::put(role, &account)?;
    }
    lockout::keep_locked(role, &now, &mut account)?;
    if !has_new_password {
        return Ok(());
    }
    let is_own = role == session::user();
    let had = before.as_ref().and_then(|it| Verifier::parse(it.password.as_deref()?, &it.name));
    let given = running.given.filter(|_| !is_own);
    let is_changed = had.is_some() || given.is_some() || !account.sealed.is_empty();
    if is_changed {
        let keep = kept(&Limits::of(&account)).saturating_sub(1);
        let mut fresh = [0; 24];
        nonce::fill(&mut fresh)?;
        cluster::with(|key| {
            let mut history = account.history(key)?;
            if let Some(had) = had {
                history.push(had, keep);
            }
            history.given = given;
            account.set_history(key, &fresh, &history);
            Ok(())
        })?;
    }
    // A renamed role loses its MD5 password; nobody has chosen anything.
    if now.password.is_some() {
        account.changed_at = session::now();
        // One that may not log in now may later.
        account.must_change = !is_own && !running.is_restored && account.kind.is_human();
    }
    state::put(role, &account)?;
    if is_own {
        first_use::changed();
    }
    let whose = if is_own { "its own password" } else { "the password of another" };
    audit::record(Class::Policy, &format!("role \"{}\": {whose} changed", now.name));
    Ok(())
}

/// How many passwords the next one must differ from.
fn kept(limits: &Limits<'_>) -> usize {
    usize::try_from(limits.get(Control::History)).unwrap_or(4)
}

/// A verifier tells little of its password: it is for machines, which have random ones. While nothing is in force yet, a
/// restore brings what was accepted elsewhere.
fn check_verifier(name: &str, text: &str, kind: Kind, is_kept: bool, past: &[&Verifier]) -> Result<()> {
    let verifier = Verifier::parse(text, name).ok_or_else(|| rules::refuse(Weakness::Malformed))?;
    match verifier.check() {
        Err(Weakness::Md5) if !is_kept => return Ok(()),
        Err(weakness) => return Err(rules::refuse(weakness)),
        Ok(()) if !is_kept => return Ok(()),
        Ok(()) => {}
    }
    if exemptions::is_restoring() {
        RUNNING.with_borrow_mut(|running| {
            if let Some(running) = running {
                running.is_restored = true;
            }
        });
        audit::record(Class::Policy, &format!("role \"{name}\": ready-made verifier taken in a restore"));
        return Ok(());
    }
    if kind != Kind::Service || !guc::SERVICE_VERIFIERS.get() {
        audit::record(Class::Denied, &format!("ready-made password verifier for role \"{name}\""));
        return Err(Error::argument("a ready-made password verifier is not accepted for this role").hint(
            "Connect over TLS and run ALTER ROLE … PASSWORD with the password itself; psql's \\password sends a verifier.",
        ));
    }
    if past.iter().any(|old| old.is_same(&verifier)) {
        return Err(rules::refuse(Weakness::Reused));
    }
    Ok(())
}

/// Users may set how their passwords are stored, but not weaker than PostgreSQL does by itself.
fn check_storage() -> Result<()> {
    if role::stores_md5() {
        return Err(Error::argument("passwords are not stored as MD5")
            .hint("SET password_encryption = 'scram-sha-256', then set the password."));
    }
    if role::scram_iterations().is_some_and(|it| it > MAX_ITERATIONS) {
        return Err(rules::refuse(Weakness::ManyIterations)
            .hint(format!("SET scram_iterations = {MIN_ITERATIONS}, then set the password.")));
    }
    if role::scram_iterations().is_some_and(|it| it < MIN_ITERATIONS) {
        return Err(Error::argument("passwords are not stored with so few iterations")
            .hint(format!("SET scram_iterations = {MIN_ITERATIONS}, then set the password.")));
    }
    Ok(())
}

/// Who could change a password as often as they like would soon be back at the old one.
fn check_age(account: &Account) -> Result<()> {
    let min_age = i64::from(guc::PASSWORD_MIN_AGE.get()) * MINUTE;
    let is_young = account.changed_at != 0 && session::now().saturating_sub(account.changed_at) < min_age;
    if is_young && account.kind.is_human() && !account.must_change {
        return Err(Error::state("the password was changed too recently")
            .hint("pgpci.password_min_age says how long it is kept; somebody else may reset it."));
    }
    Ok(())
}

/// A password that somebody gives to another is given to nobody else (PCI DSS 8.3.5).
fn check_unique(role: Option<pg_sys::Oid>, given: [u8; 16]) -> Result<()> {
    let others = state::all().into_iter().filter(|(other, it)| Some(*other) != role && !it.sealed.is_empty());
    let is_known = cluster::with(|key| {
        Ok(others.into_iter().any(|(_, it)| it.history(key).is_ok_and(|it| it.given == Some(given))))
    })?;
    if is_known {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "the same password was given to another role",
        )
        .hint("Give each role one of its own; a random one is best."));
    }
    Ok(())
}
