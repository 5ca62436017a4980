-- The type pci.pan: text in, mask out.
-- Input makes a random nonce, so it is not IMMUTABLE; PostgreSQL warns of VOLATILE input functions, so it is STABLE.
-- Comparison support needs no key and is IMMUTABLE.

CREATE FUNCTION pan_in(cstring, oid, integer) RETURNS pan
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_in';
COMMENT ON FUNCTION pan_in(cstring, oid, integer) IS
    'input: digits, or the sealed form';

CREATE FUNCTION pan_out(pan) RETURNS cstring
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_out';
COMMENT ON FUNCTION pan_out(pan) IS
    'output: the mask, or the sealed form where it is exported';

CREATE FUNCTION pan_recv(internal, oid, integer) RETURNS pan
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_recv';
COMMENT ON FUNCTION pan_recv(internal, oid, integer) IS
    'binary input: the bytes of the text form';

CREATE FUNCTION pan_send(pan) RETURNS bytea
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_send';
COMMENT ON FUNCTION pan_send(pan) IS
    'binary output: the bytes of the text form';

CREATE FUNCTION pan_typmod_in(cstring[]) RETURNS integer
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_typmod_in';
COMMENT ON FUNCTION pan_typmod_in(cstring[]) IS
    'the vault of a column, by name or number';

CREATE FUNCTION pan_typmod_out(integer) RETURNS cstring
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_typmod_out';
COMMENT ON FUNCTION pan_typmod_out(integer) IS
    'the vault of a column, by number';

CREATE FUNCTION pan_typanalyze(internal) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_typanalyze';
COMMENT ON FUNCTION pan_typanalyze(internal) IS
    'statistics that do not tell which card numbers are equal';

CREATE TYPE pan (
    INPUT = pan_in,
    OUTPUT = pan_out,
    RECEIVE = pan_recv,
    SEND = pan_send,
    TYPMOD_IN = pan_typmod_in,
    TYPMOD_OUT = pan_typmod_out,
    ANALYZE = pan_typanalyze,
    INTERNALLENGTH = VARIABLE,
    STORAGE = external
);
COMMENT ON TYPE pan IS 'A card number (PAN): stored encrypted, shown as its mask.';

-- Casts

CREATE FUNCTION to_vault(pan, integer, boolean) RETURNS pan
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pan_length';
COMMENT ON FUNCTION to_vault(pan, integer, boolean) IS
    'binds a value to the vault of its column';

CREATE FUNCTION from_text(text, integer, boolean) RETURNS pan
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_from_text';
COMMENT ON FUNCTION from_text(text, integer, boolean) IS
    'a card number from text';

CREATE FUNCTION from_text(bpchar, integer, boolean) RETURNS pan
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_from_text';
COMMENT ON FUNCTION from_text(bpchar, integer, boolean) IS
    'a card number from text';

CREATE FUNCTION mask(pan) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_mask';
COMMENT ON FUNCTION mask(pan) IS
    'the mask: 411111******1111';

CREATE CAST (pan AS pan) WITH FUNCTION to_vault(pan, integer, boolean) AS IMPLICIT;
CREATE CAST (text AS pan) WITH FUNCTION from_text(text, integer, boolean) AS ASSIGNMENT;
CREATE CAST (varchar AS pan) WITH FUNCTION from_text(text, integer, boolean) AS ASSIGNMENT;
CREATE CAST (bpchar AS pan) WITH FUNCTION from_text(bpchar, integer, boolean) AS ASSIGNMENT;
CREATE CAST (pan AS text) WITH FUNCTION mask(pan) AS ASSIGNMENT;
CREATE CAST (pan AS varchar) WITH FUNCTION mask(pan) AS ASSIGNMENT;
CREATE CAST (pan AS bpchar) WITH FUNCTION mask(pan) AS ASSIGNMENT;

-- What can be said without a key

CREATE FUNCTION bin(pan) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_bin';
COMMENT ON FUNCTION bin(pan) IS
    'the leading digits that are stored clear, at most 8';

CREATE FUNCTION last4(pan) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_last4';
COMMENT ON FUNCTION last4(pan) IS
    'the last four digits';

CREATE FUNCTION brand(pan) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_brand';
COMMENT ON FUNCTION brand(pan) IS
    'the card brand';

CREATE FUNCTION truncate_pan(pan) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_truncate';
COMMENT ON FUNCTION truncate_pan(pan) IS
    'the digits that are stored clear';

