//! Context lines of errors, without the values that they quote.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg::report::without_values;

    #[pg_test]
    fn contexts_lose_their_values() {
        let cases = [
            ("COPY t, line 1, column card: \"4111111111111112\"", "COPY t, line 1, column card"),
            ("COPY t, line 7: \"1,4111111111111112,x\"", "COPY t, line 7"),
            ("COPY t, line 7", "COPY t, line 7"),
            ("COPY a: \"b, line 1, column card: \"4111111111111112\"", "COPY a"),
            ("unnamed portal parameter $1 = '4111111111111112'", "unnamed portal parameter $1"),
            ("portal \"p\" parameter $2 = '4111111111111112'", "portal \"p\" parameter $2"),
            ("unnamed portal parameter $1", "unnamed portal parameter $1"),
            (
                "PL/pgSQL function f() line 3 at SQL statement",
                "PL/pgSQL function f() line 3 at SQL statement",
            ),
            ("SQL function \"f\" statement 1", "SQL function \"f\" statement 1"),
            ("SQL statement \"SELECT '4111111111111112'\"", ""),
            ("SQL expression \"'4111111111111112'\"", ""),
            ("4111111111111112", ""),
            ("", ""),
        ];
        for (context, kept) in cases {
            assert_eq!(without_values(context), kept);
        }
    }

    /// A value may hold line feeds, and what PostgreSQL writes may follow it.
    #[pg_test]
    fn contexts_lose_values_of_several_lines() {
        let value = "4111\n1111\nwhile 1111\n1112";
        let copy =
            format!("COPY t, line 1, column card: \"{value}\"\nPL/pgSQL function f() line 3 at EXECUTE");
        assert_eq!(
            without_values(&copy),
            "COPY t, line 1, column card\nPL/pgSQL function f() line 3 at EXECUTE"
        );
        let bind = format!("unnamed portal parameter $1 = '{value}'\nSQL function \"f\" statement 1");
        assert_eq!(without_values(&bind), "unnamed portal parameter $1\nSQL function \"f\" statement 1");
        let sql = format!("SQL statement \"SELECT\n'{value}'\"\nPL/pgSQL function g() line 1 at PERFORM");
        let kept = without_values(&sql);
        assert!(!kept.chars().any(|c| "42".contains(c)), "{}", kept.len());
        assert!(kept.ends_with("PL/pgSQL function g() line 1 at PERFORM"));
    }

    /// No run of digits of the value is left, whatever line it stands on.
    #[pg_test]
    fn contexts_hold_no_digits_of_any_value() {
        for lines in [
            vec!["COPY t, line 1, column card: \"a", "5555 5555", "5555 4444\""],
            vec!["unnamed portal parameter $1 = '", "5555555555554444", "'"],
            vec!["SQL statement \"INSERT INTO t", "VALUES ('5555555555554444')\""],
            vec!["PL/pgSQL function f() line 2 at SQL statement", "COPY t, line 1: \"5555555555554444", "\""],
        ] {
            assert!(!without_values(&lines.join("\n")).contains("55"), "{}", lines[0].len());
        }
    }
}
