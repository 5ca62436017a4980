-- Comparing card numbers: indexes, joins, keys. For roles that hold search.
\c - postgres
CREATE TABLE pay (id int PRIMARY KEY, card pci.pan NOT NULL UNIQUE, amount int);
CREATE TABLE refund (id int PRIMARY KEY, card pci.pan REFERENCES pay (card), amount int);
CREATE TABLE part (card pci.pan NOT NULL, amount int) PARTITION BY HASH (card);
CREATE TABLE part0 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE part1 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE hashed (id int, card pci.pan);
CREATE INDEX hashed_card ON hashed USING hash (card);
GRANT ALL ON pay, refund, part, hashed TO app, till;
GRANT SELECT ON pay, refund, part, hashed TO look, clerk;

\c - till
INSERT INTO pay VALUES (1, '4111111111111111', 10), (2, '5555555555554444', 20), (3, '378282246310005', 30);
INSERT INTO hashed SELECT id, card FROM pay;
INSERT INTO refund VALUES (1, '4111111111111111', 1), (2, '4111 1111 1111 1111', 2), (3, '378282246310005', 3);
INSERT INTO part SELECT card, amount FROM pay;

-- equality
SELECT id FROM pay WHERE card = '5555555555554444';
SELECT id FROM pay WHERE card = '5555-5555-5555-4444'::text;
SELECT id FROM pay WHERE '5555555555554444'::varchar = card;
SELECT id FROM pay WHERE card <> '5555555555554444' ORDER BY id;
SELECT id FROM pay WHERE card <> '5555555555554444'::text ORDER BY id;
SELECT id FROM pay WHERE card IN ('4111111111111111', '378282246310005') ORDER BY id;
SELECT id FROM pay WHERE card IN ('4111111111111111'::text, '378282246310005') ORDER BY id;
SELECT id FROM pay WHERE card = ANY ('{4111111111111111,378282246310005}') ORDER BY id;
SELECT id FROM pay WHERE card = ANY ('{4111111111111111,378282246310005}'::text[]) ORDER BY id;
SELECT id FROM pay WHERE card <> ALL ('{4111111111111111,378282246310005}'::text[]) ORDER BY id;
SELECT id FROM pay WHERE card = '6011111111111117';

-- the order is total and means nothing; it is the same for values and text
SELECT count(*) FROM pay a JOIN pay b ON a.card < b.card;
SELECT count(*) FROM pay a JOIN pay b ON a.card <= b.card;
SELECT bool_and((a.card < d) = (a.card < d::pci.pan) AND (a.card >= d) = (d <= a.card) AND (a.card > d) = (d < a.card)) AS agrees
FROM pay a, unnest('{4111111111111111,5555555555554444,6011111111111117}'::text[]) d;
SELECT count(*) FROM (SELECT card, lag(card) OVER (ORDER BY card) AS previous FROM pay) s WHERE previous >= card;

-- plans
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM pay WHERE card = '4111111111111111';
EXPLAIN (COSTS OFF) SELECT id FROM pay WHERE card IN ('4111111111111111', '378282246310005');
EXPLAIN (COSTS OFF) SELECT id FROM hashed WHERE card = '4111111111111111';
SELECT id FROM hashed WHERE card = '4111111111111111'::text;
EXPLAIN (COSTS OFF) SELECT id FROM pay ORDER BY card;
-- bound text parameters, generic plan
SET plan_cache_mode = force_generic_plan;
PREPARE by_text(text) AS SELECT id FROM pay WHERE card = $1;
EXPLAIN (COSTS OFF) EXECUTE by_text('4111111111111111');
EXECUTE by_text('4111111111111111');
EXECUTE by_text('378282246310005');
PREPARE by_pan(pci.pan) AS SELECT id FROM pay WHERE card = $1;
EXPLAIN (COSTS OFF) EXECUTE by_pan('4111111111111111');
EXECUTE by_pan('4111111111111111');
PREPARE by_texts(text[]) AS SELECT id FROM pay WHERE card = ANY ($1) ORDER BY id;
EXECUTE by_texts('{4111111111111111,378282246310005,4111111111111111}');
PREPARE by_hash(text) AS SELECT id FROM hashed WHERE card = $1;
EXPLAIN (COSTS OFF) EXECUTE by_hash('4111111111111111');
EXECUTE by_hash('4111111111111111');
RESET plan_cache_mode;
-- joins
SET enable_mergejoin = off; SET enable_nestloop = off; SET enable_seqscan = on;
EXPLAIN (COSTS OFF) SELECT p.id, r.id FROM pay p JOIN refund r ON p.card = r.card;
SELECT p.id, r.id FROM pay p JOIN refund r USING (card) ORDER BY 1, 2;
RESET enable_mergejoin; RESET enable_nestloop;
SET enable_hashjoin = off; SET enable_nestloop = off;
SELECT p.id, r.id FROM pay p JOIN refund r USING (card) ORDER BY 1, 2;
RESET enable_nestloop;
SET enable_mergejoin = off;
SELECT p.id, r.id FROM pay p JOIN refund r USING (card) ORDER BY 1, 2;
RESET enable_hashjoin; RESET enable_mergejoin;
SELECT p.id FROM pay p JOIN (VALUES ('4111111111111111'::text), ('378282246310005')) v (digits) ON p.card = v.digits ORDER BY 1;

-- grouping
SELECT card, count(*), sum(amount) FROM refund GROUP BY card ORDER BY 2 DESC;
SELECT count(DISTINCT card) FROM refund;
SELECT count(*) FROM (SELECT card FROM refund UNION SELECT card FROM pay) s;
SELECT count(*) FROM (SELECT card FROM pay EXCEPT SELECT card FROM refund) s;
SELECT id, row_number() OVER (PARTITION BY card ORDER BY id) FROM refund ORDER BY id;

-- unique and foreign keys show masks
INSERT INTO pay VALUES (4, '4111 1111 1111 1111', 1);
INSERT INTO pay VALUES (4, '4111111111111111', 5) ON CONFLICT (card) DO UPDATE SET amount = pay.amount + excluded.amount
RETURNING id, card, amount;
INSERT INTO pay VALUES (4, '4111111111111111', 5) ON CONFLICT DO NOTHING;
INSERT INTO refund VALUES (4, '6011111111111117', 1);
DELETE FROM pay WHERE id = 1;
INSERT INTO pay VALUES (5, '6011111111111117', NULL), (6, '6011111111111117', NULL);
UPDATE pay SET card = NULL WHERE id = 1;

-- the same for a role that may only store: unique and foreign keys work
\c - app
INSERT INTO pay VALUES (5, '6011111111111117', 50);
INSERT INTO refund VALUES (4, '6011111111111117', 1);
INSERT INTO refund VALUES (5, '30569309025904', 1);
UPDATE pay SET amount = 51 WHERE id = 5;
DELETE FROM refund WHERE id = 4;
DELETE FROM pay WHERE id = 5;

-- hash partitions
\c - till
SELECT count(*) = 3 AS all_there FROM part;
SELECT amount FROM part WHERE card = '5555555555554444';
SELECT count(*) FROM part p JOIN pay USING (card);

-- statistics hold no digits
\c - postgres
ANALYZE pay, refund, part, hashed;
SELECT count(*) FROM pg_stats WHERE schemaname = 'public' AND
    concat(most_common_vals, histogram_bounds) ~ '4111111111111111|5555555555554444|378282246310005';
