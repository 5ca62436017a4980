//! Counts per role and hour, when more roles count than there are places.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg::counters::{Kind, add};

    /// Places in the table.
    const PLACES: u32 = 512;
    const HOUR: i64 = 3_600_000_000;

    fn role(number: u32) -> pg_sys::Oid {
        pg_sys::Oid::from(3_000_000_000 + number)
    }

    /// Runs `f` within one hour: the next one starts from nothing.
    fn within_an_hour(f: impl Fn()) {
        let hour = || crate::pg::session::now() / HOUR;
        loop {
            let before = hour();
            let left = HOUR - crate::pg::session::now() % HOUR;
            if left > HOUR / 60 {
                f();
                assert_eq!(hour(), before, "far less than a minute's work");
                return;
            }
            crate::pg::session::wait(1000);
        }
    }

    #[pg_test]
    fn counts_add_up_by_role_and_kind() {
        within_an_hour(|| {
            let who = role(900_000);
            let before = add(who, Kind::Reveals, 0);
            assert_eq!(add(who, Kind::Reveals, 3), before + 3);
            assert_eq!(add(who, Kind::Reveals, 4), before + 7);
            assert_eq!(add(who, Kind::Reveals, 0), before + 7);
            assert_eq!(add(who, Kind::Conflicts, 0), 0);
            assert_eq!(add(role(900_001), Kind::Reveals, 0), 0);
        });
    }

    /// Many roles, each with a few counts, do not wash away those near a limit.
    #[pg_test]
    fn a_full_table_keeps_the_highest_counts() {
        within_an_hour(|| {
            for number in 0..PLACES {
                add(role(number), Kind::Conflicts, 1_000 + u64::from(number));
            }
            for number in PLACES..PLACES * 4 {
                assert_eq!(add(role(number), Kind::Conflicts, 1), 1);
            }
            // The lowest gave way to the newcomers; all others are as they were.
            assert_eq!(add(role(PLACES * 4 - 1), Kind::Conflicts, 0), 1);
            assert_eq!(add(role(PLACES), Kind::Conflicts, 0), 0, "a newcomer gave way to the next");
            for number in 1..PLACES {
                assert_eq!(add(role(number), Kind::Conflicts, 0), 1_000 + u64::from(number), "role {number}");
            }
        });
    }
}
