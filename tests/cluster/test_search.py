"""A role that may store and read, but not search, tries to find hidden digits; and ordinary work goes on."""

import re
import threading
from contextlib import contextmanager

import psycopg
import pytest
import trail
from conftest import AMEX, CLEAR, DISCOVER, MAJOR, MASTERCARD, MASTERCARD_2, PAYMENTS, VISA, VISA_2, VISA_3
from support.providers import until

# Each attacker owns a schema with a table of guesses: `guess(gid, card)`. {t}: the table under attack.
ATTACKERS = {"app": "public.payments", "postgres": "public.payments", "owner": "owner.cards"}
# Of the same mask as VISA.
VISA_TWIN = "4111111000071111"
LITERAL = f"'{VISA}'"
PAN = f"'{VISA}'::pci.pan"
FORCE_PARALLEL = "debug_parallel_query" if MAJOR >= 16 else "force_parallel_mode"

DO = "DO $$ DECLARE c pci.pan; d pci.pan; r record; s record; a pci.pan[]; hit boolean; BEGIN {body} END $$"


def do(body):
    return DO.replace("{body}", body)


FETCH = "SELECT card INTO c FROM {t} WHERE id = 1; SELECT card INTO d FROM guess WHERE gid = 1; "

# For the planner to work out.
STOLEN = "CREATE FUNCTION stolen() RETURNS {} LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT {} FROM {{t}} WHERE id = 2); END'"
UNINDEXED = ["CREATE TABLE x (part int, id int, card pci.pan) PARTITION BY LIST (part)", "CREATE TABLE p1 PARTITION OF x FOR VALUES IN (1)",
             "CREATE TABLE p2 PARTITION OF x FOR VALUES IN (2)", "INSERT INTO p1 SELECT 1, id, card FROM {t}"]
PARTED = [*UNINDEXED, "CREATE UNIQUE INDEX ON p2 (card)", f"INSERT INTO p2 VALUES (2, 0, '{VISA}')"]

