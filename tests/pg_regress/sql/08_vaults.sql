-- Several vaults.
\c - cy
SELECT pci.create_vault('eu');
SELECT pci.create_vault('us', display_first => 4, display_last => 0);
SELECT pci.create_vault('dark', searchable => false);
SELECT pci.create_vault('eu');
SELECT pci.create_vault('12');
SELECT pci.create_vault('wide', display_first => 9);
\c - ann
SELECT pci.create_vault('other');
SELECT number, name, provider, display_first, display_last, searchable, cryptoperiod, created_by FROM pci.vaults ORDER BY number;
SELECT vault, purpose, version, state FROM pci.keys WHERE vault IN ('eu', 'us', 'dark') ORDER BY vault, purpose;

-- columns of a vault
\c - postgres
CREATE ROLE euro LOGIN;
CREATE ROLE world LOGIN;
CREATE TABLE eu_cards (id int PRIMARY KEY, card pci.pan('eu') UNIQUE);
CREATE TABLE us_cards (id int PRIMARY KEY, card pci.pan('us'));
CREATE TABLE dark_cards (id int PRIMARY KEY, card pci.pan(4));
CREATE TABLE any_cards (id int PRIMARY KEY, card pci.pan);
GRANT ALL ON eu_cards, us_cards, dark_cards, any_cards TO euro, world, till;
SELECT attrelid::regclass, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attname = 'card' AND attrelid::regclass::text ~ '_cards$' ORDER BY 1::text COLLATE "C";
CREATE TABLE nowhere (card pci.pan('nowhere'));
\c - ann
SELECT pci.grant_access('euro', 'eu', 'store');
SELECT pci.grant_access('euro', 'eu', 'search');
SELECT format('SELECT pci.grant_access(%L, %L, %L)', 'world', v, c) FROM unnest('{default,eu,us,dark}'::text[]) v, unnest('{store,search}'::text[]) c \gexec
SELECT format('SELECT pci.grant_access(%L, %L, %L)', 'world', v, 'reveal') FROM unnest('{default,eu,us,dark}'::text[]) v \gexec
\c - bob
SELECT format('SELECT pci.approve(%s)', id) FROM pci.requests WHERE state = 'open' ORDER BY id \gexec

-- digits go to the vault of their column, by the right to store there and no other
\c - euro
INSERT INTO eu_cards VALUES (1, '4111 1111 1111 1111'), (2, '5555555555554444');
INSERT INTO us_cards VALUES (1, '4111111111111111');
INSERT INTO any_cards VALUES (1, '4111111111111111');
INSERT INTO any_cards VALUES (1, '4111111111111111'::pci.pan('eu'));
SELECT id, card FROM eu_cards ORDER BY id;
SELECT id FROM eu_cards WHERE card = '4111111111111111';
SELECT id FROM eu_cards WHERE card IN ('4111111111111111', '5555555555554444') ORDER BY id;
PREPARE find(text) AS SELECT id FROM eu_cards WHERE card = $1;
EXECUTE find('5555-5555-5555-4444');
SELECT id FROM any_cards WHERE card = '4111111111111111';
SELECT a.id FROM eu_cards a JOIN any_cards b ON a.card = b.card;
SELECT pci.reveal(card) FROM eu_cards;
\c - till
INSERT INTO eu_cards VALUES (3, '4111111111111111');
SELECT id FROM eu_cards WHERE card = '4111111111111111';

-- values of different vaults are never equal
\c - world
INSERT INTO any_cards VALUES (2, '4111111111111111'), (3, '4111111111111111'::pci.pan('us'));
SELECT count(DISTINCT card) FROM any_cards;
SELECT id, card FROM any_cards ORDER BY id;
SELECT id FROM any_cards WHERE card = '4111111111111111';
SELECT a.id, b.id FROM eu_cards a JOIN any_cards b ON a.card = b.card;

-- moving takes reveal where it is and store where it goes
INSERT INTO us_cards SELECT id, card FROM eu_cards;
SELECT id, card, pci.reveal(card) FROM us_cards ORDER BY id;
SELECT id FROM us_cards WHERE card = '4111111111111111';
\c - euro
INSERT INTO eu_cards SELECT id + 10, card FROM any_cards WHERE id = 2;

-- an unsearchable vault
\c - world
INSERT INTO dark_cards VALUES (1, '4111111111111111'), (2, '4111111111111111');
SELECT a.id, b.id FROM dark_cards a JOIN dark_cards b ON a.card = b.card ORDER BY 1, 2;
SELECT id FROM dark_cards WHERE card = '4111111111111111';
SELECT id FROM dark_cards WHERE card = '4111111111111111'::text;
SELECT pci.hash_pan(card) FROM dark_cards;
SELECT pci.comparand('4111111111111111'::text, 2);

-- a new comparison key
\c - cy
SELECT pci.rekey_equality('eu') AS made \gset
SELECT pci.rekey_equality('dark');
SELECT pci.rotate_key('eu') AS made \gset
SELECT pci.set_cryptoperiod('eu', '90 days');
SELECT pci.set_cryptoperiod('eu', '2 years') AS asked \gset
\c - euro
SELECT id FROM eu_cards WHERE card = '4111111111111111';
SELECT a.id FROM eu_cards a JOIN eu_cards b USING (card) ORDER BY 1;
