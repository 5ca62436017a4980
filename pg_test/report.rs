//! Context of errors, without the input that it quotes.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg::report::without_input;

    #[pg_test]
    fn frames_that_quote_nothing_stay() {
        for frame in [
            "COPY t, line 7",
            "unnamed portal parameter $1",
            "PL/pgSQL function f() line 3 at SQL statement",
            "SQL function \"f\" statement 1",
            "SQL statement \"INSERT INTO t VALUES (new_card)\"",
            "SQL statement \"SELECT 1 FROM ONLY \"public\".\"t\" x WHERE \"card\" OPERATOR(pg_catalog.=) $1\"",
            "while inserting index tuple (0,1) in relation \"t\"",
        ] {
            assert_eq!(without_input(frame), None, "{frame}");
        }
    }

    #[pg_test]
    fn frames_lose_the_values_they_quote() {
        for (frame, kept) in [
            ("COPY t, line 1, column card: \"4111111111111112\"", "COPY t, line 1, column card"),
            ("COPY t, line 7: \"1,4111111111111112,x\"", "COPY t, line 7"),
            ("COPY a: \"b, line 1, column card: \"4111111111111112\"", "COPY a"),
            ("COPY t, line 1, column card: \"4111\n1111\nwhile 1111\n1112\"", "COPY t, line 1, column card"),
            ("unnamed portal parameter $1 = '4111111111111112'", "unnamed portal parameter $1"),
            ("portal \"p\" parameter $2 = '4111\n1111'", "portal \"p\" parameter $2"),
        ] {
            assert_eq!(without_input(frame).as_deref(), Some(kept));
        }
    }

    #[pg_test]
    fn statements_with_a_literal_go() {
        for frame in [
            "SQL statement \"SELECT '4111111111111112'\"",
            "SQL statement \"SELECT $v$４１１１$v$\"",
            "SQL statement \"SELECT $$4111$$\"",
            "SQL expression \"'x'\"",
            "SQL statement \"SELECT 4111111111111112\"",
            "SQL statement \"SELECT\n'4111\n1111'\"",
        ] {
            assert_eq!(without_input(frame).as_deref(), Some(""), "{frame}");
        }
    }
}
