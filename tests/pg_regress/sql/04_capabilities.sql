-- Capabilities: nobody may do anything that was not granted, superusers included.
\c - postgres
CREATE TABLE vip (id int PRIMARY KEY, card pci.pan UNIQUE);
GRANT ALL ON vip TO app, till, look, clerk;
-- the owner of the table and superuser
INSERT INTO vip VALUES (1, '4111111111111111');
SELECT id FROM vip WHERE card = '4111111111111111';
SELECT pci.reveal(card) FROM cards WHERE id = 1;
SELECT pci.hash_pan(card) FROM cards WHERE id = 1;
SELECT pci.grant_access('postgres', 'default', 'reveal');

-- store only
\c - app
INSERT INTO vip VALUES (1, '4111111111111111'), (2, '5555555555554444'), (3, '378282246310005');
SELECT * FROM vip ORDER BY id;
SELECT id FROM vip WHERE card = '4111111111111111';
SELECT id FROM vip WHERE card = '4111111111111111'::text;
SELECT DISTINCT card FROM vip;
SELECT id FROM vip ORDER BY card;
SELECT card, count(*) FROM vip GROUP BY card;
SELECT a.id FROM vip a JOIN vip b USING (card);
SELECT min(card) FROM vip;
SELECT ARRAY[card] = ARRAY['4111111111111111'::pci.pan] FROM vip;
SELECT ROW(card) = ROW('4111111111111111'::pci.pan) FROM vip;
SELECT pci.pan_eq(card, '4111111111111111') FROM vip;
SELECT pci.pan_hash(card) FROM vip;
SELECT pci.pan_cmp(card, card) FROM vip;
SELECT pci.reveal(card) FROM vip;
SELECT pci.hash_pan(card) FROM vip;
INSERT INTO vip VALUES (4, '6011111111111117') ON CONFLICT (card) DO NOTHING;
UPDATE vip SET id = 5 WHERE id = 4;
DELETE FROM vip WHERE id = 5;

-- search only
\c - look
SELECT id FROM vip WHERE card = '4111111111111111';
SELECT count(DISTINCT card) FROM vip;
INSERT INTO vip VALUES (6, '6011111111111117');
UPDATE vip SET card = '6011111111111117' WHERE id = 1;
SELECT pci.reveal(card) FROM vip;
SELECT length(pci.hash_pan(card)) FROM vip WHERE id = 1;

-- reveal only
\c - clerk
SELECT id, pci.reveal(card) FROM vip ORDER BY id;
SELECT id FROM vip WHERE card = '4111111111111111';
SELECT '4111111111111111'::pci.pan;

-- decisions are about who logged in
\c - postgres
SET SESSION AUTHORIZATION clerk;
SELECT pci.reveal(card) FROM vip WHERE id = 1;
RESET SESSION AUTHORIZATION;
SET ROLE clerk;
SELECT pci.reveal(card) FROM vip WHERE id = 1;
RESET ROLE;
SET ROLE ann;
SELECT pci.grant_access('postgres', 'default', 'reveal');
RESET ROLE;

-- a grant to a group reaches its members
CREATE ROLE desk;
CREATE ROLE mel LOGIN IN ROLE desk;
GRANT SELECT ON vip TO desk;
\c - ann
SELECT pci.grant_access('desk', 'default', 'reveal') AS request \gset
\c - bob
SELECT pci.approve(:request);
\c - mel
SELECT pci.reveal(card) FROM vip WHERE id = 1;

-- revoking works at once
\c - ann
SELECT pci.revoke_access('desk', 'default', 'reveal');
SELECT pci.revoke_access('desk', 'default', 'reveal');
\c - mel
SELECT pci.reveal(card) FROM vip WHERE id = 1;

