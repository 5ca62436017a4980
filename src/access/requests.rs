//! Dual control: what weakens protection is a request, which a second holder of the duty approves.
//! Who that is, is decided by who authenticated, not by SET ROLE.

use std::sync::OnceLock;

use pgpci_core::access::Capability;
use pgpci_core::account::Control;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;

use super::policy::{self, Grant, Origin};
use super::{custodian, grant, require_direct, require_duty, tables, vaults};
use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::guc;
use crate::key::ring::Ring;
use crate::pg::call::{Call, Value};
use crate::pg::{catalog, session, table};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A grant of reveal or export.
    Grant,
    /// The end of a key.
    DestroyKey,
    /// The end of all keys of a vault.
    ShredVault,
    /// A weaker provider.
    RewrapKeys,
    /// A display rule that shows more.
    WidenDisplay,
    /// A longer cryptoperiod.
    LengthenCryptoperiod,
    /// Less than PCI DSS asks for of accounts.
    Exempt,
    /// Ready-made verifiers of passwords.
    Restore,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Self::Grant,
        Self::DestroyKey,
        Self::ShredVault,
        Self::RewrapKeys,
        Self::WidenDisplay,
        Self::LengthenCryptoperiod,
        Self::Exempt,
        Self::Restore,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::DestroyKey => "destroy key",
            Self::ShredVault => "shred vault",
            Self::RewrapKeys => "rewrap keys",
            Self::WidenDisplay => "widen display",
            Self::LengthenCryptoperiod => "lengthen cryptoperiod",
            Self::Exempt => "exempt",
            Self::Restore => "begin restore",
        }
    }

    /// Whose second holder approves.
    fn duty(self) -> &'static str {
        match self {
            Self::Grant | Self::WidenDisplay | Self::Exempt | Self::Restore => "pci_officer",
            Self::DestroyKey | Self::ShredVault | Self::RewrapKeys | Self::LengthenCryptoperiod => {
                custodian::DUTY
            }
        }
    }
}

/// What of accounts is to be weaker.
#[derive(Clone)]
pub struct Exempt {
    /// Whose; None: all.
    pub role: Option<pg_sys::Oid>,
    /// Which control.
    pub control: Control,
    /// What is to hold.
    pub value: i32,
    /// Until when.
    pub until: i64,
}

static ON_EXEMPTION: OnceLock<fn(&Request) -> Result<()>> = OnceLock::new();

/// Says what an approved exemption leads to; called once, while the library is preloaded.
pub fn on_exemption(then: fn(&Request) -> Result<()>) {
    let _ = ON_EXEMPTION.set(then);
}

/// A request; what does not belong to its kind is None.
#[derive(Clone)]
pub struct Request {
    /// What is asked for.
    pub kind: Kind,
    /// Why.
    pub reason: String,
    /// On which vault, by name.
    pub vault: Option<String>,
    /// Which key.
    pub key: Option<i64>,
    /// The grant.
    pub grant: Option<Grant>,
    /// The new provider.
    pub provider: Option<String>,
    /// The new wrapping key.
    pub kek: Option<String>,
    /// The new display rule.
    pub display: Option<(i32, i32)>,
    /// The new cryptoperiod.
    pub cryptoperiod: Option<Interval>,
    /// The exemption.
    pub exempt: Option<Exempt>,
}

impl Request {
    /// An empty one.
    pub fn new(kind: Kind, reason: String) -> Self {
        Self {
            kind,
            reason,
            vault: None,
            key: None,
            grant: None,
            provider: None,
            kek: None,
            display: None,
            cryptoperiod: None,
            exempt: None,
        }
    }
}