# name: statements; the last that matters must be refused.
ATTACKS = {
    # joins and subqueries
    "join": ["SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card"],
    "join_using": ["SELECT p.id FROM {t} p JOIN guess g USING (card)"],
    "natural_join": ["SELECT id FROM {t} NATURAL JOIN guess"],
    "anti_join": ["SELECT p.id FROM {t} p LEFT JOIN guess g ON p.card = g.card WHERE g.card IS NULL"],
    "lateral": ["SELECT p.id FROM {t} p, LATERAL (SELECT 1 FROM guess g WHERE g.card = p.card) x"],
    "merge_join": ["SET LOCAL enable_hashjoin = off", "SET LOCAL enable_nestloop = off",
                   "SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card"],
    "in_subquery": ["SELECT id FROM {t} WHERE card IN (SELECT card FROM guess)"],
    "not_in_subquery": ["SELECT id FROM {t} WHERE card NOT IN (SELECT card FROM guess)"],
    "any_subquery": ["SELECT id FROM {t} WHERE card = ANY (SELECT card FROM guess)"],
    "all_subquery": ["SELECT id FROM {t} WHERE card >= ALL (SELECT card FROM guess)"],
    "scalar_subquery": ["SELECT id FROM {t} WHERE card = (SELECT card FROM guess WHERE gid = 1)"],
    "exists": ["SELECT id FROM {t} p WHERE EXISTS (SELECT 1 FROM guess g WHERE g.card = p.card)"],
    "row_subquery": ["SELECT id FROM {t} WHERE (id, card) IN (SELECT gid, card FROM guess)"],
    "cte": ["WITH g AS MATERIALIZED (SELECT card FROM guess) SELECT id FROM {t} p, g WHERE p.card = g.card"],
    "recursive_union": ["WITH RECURSIVE w AS (SELECT card FROM {t} UNION SELECT card FROM w) SELECT * FROM w"],
    # expressions
    "literal": [f"SELECT id FROM {{t}} WHERE card = {LITERAL}"],
    "literal_text": [f"SELECT id FROM {{t}} WHERE card = {LITERAL}::text"],
    "text_literal_first": [f"SELECT id FROM {{t}} WHERE {LITERAL}::text = card"],
    "not_equal": [f"SELECT id FROM {{t}} WHERE card <> {PAN}"],
    "less": [f"SELECT id FROM {{t}} WHERE card < {PAN}"],
    "between": [f"SELECT id FROM {{t}} WHERE card BETWEEN {PAN} AND {PAN}"],
    "in_list": [f"SELECT id FROM {{t}} WHERE card IN ({LITERAL}, '{VISA_2}')"],
    "in_list_text": [f"SELECT id FROM {{t}} WHERE card IN ({LITERAL}::text, '{VISA_2}'::text)"],
    "any_array": [f"SELECT id FROM {{t}} WHERE card = ANY (ARRAY[{PAN}, {PAN}])"],
    "any_text_array": [f"SELECT id FROM {{t}} WHERE card = ANY ('{{{{{VISA}}}}}'::text[])"],
    "target_list": [f"SELECT card = {PAN} FROM {{t}}"],
    "case_when": [f"SELECT CASE WHEN card = {PAN} THEN 1 END FROM {{t}}"],
    "case_value": [f"SELECT CASE card WHEN {PAN} THEN 1 END FROM {{t}}"],
    "nullif": [f"SELECT NULLIF(card, {PAN}) IS NULL FROM {{t}}"],
    "is_distinct_from": [f"SELECT id FROM {{t}} WHERE card IS DISTINCT FROM {PAN}"],
    "greatest": ["SELECT GREATEST(p.card, g.card) FROM {t} p, guess g"],
    "least": ["SELECT LEAST(p.card, g.card) FROM {t} p, guess g"],
    "filter": [f"SELECT count(*) FILTER (WHERE card = {PAN}) FROM {{t}}"],
    "having": [f"SELECT id FROM {{t}} GROUP BY id HAVING bool_or(card = {PAN})"],
    "limit_expression": [f"SELECT id FROM {{t}} LIMIT (SELECT count(*) FROM {{t}} WHERE card = {PAN})"],
    "function_of_operator": [f"SELECT pci.pan_eq(card, {PAN}) FROM {{t}}"],
    "function_of_text_operator": [f"SELECT pci.pan_eq_text(card, {LITERAL}::text) FROM {{t}}"],
    "own_operator": ["CREATE OPERATOR === (FUNCTION = pci.pan_eq, LEFTARG = pci.pan, RIGHTARG = pci.pan)",
                     f"SELECT id FROM {{t}} WHERE card === {PAN}"],
    "hash_pan": ["SELECT pci.hash_pan(card) FROM {t}"],
    "width_bucket": [f"SELECT width_bucket(card, ARRAY[{PAN}]) FROM {{t}}"],
    # rows
    "row_equal": [f"SELECT id FROM {{t}} WHERE ROW(card) = ROW({PAN})"],
    "row_less": [f"SELECT id FROM {{t}} WHERE ROW(card, id) < ROW({PAN}, 1)"],
    "row_distinct": [f"SELECT id FROM {{t}} WHERE ROW(card, 1) IS DISTINCT FROM ROW({PAN}, 1)"],
    "whole_row_equal": ["SELECT p.id FROM {t} p, (SELECT id, card, amount FROM {t} LIMIT 1) g WHERE p = g"],
    "record_equal": ["SELECT 1 FROM (SELECT ROW(card) AS r FROM {t}) p, (SELECT ROW(card) AS r FROM guess) g WHERE p.r = g.r"],
    "record_order_hidden": ["SELECT id FROM (SELECT id, ROW(card) AS r FROM {t} OFFSET 0) x ORDER BY r"],
    "record_distinct_hidden": ["SELECT DISTINCT r FROM (SELECT ROW(card) AS r FROM {t} OFFSET 0) x"],
    "record_in": ["SELECT id FROM {t} p WHERE (SELECT ROW(p.card)) IN (SELECT ROW(card) FROM guess)"],
    "distinct_rows": ["SELECT DISTINCT p FROM {t} p"],
    "order_by_row": ["SELECT id FROM {t} p ORDER BY ROW(p.card)"],
    "composite_type": ["CREATE TYPE pair AS (a pci.pan, b int)",
                       "SELECT 1 FROM {t} p, guess g WHERE ROW(p.card, 1)::pair = ROW(g.card, 1)::pair"],
    "hash_record": ["SELECT hash_record(ROW(card)) FROM {t}"],
    "hash_record_extended": ["SELECT hash_record_extended(ROW(card), 0) FROM {t}"],
    # arrays, ranges, domains
    "array_equal": [f"SELECT id FROM {{t}} WHERE ARRAY[card] = ARRAY[{PAN}]"],
    "array_less": [f"SELECT id FROM {{t}} WHERE ARRAY[card] < ARRAY[{PAN}]"],
    "array_contains": [f"SELECT id FROM {{t}} WHERE ARRAY[card] @> ARRAY[{PAN}]"],
    "array_contained": [f"SELECT id FROM {{t}} WHERE ARRAY[card] <@ ARRAY[{PAN}]"],
    "array_overlaps": [f"SELECT id FROM {{t}} WHERE ARRAY[card] && ARRAY[{PAN}]"],
    "array_position": [f"SELECT array_position(ARRAY[card], {PAN}) FROM {{t}}"],
    "array_positions": [f"SELECT array_positions(ARRAY[card], {PAN}) FROM {{t}}"],
    "array_remove": [f"SELECT array_remove(ARRAY[card], {PAN}) FROM {{t}}"],
    "array_replace": [f"SELECT array_replace(ARRAY[card], {PAN}, NULL) FROM {{t}}"],
    "array_larger": ["SELECT max(ARRAY[card]) FROM {t}"],
    "array_smaller": ["SELECT min(ARRAY[card]) FROM {t}"],
    "hash_array": ["SELECT hash_array(ARRAY[card]) FROM {t}"],
    "order_by_array": ["SELECT id FROM {t} ORDER BY ARRAY[card]"],
    "range": ["CREATE TYPE panrange AS RANGE (subtype = pci.pan)",
              f"SELECT id FROM {{t}} WHERE panrange(card, card, '[]') @> {PAN}"],
    "range_bounds": ["CREATE TYPE panrange AS RANGE (subtype = pci.pan)",
                     "SELECT panrange(p.card, g.card) FROM {t} p, guess g WHERE p.id = 2"],
    "multirange": ["CREATE TYPE panrange AS RANGE (subtype = pci.pan)",
                   f"SELECT panmultirange(panrange(card, card, '[]')) @> {PAN} FROM {{t}}"],
    "domain": ["CREATE DOMAIN dpan AS pci.pan", f"SELECT id FROM {{t}} WHERE card::dpan = {PAN}::dpan"],
    "domain_check": [f"CREATE DOMAIN dpan AS pci.pan CHECK (VALUE <> {PAN})", "SELECT card::dpan FROM {t} WHERE id > 1"],
    # grouping, sorting, windows
    "distinct": ["SELECT DISTINCT card FROM {t}"],
    "distinct_on": ["SELECT DISTINCT ON (card) id FROM {t}"],
    "group_by": ["SELECT count(*) FROM {t} GROUP BY card"],
    "grouping_sets": ["SELECT count(*) FROM {t} GROUP BY GROUPING SETS ((card), ())"],
    "union": ["SELECT card FROM {t} UNION SELECT card FROM guess"],
    "intersect": ["SELECT card FROM {t} INTERSECT SELECT card FROM guess"],
    "except": ["SELECT card FROM {t} EXCEPT SELECT card FROM guess"],
    "intersect_all": ["SELECT card FROM {t} INTERSECT ALL SELECT card FROM guess"],
    "order_by": ["SELECT id FROM {t} ORDER BY card"],
    "order_by_using": ["SELECT id FROM {t} ORDER BY card USING <"],
    "order_by_interleaved": ["SELECT id, card FROM (SELECT id, card FROM {t} UNION ALL SELECT -gid, card FROM guess) x ORDER BY card"],
    "count_distinct": ["SELECT count(DISTINCT card) FROM {t}"],
    "array_agg_ordered": ["SELECT array_agg(id ORDER BY card) FROM {t}"],
    "array_agg_distinct": ["SELECT array_agg(DISTINCT card) FROM {t}"],
    "mode": ["SELECT mode() WITHIN GROUP (ORDER BY card) FROM {t}"],
    "percentile_disc": ["SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY card) FROM {t}"],
    "hypothetical_rank": [f"SELECT rank({PAN}) WITHIN GROUP (ORDER BY card) FROM {{t}}"],
    "window_order": ["SELECT id, rank() OVER (ORDER BY card) FROM {t}"],
    "window_partition": ["SELECT id, count(*) OVER (PARTITION BY card) FROM {t}"],
    "own_minimum": ["CREATE FUNCTION smaller(pci.pan, pci.pan) RETURNS pci.pan LANGUAGE sql AS 'SELECT CASE WHEN $1 < $2 THEN $1 ELSE $2 END'",
                    "CREATE AGGREGATE least_pan(pci.pan) (sfunc = smaller, stype = pci.pan)",
                    "SELECT least_pan(card) FROM (SELECT card FROM {t} UNION ALL SELECT card FROM guess) x"],
    # functions
    "plpgsql_if": [do(FETCH + "IF c = d THEN RAISE NOTICE 'hit'; END IF;")],
    "plpgsql_if_text": [do(FETCH + f"IF c = {LITERAL}::text THEN RAISE NOTICE 'hit'; END IF;")],
    "plpgsql_assign": [do(FETCH + "hit := c < d;")],
    "plpgsql_case": [do(FETCH + "CASE c WHEN d THEN RAISE NOTICE 'hit'; ELSE NULL; END CASE;")],
    "plpgsql_record": [do("SELECT card INTO r FROM {t} WHERE id = 1; SELECT card INTO s FROM guess WHERE gid = 1; hit := r = s;")],
    "plpgsql_record_distinct": [do("SELECT card INTO r FROM {t} WHERE id = 1; SELECT card INTO s FROM guess WHERE gid = 1; hit := r IS DISTINCT FROM s;")],
    "plpgsql_array": [do(FETCH + "a := ARRAY[c]; hit := d = ANY (a);")],
    "plpgsql_array_equal": [do(FETCH + "a := ARRAY[c]; hit := a = ARRAY[d];")],
    "plpgsql_while": [do(FETCH + "WHILE c = d LOOP EXIT; END LOOP;")],
    "plpgsql_execute": [do(FETCH + "EXECUTE 'SELECT $1 = $2' INTO hit USING c, d;")],
    "plpgsql_caught": [do(FETCH + "BEGIN hit := c = d; EXCEPTION WHEN division_by_zero THEN NULL; END;")],
    "dynamic_sql": [do("EXECUTE 'SELECT p.card = g.card FROM {t} p, guess g LIMIT 1' INTO hit;")],
    "sql_scalar_inlined": ["CREATE FUNCTION same(a pci.pan, b pci.pan) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT a = b'",
                           "SELECT p.id FROM {t} p JOIN guess g ON same(p.card, g.card)"],
    "sql_scalar_atomic": ["CREATE FUNCTION same(a pci.pan, b pci.pan) RETURNS boolean LANGUAGE sql STABLE RETURN a = b",
                          "SELECT same(p.card, g.card) FROM {t} p, guess g"],
    "sql_set_inlined": ["CREATE FUNCTION hits() RETURNS SETOF bigint LANGUAGE sql STABLE AS 'SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card'",
                        "SELECT g.gid FROM guess g JOIN hits() h ON h = g.gid"],
    "sql_volatile": ["CREATE FUNCTION same(a pci.pan, b pci.pan) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT a = b'",
                     "SELECT same(p.card, g.card) FROM {t} p, guess g"],
    "polymorphic_sql": ["CREATE FUNCTION same(a anyelement, b anyelement) RETURNS boolean LANGUAGE sql AS 'SELECT a = b'",
                        "SELECT same(p.card, g.card) FROM {t} p, guess g"],
    # stored programs and structures
    "view": ["CREATE VIEW v AS SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card", "SELECT * FROM v"],
    "view_of_another": ["SELECT * FROM \"full\".hits"],
    "security_definer": ["SELECT \"full\".hits_definer()"],
    "materialized_view": ["CREATE MATERIALIZED VIEW mv AS SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card", "SELECT * FROM mv"],
    "create_table_as": ["CREATE TABLE x AS SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card", "SELECT * FROM x"],
    "rows_one_at_a_time_kept": ["CREATE FUNCTION f() RETURNS SETOF bigint LANGUAGE sql VOLATILE AS 'SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card'",
                                "SET LOCAL enable_nestloop = off", "CREATE TABLE x AS SELECT f()", "SELECT * FROM x"],
    "cursor": ["DECLARE cur CURSOR FOR SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card", "FETCH cur"],
    "prepared": ["PREPARE hits AS SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card", "EXECUTE hits"],
    "prepared_generic": ["SET LOCAL plan_cache_mode = force_generic_plan",
                         "PREPARE hit(text) AS SELECT id FROM {t} WHERE card = $1", f"EXECUTE hit('{VISA}')"],
    "explain_analyze": ["EXPLAIN (ANALYZE) SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card"],
    "explain_estimate": [f"EXPLAIN SELECT id FROM {{t}} WHERE card = {PAN}"],
    "generated_column": ["CREATE TABLE x (a pci.pan, b pci.pan, hit boolean GENERATED ALWAYS AS (a = b) STORED)",
                         "INSERT INTO x SELECT p.card, g.card FROM {t} p, guess g"],
    "check_constraint": ["CREATE TABLE x (a pci.pan, b pci.pan, CHECK (a <> b))",
                         "INSERT INTO x SELECT p.card, g.card FROM {t} p, guess g WHERE p.id = 2"],
    "expression_index": ["CREATE TABLE x AS SELECT p.card AS a, g.card AS b FROM {t} p, guess g", "CREATE INDEX ON x ((a = b))",
                         "SELECT 1 FROM x"],
    "partial_index": ["CREATE TABLE x AS SELECT p.card AS a, g.card AS b FROM {t} p, guess g", "CREATE UNIQUE INDEX ON x ((1)) WHERE a = b"],
    "alter_using": ["CREATE TABLE x AS SELECT p.card AS a, g.card AS b FROM {t} p, guess g",
                    "ALTER TABLE x ALTER a TYPE boolean USING a = b"],
    "trigger_when": ["CREATE TABLE x (id int, card pci.pan)", "INSERT INTO x SELECT 1, card FROM {t} WHERE id = 1",
                     "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''hit''; RETURN NEW; END'",
                     "CREATE TRIGGER tr BEFORE UPDATE ON x FOR EACH ROW WHEN (OLD.card = NEW.card) EXECUTE FUNCTION f()",
                     f"UPDATE x SET card = {LITERAL}"],
    "trigger_record": ["CREATE TABLE x (id int, card pci.pan)", "INSERT INTO x SELECT 1, card FROM {t} WHERE id = 1",
                       "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD IS DISTINCT FROM NEW THEN RAISE NOTICE ''miss''; END IF; RETURN NEW; END'",
                       "CREATE TRIGGER tr BEFORE UPDATE ON x FOR EACH ROW EXECUTE FUNCTION f()",
                       f"UPDATE x SET card = {LITERAL}"],
    "rule": ["CREATE TABLE x (card pci.pan)", "INSERT INTO x SELECT card FROM {t}",
             f"CREATE RULE r AS ON DELETE TO x WHERE OLD.card = {PAN} DO INSTEAD NOTHING", "DELETE FROM x"],
    "list_partition": ["CREATE TABLE x (card pci.pan) PARTITION BY LIST (card)",
                       f"CREATE TABLE x1 PARTITION OF x FOR VALUES IN ('{VISA}')", "CREATE TABLE x2 PARTITION OF x DEFAULT",
                       "INSERT INTO x SELECT card FROM {t}", "SELECT tableoid::regclass FROM x"],
    "range_partition": ["CREATE TABLE x (card pci.pan) PARTITION BY RANGE (card)",
                        f"CREATE TABLE x1 PARTITION OF x FOR VALUES FROM (MINVALUE) TO ('{VISA}')", "CREATE TABLE x2 PARTITION OF x DEFAULT",
                        "INSERT INTO x SELECT card FROM {t}", "SELECT tableoid::regclass FROM x"],
    "cluster_on_index": ["CREATE TABLE x AS SELECT id, card FROM {t} UNION ALL SELECT -gid, card FROM guess", "CREATE INDEX xi ON x (card)",
                         "CLUSTER x USING xi", "SELECT ctid, id FROM x"],
    "row_security": ["CREATE TABLE x (id int, card pci.pan)", "INSERT INTO x SELECT id, card FROM {t}",
                     "ALTER TABLE x ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
                     f"CREATE POLICY pol ON x USING (card = {PAN})", "SELECT 1 / (row_security_active('x')::int) FROM x WHERE card = " + PAN],
    # stored values among guesses of the attacker's own: what compares them on the way in
    "copy_unique": ["INSERT INTO own SELECT card FROM {t} WHERE id = 1"],
    "copy_do_nothing": ["INSERT INTO own SELECT card FROM {t} WHERE id = 1 ON CONFLICT DO NOTHING"],
    "copy_do_update": ["INSERT INTO own SELECT card FROM {t} WHERE id = 1 ON CONFLICT (card) DO UPDATE SET hits = own.hits + 1 RETURNING hits"],
    "copy_miss": ["INSERT INTO own SELECT card FROM {t} WHERE id = 2"],
    "copy_by_update": ["UPDATE own SET card = (SELECT card FROM {t} WHERE id = 2)"],
    "copy_by_merge": ["MERGE INTO own USING (SELECT card FROM {t} WHERE id = 2) s ON false WHEN NOT MATCHED THEN INSERT (card) VALUES (s.card)"],
    "copy_by_cte": ["WITH w AS (INSERT INTO own SELECT card FROM {t} WHERE id = 2 RETURNING 1) SELECT * FROM w"],
    "copy_by_variable": [do("SELECT card INTO c FROM {t} WHERE id = 2; INSERT INTO own VALUES (c);")],
    # ways of a stored number into what compares it
    "copy_multiassign": ["UPDATE own SET (card, hits) = (SELECT card, 1 FROM {t} WHERE id = 2)"],
    "copy_multiassign_conflict": [f"INSERT INTO own VALUES ('{VISA}') ON CONFLICT (card) DO UPDATE SET (card, hits) = (SELECT card, 1 FROM {{t}} WHERE id = 2)"],
    "copy_record_array": [do("EXECUTE 'INSERT INTO own (card) SELECT x.card FROM unnest($1) x(id bigint, card pci.pan)' "
                             "USING (SELECT array_agg(ROW(id, card)) FROM {t} WHERE id = 2);")],
    "copy_record_in_array": [do("SELECT id, card INTO r FROM {t} WHERE id = 2; INSERT INTO own (card) SELECT x.card FROM unnest(ARRAY[r]) x(id bigint, card pci.pan);")],
    "copy_array_variable": [do("SELECT array_agg(card) INTO a FROM {t} WHERE id = 2; INSERT INTO own (card) SELECT unnest(a);")],
    "copy_xmltable": ["INSERT INTO own (card) SELECT x.card FROM {t} p, XMLTABLE('/r' PASSING xml '<r/>' COLUMNS card pci.pan PATH 'nothing' DEFAULT p.card) x WHERE p.id = 2"],
    "copy_case": [f"INSERT INTO own (card) SELECT CASE WHEN p.id = 2 THEN p.card ELSE '{VISA_3}' END FROM {{t}} p WHERE p.id = 2"],
    "copy_sorted": ["INSERT INTO own (card) SELECT card FROM {t} ORDER BY id"],
    "copy_lateral": ["INSERT INTO own (card) SELECT x.c FROM {t} p, LATERAL (SELECT coalesce(p.card, NULL) c OFFSET 0) x WHERE p.id = 2"],
    "copy_function_scan": ["CREATE FUNCTION stolen() RETURNS SETOF pci.pan LANGUAGE sql VOLATILE AS 'SELECT card FROM {t}'", "INSERT INTO own (card) SELECT * FROM stolen()"],
    "copy_into_plain_index": ["CREATE TABLE x (id bigint, card pci.pan)", "CREATE INDEX ON x (card)", "INSERT INTO x SELECT id, card FROM {t}"],
    "copy_on_delete_set_default": ["CREATE FUNCTION stolen() RETURNS pci.pan LANGUAGE sql VOLATILE AS 'SELECT card FROM {t} WHERE id = 2'",
                                   "CREATE TABLE pk (card pci.pan PRIMARY KEY)", f"INSERT INTO pk VALUES ('{VISA_3}')",
                                   "CREATE TABLE fk (card pci.pan UNIQUE DEFAULT stolen() REFERENCES pk ON DELETE SET DEFAULT)", f"INSERT INTO fk VALUES ('{VISA_3}')", "DELETE FROM pk"],
    "copy_by_after_trigger": ["CREATE TABLE x (card pci.pan)", "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO own VALUES (NEW.card); RETURN NULL; END'",
                              "CREATE TRIGGER tr AFTER INSERT ON x FOR EACH ROW EXECUTE FUNCTION f()", f"INSERT INTO x VALUES ('{VISA_3}')"],
    "move_beside_in_foreign_key": ["CREATE TABLE pk (grp int, card pci.pan, UNIQUE (grp, card))", "CREATE TABLE fk (grp int, card pci.pan, FOREIGN KEY (grp, card) REFERENCES pk (grp, card))",
                                   f"INSERT INTO pk VALUES (1, '{VISA}'), (2, '{VISA}')", f"INSERT INTO fk VALUES (1, '{VISA}')", "UPDATE fk SET grp = 2"],
    "move_beside_in_hash_key": ["CREATE TABLE x (grp int, card pci.pan) PARTITION BY HASH (card, grp)", "CREATE TABLE x0 PARTITION OF x FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
                                f"INSERT INTO x VALUES (1, '{VISA}')", "UPDATE x SET grp = 2"],
    "copy_by_function": ["CREATE FUNCTION stolen() RETURNS pci.pan LANGUAGE sql VOLATILE AS 'SELECT card FROM {t} WHERE id = 2'", "INSERT INTO own VALUES (stolen())"],
    # ... that the planner has worked out, so that it looks like a literal
    "copy_by_immutable_function": [STOLEN.format("pci.pan", "card"), "INSERT INTO own VALUES (stolen())"],
    "copy_by_immutable_function_upsert": [STOLEN.format("pci.pan", "card"), f"INSERT INTO own VALUES ('{VISA}') ON CONFLICT (card) DO UPDATE SET card = stolen()"],
    "copy_by_immutable_function_update": [STOLEN.format("pci.pan", "card"), "UPDATE own SET card = stolen()"],
    "copy_by_immutable_function_merge": [STOLEN.format("pci.pan", "card"), "MERGE INTO own USING (VALUES (1)) s ON false WHEN NOT MATCHED THEN INSERT (card) VALUES (stolen())"],
    "copy_by_immutable_array": [STOLEN.format("pci.pan[]", "array_agg(card)"), "INSERT INTO own SELECT unnest(stolen())"],
    "copy_by_immutable_element": [STOLEN.format("pci.pan[]", "array_agg(card)"), "INSERT INTO own VALUES ((stolen())[1])"],
    "copy_by_immutable_domain": ["CREATE DOMAIN dpan AS pci.pan", STOLEN.format("dpan", "card"), "INSERT INTO own VALUES (stolen())"],
    # ... from a partition where nothing compares it to one where guesses are
    "move_partition": [*PARTED, "UPDATE x SET part = 2 WHERE id = 2"],
    "move_partition_pruned": [*PARTED, "UPDATE x SET part = 2 WHERE part = 1 AND id = 2"],
    "move_partition_merge": [*PARTED, "MERGE INTO x USING (VALUES (2)) s(id) ON x.id = s.id AND x.part = 1 WHEN MATCHED THEN UPDATE SET part = 2"],
    "move_partition_of_partition": [*PARTED, "CREATE TABLE top (LIKE x) PARTITION BY RANGE (id)", "ALTER TABLE top ATTACH PARTITION x FOR VALUES FROM (0) TO (100)",
                                    "CREATE TABLE y PARTITION OF top FOR VALUES FROM (100) TO (200)", "CREATE UNIQUE INDEX ON y (card)", f"INSERT INTO y VALUES (1, 100, '{VISA}')",
                                    "DROP TABLE p2", "UPDATE top SET id = id + 100 WHERE id = 2"],
    "move_partition_by_expression": ["CREATE TABLE x (part int, id int, card pci.pan) PARTITION BY LIST ((part + 1))", "CREATE TABLE p1 PARTITION OF x FOR VALUES IN (2)",
                                     "CREATE TABLE p2 PARTITION OF x FOR VALUES IN (3)", "CREATE UNIQUE INDEX ON p2 (card)", "INSERT INTO p1 SELECT 1, id, card FROM {t}",
                                     f"INSERT INTO p2 VALUES (2, 0, '{VISA}')", "UPDATE x SET part = 2 WHERE id = 2"],
    "move_partition_by_cascade": [*PARTED, "CREATE TABLE parts (part int PRIMARY KEY)", "INSERT INTO parts VALUES (1), (2)", "ALTER TABLE x ALTER part SET DEFAULT 2",
                                  "ALTER TABLE x ADD FOREIGN KEY (part) REFERENCES parts ON DELETE SET DEFAULT", "DELETE FROM parts WHERE part = 1"],
    "move_to_a_foreign_key_made_meanwhile": [*UNINDEXED, "CREATE FUNCTION make() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN ALTER TABLE p2 ADD FOREIGN KEY (card) REFERENCES own (card); RETURN true; END'",
                                             "UPDATE x SET part = 2 WHERE part = 1 AND id = 1 AND make()"],
    "copy_by_merge": ["MERGE INTO own USING (SELECT id, card FROM {t}) s ON false WHEN NOT MATCHED THEN INSERT (card) VALUES (s.card)"],
    # A value that is compressed shows by its size what in it is equal.
    "copy_array": ["CREATE TABLE x (cards pci.pan[])", "INSERT INTO x SELECT array_agg(card) FROM {t}"],
    "copy_array_beside_guesses": ["CREATE TABLE x (cards pci.pan[])", f"INSERT INTO x SELECT ARRAY[card, '{VISA}'] FROM {{t}}"],
    "copy_array_of_a_variable": ["CREATE TABLE x (cards pci.pan[])", do(FETCH + "INSERT INTO x VALUES (ARRAY[c, d]);")],
    "copy_row": ["CREATE TABLE x (r {t})", "INSERT INTO x SELECT p FROM {t} p"],
    "copy_row_of_a_domain": ["CREATE TYPE pair AS (a pci.pan, b text)", "CREATE DOMAIN dpair AS pair", "CREATE TABLE x (r dpair)", "INSERT INTO x SELECT ROW(card, 'x')::pair::dpair FROM {t}"],
    "copy_array_as_a_table": ["CREATE TABLE x AS SELECT array_agg(card) AS cards FROM {t}"],
    "copy_row_as_a_view": ["CREATE MATERIALIZED VIEW x AS SELECT p FROM {t} p"],
    "copy_array_element": ["CREATE TABLE x (cards pci.pan[])", f"INSERT INTO x VALUES (ARRAY['{VISA}'::pci.pan])", f"UPDATE x SET cards[2] = '{AMEX}'"],
    "copy_array_append": ["CREATE TABLE x (cards pci.pan[])", f"INSERT INTO x VALUES (ARRAY['{VISA}'::pci.pan])", f"UPDATE x SET cards = array_cat(cards, ARRAY['{AMEX}'::pci.pan])"],
    "copy_by_trigger": ["CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN SELECT card INTO NEW.card FROM {t} WHERE id = 2; RETURN NEW; END'",
                        "CREATE TRIGGER tr BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION f()", f"INSERT INTO own VALUES ('{MASTERCARD_2}')"],
    "copy_by_default": ["CREATE FUNCTION stolen() RETURNS pci.pan LANGUAGE sql VOLATILE AS 'SELECT card FROM {t} WHERE id = 2'",
                        "ALTER TABLE own ALTER card SET DEFAULT stolen()", "INSERT INTO own DEFAULT VALUES"],
    "copy_after_a_caught_error": ["CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END; RETURN NEW; END'",
                                  "CREATE TRIGGER tr BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION f()", "INSERT INTO own SELECT card FROM {t} WHERE id = 2"],
    "copy_in_a_savepoint": ["SAVEPOINT a", "SAVEPOINT b", "RELEASE b", "INSERT INTO own SELECT card FROM {t} WHERE id = 2"],
    "copy_exclusion": ["CREATE TABLE x (card pci.pan, EXCLUDE USING hash (card WITH =))", "INSERT INTO x SELECT card FROM {t} WHERE id = 2"],
    "copy_referring": ["CREATE TABLE x (card pci.pan REFERENCES own (card))", "INSERT INTO x SELECT card FROM {t} WHERE id = 1"],
    "copy_referring_miss": ["CREATE TABLE x (card pci.pan REFERENCES own (card))", "INSERT INTO x SELECT card FROM {t} WHERE id = 2"],
    "copy_referring_deferred": ["CREATE TABLE x (card pci.pan REFERENCES own (card) DEFERRABLE INITIALLY DEFERRED)",
                                "INSERT INTO x SELECT card FROM {t} WHERE id = 1", "SET CONSTRAINTS ALL IMMEDIATE"],
    "copy_hash_partition": ["CREATE TABLE x (card pci.pan) PARTITION BY HASH (card)",
                            "CREATE TABLE x0 PARTITION OF x FOR VALUES WITH (MODULUS 1, REMAINDER 0)", "INSERT INTO x SELECT card FROM {t} WHERE id = 2"],
    "copy_hash_leaf": ["CREATE TABLE x (card pci.pan) PARTITION BY HASH (card)",
                       "CREATE TABLE x0 PARTITION OF x FOR VALUES WITH (MODULUS 1, REMAINDER 0)", "INSERT INTO x0 SELECT card FROM {t} WHERE id = 2"],
    "copy_leaf_index": ["CREATE TABLE x (id int, card pci.pan) PARTITION BY LIST (id)", "CREATE TABLE x1 PARTITION OF x DEFAULT",
                        "CREATE UNIQUE INDEX ON x1 (card)", f"INSERT INTO x VALUES (1, '{MASTERCARD_2}')", "INSERT INTO x SELECT id, card FROM {t} WHERE id = 2"],
    "move_hash_partition": ["CREATE TABLE x (id int, card pci.pan) PARTITION BY HASH (card)",
                            "CREATE TABLE x0 PARTITION OF x FOR VALUES WITH (MODULUS 1, REMAINDER 0)", f"INSERT INTO x VALUES (1, '{MASTERCARD_2}')",
                            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN SELECT card INTO NEW.card FROM {t} WHERE id = 2; RETURN NEW; END'",
                            "CREATE TRIGGER tr BEFORE UPDATE ON x FOR EACH ROW EXECUTE FUNCTION f()", "UPDATE x SET id = 2"],
    "build_index": ["CREATE TABLE x AS SELECT card, 'note' AS note FROM {t} WHERE id = 2", f"INSERT INTO x VALUES ('{MASTERCARD_2}', 'x')", "CREATE INDEX ON x (card, note)"],
    "build_hash_index": ["CREATE TABLE x AS SELECT card FROM {t} WHERE id = 2", f"INSERT INTO x VALUES ('{MASTERCARD_2}')", "CREATE INDEX ON x USING hash (card)"],
    "rebuild_hash_index": ["CREATE TABLE x (card pci.pan)", "CREATE INDEX ON x USING hash (card)", f"INSERT INTO x VALUES ('{VISA}')", "REINDEX TABLE x"],
    "rewrite_hash_index": ["CREATE TABLE x (id int, card pci.pan)", "CREATE INDEX ON x USING hash (card)", f"INSERT INTO x VALUES (1, '{VISA}')",
                           "ALTER TABLE x ALTER id TYPE bigint"],
    "attach_to_an_index": ["CREATE TABLE x (part int, card pci.pan) PARTITION BY LIST (part)", "CREATE INDEX ON x (card)", "CREATE TABLE x1 AS SELECT 1 AS part, card FROM {t}",
                           "ALTER TABLE x ATTACH PARTITION x1 FOR VALUES IN (1)"],
    "build_unique": ["CREATE TABLE x AS SELECT card FROM {t} WHERE id = 2", f"INSERT INTO x VALUES ('{MASTERCARD_2}')", "CREATE UNIQUE INDEX ON x (card)"],
    "build_unique_expression": ["CREATE TABLE x AS SELECT card FROM {t} WHERE id = 2", "CREATE UNIQUE INDEX ON x (coalesce(card, card))"],
    "add_unique": ["CREATE TABLE x AS SELECT card FROM {t} WHERE id = 2", "ALTER TABLE x ADD UNIQUE (card)"],
    "add_primary_key": ["CREATE TABLE x AS SELECT card FROM {t} WHERE id = 2", "ALTER TABLE x ADD PRIMARY KEY (card)"],
    "add_exclusion": ["CREATE TABLE x AS SELECT card FROM {t} WHERE id = 2", "ALTER TABLE x ADD EXCLUDE USING hash (card WITH =)"],
    "add_foreign_key": ["CREATE TABLE x AS SELECT card FROM {t} WHERE id = 1", "ALTER TABLE x ADD FOREIGN KEY (card) REFERENCES own (card)"],
    "validate_foreign_key": ["CREATE TABLE x AS SELECT card FROM {t} WHERE id = 1", "ALTER TABLE x ADD CONSTRAINT fk FOREIGN KEY (card) REFERENCES own (card) NOT VALID",
                             "ALTER TABLE x VALIDATE CONSTRAINT fk"],
    "add_unique_column": ["CREATE FUNCTION stolen(i bigint) RETURNS pci.pan LANGUAGE sql VOLATILE AS 'SELECT card FROM {t} WHERE id = i'",
                          "CREATE TABLE x AS SELECT id FROM {t} WHERE id < 3", "CREATE SEQUENCE sq",
                          "ALTER TABLE x ADD COLUMN card pci.pan UNIQUE DEFAULT stolen(nextval('sq'))"],
    "alter_using_unique": ["CREATE TABLE x (id int, card pci.pan UNIQUE, other pci.pan)", "INSERT INTO x (id, other) SELECT id, card FROM {t} WHERE id < 3",
                           "ALTER TABLE x ALTER card TYPE pci.pan USING other"],
    "attach_hash_partition": ["CREATE TABLE x (card pci.pan) PARTITION BY HASH (card)", "CREATE TABLE x0 AS SELECT card FROM {t} WHERE id = 2",
                              "ALTER TABLE x ATTACH PARTITION x0 FOR VALUES WITH (MODULUS 1, REMAINDER 0)"],
    "refresh_index": ["CREATE MATERIALIZED VIEW mv AS SELECT card, id FROM {t} WITH NO DATA", "CREATE INDEX ON mv (card, id)", "REFRESH MATERIALIZED VIEW mv"],
    "refresh_unique": ["CREATE MATERIALIZED VIEW mv AS SELECT card FROM {t} WITH NO DATA", "CREATE UNIQUE INDEX ON mv (card)", "REFRESH MATERIALIZED VIEW mv"],
    "copy_union": [f"INSERT INTO own (card) SELECT '{VISA_3}'::pci.pan UNION ALL SELECT card FROM {{t}}"],
    "copy_record": [do("SELECT card INTO r FROM {t} WHERE id = 2; INSERT INTO own VALUES (r.card);")],
    "copy_at_a_caught_error": ["CREATE FUNCTION boom() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN RETURN true; END'",
                               "INSERT INTO own (card) SELECT card FROM {t} WHERE id = 1 AND boom() ON CONFLICT (card) DO UPDATE SET hits = 1"],
    "foreign_key_action": ["CREATE TABLE pk (id bigint, card pci.pan, UNIQUE (id, card))", "INSERT INTO pk SELECT id, card FROM {t}"],
    "foreign_key_not_valid": ["CREATE TABLE pk (card pci.pan UNIQUE)", "CREATE TABLE fk (card pci.pan)", f"INSERT INTO fk VALUES ('{VISA}')",
                              "ALTER TABLE fk ADD FOREIGN KEY (card) REFERENCES pk (card) ON DELETE SET NULL NOT VALID"],
    "foreign_key_deferrable": ["CREATE TABLE fk (card pci.pan REFERENCES own (card) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED)"],
    "foreign_key_deferrable_table": ["CREATE TABLE fk (card pci.pan, FOREIGN KEY (card) REFERENCES own (card) DEFERRABLE)"],
    "unique_deferrable": ["CREATE TABLE x (g int, card pci.pan, UNIQUE (g, card) DEFERRABLE INITIALLY DEFERRED)"],
    "generated_column_of_hash": ["CREATE TABLE x (card pci.pan, hit boolean GENERATED ALWAYS AS (satisfies_hash_partition(0, 2, 0, card)) STORED)"],
    "add_generated_column": ["ALTER TABLE own ADD COLUMN hit boolean GENERATED ALWAYS AS (own.card IS DISTINCT FROM own.card) STORED"],
    "add_check": ["ALTER TABLE own ADD CHECK (card::text <> '')"],
    "index_expression": ["CREATE INDEX ON own (pci.mask(card))"],
    "index_predicate": ["CREATE INDEX ON own (hits) WHERE pci.mask(card) <> ''"],
    "index_gin": ["CREATE TABLE x (cards pci.pan[])", f"INSERT INTO x VALUES (ARRAY['{VISA}'::pci.pan])", "CREATE INDEX ON x USING gin (cards)"],
    "alter_type_rebuilds": ["CREATE TABLE x (grp int, card pci.pan, UNIQUE (grp, card))", f"INSERT INTO x VALUES (1, '{VISA}')",
                            "ALTER TABLE x ALTER grp TYPE bigint USING 2"],
    "before_trigger": ["CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
                       "CREATE TRIGGER tr BEFORE UPDATE ON own FOR EACH ROW EXECUTE FUNCTION f()"],
    "trigger_condition": ["CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
                          "CREATE TRIGGER tr AFTER UPDATE ON own FOR EACH ROW WHEN (pci.mask(NEW.card) <> '') EXECUTE FUNCTION f()"],
    # statements that write
    "update_where": [f"UPDATE {{t}} SET amount = 1 WHERE card = {PAN}"],
    "update_from": ["UPDATE {t} p SET amount = 1 FROM guess g WHERE g.card = p.card"],
    "delete_using": ["DELETE FROM {t} p USING guess g WHERE g.card = p.card"],
    "returning": [f"UPDATE {{t}} SET amount = amount RETURNING card = {PAN}"],
    "merge": ["MERGE INTO {t} p USING guess g ON p.card = g.card WHEN MATCHED THEN UPDATE SET amount = 1"],
    "merge_when": ["MERGE INTO {t} p USING guess g ON p.id = g.gid WHEN MATCHED AND p.card = g.card THEN UPDATE SET amount = 1"],
    "upsert_where": ["INSERT INTO {t} AS p SELECT 1, card, 1 FROM guess WHERE gid = 2 ON CONFLICT (id) DO UPDATE SET amount = 1 WHERE p.card = EXCLUDED.card"],
    "for_update": [f"SELECT id FROM {{t}} WHERE card = {PAN} FOR UPDATE"],
    "copy_query": ["COPY (SELECT p.id FROM {t} p JOIN guess g ON p.card = g.card) TO STDOUT"],
    # plans
    "parallel": ["SET LOCAL parallel_setup_cost = 0", "SET LOCAL parallel_tuple_cost = 0", "SET LOCAL min_parallel_table_scan_size = 0",
                 f"SET LOCAL {FORCE_PARALLEL} = on", f"SELECT count(*) FROM {{t}} WHERE card = {PAN}"],
    "memoize": ["SET LOCAL enable_hashjoin = off", "SET LOCAL enable_mergejoin = off",
                "SELECT g.gid FROM guess g, LATERAL (SELECT id FROM {t} p WHERE p.card = g.card) x"],
    "satisfies_hash_partition": ["CREATE TABLE x (card pci.pan) PARTITION BY HASH (card)",
                                 "SELECT satisfies_hash_partition('x'::regclass, 1048576, 0, card) FROM {t}"],
}