-- only officers grant; arguments are checked
\c - cy
SELECT pci.grant_access('cy', 'default', 'reveal');
SELECT pci.revoke_access('clerk', 'default', 'reveal');
\c - ann
SELECT pci.grant_access('clerk', 'default', 'fly');
SELECT pci.grant_access('clerk', 'nowhere', 'reveal');
SELECT pci.grant_access('nobody_at_all', 'default', 'reveal');
SELECT pci.grant_access('clerk', 'default', 'store', purposes => '{refund}');
SELECT pci.grant_access('clerk', 'default', 'store', max_per_hour => 5);
SELECT pci.grant_access('clerk', 'default', 'reveal', max_per_hour => 0);
SELECT pci.grant_access('clerk', 'default', 'reveal', valid_from => '2100-01-01', valid_until => '2000-01-01');
CREATE FUNCTION pg_temp.sqlstate_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
SELECT pci.grant_access(NULL, 'default', 'reveal');
SELECT pci.grant_access('clerk', NULL, 'reveal');
SELECT pci.grant_access('clerk', 'default', NULL);

-- purposes; a second grant takes the place of the first
SELECT pci.grant_access('clerk', 'default', 'reveal', purposes => '{refund,dispute}') AS request \gset
\c - bob
SELECT pci.approve(:request);
SELECT role, capability, purposes, in_force FROM pci.access WHERE role = 'clerk'::regrole;
\c - clerk
SELECT pci.reveal(card) FROM vip WHERE id = 1;
SELECT pci.reveal(card, 'marketing') FROM vip WHERE id = 1;
SELECT pci.reveal(card, 'refund') FROM vip WHERE id = 1;
SELECT pci.reveal(card, purpose => 'dispute') FROM vip WHERE id = 1;

-- time windows
\c - ann
SELECT pci.grant_access('clerk', 'default', 'reveal', valid_from => '2000-01-01 UTC', valid_until => '2001-01-01 UTC') AS request \gset
\c - bob
SELECT pci.approve(:request);
SELECT in_force FROM pci.access WHERE role = 'clerk'::regrole;
\c - clerk
SELECT pci.reveal(card) FROM vip WHERE id = 1;
\c - ann
SELECT pci.grant_access('clerk', 'default', 'reveal', valid_from => '2100-01-01 UTC') AS request \gset
\c - bob
SELECT pci.approve(:request);
SELECT in_force FROM pci.access WHERE role = 'clerk'::regrole;
\c - clerk
SELECT pci.reveal(card) FROM vip WHERE id = 1;
\c - ann
SELECT pci.grant_access('clerk', 'default', 'reveal', valid_from => '2000-01-01 UTC', valid_until => '2100-01-01 UTC') AS request \gset
\c - bob
SELECT pci.approve(:request);
SELECT in_force FROM pci.access WHERE role = 'clerk'::regrole;
\c - clerk
SELECT pci.reveal(card) FROM vip WHERE id = 1;

-- so many values an hour
\c - postgres
CREATE ROLE temp LOGIN;
GRANT SELECT ON vip TO temp;
\c - ann
SELECT pci.grant_access('temp', 'default', 'reveal', max_per_hour => 2) AS request \gset
\c - bob
SELECT pci.approve(:request);
\c - temp
SELECT pci.reveal(card) FROM vip WHERE id <= 2 ORDER BY id;
SELECT pci.reveal(card) FROM vip WHERE id = 3;
SELECT card FROM vip WHERE id = 3;

-- so many conflicts an hour, for a role that may store but not search (5 here)
\c - postgres
CREATE ROLE prober LOGIN;
GRANT ALL ON vip TO prober;
\c - ann
SELECT pci.grant_access('prober', 'default', 'store');
\c - prober
INSERT INTO vip VALUES (11, '4111111111111111');
INSERT INTO vip VALUES (12, '4111111111111111') ON CONFLICT DO NOTHING;
INSERT INTO vip VALUES (13, '4111111111111111');
INSERT INTO vip VALUES (14, '4111111111111111');
INSERT INTO vip VALUES (15, '4111111111111111');
INSERT INTO vip VALUES (16, '4111111111111111');
INSERT INTO vip VALUES (17, '6011111111111117');
SELECT count(*) FROM vip;

-- what is left
\c - ann
SELECT pci.revoke_access('prober', 'default', 'store');
SELECT pci.revoke_access('temp', 'default', 'reveal');
SELECT pci.grant_access('clerk', 'default', 'reveal') AS request \gset
\c - bob
SELECT pci.approve(:request);
SELECT role, capability, in_force FROM pci.access ORDER BY role::text, capability;
