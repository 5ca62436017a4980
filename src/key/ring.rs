//! What the tables say about the installation, its vaults and their keys: read once, again after a change.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use pgpci_core::key::{Context, KeyId, KeyState, Purpose};

use crate::error::{Error, Result};
use crate::key::installed;
use crate::pg::local::Local;
use crate::pg::{catalog, session, table};

/// The vault number of keys that belong to none.
pub const NO_VAULT: i32 = 0;
/// The vault that digits go to when no column says otherwise.
pub const DEFAULT_VAULT: i32 = 1;

/// A vault as `pci.vault` has it.
pub struct Vault {
    /// Its number: the type modifier.
    pub number: i32,
    /// Its name.
    pub name: String,
    /// Who wraps its keys.
    pub provider: String,
    /// With which wrapping key.
    pub kek: String,
    /// Digits shown at the front and at the back, at most.
    pub display: (u8, u8),
    /// Whether values carry an equality hash.
    pub searchable: bool,
    /// For how long a data key is used, in microseconds; a month counts 30 days.
    pub cryptoperiod: i64,
}

impl Vault {
    /// 0A000 where values carry no equality hash.
    pub fn require_searchable(&self) -> Result<()> {
        if self.searchable {
            return Ok(());
        }
        Err(Error::new(
            pgrx::PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("card numbers of vault \"{}\" cannot be compared or looked up", self.name),
        )
        .hint("The vault was made unsearchable; move its values to a searchable vault to look them up."))
    }
}

/// The form of a key that waits to be confirmed.
#[derive(Clone)]
pub struct Next {
    /// Who is to unwrap it.
    pub provider: String,
    /// With which wrapping key.
    pub kek: String,
    /// The key, wrapped.
    pub wrapped: Vec<u8>,
}

/// A key as `pci.key` has it.
#[derive(Clone)]
pub struct Key {
    /// Identifier, random and unique everywhere.
    pub id: KeyId,
    /// Its vault.
    pub vault: i32,
    /// What it is for.
    pub purpose: Purpose,
    /// Version within vault and purpose.
    pub version: i32,
    /// SP 800-57 state.
    pub state: KeyState,
    /// Who unwraps it.
    pub provider: String,
    /// With which wrapping key.
    pub kek: String,
    /// The key, wrapped.
    pub wrapped: Vec<u8>,
    /// Key check value.
    pub check: [u8; 8],
    /// When it was made, in microseconds of PostgreSQL's epoch.
    pub created_at: i64,
    /// The same key as another provider wraps it.
    pub next: Option<Next>,
}

/// Everything, read at one moment.
pub struct Ring {
    /// The installation's identifier; None before `pci.init`.
    pub installation: Option<[u8; 16]>,
    /// Whether the policy here was made or accepted here, rather than restored from elsewhere.
    pub active: bool,
    /// Where the policy was put in force last, as the installation's row has it: the cluster's system identifier and the
    /// database.
    pub origin: Option<(u64, pgrx::pg_sys::Oid)>,
    /// Whether it came from another database of this cluster: a copy, no restore.
    is_clone: bool,
    /// Whether the database is marked as one whose policy was put in force here, whatever its tables say now.
    is_marked: bool,
    vaults: Vec<Vault>,
    keys: Vec<Key>,
}

static RING: Local<RefCell<Option<(u64, Rc<Ring>)>>> = Local::new(RefCell::new(None));

impl Ring {
    /// The ring of this database; 55000 before `pci.init`.
    pub fn get() -> Result<Rc<Ring>> {
        let generation = catalog::generation();
        if let Some(ring) =
            RING.with_borrow(|r| r.as_ref().filter(|(g, _)| *g == generation).map(|(_, r)| r.clone()))
        {
            return Ok(ring);
        }
        let ring = Rc::new(read()?);
        RING.set(Some((generation, ring.clone())));
        Ok(ring)
    }

    /// The same, read anew.
    pub fn reread() -> Result<Rc<Ring>> {
        if session::can_read_catalog() {
            RING.set(None);
        }
        Self::get()
    }

    /// The ring, read anew if the key is unknown in what was read: replication brings keys without a word.
    pub fn knowing(id: KeyId) -> Result<Rc<Ring>> {
        // One look for a key in each state of the tables: values that were sealed elsewhere may be many.
        thread_local! { static UNKNOWN: RefCell<(u64, HashSet<u64>)> = RefCell::default() }
        let ring = Self::get()?;
        let generation = catalog::generation();
        let is_known = ring.key(id).is_ok()
            || UNKNOWN.with_borrow(|(known, ids)| *known == generation && ids.contains(&id.0));
        if is_known {
            return Ok(ring);
        }
        let ring = Self::reread()?;
        if ring.key(id).is_err() {
            UNKNOWN.with_borrow_mut(|(known, ids)| {
                if std::mem::replace(known, catalog::generation()) != generation {
                    ids.clear();
                }
                ids.insert(id.0);
            });
        }
        Ok(ring)
    }

    /// Whether nothing is in force yet: before `pci.init`, or after a restore into another cluster. A copy within
    /// the cluster is neither, nor is a database whose policy is in force and whose tables were changed to say
    /// something else: there nothing works.
    pub fn is_unaccepted(&self) -> bool {
        !self.active && !self.is_clone && !self.is_marked
    }