# Functions that no PUBLIC may call; a superuser meets the capability inside them.
SUPPORT = {
    "pan_cmp": f"SELECT pci.pan_cmp(card, {PAN}) FROM {{t}}",
    "pan_cmp_text": f"SELECT pci.pan_cmp_text(card, {LITERAL}::text) FROM {{t}}",
    "pan_hash": "SELECT pci.pan_hash(card) FROM {t}",
    "pan_hash_extended": "SELECT pci.pan_hash_extended(card, 0) FROM {t}",
    "text_hash_pan": f"SELECT pci.text_hash_pan({LITERAL}::text)",
    "text_hash_pan_extended": f"SELECT pci.text_hash_pan_extended({LITERAL}::text, 0)",
}

REFUSAL = "permission denied to compare or look up card numbers"


@contextmanager
def searching(cluster, role):
    """The role may search for the moment: who defines a table's triggers or copies cards is allowed to compare."""
    name = f'"{role}"'
    has = cluster.value("SELECT EXISTS (SELECT FROM pci.access WHERE role = %s::regrole AND capability = 'search')", (name,))
    if not has:
        cluster.execute("SELECT pci.grant_access(%s::regrole, 'default', 'search')", (name,), user="ann")
    yield
    if not has:
        cluster.execute("SELECT pci.revoke_access(%s::regrole, 'default', 'search')", (name,), user="ann")


