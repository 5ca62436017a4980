//! Policy rows: read once, again after a change, and believed only with their MAC.
//!
//! What needs a key anyway (store, reveal, look-up by digits) verifies the MAC of every row. Where the key is
//! not at hand, comparing stored values and export go by the rows alone: those work without keys, and the
//! table accepts no row but from our own functions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgpci_core::access::Capability;
use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::key::ring::{Key, Ring};
use crate::key::{self, fresh};
use crate::pg::{catalog, session, table};

/// One row of `pci.access_grant`.
#[derive(Clone)]
pub struct Grant {
    /// To whom.
    pub role: pg_sys::Oid,
    /// On which vault, by name.
    pub vault: String,
    /// What.
    pub capability: String,
    /// For which purposes; None: any.
    pub purposes: Option<Vec<String>>,
    /// From when, in microseconds of PostgreSQL's epoch.
    pub valid_from: Option<i64>,
    /// Until when.
    pub valid_until: Option<i64>,
    /// How many values an hour.
    pub max_per_hour: Option<i32>,
    mac: Vec<u8>,
    is_authentic: Cell<bool>,
}

impl Grant {
    /// Whether the time is within the grant's limits.
    pub fn is_valid(&self, now: i64) -> bool {
        self.valid_from.is_none_or(|t| t <= now) && self.valid_until.is_none_or(|t| now < t)
    }

    /// What both grants allow: of who logged in, and of the owner of the code that asks.
    fn within(&self, owners: &Self) -> Self {
        let purposes = match (&self.purposes, &owners.purposes) {
            (Some(own), Some(other)) => Some(own.iter().filter(|p| other.contains(p)).cloned().collect()),
            (own, other) => own.clone().or_else(|| other.clone()),
        };
        Self {
            purposes,
            // None is less than any time.
            valid_from: self.valid_from.max(owners.valid_from),
            valid_until: [self.valid_until, owners.valid_until].into_iter().flatten().min(),
            max_per_hour: [self.max_per_hour, owners.max_per_hour].into_iter().flatten().min(),
            ..self.clone()
        }
    }

    /// A grant to be written.
    pub fn new(role: pg_sys::Oid, vault: &str, capability: Capability) -> Self {
        Self {
            role,
            vault: vault.to_owned(),
            capability: capability.as_str().to_owned(),
            purposes: None,
            valid_from: None,
            valid_until: None,
            max_per_hour: None,
            mac: Vec::new(),
            is_authentic: Cell::new(true),
        }
    }

    /// The MAC over what the row says, by names, bound to a database of a cluster.
    pub fn mac(&self, ring: &Ring, origin: Origin) -> Result<[u8; 32]> {
        let role = session::role_name(self.role);
        let purposes = self.purposes.as_ref().map(|p| p.join("\u{1f}"));
        let from = self.valid_from.map(i64::to_be_bytes);
        let until = self.valid_until.map(i64::to_be_bytes);
        let max = self.max_per_hour.map(i32::to_be_bytes);
        let fields: [Option<&[u8]>; 7] = [
            Some(role.as_bytes()),
            Some(self.vault.as_bytes()),
            Some(self.capability.as_bytes()),
            purposes.as_ref().map(String::as_bytes),
            from.as_ref().map(|b| b.as_slice()),
            until.as_ref().map(|b| b.as_slice()),
            max.as_ref().map(|b| b.as_slice()),
        ];
        mac(ring, origin, &fields)
    }

    /// Whether it carries its MAC, as a database of a cluster gave it one.
    pub fn is_authentic_from(&self, ring: &Ring, origin: Origin) -> Result<bool> {
        Ok(session::role_exists(self.role) && self.mac(ring, origin)?.as_slice() == self.mac)
    }
}

/// The database, and the cluster, that a MAC is bound to.
#[derive(Clone, Copy)]
pub struct Origin {
    /// The cluster's system identifier.
    pub cluster: u64,
    /// The database's OID.
    pub database: pg_sys::Oid,
}

impl Origin {
    /// This one.
    pub fn here() -> Self {
        Self { cluster: session::system_identifier(), database: session::database() }
    }
}

/// The MAC, under the policy key, over fields of a row. Tables whose rows have one have different numbers of fields.
pub fn mac(ring: &Ring, origin: Origin, fields: &[Option<&[u8]>]) -> Result<[u8; 32]> {
    let (cluster, database) = (origin.cluster.to_be_bytes(), origin.database.to_u32().to_be_bytes());
    let mut all = vec![Some(&cluster[..]), Some(&database[..])];
    all.extend_from_slice(fields);
    key::with_policy(ring, |key| key.mac(&all))
}

struct Policy {
    grants: Vec<Grant>,
    verified: Cell<bool>,
}

impl Policy {
    /// Whether a row says that the authenticated user has the capability; nothing is proven yet.
    fn may_reach(&self, ring: &Ring, capability: Capability, vault: i32) -> bool {
        let Ok(vault) = ring.vault(vault) else { return false };
        session::has_client()
            && self.grants.iter().any(|g| {
                g.capability == capability.as_str()
                    && g.vault == vault.name
                    && g.is_authentic.get()
                    && session::is_member(session::user(), g.role)
            })
    }
}

