//! A policy in force, for the tests that need one.

use pgpci_core::access::Capability;
use pgrx::prelude::*;

use crate::access::{grant::write, policy::Grant};
use crate::key::ring::Ring;
use crate::pg::session;

/// Runs `pci.init`; the session's user is an officer.
pub fn set_up() {
    run("CREATE ROLE bob; CREATE ROLE cy; CREATE ROLE di; CREATE ROLE eve; CREATE ROLE fay");
    run("SELECT pci.init(ARRAY[session_user, 'bob'], '{cy,di}', '{eve,fay}')");
}

/// Grants the session's user a capability. One session cannot ask and approve: it is written as approved.
pub fn grant(capability: &str) {
    let capability = Capability::parse(capability).expect("a capability");
    let written =
        Ring::get().and_then(|ring| write(&ring, &Grant::new(session::user(), "default", capability)));
    if let Err(error) = written {
        panic!("grant: {error:?}");
    }
}

/// Runs statements that must succeed.
pub fn run(sql: &str) {
    if let Err(error) = Spi::run(sql) {
        panic!("{sql}: {error}");
    }
}

/// The one value that a statement gives.
pub fn value<T: FromDatum + IntoDatum>(sql: &str) -> T {
    match Spi::get_one(sql) {
        Ok(Some(value)) => value,
        Ok(None) => panic!("{sql}: NULL"),
        Err(error) => panic!("{sql}: {error}"),
    }
}