@pytest.fixture(scope="module")
def arena(cluster):
    for role in [*ATTACKERS, "full"]:
        with cluster.connect(role) as conn:
            conn.execute(f'SET search_path = "{role}"')
            conn.execute("CREATE TABLE guess(gid int, card pci.pan)")
            conn.execute(f"INSERT INTO guess VALUES (1, '{VISA}'), (2, '{VISA_2}')")
            conn.execute("CREATE TABLE cards(id bigint PRIMARY KEY, card pci.pan, amount int)")
            conn.execute("CREATE INDEX ON cards (card)")
            conn.execute("CREATE TABLE own(card pci.pan UNIQUE, hits int DEFAULT 0)")
            conn.execute(f"INSERT INTO own VALUES ('{VISA}')")
            conn.execute("CREATE TABLE t (id bigint PRIMARY KEY, card pci.pan UNIQUE, amount int)")
            conn.execute(f"INSERT INTO t VALUES (1, '{VISA}', 1), (2, '{MASTERCARD}', 1), (3, '{AMEX}', 1), (4, '{DISCOVER}', 1)")
            conn.execute("CREATE TABLE child (id int, card pci.pan REFERENCES t (card) ON UPDATE CASCADE ON DELETE CASCADE)")
            conn.execute(f"INSERT INTO child VALUES (1, '{VISA}')")
            conn.execute("CREATE TABLE touched (id bigint PRIMARY KEY, card pci.pan UNIQUE, amount int)")
            conn.execute(f"INSERT INTO touched VALUES (1, '{VISA}', 1), (2, '{MASTERCARD}', 1)")
            conn.execute("CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.amount := 7; RETURN NEW; END'")
            with searching(cluster, role):
                conn.execute("CREATE TABLE later (card pci.pan REFERENCES t (card) DEFERRABLE INITIALLY DEFERRED)")
                conn.execute("CREATE TRIGGER tr BEFORE INSERT OR UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION touch()")
                conn.execute("INSERT INTO cards SELECT id, card, amount FROM public.payments")
            conn.execute("CREATE TABLE hashed (id int, card pci.pan) PARTITION BY HASH (card);"
                         "CREATE TABLE hashed0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
                         "CREATE TABLE hashed1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1)")
            conn.execute(f"INSERT INTO hashed VALUES (1, '{VISA}'), (2, '{MASTERCARD}'), (3, '{AMEX}'), (4, '{DISCOVER}')")
    cluster.execute("GRANT USAGE ON SCHEMA \"full\" TO PUBLIC; GRANT CREATE ON DATABASE postgres TO app, owner, \"full\"")
    with cluster.connect("full") as conn:
        conn.execute('CREATE VIEW "full".hits AS SELECT p.id FROM public.payments p JOIN "full".guess g ON p.card = g.card')
        conn.execute('CREATE FUNCTION "full".hits_definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS '
                     "'SELECT count(*) FROM public.payments p JOIN \"full\".guess g ON p.card = g.card'")
        conn.execute('GRANT SELECT ON "full".hits TO PUBLIC')
    return cluster


def attack(cluster, role, statements, target):
    """The error that stops the statements, or None; what the last one returned, and notices."""
    notices = []
    with cluster.connect(role, autocommit=False) as conn:
        conn.add_notice_handler(lambda d: notices.append(d.message_primary))
        rows = None
        try:
            conn.execute(f'SET LOCAL search_path = "{role}", public')
            for statement in statements:
                sql = statement.replace("{t}", target)
                if sql.startswith("COPY"):
                    with conn.cursor().copy(sql) as copy:
                        rows = list(copy)
                    continue
                cursor = conn.execute(sql.encode(), prepare=False)
                rows = cursor.fetchall() if cursor.description else None
        except psycopg.Error as error:
            return error, None, notices
        finally:
            conn.rollback()
    return None, rows, notices


def assert_refused(error, rows, notices, message=REFUSAL):
    assert error is not None, f"was not refused: rows {rows}, notices {notices}"
    assert (error.sqlstate, message in str(error)) == ("42501", True), f"{error.sqlstate}: {error}"
    assert not {"hit", "miss"} & set(notices), notices


@pytest.mark.parametrize("role", ATTACKERS)
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused(arena, name, role):
    assert_refused(*attack(arena, role, ATTACKS[name], ATTACKERS[role]))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_works_with_search(arena, name):
    """The statements are sound: whoever may search runs them."""
    error, rows, _ = attack(arena, "full", ATTACKS[name], "public.payments" if name != "merge" else '"full".cards')
    if name in ("check_constraint", "partial_index", "domain_check", "range_bounds") or name.startswith(("copy_", "move_", "foreign_key_", "index_")):
        # They tell by an error of their own, or not at all.
        assert error is None or error.sqlstate in ("23514", "23505", "22000", "23503"), error
    elif name == "alter_using":
        assert error is None, error
    elif name in ("generated_column", "expression_index", "merge_when"):
        assert error is None, error
    elif name == "view_of_another" or name == "security_definer":
        assert error is None and rows == [(1,)], (error, rows)
    else:
        assert error is None, error


@pytest.mark.parametrize("name", SUPPORT)
def test_support_function_direct(arena, name):
    assert_refused(*attack(arena, "app", [SUPPORT[name]], "payments"), message="permission denied for function")
    assert_refused(*attack(arena, "postgres", [SUPPORT[name]], "payments"))


@pytest.mark.parametrize("how", ["SET ROLE", "SET SESSION AUTHORIZATION"])
def test_set_role_does_not_help(arena, how):
    error, rows, notices = attack(arena, "postgres", [f'{how} "full"', "SELECT id FROM {t} WHERE card = " + PAN], "public.payments")
    assert_refused(error, rows, notices)


def test_prepared_then_set_role(arena):
    with arena.connect("postgres") as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="compare"):
            conn.execute(f"PREPARE hit AS SELECT id FROM payments WHERE card = {PAN}")
            conn.execute('SET ROLE "full"')
            conn.execute("EXECUTE hit")


@pytest.mark.parametrize("sql", [
    "SELECT id FROM payments WHERE card = $1",
    "SELECT p.id FROM payments p JOIN app.probe g ON p.card = g.card WHERE $1 <> ''",
    "SELECT count(DISTINCT card) FROM payments WHERE $1 <> ''",
    "SELECT id FROM payments WHERE ARRAY[card] = ARRAY[$1::pci.pan]",
])
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_prepared_statement_stops_at_revoke(arena, sql, mode):
    number = arena.value("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'temp_search%'")
    role = f"temp_search{number}"
    arena.execute(f"CREATE ROLE {role} LOGIN; GRANT SELECT ON payments TO {role}; GRANT USAGE ON SCHEMA app TO {role};"
                  f"CREATE TABLE IF NOT EXISTS app.probe(card pci.pan); GRANT SELECT ON app.probe TO {role}")
    for capability in ("search", "store"):
        arena.grant(role, capability)
    with arena.connect(role) as conn:
        conn.execute(f"SET plan_cache_mode = {mode}")
        conn.execute(f"PREPARE s(text) AS {sql}")
        for _ in range(7):
            conn.execute(f"EXECUTE s('{VISA}')").fetchall()
        arena.execute(f"SELECT pci.revoke_access('{role}', 'default', 'search')", user="ann")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="compare or look up"):
            conn.execute(f"EXECUTE s('{VISA}')").fetchall()


def test_bound_parameter_without_search(arena):
    with arena.connect("app") as conn:
        for prepare in (False, True):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="compare or look up"):
                conn.execute("SELECT id FROM payments WHERE card = %s", (VISA,), prepare=prepare)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="compare or look up"):
                conn.execute("SELECT id FROM payments WHERE card = ANY(%s)", ([VISA],), prepare=prepare)