    /// 55000 unless the policy is in force.
    pub fn require_active(&self) -> Result<()> {
        match (self.installation, self.active) {
            (Some(_), true) => Ok(()),
            (Some(_), false) => {
                Err(Error::state("the card data policy was restored from elsewhere and is not accepted yet")
                    .hint("Two officers run SELECT pci.accept_policy()."))
            }
            (None, _) => {
                Err(Error::state("pgpci is not set up in this database").hint("Run SELECT pci.init(…)."))
            }
        }
    }

    /// All versions of a vault's keys for a purpose.
    pub fn keys(&self, vault: i32, purpose: Purpose) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.vault == vault && key.purpose == purpose)
    }

    /// All keys of some vaults.
    pub fn keys_of(&self, vaults: &[i32]) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| vaults.contains(&key.vault))
    }

    /// All vaults.
    pub fn vaults(&self) -> &[Vault] {
        &self.vaults
    }

    /// The vault that digits go to when no column says otherwise.
    pub fn default_vault(&self) -> Result<&Vault> {
        self.vault(DEFAULT_VAULT)
    }

    /// The vault of this number.
    pub fn vault(&self, number: i32) -> Result<&Vault> {
        self.vaults.iter().find(|v| v.number == number).ok_or_else(|| {
            Error::argument(format!("there is no vault number {number}")).hint("See the view pci.vaults.")
        })
    }

    /// The vault of this name.
    pub fn vault_named(&self, name: &str) -> Result<&Vault> {
        self.vaults
            .iter()
            .find(|v| v.name == name)
            .ok_or_else(|| Error::argument("there is no vault of this name").hint("See the view pci.vaults."))
    }

    /// The key of this identifier.
    pub fn key(&self, id: KeyId) -> Result<&Key> {
        self.keys.iter().find(|k| k.id == id).ok_or_else(|| {
            Error::argument(format!("key {} is unknown in this database", id.0))
                .hint("The value was sealed elsewhere: restore pci.key from there.")
        })
    }

    /// The newest key of a vault that may encrypt.
    pub fn current(&self, vault: i32, purpose: Purpose) -> Result<&Key> {
        self.keys
            .iter()
            .filter(|k| k.vault == vault && k.purpose == purpose && k.state.may_encrypt())
            .max_by_key(|k| k.version)
            .ok_or_else(|| Error::state("the vault has no active key").hint("See the view pci.keys."))
    }

    /// The encryption context of a key.
    pub fn context(&self, vault: i32, key_id: KeyId, purpose: Purpose) -> Result<Context> {
        let installation =
            self.installation.ok_or_else(|| Error::state("pgpci is not set up in this database"))?;
        Ok(Context { installation, vault, key_id, purpose })
    }
}

fn read() -> Result<Ring> {
    let mut ring = Ring {
        installation: None,
        active: false,
        origin: None,
        is_clone: false,
        is_marked: false,
        vaults: Vec::new(),
        keys: Vec::new(),
    };
    let Some(catalog) = catalog::get() else {
        return match session::can_read_catalog() {
            true => Ok(ring),
            // While changes are decoded, catalogs are of the past; the session starts anew and reads them then.
            false => {
                Err(Error::state("the card data policy changed and cannot be read now")
                    .hint("Connect again."))
            }
        };
    };
    let here = (session::system_identifier() as i64, session::database());
    ring.is_marked = installed::is_marked(here.1);
    table::scan(catalog.table("installation"), |row| {
        ring.installation = row.get::<pgrx::Uuid>(0).map(|u| *u.as_bytes());
        ring.is_clone = row.get::<i64>(1) == Some(here.0) && row.get(2) != Some(here.1);
        ring.origin = row.get::<i64>(1).map(|cluster| cluster as u64).zip(row.get(2));
        ring.active = ring.origin == Some((here.0 as u64, here.1)) && ring.is_marked;
    });
    table::scan(catalog.table("vault"), |row| {
        ring.vaults.push(Vault {
            number: row.get(0).unwrap_or_default(),
            name: row.get(1).unwrap_or_default(),
            provider: row.get(2).unwrap_or_default(),
            kek: row.get(3).unwrap_or_default(),
            display: (row.get::<i32>(4).unwrap_or(0) as u8, row.get::<i32>(5).unwrap_or(0) as u8),
            searchable: row.get(6).unwrap_or_default(),
            cryptoperiod: row.get(9).map_or(i64::MAX, microseconds),
        });
    });
    table::scan(catalog.table("key"), |row| {
        let text = |i| row.get::<String>(i).unwrap_or_default();
        // A row that does not make sense is a key that is unknown: its values say so when they are needed.
        let (Some(purpose), Some(state)) = (Purpose::parse(&text(2)), KeyState::parse(&text(4))) else {
            return;
        };
        let Some(check) = row.get::<Vec<u8>>(8).and_then(|c| c.try_into().ok()) else {
            return;
        };
        ring.keys.push(Key {
            id: KeyId(row.get::<i64>(0).unwrap_or_default() as u64),
            vault: row.get(1).unwrap_or_default(),
            purpose,
            version: row.get(3).unwrap_or_default(),
            state,
            provider: text(5),
            kek: text(6),
            wrapped: row.get(7).unwrap_or_default(),
            check,
            created_at: row.get::<i64>(10).unwrap_or(i64::MAX),
            next: row.get::<Vec<u8>>(13).map(|wrapped| Next { provider: text(11), kek: text(12), wrapped }),
        });
    });
    Ok(ring)
}

fn microseconds(span: pgrx::datum::Interval) -> i64 {
    const DAY: i64 = 86_400_000_000;
    let days = i64::from(span.months()).saturating_mul(30).saturating_add(i64::from(span.days()));
    days.saturating_mul(DAY).saturating_add(span.micros())
}