CREATE FUNCTION truncate_pan(text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_truncate_pan';
COMMENT ON FUNCTION truncate_pan(text) IS
    'the first six and last four digits of a card number';

CREATE FUNCTION brand(text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_brand';
COMMENT ON FUNCTION brand(text) IS
    'the card brand of a card number';

CREATE FUNCTION luhn_valid(text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_luhn_valid';
COMMENT ON FUNCTION luhn_valid(text) IS
    'whether the check digit (Luhn) is right';

-- Doors that decrypt: each has its capability and is recorded

CREATE FUNCTION reveal(card pan, purpose text DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pan_reveal';
COMMENT ON FUNCTION reveal(pan, text) IS
    'the clear card number; needs the capability reveal; recorded';

CREATE FUNCTION hash_pan(pan) RETURNS bytea
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pan_hash_pan';
COMMENT ON FUNCTION hash_pan(pan) IS
    'HMAC-SHA-256 of the whole card number under the vault''s hash key, 32 bytes; needs the capability search; recorded';

-- Comparison: by the stored equality hash; text comparands by the hash of their digits. The operators live in
-- pg_catalog: they are looked up by search_path, and applications that know nothing of pgpci find them so.

CREATE FUNCTION pan_eq(pan, pan) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_eq';
COMMENT ON FUNCTION pan_eq(pan, pan) IS
    'implements pan = pan; needs the capability search';

CREATE FUNCTION pan_ne(pan, pan) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_ne';
COMMENT ON FUNCTION pan_ne(pan, pan) IS
    'implements pan <> pan; needs the capability search';

CREATE FUNCTION pan_lt(pan, pan) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_lt';
COMMENT ON FUNCTION pan_lt(pan, pan) IS
    'implements pan < pan; needs the capability search';

CREATE FUNCTION pan_le(pan, pan) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_le';
COMMENT ON FUNCTION pan_le(pan, pan) IS
    'implements pan <= pan; needs the capability search';

CREATE FUNCTION pan_gt(pan, pan) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_gt';
COMMENT ON FUNCTION pan_gt(pan, pan) IS
    'implements pan > pan; needs the capability search';

CREATE FUNCTION pan_ge(pan, pan) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_ge';
COMMENT ON FUNCTION pan_ge(pan, pan) IS
    'implements pan >= pan; needs the capability search';

CREATE FUNCTION pan_eq_text(pan, text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_eq_text';
COMMENT ON FUNCTION pan_eq_text(pan, text) IS
    'implements pan = text; needs the capability search';

CREATE FUNCTION pan_ne_text(pan, text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_ne_text';
COMMENT ON FUNCTION pan_ne_text(pan, text) IS
    'implements pan <> text; needs the capability search';

CREATE FUNCTION pan_lt_text(pan, text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_lt_text';
COMMENT ON FUNCTION pan_lt_text(pan, text) IS
    'implements pan < text; needs the capability search';

CREATE FUNCTION pan_le_text(pan, text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_le_text';
COMMENT ON FUNCTION pan_le_text(pan, text) IS
    'implements pan <= text; needs the capability search';

CREATE FUNCTION pan_gt_text(pan, text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_gt_text';
COMMENT ON FUNCTION pan_gt_text(pan, text) IS
    'implements pan > text; needs the capability search';

CREATE FUNCTION pan_ge_text(pan, text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_ge_text';
COMMENT ON FUNCTION pan_ge_text(pan, text) IS
    'implements pan >= text; needs the capability search';

CREATE FUNCTION text_eq_pan(text, pan) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_eq_pan';
COMMENT ON FUNCTION text_eq_pan(text, pan) IS
    'implements text = pan; needs the capability search';

CREATE FUNCTION text_ne_pan(text, pan) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_ne_pan';
COMMENT ON FUNCTION text_ne_pan(text, pan) IS
    'implements text <> pan; needs the capability search';

CREATE FUNCTION text_lt_pan(text, pan) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_lt_pan';
COMMENT ON FUNCTION text_lt_pan(text, pan) IS
    'implements text < pan; needs the capability search';

CREATE FUNCTION text_le_pan(text, pan) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_le_pan';
COMMENT ON FUNCTION text_le_pan(text, pan) IS
    'implements text <= pan; needs the capability search';

CREATE FUNCTION text_gt_pan(text, pan) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_gt_pan';
COMMENT ON FUNCTION text_gt_pan(text, pan) IS
    'implements text > pan; needs the capability search';

CREATE FUNCTION text_ge_pan(text, pan) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_ge_pan';
COMMENT ON FUNCTION text_ge_pan(text, pan) IS
    'implements text >= pan; needs the capability search';

CREATE FUNCTION pan_cmp(pan, pan) RETURNS integer
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_cmp';
COMMENT ON FUNCTION pan_cmp(pan, pan) IS
    'support function of the operator classes';

CREATE FUNCTION pan_cmp_text(pan, text) RETURNS integer
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_cmp_text';
COMMENT ON FUNCTION pan_cmp_text(pan, text) IS
    'support function of the operator classes';

CREATE FUNCTION text_cmp_text(text, text) RETURNS integer
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_cmp_text';
COMMENT ON FUNCTION text_cmp_text(text, text) IS
    'support function of the operator classes';

CREATE FUNCTION pan_hash(pan) RETURNS integer
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_hash';
COMMENT ON FUNCTION pan_hash(pan) IS
    'support function of the operator classes';

CREATE FUNCTION pan_hash_extended(pan, bigint) RETURNS bigint
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'pan_hash_extended';
COMMENT ON FUNCTION pan_hash_extended(pan, bigint) IS
    'support function of the operator classes';

CREATE FUNCTION text_hash_pan(text) RETURNS integer
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_hash_pan';
COMMENT ON FUNCTION text_hash_pan(text) IS
    'support function of the operator classes';

CREATE FUNCTION text_hash_pan_extended(text, bigint) RETURNS bigint
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_hash_pan_extended';
COMMENT ON FUNCTION text_hash_pan_extended(text, bigint) IS
    'support function of the operator classes';

-- What the planner puts around a comparand of no vault: it takes the vault of the column. A card number made in the
-- leader's transaction is known as such in the leader alone.

CREATE FUNCTION comparand(text, vault integer) RETURNS pan
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'text_comparand';
COMMENT ON FUNCTION comparand(text, integer) IS
    'the digits in the vault of the column that they are compared with; stands in plans only; needs the capability search';

CREATE FUNCTION comparand(pan, vault integer) RETURNS pan
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pan_comparand';
COMMENT ON FUNCTION comparand(pan, integer) IS
    'a parameter in the vault of the column that it is compared with; stands in plans only; needs the capability search';

CREATE FUNCTION comparand(text[], vault integer) RETURNS pan[]
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'texts_comparand';
COMMENT ON FUNCTION comparand(text[], integer) IS
    'the digits in the vault of the column that they are compared with; stands in plans only; needs the capability search';

CREATE FUNCTION comparand(pan[], vault integer) RETURNS pan[]
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pans_comparand';
COMMENT ON FUNCTION comparand(pan[], integer) IS
    'parameters in the vault of the column that they are compared with; stands in plans only; needs the capability search';

CREATE OPERATOR pg_catalog.= (
    LEFTARG = pan,
    RIGHTARG = pan,
    FUNCTION = pan_eq,
    COMMUTATOR = OPERATOR(pg_catalog.=),
    NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = eqsel,
    JOIN = eqjoinsel,
    HASHES,
    MERGES
);
COMMENT ON OPERATOR pg_catalog.= (pan, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.<> (
    LEFTARG = pan,
    RIGHTARG = pan,
    FUNCTION = pan_ne,
    COMMUTATOR = OPERATOR(pg_catalog.<>),
    NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = neqsel,
    JOIN = neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (pan, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.< (
    LEFTARG = pan,
    RIGHTARG = pan,
    FUNCTION = pan_lt,
    COMMUTATOR = OPERATOR(pg_catalog.>),
    NEGATOR = OPERATOR(pg_catalog.>=),
    RESTRICT = scalarltsel,
    JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (pan, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.<= (
    LEFTARG = pan,
    RIGHTARG = pan,
    FUNCTION = pan_le,
    COMMUTATOR = OPERATOR(pg_catalog.>=),
    NEGATOR = OPERATOR(pg_catalog.>),
    RESTRICT = scalarlesel,
    JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (pan, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.> (
    LEFTARG = pan,
    RIGHTARG = pan,
    FUNCTION = pan_gt,
    COMMUTATOR = OPERATOR(pg_catalog.<),
    NEGATOR = OPERATOR(pg_catalog.<=),
    RESTRICT = scalargtsel,
    JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (pan, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.>= (
    LEFTARG = pan,
    RIGHTARG = pan,
    FUNCTION = pan_ge,
    COMMUTATOR = OPERATOR(pg_catalog.<=),
    NEGATOR = OPERATOR(pg_catalog.<),
    RESTRICT = scalargesel,
    JOIN = scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (pan, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.= (
    LEFTARG = pan,
    RIGHTARG = text,
    FUNCTION = pan_eq_text,
    COMMUTATOR = OPERATOR(pg_catalog.=),
    NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = eqsel,
    JOIN = eqjoinsel
);
COMMENT ON OPERATOR pg_catalog.= (pan, text) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.<> (
    LEFTARG = pan,
    RIGHTARG = text,
    FUNCTION = pan_ne_text,
    COMMUTATOR = OPERATOR(pg_catalog.<>),
    NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = neqsel,
    JOIN = neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (pan, text) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.< (
    LEFTARG = pan,
    RIGHTARG = text,
    FUNCTION = pan_lt_text,
    COMMUTATOR = OPERATOR(pg_catalog.>),
    NEGATOR = OPERATOR(pg_catalog.>=),
    RESTRICT = scalarltsel,
    JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (pan, text) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.<= (
    LEFTARG = pan,
    RIGHTARG = text,
    FUNCTION = pan_le_text,
    COMMUTATOR = OPERATOR(pg_catalog.>=),
    NEGATOR = OPERATOR(pg_catalog.>),
    RESTRICT = scalarlesel,
    JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (pan, text) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.> (
    LEFTARG = pan,
    RIGHTARG = text,
    FUNCTION = pan_gt_text,
    COMMUTATOR = OPERATOR(pg_catalog.<),
    NEGATOR = OPERATOR(pg_catalog.<=),
    RESTRICT = scalargtsel,
    JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (pan, text) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.>= (
    LEFTARG = pan,
    RIGHTARG = text,
    FUNCTION = pan_ge_text,
    COMMUTATOR = OPERATOR(pg_catalog.<=),
    NEGATOR = OPERATOR(pg_catalog.<),
    RESTRICT = scalargesel,
    JOIN = scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (pan, text) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.= (
    LEFTARG = text,
    RIGHTARG = pan,
    FUNCTION = text_eq_pan,
    COMMUTATOR = OPERATOR(pg_catalog.=),
    NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = eqsel,
    JOIN = eqjoinsel
);
COMMENT ON OPERATOR pg_catalog.= (text, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.<> (
    LEFTARG = text,
    RIGHTARG = pan,
    FUNCTION = text_ne_pan,
    COMMUTATOR = OPERATOR(pg_catalog.<>),
    NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = neqsel,
    JOIN = neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (text, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.< (
    LEFTARG = text,
    RIGHTARG = pan,
    FUNCTION = text_lt_pan,
    COMMUTATOR = OPERATOR(pg_catalog.>),
    NEGATOR = OPERATOR(pg_catalog.>=),
    RESTRICT = scalarltsel,
    JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (text, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.<= (
    LEFTARG = text,
    RIGHTARG = pan,
    FUNCTION = text_le_pan,
    COMMUTATOR = OPERATOR(pg_catalog.>=),
    NEGATOR = OPERATOR(pg_catalog.>),
    RESTRICT = scalarlesel,
    JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (text, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.> (
    LEFTARG = text,
    RIGHTARG = pan,
    FUNCTION = text_gt_pan,
    COMMUTATOR = OPERATOR(pg_catalog.<),
    NEGATOR = OPERATOR(pg_catalog.<=),
    RESTRICT = scalargtsel,
    JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (text, pan) IS 'compares card numbers';

CREATE OPERATOR pg_catalog.>= (
    LEFTARG = text,
    RIGHTARG = pan,
    FUNCTION = text_ge_pan,
    COMMUTATOR = OPERATOR(pg_catalog.<=),
    NEGATOR = OPERATOR(pg_catalog.<),
    RESTRICT = scalargesel,
    JOIN = scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (text, pan) IS 'compares card numbers';

CREATE OPERATOR FAMILY pan_ops USING btree;
CREATE OPERATOR CLASS pan_ops DEFAULT FOR TYPE pan USING btree FAMILY pan_ops AS
    OPERATOR 1 <,
    OPERATOR 2 <=,
    OPERATOR 3 =,
    OPERATOR 4 >=,
    OPERATOR 5 >,
    FUNCTION 1 pan_cmp(pan, pan);

ALTER OPERATOR FAMILY pan_ops USING btree ADD
    OPERATOR 1 < (pan, text),
    OPERATOR 2 <= (pan, text),
    OPERATOR 3 = (pan, text),
    OPERATOR 4 >= (pan, text),
    OPERATOR 5 > (pan, text),
    FUNCTION 1 (pan, text) pan_cmp_text(pan, text),
    FUNCTION 1 (text, text) text_cmp_text(text, text);

CREATE OPERATOR FAMILY pan_ops USING hash;
CREATE OPERATOR CLASS pan_ops DEFAULT FOR TYPE pan USING hash FAMILY pan_ops AS
    OPERATOR 1 =,
    FUNCTION 1 pan_hash(pan),
    FUNCTION 2 pan_hash_extended(pan, bigint);
ALTER OPERATOR FAMILY pan_ops USING hash ADD
    OPERATOR 1 = (pan, text),
    FUNCTION 1 (text, text) text_hash_pan(text),
    FUNCTION 2 (text, text) text_hash_pan_extended(text, bigint);