@pytest.mark.parametrize("sql", [
    "SELECT card FROM order_probe", "SELECT card FROM order_probe WHERE card IS NOT NULL",
    "SELECT id FROM order_probe WHERE card IS NOT NULL",
])
def test_no_index_order(arena, sql):
    """An index scan would return rows in the order of the hashes, between which guesses can be placed."""
    with arena.connect("app", autocommit=False) as conn:
        conn.execute("SET LOCAL search_path = app")
        conn.execute("CREATE TABLE order_probe (id int, card pci.pan); CREATE INDEX ON order_probe (card) INCLUDE (id)")
        conn.execute(f"INSERT INTO order_probe VALUES (1, '{VISA}'), (2, '{MASTERCARD}'), (3, '{AMEX}'), (-1, '{VISA_2}'), (-2, '{VISA_3}')")
        conn.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
        plan = "\n".join(r[0] for r in conn.execute("EXPLAIN (COSTS off) " + sql))
        assert "Index Only Scan" not in plan and "Index Scan" not in plan, plan
        heap = [r[0] for r in conn.execute("SELECT ctid::text FROM order_probe ORDER BY ctid")]
        assert [r[0] for r in conn.execute(sql.replace("SELECT card", "SELECT ctid::text").replace("SELECT id", "SELECT ctid::text"))] == heap
        conn.rollback()


SLOW = "INSERT INTO {} SELECT {}id, card FROM payments, (SELECT pg_sleep(0) WHERE pg_advisory_lock_shared(7) IS NOT NULL) s WHERE id = 1"


@contextmanager
def writing_meanwhile(arena, sql):
    """The statement of app's has started and waits before its first row; it goes on at the end."""
    outcome = []

    def write():
        with arena.connect("app") as conn:
            try:
                conn.execute(sql)
                outcome.append(None)
            except psycopg.Error as error:
                outcome.append(error)

    with arena.connect("postgres") as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        thread = threading.Thread(target=write)
        thread.start()
        until(lambda: arena.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == 1, "the writer waits")
        yield outcome
        holder.execute("SELECT pg_advisory_unlock(7)")
        thread.join()


