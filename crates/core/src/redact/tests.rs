#![allow(clippy::unwrap_used)]
use super::*;
use std::time::{Duration, Instant};

/// Expects the same from both ways in, and that redacting again changes nothing.
#[track_caller]
fn check(text: &[u8], expected: &[u8]) {
    let show = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let redacted = redact(text);
    assert_eq!(show(&redacted), show(expected), "{}", show(text));
    assert_eq!(matches!(redacted, Cow::Borrowed(_)), text == expected, "copied for nothing");
    let mut fixed = text.to_vec();
    let found = in_place(&mut fixed, End::Whole);
    assert_eq!(fixed, expected);
    assert_eq!(found.is_empty(), text == expected);
    assert_eq!(show(&redact(expected)), show(expected), "again");
}

fn unchanged(texts: &[&str]) {
    for text in texts {
        check(text.as_bytes(), text.as_bytes());
    }
}

#[test]
fn what_a_function_of_passwords_is_given() {
    for (before, after) in [
        ("SELECT pci.check_password('", "')"),
        ("SELECT pci . check_password ( '", "' ), 1"),
        ("SELECT pci.\"check_password\"($x$", "$x$)"),
        ("SELECT set_password('ann', '", "')"),
    ] {
        let hidden = before.replace("'ann'", "'***'");
        check(format!("{before}otter-99{after}").as_bytes(), format!("{hidden}********{after}").as_bytes());
    }
    unchanged(&[
        "COMMENT ON FUNCTION pci.check_password(text) IS 'x'",
        "INSERT INTO t (id, password) VALUES (1, 2)",
    ]);
}

#[test]
fn card_numbers_in_every_place() {
    for (before, after) in [
        ("", ""),
        ("'", "'"),
        ("E'\\'", "\\''"),
        ("INSERT INTO t VALUES (12, '", "', 5)"),
        ("SELECT ", "::text"),
        ("{\"card\":\"", "\",\"n\":12}"),
        ("{12,", ",34}"),
        ("https://x.org/?card=", "&n=1"),
        ("https://x.org/?q=%22", "%22"),
        ("LIKE '%", "%'"),
        ("\\u0022", "\\u0022"),
        ("1\t", "\t2024-01-01\n"),
        ("id ", " 2024-01-01"),
        ("id 12 ", " 5"),
        ("**", "**"),
        ("no.", "."),
        ("card", "x"),
        ("é", "é"),
        ("%", "%20"),
        ("(", ","),
        ("5105105105105100 ", "\n"),
    ] {
        for (number, mask) in [
            ("4111111111111111", "411111******1111"),
            ("4111 1111 1111 1111", "4111 11** **** 1111"),
            ("4111-1111-1111-1111", "4111-11**-****-1111"),
            ("4111.1111.1111.1111", "4111.11**.****.1111"),
            ("4111  1111  1111  1111", "4111  11**  ****  1111"),
            ("4111_1111_1111_1111", "4111_11**_****_1111"),
            ("4111%201111%201111%201111", "4111%2011**%20****%201111"),
            ("4111\u{a0}1111\u{a0}1111\u{a0}1111", "4111\u{a0}11**\u{a0}****\u{a0}1111"),
            ("3782 822463 10005", "3782 82**** *0005"),
            ("6205500000000000004", "620550*********0004"),
            ("4222222222222", "42222****2222"),
            ("５１０５１０５１０５１０５１００", "５１０５１０＊＊＊＊＊＊５１００"),
        ] {
            let before_it = before.replace("5105105105105100", "510510******5100");
            check(
                format!("{before}{number}{after}").as_bytes(),
                format!("{before_it}{mask}{after}").as_bytes(),
            );
        }
    }
}

#[test]
fn invalid_text_is_no_obstacle() {
    check(b"\xff4111111111111111\xe9", b"\xff411111******1111\xe9");
    check(b"\xef\xbc4111111111111111\xef", b"\xef\xbc411111******1111\xef");
}

