-- Bad input: a precise error that never repeats what it was given, and nothing stored.
\c - till
CREATE TEMP TABLE target (card pci.pan);
CREATE FUNCTION pg_temp.store(input text, OUT state text, OUT message text, OUT hint text, OUT repeats boolean)
LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE format('INSERT INTO target VALUES (%L)', input);
    message := 'STORED';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT,
        detail = PG_EXCEPTION_DETAIL;
    repeats := length(input) > 6 AND position(input IN concat(message, ' ', hint, ' ', detail)) > 0;
END $$;
\x on
SELECT why, (pg_temp.store(input)).* FROM (VALUES
    (1, 'letters', 'abcdefghijklmnop'),
    (2, 'a letter within', '41111111111l1111'),
    (3, 'wrong check digit', '4111111111111112'),
    (4, '11 digits', '41111111111'),
    (5, '20 digits', '41111111111111111111'),
    (6, 'empty', ''),
    (7, 'white space', '    '),
    (8, 'a mask', '411111******1111'),
    (9, 'a mask with x', '411111xxxxxx1111'),
    (10, 'full-width digits', U&'\FF14\FF11\FF11\FF11\FF11\FF11\FF11\FF11\FF11\FF11\FF11\FF11\FF11\FF11\FF11\FF11'),
    (11, 'Arabic digits', U&'\0664\0661\0661\0661\0661\0661\0661\0661\0661\0661\0661\0661\0661\0661\0661\0661'),
    (12, 'two separators', '4111--1111--1111--1111'),
    (13, 'a sign', '-4111111111111111'),
    (14, 'a point', '4111111111111111.0'),
    (15, 'digits and more', '4111111111111111;'),
    (16, 'very long', repeat('4', 100000)),
    (17, 'sealed, nothing', 'pan:1:'),
    (18, 'sealed, too short', 'pan:1:AAAA'),
    (19, 'sealed, no base64', 'pan:1:****'),
    (20, 'sealed, future version', 'pan:2:AAAA'),
    (21, 'sealed, no version', 'pan:AAAA')
) AS bad (n, why, input) ORDER BY n;
\x off
SELECT count(*) FROM target;

-- typmods
CREATE TEMP TABLE t (card pci.pan('nowhere'));
CREATE TEMP TABLE t (card pci.pan(0));
CREATE TEMP TABLE t (card pci.pan(-1));
CREATE TEMP TABLE t (card pci.pan(1, 2));
CREATE TEMP TABLE t (card pci.pan(''));

-- comparands
SELECT id FROM pay WHERE card = '4111111111111112';
SELECT id FROM pay WHERE card = '411111******1111';
SELECT id FROM pay WHERE card = '4111111111111112'::text;
SELECT id FROM pay WHERE card = '411111******1111'::text;
SELECT id FROM pay WHERE card = ''::text;

-- functions on text
SELECT pci.brand('card'::text);
SELECT pci.truncate_pan('4111111111111112'::text);
SELECT pci.luhn_valid('card'), pci.luhn_valid(''), pci.luhn_valid('411111******1111');

-- COPY: the line is not repeated
\copy target from stdin
4111111111111112
\.
\copy target from stdin
411111******1111
\.
SELECT count(*) FROM target;

-- NUL and invalid bytes do not even get here
SELECT convert_from('\x34313131003131', 'UTF8')::pci.pan;
SELECT convert_from('\x34ff', 'UTF8')::pci.pan;
