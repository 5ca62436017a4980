-- The type pci.pan: digits in, mask out.
\c - postgres
CREATE TABLE cards (id int PRIMARY KEY, card pci.pan, note text);
GRANT ALL ON cards TO app, till;
GRANT SELECT ON cards TO look, clerk;

\c - till
-- input: digits, as printed on cards too; output: the mask
INSERT INTO cards VALUES
    (1, '4111111111111111', 'plain'),
    (2, '5555-5555-5555-4444', 'dashes'),
    (3, '3782 822463 10005', 'spaces'),
    (4, '30569309025904', '14 digits'),
    (5, '6759411100000008', '16 digits'),
    (6, '4222222222222', '13 digits'),
    (7, NULL, 'null');
SELECT id, card, note FROM cards ORDER BY id;

-- casts
SELECT id, card::text, card::varchar, card::char(8) FROM cards WHERE id = 1;
SELECT '4111111111111111'::pci.pan, CAST('4111111111111111'::text AS pci.pan), '4111111111111111'::varchar::pci.pan,
       '4111111111111111'::char(20)::pci.pan, pci.pan '4111111111111111';
INSERT INTO cards VALUES (8, '6011111111111117'::text, 'text'), (9, '3566002020360505'::varchar, 'varchar');
SELECT id, card FROM cards WHERE id IN (8, 9) ORDER BY id;

-- what can be said without a key
SELECT id, pci.mask(card), pci.bin(card), pci.last4(card), pci.brand(card), pci.truncate_pan(card)
FROM cards ORDER BY id;
SELECT pan, pci.luhn_valid(pan), pci.brand(pan), pci.truncate_pan(pan)
FROM unnest('{4111111111111111,5105105105105100,371449635398431,6200000000000005,4222222222222}'::text[]) pan;
SELECT pci.luhn_valid('4111111111111112');

-- the size of a stored value, whatever the length of the card number
SELECT DISTINCT pg_column_size(card) <= 84 AS fits FROM cards WHERE card IS NOT NULL;

-- two stored values of one card number are equal, and have nothing else in common
SELECT a = b AS equal, a::text = b::text AS same_mask
FROM (SELECT '4111111111111111'::text::pci.pan AS a, '4111 1111 1111 1111'::text::pci.pan AS b) AS two;

-- a column bound to a vault
\c - postgres
CREATE TABLE bound (card pci.pan('default'), same pci.pan(1));
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = 'bound'::regclass AND attnum > 0 ORDER BY attnum;
GRANT ALL ON bound TO till;
\c - till
INSERT INTO bound VALUES ('4111111111111111', '5555555555554444');
INSERT INTO bound SELECT card, card FROM cards WHERE id = 3;
SELECT * FROM bound ORDER BY card::text;

-- assigning a value copies it; reading never decrypts
UPDATE cards SET card = (SELECT card FROM cards WHERE id = 1) WHERE id = 7;
UPDATE cards SET note = 'copied' WHERE id = 7;
SELECT id, card, note FROM cards WHERE id = 7;
\c - clerk
SELECT id, card, pci.reveal(card) FROM cards ORDER BY id;
SELECT pci.reveal(NULL) IS NULL AS null_is_null;

-- masks everywhere else
\c - till
SELECT row_to_json(c) FROM cards c WHERE id = 1;
SELECT c FROM cards c WHERE id = 1;
SELECT array_agg(card) FROM cards WHERE id <= 2;
SELECT format('%s', card), card || '!', quote_literal(card) FROM cards WHERE id = 1;

-- hash_pan: of the whole number, the same each time; for those who may search
SELECT length(pci.hash_pan(card)) AS bytes, pci.hash_pan(card) = pci.hash_pan('4111111111111111') AS same
FROM cards WHERE id = 1;