#[test]
fn neighbours_do_not_hide_a_number() {
    check(b"4111 1111 1111 1111 5555 5555 5555 4444", b"4111 11** **** 1111 5555 55** **** 4444");
    check(b"123 4111 1111 1111 1111", b"123 4111 11** **** 1111");
    check(b"4111111111111111.5555555555554444", b"411111******1111.555555******4444");
    check(b"4111111111111111 12", b"411111******1111 12");
}

#[test]
fn what_is_no_card_number() {
    unchanged(&[
        "",
        "SELECT 1",
        "4242424242424241",
        "41111111111111111111",
        "00004111111111111111",
        "9999999999999995",
        "411111******1111",
        "2026-11-24 14:17:44.123456+00",
        "0.4111111111111111",
        "-73.4111111111111111",
        "a0eebc99-9c0b-4ef8-bb6d-411111111111",
        "1764000000000 1764000000000000 20261124141744",
        "192.168.100.200:5432",
        "4111\n1111\n1111\n1111",
        "4,111,111,111,111,111",
        "4111    1111    1111    1111",
    ]);
}

#[test]
fn digits_at_a_cut() {
    for (text, expected) in [
        ("x 4111111111", "x 411111****"),
        ("x 4111 1111 11", "x 4111 11** **"),
        ("x 4111 1111 11 ", "x 4111 11** ** "),
        ("x 411111", "x 411111"),
        ("x 411111111111111111111", "x 411111111111111111111"),
        ("x 1764000000", "x 1764000000"),
        ("x 4111111111 x", "x 4111111111 x"),
        ("postgres://bob:secr", "postgres://bob:****"),
        ("'md50123456789abc", "'md5*************"),
    ] {
        let mut fixed = text.as_bytes().to_vec();
        in_place(&mut fixed, End::Cut);
        assert_eq!(String::from_utf8(fixed).unwrap(), expected);
        assert_eq!(redact(text.as_bytes()), text.as_bytes());
    }
}

#[test]
fn passwords_in_statements() {
    for (text, expected) in [
        ("ALTER ROLE bob PASSWORD 'secret'", "ALTER ROLE bob PASSWORD '******'"),
        (
            "CREATE USER bob encrypted password 'it''s' LOGIN",
            "CREATE USER bob encrypted password '*****' LOGIN",
        ),
        ("ALTER ROLE bob PASSWORD'secret';", "ALTER ROLE bob PASSWORD'******';"),
        (
            "ALTER ROLE bob PASSWORD /* a /* b */ */ -- c\n  'secret'",
            "ALTER ROLE bob PASSWORD /* a /* b */ */ -- c\n  '******'",
        ),
        ("PASSWORD E'a\\'b' VALID", "PASSWORD E'****' VALID"),
        ("PASSWORD U&'a!0061' UESCAPE '!'", "PASSWORD U&'******' UESCAPE '!'"),
        ("PASSWORD $$se'cret$$ LOGIN", "PASSWORD $$*******$$ LOGIN"),
        ("PASSWORD $a$x$$y$a$ LOGIN", "PASSWORD $a$****$a$ LOGIN"),
        ("PASSWORD 'abc'\n 'def' LOGIN", "PASSWORD '***'\n '***' LOGIN"),
        ("PASSWORD 'secret", "PASSWORD '******"),
        ("PASSWORD $$secret", "PASSWORD $$******"),
        ("PASSWORD '''a'''", "PASSWORD '*****'"),
        ("PASSWORD 'pass', 'x'", "PASSWORD '****', 'x'"),
        (
            "DO $$BEGIN EXECUTE 'ALTER ROLE b PASSWORD ''se cret'' LOGIN'; END$$",
            "DO $$BEGIN EXECUTE 'ALTER ROLE b PASSWORD ''*******'' LOGIN'; END$$",
        ),
        ("EXECUTE 'ALTER ROLE b PASSWORD ''secret'''", "EXECUTE 'ALTER ROLE b PASSWORD ''******'''"),
        (
            "OPTIONS (user 'bob', password 'x', sslpassword 'y')",
            "OPTIONS (user 'bob', password '*', sslpassword '*')",
        ),
        ("OPTIONS (SET \"password\" 'x')", "OPTIONS (SET \"password\" '*')"),
        ("set_config('app.password', 'x', false)", "set_config('app.password', '*', false)"),
        ("f(password => 'x', b => 'y')", "f(password => '*', b => 'y')"),
        ("UPDATE u SET password = 'x', name = 'y'", "UPDATE u SET password = '*', name = 'y'"),
        ("{\"password\": \"a\\\"b\", \"n\": 1}", "{\"password\": \"****\", \"n\": 1}"),
        ("E'{\\\"passwd\\\":\\\"x\\\",\\\"n\\\":1}'", "E'{\\\"passwd\\\":\\\"*\\\",\\\"n\\\":1}'"),
        ("password = crypt('x', gen_salt('bf'))", "password = crypt('*', gen_salt('**'))"),
    ] {
        check(text.as_bytes(), expected.as_bytes());
    }
}