def test_unique_index_made_while_cards_are_written(arena):
    """CREATE INDEX CONCURRENTLY does not keep writers out that were judged before there was an index."""
    arena.execute("CREATE TABLE app.busy (id int, card pci.pan)")
    arena.execute("ALTER TABLE app.busy OWNER TO app")
    with arena.connect("app") as conn, writing_meanwhile(arena, SLOW.format("app.busy", "")):
        conn.execute("SET lock_timeout = '2s'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="compare"):
            conn.execute("CREATE UNIQUE INDEX CONCURRENTLY ON app.busy (card)")
    arena.execute("DROP TABLE app.busy")


def test_partition_attached_while_cards_are_written(arena):
    """A statement that was judged when nothing compared what it writes meets an index on its way."""
    with arena.connect("app") as conn:
        conn.execute("CREATE TABLE app.busy (part int, id int, card pci.pan) PARTITION BY LIST (part);"
                     "CREATE TABLE app.busy1 PARTITION OF app.busy FOR VALUES IN (1) PARTITION BY RANGE (id);"
                     "CREATE TABLE app.busy2 (LIKE app.busy); CREATE UNIQUE INDEX ON app.busy2 (card)")
        conn.execute(f"INSERT INTO app.busy2 VALUES (1, 1, '{VISA}')")
        with writing_meanwhile(arena, SLOW.format("app.busy", "1, ")) as outcome:
            conn.execute("ALTER TABLE app.busy1 ATTACH PARTITION app.busy2 FOR VALUES FROM (0) TO (100)")
        conn.execute("DROP TABLE app.busy")
    assert_refused(outcome[0], None, [])


# Of copies, by somebody who might compare then; and what must be refused, where `make` makes a key for the statement's rows to meet.
MAKE = "CREATE FUNCTION make() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {}; RETURN true; END $$"
MOVE = "UPDATE x SET part = 2 WHERE part = 1 AND id = 1 AND make()"
MOVES = {
    "after_another_index": ([*PARTED, "CREATE INDEX ON p1 (card)"], ["UPDATE x SET part = 2 WHERE id = 2"]),
    "to_another_index": ([*UNINDEXED, "CREATE INDEX ON p2 (card)"], ["UPDATE x SET part = 2 WHERE id = 2"]),
    "to_an_index_made_meanwhile": ([*UNINDEXED, "CREATE INDEX ON p1 (card)"],
                                   [MAKE.format(f"CREATE UNIQUE INDEX ON p2 (card); INSERT INTO p2 VALUES (2, 0, '{VISA_2}')"), MOVE]),
    "to_a_foreign_key_made_meanwhile": ([*UNINDEXED, "CREATE INDEX ON p1 (card)"], [MAKE.format("ALTER TABLE p2 ADD FOREIGN KEY (card) REFERENCES own (card)"), MOVE]),
    "to_a_hash_partition_made_meanwhile": (
        [*UNINDEXED, "CREATE INDEX ON p1 (card)", "DROP TABLE p2", "CREATE TABLE p2 PARTITION OF x FOR VALUES IN (2) PARTITION BY LIST (id)"],
        [MAKE.format("CREATE TABLE p21 PARTITION OF p2 DEFAULT PARTITION BY HASH (card); CREATE TABLE p211 PARTITION OF p21 FOR VALUES WITH (MODULUS 1, REMAINDER 0)"), MOVE]),
}


@pytest.mark.parametrize("name", MOVES)
def test_copies_do_not_move_to_where_more_is_compared(arena, name):
    before, moves = MOVES[name]
    with arena.connect("app") as conn:
        conn.execute("SET search_path = app, public")
        with searching(arena, "app"):
            for statement in before:
                conn.execute(statement.replace("{t}", "public.payments"))
    try:
        assert_refused(*attack(arena, "app", moves, "public.payments"))
    finally:
        arena.execute("DROP TABLE app.x")


def test_extended_statistics_need_search(arena):
    with arena.connect("app", autocommit=False) as conn:
        conn.execute("CREATE TABLE app.x (card pci.pan, k int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("CREATE STATISTICS app.st (ndistinct, mcv, dependencies) ON card, k FROM app.x")


def test_statistics_do_not_tell(arena):
    """After ANALYZE a guess that hits looks like one that misses: in pg_stats and estimates."""
    seen = []
    for guess in (VISA, VISA_2):
        with arena.connect("app", autocommit=False) as conn:
            conn.execute("SET LOCAL search_path = app")
            conn.execute("CREATE TABLE x (card pci.pan, k int)")
            conn.execute(f"INSERT INTO x VALUES ('{VISA}', 1), ('{VISA}', 1)")
            conn.execute(f"INSERT INTO x VALUES ('{guess}', 2), ('{guess}', 2)")
            conn.execute("ANALYZE x")
            found = conn.execute("SELECT attname, n_distinct, most_common_freqs, correlation, array_length(histogram_bounds::text::text[], 1) "
                                 "FROM pg_stats WHERE tablename = 'x' AND attname = 'card'").fetchall()
            seen.append(found)
            conn.rollback()
    assert seen[0] == seen[1]


@pytest.mark.parametrize("kind", ["pci.pan[]", "wallet"])
def test_statistics_of_arrays_and_rows_do_not_tell(arena, kind):
    """The most common elements and rows are found by comparing them: not by what their card numbers are."""
    seen = []
    make = "ARRAY['{0}'::pci.pan, '{0}']" if kind == "pci.pan[]" else "'({0},1)'::wallet"
    for guess in (VISA, VISA_2):
        with arena.connect("app", autocommit=False) as conn:
            conn.execute("SET LOCAL search_path = app")
            conn.execute("CREATE TYPE wallet AS (card pci.pan, k int)")
            conn.execute(f"CREATE TABLE x (cards {kind})")
            for card in (VISA, guess):
                conn.execute(f"INSERT INTO x SELECT {make.format(card)} FROM generate_series(1, 20)")
            conn.execute("ANALYZE x")
            seen.append(conn.execute("SELECT n_distinct, most_common_freqs, most_common_elem_freqs, elem_count_histogram "
                                     "FROM pg_stats WHERE tablename = 'x'").fetchall())
            conn.rollback()
    assert seen[0] == seen[1]


SEALED = {
    "setting": ["SET LOCAL pgpci.pan_output = sealed", f"SELECT {PAN}"],
    "copy": ["COPY guess TO STDOUT"],
    "copy_binary": ["COPY guess TO STDOUT (FORMAT binary)"],
    "copy_query": ["COPY (SELECT card FROM guess) TO STDOUT"],
    "dump_cursor": ["DECLARE _pg_dump_cursor CURSOR FOR SELECT card FROM guess", "FETCH ALL FROM _pg_dump_cursor"],
    "setting_jsonb": ["SET LOCAL pgpci.pan_output = sealed", "SELECT to_jsonb(card) FROM guess"],
    "setting_concat": ["SET LOCAL pgpci.pan_output = sealed", "SELECT concat(card) FROM guess"],
    "setting_array": ["SET LOCAL pgpci.pan_output = sealed", "SELECT ARRAY[card] FROM guess"],
    "setting_format": ["SET LOCAL pgpci.pan_output = sealed", "SELECT format('%s', card) FROM guess"],
    "setting_plpgsql": ["SET LOCAL pgpci.pan_output = sealed",
                        do("SELECT card INTO c FROM guess WHERE gid = 1; RAISE NOTICE 'hit %', c;")],
}


@pytest.mark.parametrize("role", ["app", "postgres"])
@pytest.mark.parametrize("name", SEALED)
def test_sealed_text_of_own_guesses(arena, name, role):
    """The sealed form carries the equality hash: it needs export."""
    assert_refused(*attack(arena, role, SEALED[name], "payments"), message="permission denied to export")


@pytest.mark.parametrize("sql", [
    "UPDATE pg_attribute SET atttypid = 'bytea'::regtype WHERE attrelid = 'public.payments'::regclass AND attname = 'card'",
    "UPDATE pg_class SET relname = 'x' WHERE oid = 'pci.access_grant'::regclass",
    "DELETE FROM pg_depend WHERE objid = 'pci.vault'::regclass",
    "CREATE FUNCTION pci.reveal(pci.pan, varchar) RETURNS text LANGUAGE sql AS 'SELECT $2'",
    "CREATE FUNCTION postgres.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION postgres.f() SET SCHEMA pci",
    "CREATE FUNCTION postgres.rawh(pci.pan) RETURNS int LANGUAGE internal IMMUTABLE AS 'hashvarlena'",
    "GRANT ann TO plain", "GRANT bob TO postgres", "CREATE ROLE sneak IN ROLE cy",
])
def test_superuser_takes_no_way_around(arena, sql):
    with arena.connect("postgres", autocommit=False) as conn:
        conn.execute("SET LOCAL allow_system_table_mods = on")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(sql)
        conn.rollback()


def test_store_and_export_need_search(arena):
    arena.execute("CREATE ROLE twofold LOGIN; GRANT SELECT ON payments TO twofold")
    for capability in ("store", "export"):
        arena.grant("twofold", capability)
    with arena.connect("twofold") as conn, pytest.raises(psycopg.errors.InsufficientPrivilege, match="compare"):
        with conn.cursor().copy("COPY public.payments TO STDOUT") as copy:
            list(copy)


def test_raw_bytes_by_a_cast(arena):
    """A superuser's binary-coercible cast would print the stored bytes, equality hash included."""
    error, rows, _ = attack(arena, "postgres", ["CREATE CAST (pci.pan AS bytea) WITHOUT FUNCTION", "SELECT card::bytea FROM {t}"], "payments")
    assert error is not None and error.sqlstate == "42501", f"not refused: {rows}"


# What PostgreSQL compares by the stored bytes, and copies that nothing compares, tell nothing.
HARMLESS_COPIES = {
    "copy_plain": ["CREATE TABLE x (card pci.pan)", "INSERT INTO x SELECT card FROM {t}"],
    "copy_column_to_column": ["CREATE TABLE x (a pci.pan, b pci.pan)", f"INSERT INTO x VALUES ('{VISA}', NULL)", "UPDATE x SET b = a"],
    "copy_select_into": ["SELECT card INTO x FROM {t}"],
    "table_as": ["CREATE TABLE x AS SELECT * FROM {t}"],
    "json_row": ["CREATE TABLE x (id int, card pci.pan UNIQUE)", f"INSERT INTO x SELECT * FROM json_populate_record(NULL::x, '{{\"id\": 1, \"card\": \"{VISA}\"}}')"],
    "rowtype": ["CREATE TABLE x (id int, card pci.pan)", f"DO $$ DECLARE r x; BEGIN r.card := '{VISA}'; INSERT INTO x VALUES (r.*); END $$"],
    "history": ["CREATE TABLE history (id bigint, card pci.pan)", "CREATE TABLE x (id bigint, card pci.pan UNIQUE)",
                "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO history VALUES (NEW.id, NEW.card); RETURN NULL; END'",
                "CREATE TRIGGER tr AFTER INSERT ON x FOR EACH ROW EXECUTE FUNCTION f()", f"INSERT INTO x VALUES (1, '{VISA_3}')"],
}


@pytest.mark.parametrize("name", HARMLESS_COPIES)
def test_copies_that_nothing_compares(arena, name):
    error, _, _ = attack(arena, "app", HARMLESS_COPIES[name], "public.payments")
    assert error is None, f"{error.sqlstate}: {error}"


@pytest.mark.parametrize("operator", ["*<", "*>"])
def test_order_of_stored_bytes_tells_nothing(arena, operator):
    """A guess of the same mask that hits is where one is that misses: what differs first in the bytes is the nonce."""
    found = []
    for guess in (VISA, VISA_TWIN):
        with arena.connect("app", autocommit=False) as conn:
            conn.execute("SET LOCAL search_path = app")
            conn.execute("CREATE TABLE stored (n int, card pci.pan)")
            conn.execute(f"INSERT INTO stored SELECT n, '{VISA}'::text::pci.pan FROM generate_series(1, 10) n")
            conn.execute("CREATE TABLE guesses (card pci.pan)")
            conn.execute(f"INSERT INTO guesses VALUES ('{guess}')")
            conn.execute(f"INSERT INTO stored SELECT n, '{VISA}'::text::pci.pan FROM generate_series(11, 20) n")
            found.append(conn.execute("SELECT n FROM (SELECT n, ROW(card) r FROM stored OFFSET 0) s, (SELECT ROW(card) r FROM guesses OFFSET 0) g "
                                      f"WHERE s.r OPERATOR(pg_catalog.{operator}) g.r ORDER BY n").fetchall())
            conn.rollback()
    assert found[0] == found[1]


# What remains open by nature is counted and limited.

LIMIT = 5
CONFLICTS = {
    "unique": f"INSERT INTO payments VALUES (100, '{VISA}', 1)",
    "do_nothing": f"INSERT INTO payments VALUES (100, '{VISA}', 1) ON CONFLICT (card) DO NOTHING",
    "do_nothing_any": f"INSERT INTO payments VALUES (100, '{VISA}', 1) ON CONFLICT DO NOTHING",
    "do_update": f"INSERT INTO payments VALUES (100, '{VISA}', 1) ON CONFLICT (card) DO UPDATE SET amount = 1 RETURNING id",
    "update": f"UPDATE payments SET card = '{VISA}' WHERE id = 2",
    "foreign_key": f"INSERT INTO app.child VALUES ('{VISA_3}')",
    "caught_in_plpgsql": f"DO $$ BEGIN INSERT INTO payments VALUES (100, '{VISA}', 1); EXCEPTION WHEN unique_violation THEN NULL; END $$",
    "foreign_key_caught": f"DO $$ BEGIN INSERT INTO app.child VALUES ('{VISA_3}'); EXCEPTION WHEN foreign_key_violation THEN NULL; END $$",
    "many_rows_one_statement": f"INSERT INTO payments SELECT 100 + g, '{VISA}', 1 FROM generate_series(1, 3) g ON CONFLICT DO NOTHING",
    "many_tries_one_statement": "DO $$ BEGIN FOR i IN 1..3 LOOP BEGIN INSERT INTO payments VALUES (100, '" + VISA
                                + "', 1); EXCEPTION WHEN unique_violation THEN NULL; END; END LOOP; END $$",
    "update_by_trigger": "UPDATE app.moved SET hits = 1",
    "exclusion": f"INSERT INTO app.excluded VALUES ('{VISA}')",
    "beside": "UPDATE app.beside SET grp = 2 WHERE grp = 1",
    "beside_by_cascade": "DELETE FROM app.groups WHERE grp = 1",
    "exclusion_do_nothing": f"INSERT INTO app.excluded VALUES ('{VISA}') ON CONFLICT DO NOTHING",
    "cte_of_an_update": f"WITH x AS (INSERT INTO payments VALUES (100, '{VISA}', 1) ON CONFLICT (card) DO NOTHING RETURNING 1) UPDATE app.guess SET hits = hits + 1",
    "cte_of_a_select": f"WITH x AS (INSERT INTO payments VALUES (100, '{VISA}', 1) ON CONFLICT (card) DO NOTHING RETURNING 1) SELECT count(*) FROM x",
    "cte_do_update": f"WITH x AS (INSERT INTO payments VALUES (100, '{VISA}', 1) ON CONFLICT (card) DO UPDATE SET amount = EXCLUDED.amount RETURNING 1) SELECT count(*) FROM x",
    "trigger_catches_an_error": "INSERT INTO app.caught SELECT '" + VISA + "' FROM generate_series(1, 3) ON CONFLICT DO NOTHING",
}


@pytest.fixture(scope="module")
def limited(module_cluster):
    one = module_cluster(f"pgpci.max_conflicts_per_hour = {LIMIT}")
    with one.connect("app") as conn:
        conn.execute("CREATE TABLE app.child (card pci.pan REFERENCES public.payments (card))")
        conn.execute("CREATE TABLE app.guess (card pci.pan UNIQUE, hits int DEFAULT 0)")
        conn.execute(f"CREATE TABLE app.beside (grp int, card pci.pan, UNIQUE (grp, card)); INSERT INTO app.beside VALUES (1, '{VISA}'), (2, '{VISA}')")
        conn.execute("CREATE TABLE app.groups (grp int PRIMARY KEY); INSERT INTO app.groups VALUES (1), (2);"
                     "CREATE TABLE app.grouped (grp int DEFAULT 2 REFERENCES app.groups ON DELETE SET DEFAULT, card pci.pan, UNIQUE (grp, card));"
                     f"INSERT INTO app.grouped VALUES (1, '{VISA}'), (2, '{VISA}')")
        conn.execute("CREATE TABLE app.excluded (card pci.pan, EXCLUDE USING hash (card WITH =))")
        conn.execute("CREATE TABLE app.moved (card pci.pan UNIQUE, hits int DEFAULT 0)")
        conn.execute(f"INSERT INTO app.guess VALUES ('{VISA}'); INSERT INTO app.excluded VALUES ('{VISA}');"
                     f"INSERT INTO app.moved VALUES ('{VISA}', 0), ('{VISA_3}', 1)")
        # Nobody sets the card here: the trigger does, and meets the attacker's guess.
        conn.execute("CREATE FUNCTION app.steal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.hits = 1 THEN "
                     "SELECT card INTO NEW.card FROM public.payments WHERE id = 1; END IF; RETURN NEW; END $$")
        with searching(one, "app"):
            conn.execute("CREATE TRIGGER tr BEFORE UPDATE ON app.moved FOR EACH ROW EXECUTE FUNCTION app.steal()")
        # A caught error is none of the statement around it.
        conn.execute(f"CREATE TABLE app.caught (card pci.pan UNIQUE); INSERT INTO app.caught VALUES ('{VISA}')")
        conn.execute("CREATE FUNCTION app.catch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN BEGIN PERFORM 1 / 0; "
                     "EXCEPTION WHEN division_by_zero THEN NULL; END; RETURN NEW; END $$")
        with searching(one, "app"):
            conn.execute("CREATE TRIGGER tr BEFORE INSERT ON app.caught FOR EACH ROW EXECUTE FUNCTION app.catch()")
    return one


@pytest.mark.parametrize("name", CONFLICTS)
def test_conflicts_are_limited(limited, name):
    """After `max_conflicts_per_hour` of them the role is stopped with 53400; a new role starts at zero."""
    prober = f"prober_{name}"
    limited.execute(f"CREATE ROLE {prober} LOGIN; GRANT ALL ON payments, app.child, app.guess, app.excluded, app.moved, app.caught, app.beside, app.groups TO {prober};"
                    f"GRANT ALL ON SCHEMA app TO {prober}")
    limited.grant(prober, "store")
    states = []
    with limited.connect(prober) as conn:
        for _ in range(LIMIT + 2):
            try:
                conn.execute(CONFLICTS[name])
                states.append(None)
            except psycopg.Error as error:
                states.append(error.sqlstate)
    assert states[-1] == "53400", states
    assert states[0] in (None, "23505", "23503", "23P01"), states
    assert limited.value("SELECT count(*) FROM payments") == len(PAYMENTS)


TELLING = ("INSERT INTO app.told AS t SELECT g::pci.pan, n FROM (VALUES ({}, '{}'), ({}, '{}'), ({}, '{}')) v(n, g) "
           "ON CONFLICT (card) DO UPDATE SET n = app.tell(EXCLUDED.n)").format(1, VISA, 2, MASTERCARD, 3, "411")


def test_conflicts_that_a_failing_statement_has_told_of_count(limited):
    """A statement tells of each conflict by a notice, and fails then: each is counted all the same."""
    limited.execute("CREATE ROLE teller LOGIN; GRANT ALL ON SCHEMA app TO teller")
    limited.grant("teller", "store")
    with limited.connect("app") as conn:
        conn.execute("CREATE TABLE app.told (card pci.pan UNIQUE, n int); GRANT ALL ON app.told TO teller")
        conn.execute(f"INSERT INTO app.told VALUES ('{VISA}', 0), ('{MASTERCARD}', 0)")
        conn.execute("CREATE FUNCTION app.tell(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'hit %', n; RETURN n; END $$")
    hits, states = [], []
    with limited.connect("teller") as conn:
        conn.add_notice_handler(lambda d: hits.append(d.message_primary))
        for _ in range(LIMIT):
            try:
                conn.execute(TELLING)
            except psycopg.Error as error:
                states.append(error.sqlstate)
    assert states[0] == "22P02" and states[-1] == "53400", states
    assert len(hits) <= LIMIT + 1, hits


def test_the_limit_is_one_for_all_statements(limited):
    """What was met before leaves so much less to a statement that meets many."""
    limited.execute("CREATE ROLE patient LOGIN; GRANT ALL ON SCHEMA app TO patient")
    limited.grant("patient", "store")
    with limited.connect("app") as conn:
        conn.execute("CREATE TABLE app.many (card pci.pan UNIQUE, n int); GRANT ALL ON app.many TO patient")
        conn.execute(f"INSERT INTO app.many VALUES ('{VISA}', 0)")
    insert = "INSERT INTO app.many SELECT '{}'::text::pci.pan, g FROM generate_series(1, {}) g ON CONFLICT (card) DO NOTHING"
    with limited.connect("patient") as conn:
        conn.execute(insert.format(VISA, LIMIT - 1))
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(insert.format(VISA, LIMIT))
    assert caught.value.sqlstate == "53400"


def test_conflicts_of_other_columns_do_not_count(limited):
    """Upserts by number of a table that has a unique card column, too."""
    limited.execute("CREATE ROLE steady LOGIN; GRANT ALL ON payments TO steady")
    limited.grant("steady", "store")
    with limited.connect("steady") as conn:
        for n in range(LIMIT + 3):
            conn.execute(f"INSERT INTO payments VALUES (1, '{VISA_3}', {n}) ON CONFLICT (id) DO UPDATE SET amount = EXCLUDED.amount")
            conn.execute(f"INSERT INTO payments VALUES (1, '{VISA_3}', {n}) ON CONFLICT (id) DO NOTHING")


def test_other_failures_do_not_count(limited):
    """A write that fails for a reason of its own says nothing of card numbers."""
    limited.execute("CREATE ROLE unlucky LOGIN; GRANT ALL ON payments TO unlucky")
    limited.grant("unlucky", "store")
    with limited.connect("unlucky") as conn:
        for n in range(LIMIT + 3):
            conn.execute("DO $$ BEGIN UPDATE payments SET amount = amount + 1; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END $$")
            conn.execute(f"DO $$ BEGIN INSERT INTO payments VALUES ({200 + n}, '{VISA_3}', 1); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END $$")
        conn.execute(f"INSERT INTO payments VALUES (100, '{VISA_3}', 1)")
        conn.execute("DELETE FROM payments WHERE id = 100")


def test_limit_is_recorded_and_spares_searchers(limited):
    with limited.connect("app") as conn, pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
        for _ in range(LIMIT + 1):
            conn.execute(CONFLICTS["do_nothing"])
    with limited.connect("full") as conn:
        for _ in range(LIMIT + 2):
            conn.execute(CONFLICTS["do_nothing"])
    limited.execute("UPDATE payments SET amount = 1 WHERE id = 1")
    trail.wait_for(limited, event="DENIED", message=lambda it: "hourly limit of conflicts reached" in it)
    assert VISA not in limited.log and VISA not in str(trail.records(limited))


# The other way round: what a store-only application does every day.

ORDINARY = {
    "insert": [f"INSERT INTO t VALUES (10, '{VISA_3}', 1)"],
    "insert_spaces": ["INSERT INTO t VALUES (10, '4242 4242 4242 4242', 1)"],
    "insert_returning": [f"INSERT INTO t VALUES (10, '{VISA_3}', 1) RETURNING id, card"],
    "multi_row": [f"INSERT INTO t VALUES (10, '{VISA_3}', 1), (11, '{MASTERCARD_2}', 2)"],
    "insert_select_of_new": [f"INSERT INTO t SELECT v.id, v.card::pci.pan, 1 FROM (VALUES (10::bigint, '{VISA_3}'), (11, '{MASTERCARD_2}')) v(id, card)"],
    "insert_select_of_other_columns": ["CREATE TABLE x (id bigint, mask text)", "INSERT INTO x SELECT id, card::text FROM t"],
    "create_table_of_masks": ["CREATE TABLE x AS SELECT id, card::text AS card, pci.brand(card) AS brand FROM t"],
    "insert_by_cte": [f"WITH n AS (SELECT '{VISA_3}'::pci.pan AS card) INSERT INTO t SELECT 10, card, 1 FROM n"],
    "insert_case": [f"INSERT INTO t VALUES (10, CASE WHEN true THEN '{VISA_3}' ELSE NULL END, 1)"],
    "update_join": ["CREATE TABLE o (pid bigint, amount int)", "INSERT INTO o VALUES (1, 9)", "UPDATE t SET amount = o.amount FROM o WHERE o.pid = t.id"],
    "update_same_card": ["UPDATE t SET card = card, amount = 9 WHERE id = 1"],
    "upsert_not_hot": ["CREATE INDEX ON t (amount)", f"INSERT INTO t VALUES (10, '{VISA}', 1) ON CONFLICT (card) DO UPDATE SET amount = 77"],
    "row_in_plpgsql": ["DO $$ DECLARE r t; n int; BEGIN SELECT * INTO r FROM t WHERE id = 1; FOR r IN SELECT * FROM t LOOP n := r.amount; END LOOP; UPDATE t SET amount = n WHERE id = r.id; END $$"],
    "function_of_literal": [f"CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (10, '{VISA_3}', 1); END $$", "SELECT f()", "DELETE FROM t WHERE id = 10", "SELECT f()"],
    "upsert_nothing": [f"INSERT INTO t VALUES (1, '{VISA}', 1) ON CONFLICT DO NOTHING"],
    "upsert_update": [f"INSERT INTO t VALUES (10, '{VISA}', 1) ON CONFLICT (card) DO UPDATE SET amount = EXCLUDED.amount"],
    "upsert_update_card": [f"INSERT INTO t VALUES (1, '{VISA_3}', 1) ON CONFLICT (id) DO UPDATE SET card = EXCLUDED.card"],
    "update_beside_unique_key": ["CREATE TABLE x (grp int, card pci.pan, UNIQUE (grp, card))", f"INSERT INTO x VALUES (1, '{VISA}'), (2, '{VISA_3}')", "UPDATE x SET grp = 2 WHERE grp = 1"],
    "update_other_column": ["UPDATE t SET amount = amount + 1 WHERE id = 1"],
    "update_indexed_column": ["CREATE INDEX ON t (amount)", "UPDATE t SET amount = amount + 1"],
    "update_card_by_id": [f"UPDATE t SET card = '{VISA_3}' WHERE id = 1"],
    "delete_by_id": ["DELETE FROM t WHERE id = 4"],
    "select_masks": ["SELECT * FROM t ORDER BY id LIMIT 3"],
    "select_by_last4": ["SELECT id FROM t WHERE pci.last4(card) = '1111'"],
    "group_by_brand": ["SELECT pci.brand(card), count(*) FROM t GROUP BY 1 ORDER BY 2"],
    "count_cards": ["SELECT count(card), count(*) FROM t"],
    "union_all": ["SELECT card FROM t UNION ALL SELECT card FROM t"],
    "json": ["SELECT to_jsonb(t), json_agg(card) OVER (), row_to_json(t) FROM t"],
    "array_agg": ["SELECT array_agg(card) FROM t"],
    "mask_compare": ["SELECT id FROM t WHERE card::text = '411111******1111'"],
    "is_null": ["SELECT id FROM t WHERE card IS NULL"],
    "coalesce": [f"SELECT coalesce(card, '{VISA}') FROM t"],
    "case_on_id": ["SELECT CASE WHEN id = 1 THEN card END FROM t"],
    "fk_insert": ["CREATE TABLE c (id int, card pci.pan REFERENCES t (card))", f"INSERT INTO c VALUES (1, '{VISA}')"],
    "fk_cascade_update": ["CREATE TABLE c (id int, card pci.pan REFERENCES t (card) ON UPDATE CASCADE ON DELETE CASCADE)",
                          f"INSERT INTO c VALUES (1, '{VISA}')", f"UPDATE t SET card = '{VISA_3}' WHERE id = 1"],
    "fk_cascade_delete": ["CREATE TABLE c (id int, card pci.pan REFERENCES t (card) ON DELETE CASCADE)",
                          f"INSERT INTO c VALUES (1, '{VISA}')", "DELETE FROM t WHERE id = 1"],
    "fk_set_null": ["CREATE TABLE c (id int, card pci.pan REFERENCES t (card) ON DELETE SET NULL)",
                    f"INSERT INTO c VALUES (1, '{VISA}')", "DELETE FROM t WHERE id = 1"],
    "fk_deferred": [f"INSERT INTO later VALUES ('{VISA}')", "SET CONSTRAINTS ALL IMMEDIATE"],
    "fk_parent_update_other": ["CREATE TABLE c (id int, card pci.pan REFERENCES t (card))", f"INSERT INTO c VALUES (1, '{VISA}')",
                               "UPDATE t SET amount = 5"],
    "fk_child_update_other": ["UPDATE child SET id = 2"],
    "fk_child_insert": [f"INSERT INTO child VALUES (2, '{AMEX}')"],
    "fk_parent_delete": ["DELETE FROM t WHERE id = 1"],
    "fk_cascade_trigger_catches": ["CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END; RETURN OLD; END'",
                                   "CREATE TRIGGER tr BEFORE DELETE ON child FOR EACH ROW EXECUTE FUNCTION f()", f"INSERT INTO child VALUES (2, '{VISA}')", "DELETE FROM t WHERE id = 1"],
    "fk_no_action": ["CREATE TABLE c (card pci.pan REFERENCES t (card))", f"INSERT INTO c VALUES ('{VISA}')", "DELETE FROM c",
                     "DELETE FROM t WHERE id = 1", f"UPDATE t SET card = '{VISA_3}' WHERE id = 2"],
    "fk_no_action_deferred": ["DELETE FROM t WHERE id = 4", f"UPDATE t SET card = '{VISA_3}' WHERE id = 2", "SET CONSTRAINTS ALL IMMEDIATE"],
    "fk_parent_change": [f"UPDATE t SET card = '{VISA_3}' WHERE id = 1"],
    "fk_add_empty": ["CREATE TABLE c (id int, card pci.pan)", "ALTER TABLE c ADD FOREIGN KEY (card) REFERENCES t (card)"],
    "fk_on_id": ["CREATE TABLE c (id bigint REFERENCES t (id) ON DELETE CASCADE)", "INSERT INTO c VALUES (1)", "DELETE FROM t WHERE id = 1"],
    "create_index": ["TRUNCATE t CASCADE", "CREATE INDEX ON t (card)"],
    "create_hash_index": ["TRUNCATE t CASCADE", "CREATE INDEX ON t USING hash (card)", f"INSERT INTO t VALUES (10, '{VISA_3}', 1)"],
    "create_unique_index": ["TRUNCATE t CASCADE", "CREATE UNIQUE INDEX ON t (card, amount)"],
    "create_unique_index_without_card": ["CREATE UNIQUE INDEX ON t (id, amount)"],
    "add_unique_without_card": ["ALTER TABLE t ADD UNIQUE (id, amount)"],
    "update_every_row": ["CREATE INDEX ON t (amount)", "UPDATE t SET amount = amount + 1, id = id + 10"],
    "insert_with_trigger": [f"INSERT INTO touched VALUES (10, '{VISA_3}', 1)"],
    "update_with_trigger": ["CREATE INDEX ON touched (amount)", "UPDATE touched SET id = id + 10"],
    "update_hash_partition": ["UPDATE hashed SET id = id + 1"],
    "update_card_hash_partition": [f"UPDATE hashed SET card = '{VISA_3}' WHERE id = 1"],
    "delete_hash_partition": ["DELETE FROM hashed WHERE id = 1"],
    "insert_hash_partition": [f"INSERT INTO hashed VALUES (5, '{VISA_3}')"],
    "reindex": ["REINDEX TABLE t"],
    "primary_key": ["CREATE TABLE x (card pci.pan PRIMARY KEY)", f"INSERT INTO x VALUES ('{VISA}')", f"INSERT INTO x VALUES ('{VISA_3}')"],
    "analyze": ["ANALYZE t"],
    "analyze_arrays": ["CREATE TABLE x (cards pci.pan[])", f"INSERT INTO x VALUES (ARRAY['{VISA}'::pci.pan, '{AMEX}'])", "ANALYZE x"],
    "hash_partitions": ["CREATE TABLE x (id int, card pci.pan) PARTITION BY HASH (card)",
                        "CREATE TABLE x0 PARTITION OF x FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
                        "CREATE TABLE x1 PARTITION OF x FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
                        f"INSERT INTO x VALUES (1, '{VISA}'), (2, '{VISA_2}'), (3, '{VISA_3}'), (4, '{AMEX}')", "SELECT card FROM x WHERE id = 2"],
    "trigger_function": ["CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
                         "CREATE TRIGGER tr AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
                         f"INSERT INTO t VALUES (10, '{VISA_3}', 1)"],
    "merge_on_id": [f"MERGE INTO t USING (VALUES (1::bigint, 9)) v(id, amount) ON t.id = v.id WHEN MATCHED THEN UPDATE SET amount = v.amount"],
    "update_by_hash_join": ["SET LOCAL enable_nestloop = off", "SET LOCAL enable_mergejoin = off",
                            f"UPDATE t SET card = v.card FROM (VALUES (1::bigint, '{VISA_3}'::pci.pan), (2, '{MASTERCARD_2}')) v(id, card) WHERE v.id = t.id"],
    "merge_of_several": [f"MERGE INTO t USING (VALUES (1::bigint, '{VISA_3}'::pci.pan), (10, '{MASTERCARD_2}')) v(id, card) ON t.id = v.id "
                         "WHEN MATCHED THEN UPDATE SET card = v.card WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.card, 1)"],
    "prepared_insert": ["PREPARE i(bigint, text) AS INSERT INTO t VALUES ($1, $2, 1)", f"EXECUTE i(10, '{VISA_3}')", f"EXECUTE i(11, '{MASTERCARD_2}')"],
    "plpgsql_insert": [f"DO $$ DECLARE c pci.pan := '{VISA_3}'; BEGIN INSERT INTO t VALUES (10, c, 1); IF c IS NOT NULL THEN NULL; END IF; END $$"],
    "explain_insert": [f"EXPLAIN INSERT INTO t VALUES (10, '{VISA_3}', 1)"],
    "view_of_masks": ["CREATE VIEW v AS SELECT id, card FROM t", "SELECT * FROM v ORDER BY id"],
    "alter_add_column": ["ALTER TABLE t ADD COLUMN note text DEFAULT 'x'", "SELECT * FROM t"],
    "copy_table_rewrite": ["ALTER TABLE t ALTER amount TYPE bigint"],
    "array": [f"CREATE TABLE x (id int, cards pci.pan[])", f"INSERT INTO x VALUES (1, ARRAY['{VISA}', '{AMEX}']::pci.pan[]), (2, '{{{VISA_2}}}')", "UPDATE x SET id = 3, cards = cards WHERE id = 1",
              f"UPDATE x SET cards = ARRAY['{VISA_3}'::pci.pan] WHERE id = 2"],
    "unnest_literals": [f"CREATE TABLE x (card pci.pan UNIQUE)", f"INSERT INTO x SELECT unnest(ARRAY['{VISA}', '{VISA_2}']::pci.pan[])"],
    "prepared_literal": [f"PREPARE i AS INSERT INTO t VALUES (10, '{VISA_3}', 1)", "EXECUTE i", "DELETE FROM t WHERE id = 10", "EXECUTE i"],
    "null_card": ["INSERT INTO t VALUES (10, NULL::pci.pan, 1), (11, DEFAULT, 1)"],
    "move_partition": ["CREATE TABLE x (part int, card pci.pan, UNIQUE (part, card)) PARTITION BY LIST (part)", "CREATE TABLE x1 PARTITION OF x FOR VALUES IN (1)",
                       "CREATE TABLE x2 PARTITION OF x FOR VALUES IN (2)", f"INSERT INTO x VALUES (1, '{VISA}')", "UPDATE x SET part = 2", "UPDATE x SET part = 1 WHERE part = 2"],
    "move_partition_indexed": ["CREATE TABLE x (part int, card pci.pan) PARTITION BY LIST (part)", "CREATE TABLE x1 PARTITION OF x FOR VALUES IN (1)",
                               "CREATE TABLE x2 PARTITION OF x FOR VALUES IN (2)", "CREATE INDEX ON x (card)", f"INSERT INTO x VALUES (1, '{VISA}')", "UPDATE x SET part = 2"],
    "move_partition_without_index": ["CREATE TABLE x (part int, card pci.pan) PARTITION BY LIST (part)", "CREATE TABLE x1 PARTITION OF x FOR VALUES IN (1)",
                                     "CREATE TABLE x2 PARTITION OF x FOR VALUES IN (2)", f"INSERT INTO x VALUES (1, '{VISA}')", "UPDATE x SET part = 2"],
    "sequence_of_savepoints": ["SAVEPOINT a", f"INSERT INTO t VALUES (10, '{VISA_3}', 1)", "ROLLBACK TO a", f"INSERT INTO t VALUES (10, '{VISA_3}', 1)"],
}


@pytest.mark.parametrize("role", ["app", "postgres"])
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_statement_of_store_only(arena, name, role):
    error, _, _ = attack(arena, role, ORDINARY[name], "payments")
    assert error is None, f"{error.sqlstate}: {error}"


def test_naming_an_object_of_ours_is_no_comparison(arena):
    """Tools ask the catalogs by numbers of objects, which a plan then depends on: psql's \\d, pg_dump, pg_upgrade."""
    for name in ("access_grant_pkey", "access_grant"):
        assert "capability" in arena.psql(f"\\d pci.{name}", user="plain").stdout
    with arena.connect("plain") as conn:
        for oid, in arena.execute("SELECT objid::text FROM pg_depend WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgpci') "
                                  "UNION SELECT indexrelid::text FROM pg_index WHERE indrelid::regclass::text LIKE 'pci.%'"):
            conn.execute(f"SELECT {oid}::oid, {oid}::regclass")


def test_vacuum_and_concurrent_index(arena):
    with arena.connect("app") as conn:
        conn.execute("SET search_path = app")
        conn.execute("CREATE TABLE vac (id int, card pci.pan UNIQUE); CREATE INDEX ON vac (card, id)")
        conn.execute(f"INSERT INTO vac VALUES (1, '{VISA}'), (2, '{VISA_2}')")
        conn.execute("DELETE FROM vac WHERE id = 2")
        conn.execute("VACUUM (ANALYZE) vac")
        conn.execute("CREATE INDEX CONCURRENTLY ON vac (id)")
        conn.execute("REINDEX TABLE CONCURRENTLY vac")
        conn.execute("VACUUM FULL vac")
        assert conn.execute("SELECT id, card FROM vac").fetchall() == [(1, "411111******1111")]
        conn.execute("DROP TABLE vac")


def luhn(digits):
    """The digits with their check digit."""
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(digits)))
    return digits + str(-total % 10)


