-- The whole surface: what is there, who may use it, and that everything says what it is.
\c - postgres
CREATE VIEW pg_temp.member AS
    SELECT classid, objid FROM pg_depend
    WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
      AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgpci');

SELECT extname, extversion, extrelocatable, extnamespace::regnamespace FROM pg_extension WHERE extname = 'pgpci';

-- functions
SELECT p.oid::regprocedure AS function, left(pg_get_function_result(p.oid), 80) AS result,
       p.provolatile AS volatility, p.proisstrict AS strict, p.proparallel AS parallel, p.prosecdef AS definer,
       has_function_privilege('public', p.oid, 'EXECUTE') AS public
FROM pg_proc p JOIN pg_temp.member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT p.oid::regprocedure AS function, obj_description(p.oid, 'pg_proc') AS comment
FROM pg_proc p JOIN pg_temp.member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
ORDER BY p.oid::regprocedure::text COLLATE "C";

-- operators, operator classes, casts, types
SELECT o.oid::regoperator AS operator, o.oprcode::regproc AS function, o.oprcanhash AS hash, o.oprcanmerge AS merge
FROM pg_operator o JOIN pg_temp.member m ON m.classid = 'pg_operator'::regclass AND m.objid = o.oid
ORDER BY 1::text COLLATE "C", o.oid::regoperator::text COLLATE "C";
SELECT am.amname, f.opfname, a.amopstrategy AS strategy, a.amopopr::regoperator AS operator
FROM pg_amop a JOIN pg_opfamily f ON f.oid = a.amopfamily JOIN pg_am am ON am.oid = f.opfmethod
WHERE f.opfnamespace = 'pci'::regnamespace
ORDER BY 1, 2, 3, a.amopopr::regoperator::text COLLATE "C";
SELECT am.amname, f.opfname, a.amprocnum AS support, a.amproclefttype::regtype, a.amprocrighttype::regtype, a.amproc
FROM pg_amproc a JOIN pg_opfamily f ON f.oid = a.amprocfamily JOIN pg_am am ON am.oid = f.opfmethod
WHERE f.opfnamespace = 'pci'::regnamespace
ORDER BY 1, 2, 3, 4::text COLLATE "C", 5::text COLLATE "C", a.amproc::text COLLATE "C";
SELECT c.castsource::regtype, c.casttarget::regtype, c.castcontext AS context, c.castfunc::regprocedure AS function
FROM pg_cast c JOIN pg_temp.member m ON m.classid = 'pg_cast'::regclass AND m.objid = c.oid
ORDER BY c.castsource::regtype::text COLLATE "C", c.casttarget::regtype::text COLLATE "C";
SELECT typname, typlen, typbyval, typstorage, obj_description(oid, 'pg_type') FROM pg_type WHERE oid = 'pci.pan'::regtype;

-- tables and views
SELECT c.relname, c.relkind, has_table_privilege('public', c.oid, 'SELECT') AS public_reads,
       has_table_privilege('public', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS public_writes,
       c.oid = ANY ((SELECT extconfig FROM pg_extension WHERE extname = 'pgpci')::oid[]) AS dumped,
       obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c JOIN pg_temp.member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
WHERE c.relkind IN ('r', 'v', 'm', 'S', 'p') ORDER BY 1;

-- settings
SELECT name, setting, unit, context, vartype, min_val, max_val, enumvals, boot_val, short_desc
FROM pg_settings WHERE name LIKE 'pgpci.%' AND name <> 'pgpci.max_conflicts_per_hour' ORDER BY name COLLATE "C";
SELECT name, context, vartype, boot_val, short_desc FROM pg_settings WHERE name = 'pgpci.max_conflicts_per_hour';

-- everything has a comment
SELECT 'function' AS kind, p.oid::regprocedure::text AS without_comment
FROM pg_proc p JOIN pg_temp.member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL
SELECT 'operator', o.oid::regoperator::text
FROM pg_operator o JOIN pg_temp.member m ON m.classid = 'pg_operator'::regclass AND m.objid = o.oid
WHERE obj_description(o.oid, 'pg_operator') IS NULL
UNION ALL
SELECT 'type', t.oid::regtype::text
FROM pg_type t JOIN pg_temp.member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
WHERE t.typtype <> 'c' AND t.typelem = 0 AND obj_description(t.oid, 'pg_type') IS NULL
UNION ALL
SELECT 'relation', c.oid::regclass::text
FROM pg_class c JOIN pg_temp.member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
WHERE c.relkind IN ('r', 'v', 'm', 'S', 'p') AND obj_description(c.oid, 'pg_class') IS NULL;

-- nothing that PUBLIC may execute is a comparison support function, or sets up
SELECT p.oid::regprocedure AS open_to_all
FROM pg_proc p JOIN pg_temp.member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE has_function_privilege('public', p.oid, 'EXECUTE')
  AND (p.proname IN ('init') OR p.oid IN (SELECT amproc FROM pg_amproc a JOIN pg_opfamily f ON f.oid = a.amprocfamily
                                          WHERE f.opfnamespace = 'pci'::regnamespace));
-- functions that decide for their caller have a fixed search path
SELECT p.oid::regprocedure AS without_search_path
FROM pg_proc p JOIN pg_temp.member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE p.prosecdef AND NOT coalesce(array_to_string(p.proconfig, ',') LIKE '%search_path=pg_catalog, pci, pg_temp%', false);
-- nothing of pgpci is in another schema but the operators
SELECT n.nspname, count(*) FROM pg_proc p JOIN pg_temp.member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname <> 'pci' GROUP BY 1;