#[test]
fn passwords_from_elsewhere() {
    for (text, expected) in [
        (
            "EXECUTE format('ALTER ROLE %I PASSWORD %L', 'bob', 'se)cret'); SELECT 'x'",
            "EXECUTE format('ALTER ROLE %I PASSWORD %L', '***', '*******'); SELECT 'x'",
        ),
        (
            "format('PASSWORD ''%s'' VALID UNTIL ''x''', 'secret') || 'x'",
            "format('PASSWORD ''%s'' VALID UNTIL ''x''', '******') || 'x'",
        ),
        ("format($f$PASSWORD %2$L$f$, 1, 'secret')", "format($f$PASSWORD %2$L$f$, 1, '******')"),
        (
            "EXECUTE 'PASSWORD ' || quote_literal('secret') || ' LOGIN'; SELECT 'x'",
            "EXECUTE 'PASSWORD ' || quote_literal('******') || '******'; SELECT 'x'",
        ),
        (
            "EXECUTE 'PASSWORD ''' || 'secret' || ''''; SELECT 'x'",
            "EXECUTE 'PASSWORD ''' || '******' || '**'; SELECT 'x'",
        ),
        (
            "DO 'BEGIN EXECUTE ''PASSWORD '' || quote_literal(''secret''); END'",
            "DO 'BEGIN EXECUTE ''PASSWORD '' || quote_literal(''******''); END'",
        ),
        (
            "EXECUTE 'PASSWORD ' || quote_literal(p) || 4111111111111111",
            "EXECUTE 'PASSWORD ' || quote_literal(p) || 411111******1111",
        ),
        ("LIKE 'password %'", "LIKE 'password %'"),
        ("SELECT 'password' || 'x'", "SELECT 'password' || 'x'"),
    ] {
        check(text.as_bytes(), expected.as_bytes());
    }
}

#[test]
fn every_literal_of_what_could_not_be_parsed() {
    let mut text = b"ALTER ROLE b PASSWORT 'secret' x); SELECT $$y$$, (E'z'".to_vec();
    assert_eq!(literals_in_place(&mut text).secrets, 3);
    assert_eq!(String::from_utf8(text).unwrap(), "ALTER ROLE b PASSWORT '******' x); SELECT $$*$$, (E'*'");
    for text in ["", "SELECT 1;;)", "(((", "'"] {
        assert!(literals_in_place(&mut text.as_bytes().to_vec()).is_empty(), "{text}");
    }
}

