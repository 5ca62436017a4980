//! The walk over trees and plans: whether they compare card numbers, whoever asks.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg::walk::{query_compares, vaults_compared};
    use crate::pg::walk_plan::{is_marked, mark, mark_vaults, marked_vaults, plan_compares};
    use crate::pg_test::set_up::run;
    use crate::pg_test::tree;

    const COMPARE: &[&str] = &[
        "SELECT 1 FROM t a JOIN t b ON a.card = b.card",
        "SELECT 1 FROM t a JOIN t b USING (card)",
        "SELECT 1 FROM t WHERE card IN (SELECT card FROM t)",
        "SELECT 1 FROM t a WHERE EXISTS (SELECT FROM t b WHERE a.card < b.card)",
        "SELECT DISTINCT card FROM t",
        "SELECT DISTINCT ON (card) id FROM t",
        "SELECT id FROM t ORDER BY card",
        "SELECT count(*) FROM t GROUP BY card",
        "SELECT count(*) FROM t GROUP BY GROUPING SETS ((card), (id))",
        "SELECT rank() OVER (ORDER BY card) FROM t",
        "SELECT count(*) OVER (PARTITION BY card) FROM t",
        "SELECT count(DISTINCT card) FROM t",
        "SELECT array_agg(id ORDER BY card) FROM t",
        "SELECT card FROM t UNION SELECT card FROM t",
        "SELECT card FROM t INTERSECT ALL SELECT card FROM t",
        "SELECT card FROM t EXCEPT SELECT card FROM t",
        "WITH RECURSIVE w AS (SELECT card FROM t UNION SELECT card FROM w) SELECT 1 FROM w",
        "WITH w AS (SELECT 1 FROM t a, t b WHERE a.card = b.card) SELECT 1",
        "SELECT 1 FROM t WHERE cards = cards",
        "SELECT 1 FROM t WHERE card = ANY (cards)",
        "SELECT 1 FROM t WHERE ROW(card, id) < ROW(card, 1)",
        "SELECT max(cards) FROM t",
        "SELECT array_position(cards, card) FROM t",
        "UPDATE t SET id = 1 FROM t b WHERE t.card = b.card",
        "DELETE FROM t USING t b WHERE t.card = b.card",
        "INSERT INTO t (id) SELECT 1 FROM t WHERE card = card RETURNING id",
        "MERGE INTO t USING t b ON t.card = b.card WHEN MATCHED THEN DELETE",
    ];

    const DO_NOT: &[&str] = &[
        "SELECT * FROM t",
        "SELECT id, card FROM t ORDER BY id",
        "SELECT id, count(card) FROM t GROUP BY id",
        "SELECT array_agg(card ORDER BY id) FROM t",
        "SELECT card FROM t UNION ALL SELECT card FROM t",
        "SELECT 1 FROM t a JOIN t b ON a.id = b.id",
        "SELECT to_jsonb(t), row_to_json(t) FROM t",
        "SELECT coalesce(card, card), card IS NULL FROM t",
        "SELECT 1 FROM t WHERE card::text = '411111******1111'",
        "SELECT pci.last4(card), count(*) FROM t GROUP BY 1 ORDER BY 1",
        "SELECT array_length(cards, 1), cardinality(cards), cards || card FROM t",
        "INSERT INTO t SELECT * FROM t ON CONFLICT DO NOTHING",
        "INSERT INTO t (id, card) SELECT id, card FROM t ON CONFLICT (id) DO UPDATE SET card = EXCLUDED.card",
        "UPDATE t SET card = card WHERE id = 1",
        "MERGE INTO t USING t b ON t.id = b.id WHEN MATCHED THEN UPDATE SET card = b.card",
    ];

    /// What shows in the plan alone: functions in SQL are inlined there.
    const INLINED: &[&str] =
        &["SELECT same(a.card, b.card) FROM t a, t b", "SELECT id FROM t ORDER BY same(card, card)"];

    fn tables() {
        run("CREATE TABLE t (id int PRIMARY KEY, card pci.pan, cards pci.pan[]); \
             CREATE FUNCTION same(pci.pan, pci.pan) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT $1 = $2'");
    }

    #[pg_test]
    fn queries_that_compare() {
        tables();
        for sql in COMPARE {
            assert!(query_compares(tree::query(sql)), "{sql}");
        }
    }

    #[pg_test]
    fn queries_that_do_not_compare() {
        tables();
        for sql in DO_NOT {
            assert!(!query_compares(tree::query(sql)), "{sql}");
        }
    }

    /// A plan that ran needs its own answer: nothing of its query is left but what it does.
    #[pg_test]
    fn plans_that_compare() {
        tables();
        for (settings, sql) in [
            ("", "SELECT 1 FROM t a JOIN t b ON a.card = b.card"),
            ("SET LOCAL enable_hashjoin = off", "SELECT 1 FROM t a JOIN t b ON a.card = b.card"),
            ("SET LOCAL enable_mergejoin = off", "SELECT 1 FROM t a JOIN t b ON a.card = b.card"),
            ("", "SELECT id FROM t ORDER BY card"),
            ("", "SELECT DISTINCT card FROM t"),
            ("SET LOCAL enable_hashagg = off", "SELECT DISTINCT card FROM t"),
            ("", "SELECT count(*) OVER (PARTITION BY card) FROM t"),
            ("", "SELECT card FROM t INTERSECT SELECT card FROM t"),
            ("", "SELECT (SELECT count(*) FROM t b WHERE b.card = a.card) FROM t a"),
        ] {
            if !settings.is_empty() {
                run(settings);
            }
            assert!(plan_compares(tree::plan(sql)), "{settings}: {sql}");
        }
    }

    #[pg_test]
    fn plans_that_do_not_compare() {
        tables();
        for sql in DO_NOT {
            assert!(!plan_compares(tree::plan(sql)), "{sql}");
        }
    }

    #[pg_test]
    fn what_is_inlined_shows_in_the_plan() {
        tables();
        for sql in INLINED {
            assert!(!query_compares(tree::query(sql)), "{sql}");
            assert!(plan_compares(tree::plan(sql)), "{sql}");
        }
    }

    #[pg_test]
    fn a_mark_is_found_again() {
        tables();
        let plan = tree::plan("SELECT * FROM t");
        assert!(!is_marked(plan));
        mark(plan);
        mark_vaults(plan, &[3, 1]);
        assert!(is_marked(plan));
        assert_eq!(marked_vaults(plan), [3, 1]);
    }

    /// The type modifier says the vault; 0 stands for columns without one.
    #[pg_test]
    fn vaults_that_a_query_compares_in() {
        run("CREATE TABLE v (id int, two pci.pan(2), three pci.pan(3), none pci.pan, twos pci.pan(2)[]); \
             CREATE DOMAIN three AS pci.pan(3); CREATE TABLE d (id int, card three)");
        let cases: &[(&str, &[i32])] = &[
            ("SELECT * FROM v", &[]),
            ("SELECT 1 FROM v WHERE two = two", &[2]),
            ("SELECT 1 FROM v WHERE two = NULL", &[2]),
            ("SELECT 1 FROM v WHERE '4'::text = three", &[3]),
            ("SELECT 1 FROM v WHERE two = ANY ('{4}'::text[])", &[2]),
            ("SELECT 1 FROM v WHERE two = ANY (twos)", &[2]),
            ("SELECT 1 FROM v WHERE none = '4'::text", &[0]),
            ("SELECT 1 FROM v WHERE none = two", &[0, 2]),
            ("SELECT 1 FROM v a JOIN d b ON a.two = b.card", &[2, 3]),
            ("SELECT two, none FROM v ORDER BY two", &[2]),
            ("SELECT count(*) FROM v GROUP BY ROW(two, three)", &[2, 3]),
            ("SELECT count(*) FROM v GROUP BY none", &[0]),
            ("SELECT two FROM v UNION SELECT two FROM v", &[2]),
            ("SELECT two FROM v UNION SELECT three FROM v", &[0, 2, 3]),
            ("SELECT 1 FROM v a, v b WHERE a = b", &[0, 2, 3]),
            ("SELECT greatest(two, three) FROM v", &[2, 3]),
            ("SELECT count(DISTINCT card) FROM d", &[3]),
            ("SELECT pci.pan_lt(two, three) FROM v", &[2, 3]),
            ("SELECT 1 FROM v WHERE id IN (SELECT id FROM d WHERE card = '4'::text)", &[3]),
        ];
        for (sql, expected) in cases {
            assert_eq!(vaults_compared(tree::query(sql)), *expected, "{sql}");
        }
    }
}