/// Files a request; returns its number.
pub fn open(request: &Request) -> Result<i32> {
    if request.reason.trim().is_empty() {
        return Err(Error::argument("a request needs a reason"));
    }
    let time = |t: Option<i64>| t.map(TimestampWithTimeZone::try_from).transpose();
    let time = |t| time(t).map_err(|_| Error::argument("a time is out of range"));
    let (grant, exempt) = (request.grant.as_ref(), request.exempt.as_ref());
    let ring = Ring::get()?;
    Spi::run("LOCK TABLE ONLY pci.request IN SHARE ROW EXCLUSIVE MODE")?;
    let id = Spi::get_one::<i32>("SELECT coalesce(max(id), 0) + 1 FROM ONLY pci.request")?
        .ok_or_else(|| Error::state("the request has no number"))?;
    let expires = session::now() + i64::from(guc::REQUEST_EXPIRY.get()) * 1_000_000;
    let open = Open {
        id,
        request: request.clone(),
        requested_by: me(),
        requester: session::user(),
        expires,
        mac: Vec::new(),
    };
    let mac = open.mac(&ring)?;
    tables::writing(|| {
        Spi::run_with_args(
            "INSERT INTO pci.request (id, kind, duty, reason, vault, key, role, capability, purposes, valid_from, valid_until, \
             max_per_hour, provider, kek, display_first, display_last, cryptoperiod, requested_by, requester, expires_at, mac, control, value) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)",
            &[
                id.into(),
                request.kind.as_str().into(),
                request.kind.duty().into(),
                request.reason.as_str().into(),
                request.vault.clone().into(),
                request.key.into(),
                grant.map(|g| g.role).or(exempt.and_then(|e| e.role)).into(),
                grant.map(|g| g.capability.clone()).into(),
                grant.and_then(|g| g.purposes.clone()).into(),
                time(grant.and_then(|g| g.valid_from))?.into(),
                time(grant.and_then(|g| g.valid_until).or(exempt.map(|e| e.until)))?.into(),
                grant.and_then(|g| g.max_per_hour).into(),
                request.provider.clone().into(),
                request.kek.clone().into(),
                request.display.map(|d| d.0).into(),
                request.display.map(|d| d.1).into(),
                request.cryptoperiod.into(),
                open.requested_by.as_str().into(),
                open.requester.into(),
                time(Some(expires))?.into(),
                mac.to_vec().into(),
                exempt.map(|e| e.control.as_str()).into(),
                exempt.map(|e| e.value).into(),
            ],
        )
        .map_err(Error::from)
    })?;
    catalog::changed("request");
    audit::record(Class::Policy, &format!("request {id}: {}", request.kind.as_str()));
    pgrx::notice!(
        "request {id} waits until another member of {} runs SELECT pci.approve({id})",
        request.kind.duty()
    );
    Ok(id)
}

/// `pci.approve(id)`
pub fn approve(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    let open = find(call.i32(0))?;
    require_duty(open.request.kind.duty())?;
    let ring = Ring::get()?;
    ring.require_active()?;
    if open.requester == session::user() || open.requested_by == me() {
        audit::record(Class::Denied, &format!("approval of own request {}", open.id));
        return Err(Error::denied("nobody approves a request of their own")
            .hint(format!("Another member of {} does.", open.request.kind.duty())));
    }
    let duty = session::role(open.request.kind.duty());
    if !duty.is_some_and(|duty| session::is_member(open.requester, duty)) {
        return Err(Error::state(format!(
            "\"{}\" made request {} and has not the duty any more",
            open.requested_by, open.id
        ))
        .hint("Reject it, and make it anew."));
    }
    if let Some(asked) = &open.request.grant
        && !session::role_exists(asked.role)
    {
        return Err(Error::state(format!("the role of request {} is gone", open.id)));
    }
    if open.mac(&ring)?.as_slice() != open.mac {
        audit::record(Class::Denied, &format!("approval of request {}: its MAC is wrong", open.id));
        return Err(Error::denied(format!("request {} is not as pgpci wrote it", open.id))
            .hint("Somebody else wrote it, or a role that it names has another name now: reject it, and make it anew."));
    }
    close(&open, "approved", None)?;
    match open.request.kind {
        Kind::Grant => {
            let asked = open.request.grant.as_ref();
            let asked = asked.ok_or_else(|| Error::state("the request names no grant"))?;
            ring.vault_named(&asked.vault)?;
            grant::write(&ring, asked)?;
        }
        Kind::WidenDisplay => grant::write_display(&ring, &open.request)?,
        Kind::LengthenCryptoperiod => vaults::write_cryptoperiod(&ring, &open.request)?,
        Kind::Exempt | Kind::Restore => {
            let then = ON_EXEMPTION.get().ok_or_else(|| Error::state("accounts are not kept here"))?;
            then(&open.request)?;
        }
        _ => custodian::approved(&open.request)?,
    }
    audit::record(
        Class::Policy,
        &format!("request {} of \"{}\" approved: {}", open.id, open.requested_by, open.request.kind.as_str()),
    );
    Ok(call.null())
}

/// `pci.reject(id, reason)`: by another holder of the duty, or by who made the request.
pub fn reject(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    let open = find(call.i32(0))?;
    require_duty(open.request.kind.duty())?;
    close(&open, "rejected", Some(&call.text(1)))?;
    audit::record(Class::Policy, &format!("request {} of \"{}\" rejected", open.id, open.requested_by));
    Ok(call.null())
}

/// A policy that arrived from elsewhere is accepted: what was open there was asked of others.
pub fn close_restored() -> Result<()> {
    tables::writing(|| {
        Spi::run_with_args(
            "UPDATE ONLY pci.request SET state = 'rejected', decided_by = $1, decided_at = clock_timestamp(), \
             decision_reason = 'restored from elsewhere' WHERE state = 'open'",
            &[me().into()],
        )
    })?;
    catalog::changed("request");
    Ok(())
}

struct Open {
    id: i32,
    request: Request,
    requested_by: String,
    requester: pg_sys::Oid,
    /// In microseconds of PostgreSQL's epoch.
    expires: i64,
    mac: Vec<u8>,
}