#[test]
fn passwords_in_connection_strings() {
    for (text, expected) in [
        ("dblink('host=h password=secret dbname=d')", "dblink('host=h password=****** dbname=d')"),
        ("CONNECTION 'password = secret'", "CONNECTION 'password = ******'"),
        ("'user=u password=''a b'' host=h'", "'user=u password=''***'' host=h'"),
        ("'user=u password=''a\\''b'' host=h'", "'user=u password=''*****'' host=h'"),
        ("E'password=\\'a b\\' host=h'", "E'password=\\'***\\' host=h'"),
        ("'password=a\\ b host=h'", "'password=**** host=h'"),
        ("'password=--x'", "'password=***'"),
        ("postgres://bob:se:cr@et@h:5432/d", "postgres://bob:********@h:5432/d"),
        ("redis://:secret@h", "redis://:******@h"),
        (
            "postgres://h/d?user=u&password=x&sslmode=require",
            "postgres://h/d?user=u&password=*&sslmode=require",
        ),
        ("'password=pass&word host=h'", "'password=********* host=h'"),
    ] {
        check(text.as_bytes(), expected.as_bytes());
    }
}

#[test]
fn verifiers_and_keys() {
    let scram = |rest: &str| format!("rolpassword 'x' SCRAM-SHA-256$4096:{rest} ok");
    let rest = "c2FsdA==$a+b/c=:d+e/f=";
    check(
        scram(rest).replace("'x'", "").as_bytes(),
        scram(&"*".repeat(rest.len())).replace("'x'", "").as_bytes(),
    );
    let hash = "0123456789abcdef0123456789abcdef";
    check(format!("= 'md5{hash}'").as_bytes(), format!("= 'md5{}'", "*".repeat(32)).as_bytes());
    for (text, expected) in [
        ("pgp_sym_encrypt(data, 'key') || 'x'", "pgp_sym_encrypt(data, '***') || 'x'"),
        ("PGP_SYM_DECRYPT_BYTEA (c, $$key$$), 'x'", "PGP_SYM_DECRYPT_BYTEA (c, $$***$$), 'x'"),
        ("encrypt('a', (f('k)')), 'aes') 'x'", "encrypt('*', (f('**')), '***') 'x'"),
        ("hmac(d, '\\x00'::bytea, 'sha256')", "hmac(d, '****'::bytea, '******')"),
        ("crypt(crypt('a', 'b'), 'c') 'x'", "crypt(crypt('*', '*'), '*') 'x'"),
    ] {
        check(text.as_bytes(), expected.as_bytes());
    }
}

#[test]
fn what_is_no_secret() {
    unchanged(&[
        "SET password_encryption = 'scram-sha-256'",
        "password authentication failed for user \"bob\"",
        "ALTER ROLE bob PASSWORD NULL VALID UNTIL '2026-01-01'",
        "UPDATE u SET password = $1 WHERE id = 'x'",
        "UPDATE u SET password = NULL, x = 'y'",
        "SELECT password, 'x' FROM u",
        "SELECT password::text, 'x'",
        "PASSWORD '' VALID UNTIL 'x'",
        "passwords 'x'",
        "CREATE TABLE encrypted_cards (a text DEFAULT 'x')",
        "https://example.com:8443/a?b@c",
        "md5('x')",
        "algorithm('x') script('y')",
        "a :/ b ://",
    ]);
}

/// Texts that would make a careless scanner look at everything again and again.
#[test]
fn no_text_is_slow() {
    for piece in [
        "password /*",
        "password=",
        "crypt(",
        "crypt('",
        "x://a:",
        "4111 ",
        "*1",
        "1*",
        "''",
        "password''",
        "$a$",
        "password \\'",
        "%20",
        "1 ",
        "aaaa-",
        "password$",
        "md5",
        "5000 0000 0000 ",
        "password %L",
        "password %L',",
        "password ' ||",
        "password '||'",
    ] {
        let mut text = piece.repeat(10_000).into_bytes();
        let start = Instant::now();
        in_place(&mut text, End::Cut);
        // A quadratic one takes minutes.
        assert!(start.elapsed() < Duration::from_secs(20), "{piece}");
    }
}
