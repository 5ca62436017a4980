//! A request as it is kept: what is asked for, by whom, until when, and the MAC over all that.

use pgpci_core::access::Capability;
use pgpci_core::account::Control;
use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::custodian;
use super::policy::{self, Grant, Origin};
use crate::error::Result;
use crate::key::ring::Ring;
use crate::pg::{session, table};

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
    /// An account that a person has used becomes one that fewer controls hold for.
    Account,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Self::Grant,
        Self::DestroyKey,
        Self::ShredVault,
        Self::RewrapKeys,
        Self::WidenDisplay,
        Self::LengthenCryptoperiod,
        Self::Exempt,
        Self::Restore,
        Self::Account,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::DestroyKey => "destroy key",
            Self::ShredVault => "shred vault",
            Self::RewrapKeys => "rewrap keys",
            Self::WidenDisplay => "widen display",
            Self::LengthenCryptoperiod => "lengthen cryptoperiod",
            Self::Exempt => "exempt",
            Self::Restore => "begin restore",
            Self::Account => "set account",
        }
    }

    /// Whose second holder approves.
    pub fn duty(self) -> &'static str {
        match self {
            Self::Grant | Self::WidenDisplay | Self::Exempt | Self::Restore | Self::Account => "pci_officer",
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
    /// Until when; 0: for good.
    pub until: i64,
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

/// One that was filed.
pub struct Open {
    /// Its number.
    pub id: i32,
    /// What it asks for.
    pub request: Request,
    /// The name of who made it.
    pub requested_by: String,
    /// Who made it.
    pub requester: pg_sys::Oid,
    /// In microseconds of PostgreSQL's epoch.
    pub expires: i64,
    /// As it was written with it.
    pub mac: Vec<u8>,
}

impl Open {
    /// The MAC over what was asked, by whom, and until when; by names, as that of a grant.
    pub fn mac(&self, ring: &Ring) -> Result<[u8; 32]> {
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

/// What a row says, and in which state it is.
pub fn read(row: &table::Row) -> Option<(Open, String)> {
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
    if let (Some(control), Some(value)) = (text(26), row.get(27)) {
        let until = row.get(10).unwrap_or_default();
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
