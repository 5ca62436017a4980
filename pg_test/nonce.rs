//! Nonces: each is used once.

#[pgrx::pg_schema]
mod tests {
    use std::collections::HashSet;

    use pgrx::pg_sys::NodeTag;
    use pgrx::prelude::*;

    use crate::key::nonce;
    use crate::pg::activity::{self, Kind};
    use crate::pg_test::set_up::{grant, run, set_up, value};

    fn next() -> [u8; 24] {
        match nonce::next() {
            Ok(nonce) => nonce,
            Err(error) => panic!("{error:?}"),
        }
    }

    #[pg_test]
    fn nonces_never_repeat() {
        let mut seen = HashSet::new();
        for number in 0..100_000 {
            assert!(seen.insert(next()), "nonce number {number} was given out before");
        }
    }

    /// Random bytes are fetched many at a time: also where the buffer is used up and filled again, they are new.
    #[pg_test]
    fn prefixes_differ_across_refills() {
        let prefixes: HashSet<_> = (0..340 * 3 + 1)
            .map(|_| {
                let nonce = next();
                nonce::transaction_ends();
                nonce[..12].to_vec()
            })
            .collect();
        assert_eq!(prefixes.len(), 340 * 3 + 1);
        assert!(!prefixes.contains(&[0; 12][..]), "the buffer was filled");
    }

    #[pg_test]
    fn values_are_mine_until_the_transaction_ends() {
        let nonce = next();
        assert!(nonce::is_mine(&nonce) && nonce::is_mine_to_write(&nonce));
        let stored = match nonce::of_stored() {
            Ok(nonce) => nonce,
            Err(error) => panic!("{error:?}"),
        };
        assert!(!nonce::is_of_transaction(&stored));
        nonce::transaction_ends();
        assert!(!nonce::is_mine(&nonce));
    }

    /// What a statement made is not the one's that runs inside of it; what that makes is.
    #[pg_test]
    fn a_statement_inside_another_writes_its_own() {
        let typed = next();
        let outer = activity::enter_statement(Kind::Write(activity::new_write()), NodeTag::T_Invalid);
        let of_outer = next();
        assert!(nonce::is_mine_to_write(&typed) && nonce::is_mine_to_write(&of_outer));
        let inner = activity::enter_statement(Kind::Write(activity::new_write()), NodeTag::T_Invalid);
        let of_inner = next();
        assert!(!nonce::is_mine_to_write(&typed) && !nonce::is_mine_to_write(&of_outer));
        assert!(nonce::is_mine_to_write(&of_inner));
        activity::leave(inner);
        assert!(nonce::is_mine_to_write(&typed) && nonce::is_mine_to_write(&of_inner));
        activity::leave(outer);
    }

    /// What is stored carries them: equal numbers never look alike but for what is shown and the equality hash.
    #[pg_test]
    fn stored_values_of_one_number_differ() {
        set_up();
        grant("store");
        // Who may store exports only if they may compare, too.
        grant("search");
        grant("export");
        run("SET LOCAL pgpci.pan_output = sealed");
        run(
            "CREATE TEMPORARY TABLE t AS SELECT '4111111111111111'::text::pci.pan AS card FROM generate_series(1, 2000)",
        );
        let different: i64 = value("SELECT count(DISTINCT format('%s', card)) FROM t");
        assert_eq!(different, 2000);
    }
}
