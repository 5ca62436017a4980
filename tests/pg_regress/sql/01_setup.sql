-- Setting up: the extension, the duties, the first vault.
CREATE ROLE ann LOGIN;
CREATE ROLE bob LOGIN;
CREATE ROLE cy LOGIN;
CREATE ROLE di LOGIN;
CREATE ROLE eve LOGIN;
CREATE ROLE flo LOGIN;
CREATE ROLE app LOGIN;
CREATE ROLE look LOGIN;
CREATE ROLE clerk LOGIN;
CREATE ROLE till LOGIN;
CREATE ROLE dump LOGIN;

-- only a superuser installs it
GRANT CREATE ON DATABASE regression TO app;
\c - app
CREATE EXTENSION pgpci;
\c - postgres
REVOKE CREATE ON DATABASE regression FROM app;
CREATE EXTENSION pgpci;

-- before pci.init nothing is set up, and nothing can be stored
SELECT pci.is_active();
SELECT count(*) FROM pci.vaults;
SELECT count(*) FROM pci.keys;
SELECT '4111111111111111'::pci.pan;
SELECT rolname FROM pg_roles WHERE rolname LIKE 'pci%';

-- who may set up, and with whom
\c - ann
SELECT pci.init(officers => '{ann,bob}', custodians => '{cy,di}', auditors => '{eve,flo}');
\c - postgres
SELECT pci.init(officers => '{ann,nobody_at_all}', custodians => '{cy,di}', auditors => '{eve,flo}');
SELECT pci.init(officers => '{ann,bob}', custodians => '{bob,di}', auditors => '{eve,flo}');
SELECT pci.init(officers => '{ann,bob}', custodians => '{cy,di}', auditors => '{eve,flo}');

-- what it made
SELECT pci.is_active();
SELECT number, name, provider, display_first, display_last, searchable, created_by FROM pci.vaults;
SELECT vault, purpose, version, state, provider, created_by, id > 0 AS has_id, length(check_value) > 0 AS has_check
FROM pci.keys ORDER BY purpose;
SELECT duty.rolname AS duty, duty.rolcanlogin, array_agg(person.rolname ORDER BY person.rolname) AS holders
FROM pg_roles duty JOIN pg_auth_members m ON m.roleid = duty.oid JOIN pg_roles person ON person.oid = m.member
WHERE duty.rolname LIKE 'pci\_%' GROUP BY 1, 2 ORDER BY 1;

-- once a database
SELECT pci.init(officers => '{ann,bob}', custodians => '{cy,di}', auditors => '{eve,flo}');

-- the tables change only through functions, for superusers too; wrapped keys are nobody's to read
INSERT INTO pci.access_grant SELECT 'postgres'::regrole, 'default', 'reveal', NULL, NULL, NULL, NULL, '\x', 'ann', now();
UPDATE pci.vault SET display_first = 8;
DELETE FROM pci.key;
TRUNCATE pci.access_grant;
\c - app
SELECT wrapped FROM pci.key;

-- the first grants
\c - ann
SELECT pci.grant_access('app', 'default', 'store');
SELECT pci.grant_access('look', 'default', 'search');
SELECT pci.grant_access('till', 'default', 'store');
SELECT pci.grant_access('till', 'default', 'search');
-- what lets digits out is a request, which a second officer approves
SELECT pci.grant_access('clerk', 'default', 'reveal');
SELECT pci.approve(1);
\c - cy
SELECT pci.approve(1);
\c - bob
SELECT pci.approve(1);
SELECT pci.approve(1);
SELECT pci.approve(99);
SELECT id, state, kind, duty, reason, vault, role, capability, requested_by, decided_by FROM pci.requests;
SELECT role, vault, capability, purposes, valid_from, valid_until, max_per_hour, granted_by, in_force
FROM pci.access ORDER BY role::text, capability;