impl Open {
    /// The MAC over what was asked, by whom, and until when; by names, as that of a grant.
    fn mac(&self, ring: &Ring) -> Result<[u8; 32]> {
        let (request, grant, exempt) =
            (&self.request, self.request.grant.as_ref(), self.request.exempt.as_ref());
        let text = |t: &str| t.as_bytes().to_vec();
        let long = |n: i64| n.to_be_bytes().to_vec();
        let short = |n: i32| n.to_be_bytes().to_vec();
        let period = |i: &Interval| [short(i.months()), short(i.days()), long(i.micros())].concat();
        let fields: [Option<Vec<u8>>; 23] = [
            Some(short(self.id)),
            Some(text(request.kind.as_str())),
            Some(text(&request.reason)),
            request.vault.as_deref().map(text),
            request.key.map(long),
            grant.map(|g| text(&session::role_name(g.role))),
            grant.map(|g| text(&g.capability)),
            grant.and_then(|g| g.purposes.as_ref()).map(|p| text(&p.join("\u{1f}"))),
            grant.and_then(|g| g.valid_from).map(long),
            grant.and_then(|g| g.valid_until).map(long),
            grant.and_then(|g| g.max_per_hour).map(short),
            request.provider.as_deref().map(text),
            request.kek.as_deref().map(text),
            request.display.map(|d| short(d.0)),
            request.display.map(|d| short(d.1)),
            request.cryptoperiod.as_ref().map(period),
            Some(text(&self.requested_by)),
            Some(text(&session::role_name(self.requester))),
            Some(long(self.expires)),
            exempt.and_then(|e| e.role).map(|role| text(&session::role_name(role))),
            exempt.map(|e| text(e.control.as_str())),
            exempt.map(|e| short(e.value)),
            exempt.map(|e| long(e.until)),
        ];
        policy::mac(ring, Origin::here(), &fields.each_ref().map(Option::as_deref))
    }
}

/// 55000 unless it is open and has not expired.
fn find(id: i32) -> Result<Open> {
    let catalog = catalog::get().ok_or_else(|| Error::state("pgpci is not set up in this database"))?;
    let mut found = None;
    table::scan(catalog.table("request"), |row| {
        if row.get::<i32>(0) == Some(id) {
            found = read(&row);
        }
    });
    let (open, state) = found.ok_or_else(|| {
        Error::argument("there is no request of this number").hint("See the view pci.requests.")
    })?;
    if state != "open" {
        return Err(Error::state(format!("request {id} is {state} already")));
    }
    if open.expires <= session::now() {
        return Err(Error::state(format!("request {id} has expired")).hint("Make it anew."));
    }
    Ok(open)
}

fn read(row: &table::Row) -> Option<(Open, String)> {
    let text = |i| row.get::<String>(i);
    let kind = Kind::ALL.into_iter().find(|kind| Some(kind.as_str().to_owned()) == text(1))?;
    let mut request = Request::new(kind, text(3)?);
    (request.vault, request.key) = (text(4), row.get(5));
    if let (Some(role), Some(vault), Some(capability)) = (row.get(6), text(4), text(7)) {
        let mut grant = Grant::new(role, &vault, Capability::parse(&capability)?);
        grant.purposes = row.get::<Vec<Option<String>>>(8).map(|p| p.into_iter().flatten().collect());
        (grant.valid_from, grant.valid_until, grant.max_per_hour) = (row.get(9), row.get(10), row.get(11));
        request.grant = Some(grant);
    }
    (request.provider, request.kek) = (text(12), text(13));
    request.display = row.get(14).zip(row.get(15));
    request.cryptoperiod = row.get(24);
    if let (Some(control), Some(value), Some(until)) = (text(26), row.get(27), row.get(10)) {
        request.exempt = Some(Exempt { role: row.get(6), control: Control::parse(&control)?, value, until });
    }
    let open = Open {
        id: row.get(0)?,
        request,
        requested_by: text(16)?,
        requester: row.get(17)?,
        expires: row.get(19)?,
        mac: row.get(25).unwrap_or_default(),
    };
    Some((open, text(20)?))
}

/// Two approvals at a time: the second waits for the first, and finds it closed.
fn close(open: &Open, state: &str, reason: Option<&str>) -> Result<()> {
    let closed = tables::writing(|| {
        Spi::get_one_with_args::<i32>(
            "UPDATE ONLY pci.request SET state = $2, decided_by = $3, decided_at = clock_timestamp(), decision_reason = $4 \
             WHERE id = $1 AND state = 'open' RETURNING id",
            &[open.id.into(), state.into(), me().into(), reason.into()],
        )
    });
    catalog::changed("request");
    match closed {
        Ok(Some(_)) => Ok(()),
        _ => Err(Error::state(format!("request {} is not open any more", open.id))),
    }
}

fn me() -> String {
    session::role_name(session::user())
}
