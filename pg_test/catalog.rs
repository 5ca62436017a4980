//! The generation: whatever a cached decision rests on changes it.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg::catalog;
    use crate::pg_test::set_up::{grant, run, set_up};

    /// Whether the statement changed the generation.
    fn changes(sql: &str) -> bool {
        // Known from here on: what is looked up anew has nothing to forget.
        assert!(catalog::get().is_some());
        let before = catalog::generation();
        run(sql);
        catalog::generation() != before
    }

    #[pg_test]
    fn generation_changes_with_what_decisions_rest_on() {
        run("CREATE ROLE team; CREATE ROLE member");
        assert!(changes("GRANT team TO member"));
        assert!(changes("REVOKE team FROM member"));
        assert!(changes("ALTER TABLE pci.access_grant SET (fillfactor = 90)"));
        assert!(changes("ALTER TABLE pci.key SET (fillfactor = 90)"));
        assert!(changes("ALTER TYPE pci.pan SET (STORAGE = main)"));
        set_up();
        assert!(changes("SELECT pci.grant_access('team', 'default', 'store')"));
        assert!(changes("SELECT pci.revoke_access('team', 'default', 'store')"));
    }

    #[pg_test]
    fn generation_stays_with_everything_else() {
        run("CREATE TABLE t (id int)");
        assert!(!changes("INSERT INTO t VALUES (1)"));
        assert!(!changes("ALTER TABLE t ADD COLUMN card pci.pan"));
        assert!(!changes("CREATE INDEX ON t (card)"));
        assert!(!changes("SELECT count(*) FROM pci.vaults"));
    }

    /// A decision made before is not found again after.
    #[pg_test(error = "permission denied to store card numbers in vault \"default\"")]
    fn a_decision_ends_with_its_grant() {
        set_up();
        grant("store");
        run("SELECT '4111111111111111'::text::pci.pan");
        run("SELECT pci.revoke_access(session_user::regrole, 'default', 'store')");
        run("SELECT '4111111111111111'::text::pci.pan");
    }

    #[pg_test]
    fn types_that_hold_card_numbers() {
        run(
            "CREATE TYPE pair AS (card pci.pan, n int); CREATE DOMAIN dom AS pci.pan; CREATE TABLE t (id int, pairs pair[]); \
             CREATE TYPE plain AS (a text, n int)",
        );
        let holds = |name: &str| {
            let oid = crate::pg_test::set_up::value::<pg_sys::Oid>(&format!("SELECT '{name}'::regtype::oid"));
            catalog::contains_pan(oid)
        };
        for name in ["pci.pan", "pci.pan[]", "pair", "pair[]", "dom", "dom[]", "t", "t[]"] {
            assert!(holds(name), "{name}");
        }
        for name in ["text", "text[]", "plain", "plain[]", "bytea", "int4range"] {
            assert!(!holds(name), "{name}");
        }
        run("ALTER TYPE plain ADD ATTRIBUTE card pci.pan");
        assert!(holds("plain[]"), "what was known is forgotten when a type changes");
    }
}