thread_local! {
    static POLICY: RefCell<Option<(u64, Rc<Policy>)>> = const { RefCell::new(None) };
}

/// The grants of the capability on the vault that reach the authenticated user, in force or not yet or no more.
pub fn grants(capability: Capability, vault: i32) -> Result<Vec<Grant>> {
    let ring = Ring::get()?;
    ring.require_active()?;
    if matches!(capability, Capability::Store | Capability::Reveal) {
        let policy = get()?;
        if !policy.verified.get() {
            if capability == Capability::Store
                && !fresh::is_encrypt_only()
                && !key::policy_is_cached(&ring)
                && policy.may_reach(&ring, capability, vault)
            {
                key::fetch_to_store(&ring, vault);
            }
            // A node that only encrypts cannot have the key: it goes by the rows, which only our functions write.
            if !fresh::is_encrypt_only() {
                verify(&ring, &policy)?;
            }
        }
    }
    rows_granting(capability, vault)
}

/// A stored value of a vault is about to be revealed: has its key fetched in the background, if a row lets the user reveal
/// there. It comes while the rows are verified and the trail is written, and is used after both.
pub fn expect_reveal(ring: &Ring, key: &Key) -> Result<()> {
    if !key::is_ready(key)
        && !fresh::is_encrypt_only()
        && get()?.may_reach(ring, Capability::Reveal, key.vault)
    {
        key::fetch_ahead(ring, key);
    }
    Ok(())
}

/// The same by the rows alone, where their MAC cannot be verified without asking for a key.
pub fn rows_granting(capability: Capability, vault: i32) -> Result<Vec<Grant>> {
    let ring = Ring::get()?;
    ring.require_active()?;
    let policy = get()?;
    if !policy.verified.get() && key::policy_is_cached(&ring) {
        verify(&ring, &policy)?;
    }
    // Autovacuum and other workers run code of anybody's as somebody else: nothing is granted to them.
    if !session::has_client() {
        return Ok(Vec::new());
    }
    let vault = &ring.vault(vault)?.name;
    let (user, current) = (session::user(), session::current_user());
    let reaching = |member| {
        policy.grants.iter().filter(move |g| {
            g.is_authentic.get()
                && g.capability == capability.as_str()
                && g.vault == *vault
                && session::is_member(member, g.role)
        })
    };
    // What leaves in clear or sealed must be granted to the owner of the code that asks, too: else a SECURITY
    // DEFINER function of somebody else's takes the digits of whoever calls it.
    let leaves = matches!(capability, Capability::Reveal | Capability::Export);
    if !leaves || current == user {
        return Ok(reaching(user).cloned().collect());
    }
    Ok(reaching(user).flat_map(|g| reaching(current).map(|owners| g.within(owners))).collect())
}

/// Every row, for `pci.accept_policy`.
pub fn rows() -> Vec<Grant> {
    let mut grants = Vec::new();
    let Some(catalog) = catalog::get() else {
        return grants;
    };
    table::scan(catalog.table("access_grant"), |row| {
        grants.push(Grant {
            role: row.get(0).unwrap_or(pg_sys::InvalidOid),
            vault: row.get(1).unwrap_or_default(),
            capability: row.get(2).unwrap_or_default(),
            purposes: row.get::<Vec<Option<String>>>(3).map(|p| p.into_iter().flatten().collect()),
            valid_from: row.get::<i64>(4),
            valid_until: row.get::<i64>(5),
            max_per_hour: row.get(6),
            mac: row.get(7).unwrap_or_default(),
            is_authentic: Cell::new(true),
        });
    });
    grants
}

fn get() -> Result<Rc<Policy>> {
    let generation = catalog::generation();
    if let Some(p) =
        POLICY.with_borrow(|p| p.as_ref().filter(|(g, _)| *g == generation).map(|(_, p)| p.clone()))
    {
        return Ok(p);
    }
    if !session::can_read_catalog() {
        return Err(
            Error::state("the card data policy changed and cannot be read now").hint("Connect again.")
        );
    }
    let policy = Rc::new(Policy { grants: rows(), verified: Cell::new(false) });
    POLICY.set(Some((generation, policy.clone())));
    Ok(policy)
}

/// Rows that do not carry their MAC count for nothing: written by somebody else, or their role was renamed.
fn verify(ring: &Ring, policy: &Policy) -> Result<()> {
    for grant in &policy.grants {
        if !grant.is_authentic.get() {
            continue;
        }
        let authentic = grant.is_authentic_from(ring, Origin::here())?;
        if !authentic {
            pgrx::log!(
                "pgpci: the grant of {} on vault \"{}\" to role {} does not count: its MAC is wrong",
                grant.capability,
                grant.vault,
                grant.role.to_u32()
            );
        }
        grant.is_authentic.set(authentic);
    }
    policy.verified.set(true);
    Ok(())
}
