-- Leaving the database: sealed, for who holds export; never silently a mask.
\c - postgres
CREATE TABLE moved (id int PRIMARY KEY, card pci.pan);
GRANT ALL ON cards, moved TO dump;
GRANT SELECT ON moved TO clerk;

-- without export
\c - dump
\copy cards (card) to stdout
\copy (select card from cards where id = 1) to stdout
COPY cards (card) TO STDOUT (FORMAT binary);
SET pgpci.pan_output = sealed;
SELECT card FROM cards WHERE id = 1;
SELECT to_json(card) FROM cards WHERE id = 1;
RESET pgpci.pan_output;
BEGIN;
DECLARE _pg_dump_cursor CURSOR FOR SELECT card FROM cards WHERE id = 1;
FETCH 1 FROM _pg_dump_cursor;
ROLLBACK;
-- what reads stays a mask
SELECT card FROM cards WHERE id = 1;
\copy (select id, card::text from cards where id = 1) to stdout
\copy cards (id, note) to stdout

-- with it
\c - ann
SELECT pci.grant_access('dump', 'default', 'export') AS request \gset
\c - bob
SELECT pci.approve(:request);
\c - dump
SET pgpci.pan_output = sealed;
SELECT left(card::text, 6) AS cast_is_mask, left(to_json(card)#>>'{}', 6) AS json FROM cards WHERE id = 1;
CREATE FUNCTION pg_temp.printed(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR r IN EXECUTE query LOOP
        RETURN NEXT regexp_replace(r::text, 'pan:1:[A-Za-z0-9_-]{80,120}\M', 'pan:1:<sealed>', 'g');
    END LOOP;
END $$;
SELECT pg_temp.printed('SELECT id, card FROM cards WHERE id <= 2 ORDER BY id');
RESET pgpci.pan_output;
BEGIN;
DECLARE _pg_dump_cursor CURSOR FOR SELECT id, card FROM cards WHERE id = 1;
FETCH 1 FROM _pg_dump_cursor \gset dumped_
ROLLBACK;
SELECT left(:'dumped_card', 6) AS dumped;
SELECT pg_temp.printed('SELECT id, card FROM cards WHERE id <= 2 ORDER BY id');

-- sealed text that is cut is malformed; what was changed within is found out when it is opened
SET pgpci.pan_output = sealed;
SELECT to_json(card)#>>'{}' AS sealed FROM cards WHERE id = 1 \gset
RESET pgpci.pan_output;
CREATE FUNCTION pg_temp.sqlstate_of(card text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO moved VALUES (10, card);
    RETURN 'stored';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
SELECT pg_temp.sqlstate_of(left(:'sealed', -1)) AS one_less, pg_temp.sqlstate_of(left(:'sealed', 40)) AS half,
       pg_temp.sqlstate_of(:'sealed' || 'A') AS one_more;
SELECT pg_temp.sqlstate_of(overlay(:'sealed' PLACING translate(substr(:'sealed', 60, 1), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
    'abcdefghijklmnopqrstuvwxyz0123456789-_', 'BADCFEHGJILKNMPORQTSVUXWZYbadcfehgjilknmporqtsvuxwzy1032547698_-') FROM 60)) AS changed;
\c - clerk
\set VERBOSITY terse
SELECT pci.reveal(card) FROM moved WHERE id = 10;
\set VERBOSITY default
\c - dump
DELETE FROM moved WHERE id = 10;

-- out and in again: the same card numbers
\set file `echo "${TMPDIR:-/tmp}/pgpci-regress-$PPID.copy"`
\set out '\\copy (select id, card from cards where id <= 3) to ' :file
:out
\set in '\\copy moved from ' :file
:in
\set remove '\\! rm -f ' :file
:remove
SELECT id, card FROM moved ORDER BY id;
\c - clerk
SELECT m.id, pci.reveal(m.card) FROM moved m ORDER BY id;
SELECT count(*) FROM (SELECT pci.reveal(card) FROM moved EXCEPT SELECT pci.reveal(card) FROM cards) AS other;

-- and no more once it is taken back
\c - ann
SELECT pci.revoke_access('dump', 'default', 'export');
\c - dump
\copy cards (card) to stdout
