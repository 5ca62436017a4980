//! A policy in force, for the tests that need one.

use pgrx::prelude::*;

/// Runs `pci.init`; the session's user is an officer.
pub fn set_up() {
    run("CREATE ROLE bob; CREATE ROLE cy; CREATE ROLE di; CREATE ROLE eve; CREATE ROLE fay");
    run("SELECT pci.init(ARRAY[session_user, 'bob'], '{cy,di}', '{eve,fay}')");
}

/// Grants the session's user a capability.
pub fn grant(capability: &str) {
    run(&format!("SELECT pci.grant_access(session_user::regrole, 'default', '{capability}')"));
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
