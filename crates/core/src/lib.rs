#![forbid(unsafe_code)]
//! The parts of pgpci that know neither PostgreSQL nor a clock nor I/O: card numbers, their sealed
//! form, keys, the messages to the key helper, and the audit trail.
//!
//! A reading order: [`pan`] (a clear number), [`brand`] (what of it may be shown), [`seal`] (the
//! stored value), [`key`] and [`xaes`] (what seals it), [`wire`] (how keys arrive). Of the
//! trail: [`mod@redact`] (what never gets into it), [`record`] (its lines), [`chain`] (what proves them),
//! [`trail`] (segments, recovery, verification).

pub mod access;
pub mod account;
pub mod brand;
pub mod chain;
mod cmac;
pub mod error;
pub mod key;
pub mod lockout;
pub mod logins;
pub mod pan;
pub mod password;
pub mod record;
pub mod redact;
pub mod seal;
pub mod secret;
pub mod trail;
pub mod wire;
pub mod xaes;