@pytest.mark.parametrize("options", ["FULL", "FULL, ANALYZE", ""])
@pytest.mark.parametrize("role", ["app", "full"])
def test_vacuum_keeps_indexes_in_order(arena, role, options):
    """Enough card numbers for an index of several levels, built anew by VACUUM FULL, its pages deleted by VACUUM."""
    arena.execute("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA public")
    cards = [luhn(f"411111{n:09d}") for n in range(3000)]
    with arena.connect(role) as conn:
        conn.execute(f'SET search_path = "{role}"')
        conn.execute("CREATE TABLE many (id int, card pci.pan UNIQUE); CREATE INDEX plain ON many (card, id)")
        # Who may not compare does not build this one anew.
        if role == "full":
            conn.execute("CREATE INDEX by_hash ON many USING hash (card)")
        with conn.cursor().copy("COPY many FROM STDIN") as copy:
            for row in enumerate(cards):
                copy.write_row(row)
        conn.execute("DELETE FROM many WHERE id % 50 <> 0")
        conn.execute(f"VACUUM ({options}) many" if options else "VACUUM many")
        conn.execute("VACUUM many")
    for index in ("many_card_key", "plain"):
        arena.execute(f"SELECT bt_index_check('{role}.{index}', true)")
    with arena.connect("look") as conn:
        arena.execute(f'GRANT USAGE ON SCHEMA "{role}" TO look; GRANT SELECT ON "{role}".many TO look')
        conn.execute("SET enable_seqscan = off")
        found = [conn.execute(f'SELECT id FROM "{role}".many WHERE card = %s', (cards[n],)).fetchall() for n in range(0, 3000, 250)]
    arena.execute(f'DROP TABLE "{role}".many')
    assert found == [[(n,)] for n in range(0, 3000, 250)]


