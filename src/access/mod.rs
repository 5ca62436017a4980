//! Who may do what with a vault: denied unless granted, to superusers and owners too.

pub mod conflicts;
pub mod custodian;
pub mod ddl;
pub mod grant;
pub mod indexing;
pub mod init;
pub mod policy;
pub mod rekey;
pub mod request;
pub mod requests;
pub mod rewrap;
pub mod roles;
pub mod search;
pub mod storing;
pub mod tables;
pub mod vaults;

use std::cell::{Cell, RefCell};

use pgpci_core::access::Capability;

use crate::audit::{self, Class};
use crate::error::{Error, Result};
use crate::key::ring::{DEFAULT_VAULT, Ring};
use crate::pg::call::Call;
use crate::pg::local::Local;
use crate::pg::{catalog, direct, session};
use policy::Grant;

/// What was decided about the authenticated user.
#[derive(Clone, Copy)]
pub struct Decision {
    generation: u64,
    user: u32,
    /// Whether they hold the capability.
    pub allowed: bool,
    /// When a time limit of some grant makes the decision stale.
    until: i64,
}

impl Decision {
    /// One that rests on this one and another.
    pub fn and(self, other: Self, allowed: bool) -> Self {
        Self { allowed, until: self.until.min(other.until), ..self }
    }

    /// Whether it is still right: of this state of the policy, for whose rights the code now has, and in its time.
    pub fn holds(&self, generation: u64) -> bool {
        (self.generation, self.user) == (generation, session::current_user().to_u32())
            && (self.until == i64::MAX || session::now() < self.until)
    }
}

/// Nothing is decided yet.
pub const UNDECIDED: Decision = Decision { generation: 0, user: 0, allowed: false, until: 0 };

// Decisions for the default vault, by capability: looked at once a value.
static DECIDED: Local<[Cell<Decision>; 4]> = Local::new([const { Cell::new(UNDECIDED) }; 4]);
// Those for other vaults.
static OTHERS: Local<RefCell<Vec<(Capability, i32, Decision)>>> = Local::new(RefCell::new(Vec::new()));

/// Whether the authenticated user holds the capability on the vault now.
pub fn may(capability: Capability, vault: i32) -> Result<bool> {
    let generation = catalog::generation();
    if vault != DEFAULT_VAULT {
        return decision(capability, vault).map(|d| d.allowed);
    }
    if let Some(allowed) = decided(capability, generation) {
        return Ok(allowed);
    }
    let decision = decide(capability, vault, generation)?;
    DECIDED[capability as usize].set(decision);
    Ok(decision.allowed)
}

fn decided(capability: Capability, generation: u64) -> Option<bool> {
    let known = DECIDED[capability as usize].get();
    known.holds(generation).then_some(known.allowed)
}

/// The same, with what it rests on. Remembered: while changes are decoded nothing can be looked up.
pub fn decision(capability: Capability, vault: i32) -> Result<Decision> {
    let generation = catalog::generation();
    let known = OTHERS.with_borrow(|others| {
        others
            .iter()
            .find(|(c, v, d)| (*c, *v) == (capability, vault) && d.holds(generation))
            .map(|(.., d)| *d)
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let decision = decide(capability, vault, generation)?;
    OTHERS.with_borrow_mut(|others| {
        others.retain(|(c, v, d)| (*c, *v) != (capability, vault) && d.generation == generation);
        others.push((capability, vault, decision));
    });
    Ok(decision)
}

/// 42501, recorded, unless the authenticated user holds the capability on the vault now.
pub fn require(capability: Capability, vault: i32) -> Result<()> {
    if may(capability, vault)? { Ok(()) } else { Err(refuse(capability, vault)) }
}

/// The refusal, recorded.
pub fn refuse(capability: Capability, vault: i32) -> Error {
    let ring = Ring::get();
    let name = ring.as_ref().ok().and_then(|r| r.vault(vault).ok()).map_or("?", |v| v.name.as_str());
    let what = match capability {
        Capability::Store => "store card numbers in",
        Capability::Search => "compare or look up card numbers of",
        Capability::Reveal => "reveal card numbers of",
        Capability::Export => "export sealed card numbers of",
    };
    audit::record(Class::Denied, &format!("{} on vault \"{name}\"", capability.as_str()));
    Error::denied(format!("permission denied to {what} vault \"{name}\"")).hint(format!(
        "An officer runs SELECT pci.grant_access('{}', '{name}', '{}').",
        session::role_name(session::user()).replace('\'', "''"),
        capability.as_str()
    ))
}

/// The grant that lets the authenticated user reveal, with this purpose; 42501, recorded, if none does.
pub fn require_reveal(vault: i32, purpose: Option<&str>) -> Result<Grant> {
    let now = session::now();
    let granted =
        policy::grants(Capability::Reveal, vault)?.into_iter().filter(|g| g.is_valid(now)).find(|g| {
            g.purposes.as_ref().is_none_or(|list| purpose.is_some_and(|p| list.iter().any(|l| l == p)))
        });
    granted.ok_or_else(|| {
        let refusal = refuse(Capability::Reveal, vault);
        match policy::grants(Capability::Reveal, vault).is_ok_and(|g| g.iter().any(|g| g.is_valid(now))) {
            true => Error::denied("permission denied to reveal card numbers for this purpose")
                .hint("Pass one of the purposes of your grant, see pci.access: pci.reveal(card, 'purpose')."),
            false => refusal,
        }
    })
}

/// 42501, recorded, unless the client's own statement calls the function, and nothing else: who changes policy or keys, or
/// approves, does so by name, and not by what another's view, trigger or function does with their rights.
pub fn require_direct(call: &Call) -> Result<()> {
    // In-backend tests call from inside.
    if cfg!(feature = "pg_test") || direct::is_clients_own(call) {
        return Ok(());
    }
    let name = direct::function_name(call);
    audit::record(Class::Denied, &format!("pci.{name} from within another statement"));
    Err(Error::denied(format!("permission denied to call pci.{name} from within another statement"))
        .hint(format!("Call it by itself: SELECT pci.{name}(…).")))
}

/// 42501 unless the authenticated user holds the duty.
pub fn require_duty(duty: &str) -> Result<()> {
    let active = Ring::get()?.active;
    let holds = session::role(duty)
        .is_some_and(|role| roles::is_duty(role, active) && session::is_member(session::user(), role));
    if holds {
        return Ok(());
    }
    audit::record(Class::Denied, &format!("not a member of {duty}"));
    Err(Error::denied(format!("permission denied: this needs a member of {duty}"))
        .hint("Membership counts for the user who logged in, not after SET ROLE."))
}

fn decide(capability: Capability, vault: i32, generation: u64) -> Result<Decision> {
    let now = session::now();
    let grants = policy::grants(capability, vault)?;
    Ok(Decision {
        generation,
        user: session::current_user().to_u32(),
        allowed: grants.iter().any(|g| g.is_valid(now)),
        until: grants
            .iter()
            .flat_map(|g| [g.valid_from, g.valid_until])
            .flatten()
            .filter(|t| *t > now)
            .min()
            .unwrap_or(i64::MAX),
    })
}
