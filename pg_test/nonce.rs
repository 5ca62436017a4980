//! Nonces: each is used once.

#[pgrx::pg_schema]
mod tests {
    use std::collections::HashSet;

    use pgrx::prelude::*;

    use crate::key::nonce;
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

    /// Within one prefix what follows it is new, also when the buffer of 340 is used up and filled again.
    #[pg_test]
    fn nonces_of_one_prefix_differ_across_refills() {
        let nonces: Vec<_> = (0..340 * 3 + 1).map(|_| next()).collect();
        let prefixes: HashSet<_> = nonces.iter().map(|n| &n[..12]).collect();
        let rests: HashSet<_> = nonces.iter().map(|n| &n[12..]).collect();
        assert!(prefixes.len() <= 2, "a prefix serves many values: {}", prefixes.len());
        assert_eq!(rests.len(), nonces.len());
        assert!(!rests.contains(&[0; 12][..]), "the buffer was filled");
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