def test_vacuum_keeps_an_index_of_arrays_in_order(arena):
    arena.execute("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA public")
    with arena.connect("full") as conn:
        conn.execute('CREATE TABLE "full".arrays (cards pci.pan[])')
        conn.execute('CREATE INDEX by_cards ON "full".arrays (cards)')
        with conn.cursor().copy('COPY "full".arrays FROM STDIN') as copy:
            for n in range(500):
                copy.write_row([[luhn(f"411111{n:09d}")]])
        conn.execute('VACUUM (FULL, ANALYZE) "full".arrays')
    arena.execute('GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO "full"')
    arena.execute("SELECT bt_index_check('\"full\".by_cards', true)", user="full")
    arena.execute('DROP TABLE "full".arrays')


def test_copy_in_of_store_only(arena):
    with arena.connect("app", autocommit=False) as conn:
        with conn.cursor().copy("COPY payments FROM STDIN") as copy:
            copy.write(f"50\t{VISA_3}\t1\n51\t{MASTERCARD_2}\t1\n")
        assert conn.execute("SELECT count(*) FROM payments WHERE id IN (50, 51)").fetchone() == (2,)
        conn.rollback()


# A value made only to be compared with holds no digits: nobody keeps one.

COMPARAND = f"'{VISA}'::pci.pan"
KEPT = {
    "insert_values": [f"INSERT INTO x (card) VALUES ('{VISA}')"],
    "insert_select": [f"INSERT INTO x (card) SELECT {COMPARAND}"],
    "insert_from_text": [f"INSERT INTO x (card) SELECT v::pci.pan FROM (VALUES ('{VISA}')) w(v)"],
    "update": [f"UPDATE public.payments SET card = {COMPARAND} WHERE id = 1"],
    "create_table_as": [f"CREATE TABLE y AS SELECT {COMPARAND} AS card"],
    "select_into": [f"SELECT {COMPARAND} AS card INTO y"],
    "materialized_view": [f"CREATE MATERIALIZED VIEW y AS SELECT {COMPARAND} AS card"],
    "array_column": [f"INSERT INTO x (cards) VALUES (ARRAY[{COMPARAND}])"],
    "array_literal": [f"INSERT INTO x (cards) VALUES ('{{{{{VISA}}}}}')"],
    "composite_column": [f"INSERT INTO x (pair) VALUES (ROW({COMPARAND}, 1))"],
    "domain_column": [f"INSERT INTO x (dom) VALUES ('{VISA}')"],
    "temporary_table": ["CREATE TEMPORARY TABLE y (card pci.pan)", f"INSERT INTO y VALUES ('{VISA}')"],
    "merge_insert": [f"MERGE INTO x USING (SELECT {COMPARAND} AS card) s ON false WHEN NOT MATCHED THEN INSERT (card) VALUES (s.card)"],
    "upsert": [f"INSERT INTO public.payments VALUES (1, {COMPARAND}, 1) ON CONFLICT (id) DO UPDATE SET card = EXCLUDED.card"],
    "writable_cte": [f"WITH w AS (INSERT INTO x (card) VALUES ('{VISA}') RETURNING 1) SELECT * FROM w"],
    "default_expression": [f"CREATE TABLE y (id int, card pci.pan DEFAULT '{VISA}')", "INSERT INTO y (id) VALUES (1)"],
    "add_column_default": [f"ALTER TABLE x ADD COLUMN more pci.pan DEFAULT '{VISA}'", "SELECT 1 / count(more) FROM x"],
    "alter_using": [f"CREATE TABLE y AS SELECT 1 AS card", f"ALTER TABLE y ALTER card TYPE pci.pan USING {COMPARAND}"],
    "plpgsql_variable": [f"DO $$ DECLARE c pci.pan := '{VISA}'; BEGIN INSERT INTO x (card) VALUES (c); END $$"],
    "function_result": [f"CREATE FUNCTION f() RETURNS pci.pan LANGUAGE sql AS $$ SELECT {COMPARAND} $$", "INSERT INTO x (card) SELECT f()"],
    "plpgsql_result": [f"CREATE FUNCTION f() RETURNS pci.pan LANGUAGE plpgsql AS $$ BEGIN RETURN '{VISA}'; END $$", "INSERT INTO x (card) SELECT f()"],
    "record_result": [f"CREATE FUNCTION f(OUT card pci.pan, OUT n int) LANGUAGE plpgsql AS $$ BEGIN card := '{VISA}'; n := 1; END $$",
                      "INSERT INTO x (card) SELECT card FROM f()"],
    "trigger_assigns": [f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.card := '{VISA}'; RETURN NEW; END $$",
                        "CREATE TRIGGER tr BEFORE INSERT ON x FOR EACH ROW EXECUTE FUNCTION f()", "INSERT INTO x (note) VALUES ('a')"],
    "record_columns": [f"CREATE FUNCTION f() RETURNS record LANGUAGE plpgsql AS $$ DECLARE c pci.pan := '{VISA}'; BEGIN RETURN ROW(c, 1); END $$",
                       "INSERT INTO x (card) SELECT card FROM f() AS f(card pci.pan, n int)"],
    "record_field": [f"CREATE FUNCTION f(OUT card pci.pan, OUT n int) LANGUAGE plpgsql AS $$ BEGIN card := '{VISA}'; n := 1; END $$",
                     "INSERT INTO x (card) SELECT (f()).card"],
    "record_variable": [f"DO $$ DECLARE r x; BEGIN r.card := '{VISA}'; INSERT INTO x VALUES (r.*); END $$"],
    "row_variable": [f"DO $$ DECLARE r record; BEGIN SELECT {COMPARAND} AS card INTO r; INSERT INTO x (card) VALUES (r.card); END $$"],
    "xmltable": [f"INSERT INTO x (card) SELECT card FROM XMLTABLE('/r' PASSING '<r c=\"{VISA}\"/>' COLUMNS card pci.pan PATH '@c')"],
    "trigger_calls": [f"CREATE FUNCTION g() RETURNS pci.pan LANGUAGE plpgsql AS $$ BEGIN RETURN '{VISA}'; END $$",
                      "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.card := g(); RETURN NEW; END $$",
                      "CREATE TRIGGER tr BEFORE INSERT ON x FOR EACH ROW EXECUTE FUNCTION f()", "INSERT INTO x (note) VALUES ('a')"],
    "json_populate": [f"INSERT INTO x SELECT * FROM jsonb_populate_record(NULL::x, '{{\"card\": \"{VISA}\"}}')"],
    "prepared": ["PREPARE p(pci.pan) AS INSERT INTO x (card) VALUES ($1)", f"EXECUTE p('{VISA}')"],
}


@pytest.mark.parametrize("name", KEPT)
def test_comparand_is_never_kept(arena, name):
    prepare = ["CREATE TYPE pair AS (card pci.pan, n int)", "CREATE DOMAIN dom AS pci.pan",
               "CREATE TABLE x (card pci.pan, cards pci.pan[], pair pair, dom dom, note text)",
               "INSERT INTO x (card) SELECT card FROM public.payments"]
    arena.execute("GRANT CREATE, TEMPORARY ON DATABASE postgres TO look")
    error, rows, _ = attack(arena, "look", prepare + KEPT[name], "payments")
    assert error is not None, f"was kept: {rows}"
    # Whichever is asked for first: a definition, or its rows.
    is_denied = re.match("permission denied to (store|export sealed) card numbers", str(error))
    assert (error.sqlstate, bool(is_denied)) == ("42501", True), f"{error.sqlstate}: {error}"


@pytest.mark.parametrize("binary", [False, True])
def test_comparand_is_never_kept_by_copy(arena, binary):
    arena.execute("CREATE TABLE IF NOT EXISTS look.copied (card pci.pan); ALTER TABLE look.copied OWNER TO look")
    with arena.connect("look") as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="store"):
            with conn.cursor().copy("COPY look.copied FROM STDIN" + (" (FORMAT binary)" if binary else "")) as copy:
                if binary:
                    copy.set_types(["text"])
                copy.write_row([VISA])
        assert conn.execute("SELECT count(*) FROM look.copied").fetchone() == (0,)


def test_look_up_finds_and_moves_stored_values(arena):
    """Search without store: compares with digits, and copies what is stored already."""
    with arena.connect("look", autocommit=False) as conn:
        assert conn.execute("SELECT id FROM payments WHERE card = %s", (VISA,)).fetchall() == [(1,)]
        assert conn.execute("SELECT id FROM payments WHERE card = ANY(%s) ORDER BY id", ([VISA, MASTERCARD],)).fetchall() == [(1,), (2,)]
        assert conn.execute(f"SELECT id FROM payments WHERE card IN ('{VISA}', '{AMEX}') ORDER BY id").fetchall() == [(1,), (3,)]
        conn.execute("CREATE TABLE look.kept AS SELECT id, card FROM payments")
        assert conn.execute("SELECT count(*) FROM look.kept k JOIN payments p ON k.card = p.card").fetchone() == (4,)
        conn.rollback()


def test_nothing_was_changed_and_no_digits_were_logged(arena):
    assert arena.reveals() == CLEAR
    # What has more digits is none.
    number = re.compile(rf"(?<!\d){VISA}(?!\d)")
    assert not number.search(arena.log) and not number.search(str(trail.records(arena)))


EXPLAINED = {
    "column_first": f"card = '{VISA}'::text",
    "text_first": f"'{VISA}'::text = card",
    "distinct": f"card IS NOT DISTINCT FROM '{VISA}'::text",
    "in_list": f"card IN ('{VISA}'::text, '{VISA_2}'::text)",
    "any_array": f"card = ANY ('{{{VISA},{VISA_2},NULL}}'::text[])",
    "folded": f"card = substr('{VISA[:8]}xx', 1, 8) || '{VISA[8:]}'",
    "below_or": f"card = '{VISA}'::text OR id = 9 AND NOT card <> '{VISA}'::text",
}


@pytest.mark.parametrize("how", ["SEQ", "INDEX", "ANALYZE"])
@pytest.mark.parametrize("name", EXPLAINED)
def test_explain_shows_no_digits_of_a_text_comparand(arena, name, how):
    with arena.connect("look") as conn:
        conn.execute(f"SET enable_seqscan = {'on' if how == 'SEQ' else 'off'}")
        analyze = "ANALYZE, " if how == "ANALYZE" else ""
        query = f"SELECT id FROM payments WHERE {EXPLAINED[name]}"
        plan = conn.execute(f"EXPLAIN ({analyze}VERBOSE) {query}").fetchall()
        rows = conn.execute(query).fetchall()
    assert not [n for n in (VISA, VISA_2) if n in str(plan)]
    assert rows == [(1,)]


def test_explain_of_a_prepared_statement_shows_no_digits(arena):
    with arena.connect("look") as conn:
        conn.execute("PREPARE p(text) AS SELECT id FROM payments WHERE card = $1")
        for mode in ("force_custom_plan", "force_generic_plan"):
            conn.execute(f"SET plan_cache_mode = {mode}")
            assert VISA not in str(conn.execute(f"EXPLAIN EXECUTE p('{VISA}')").fetchall())
            assert conn.execute(f"EXECUTE p('{VISA}')").fetchall() == [(1,)]
            assert conn.execute(f"EXECUTE p('{VISA_3}')").fetchall() == []
