//! tokio-postgres, unmodified: everything is bound in binary. Text parameters want `$1::text`, as the driver
//! otherwise insists on a Rust type for `pci.pan`; `Digits` below is such a type.

use std::error::Error;
use std::future::Future;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const VISA: &str = "4111111111111111";
const VISA_MASK: &str = "411111******1111";
const MASTER: &str = "5555555555554444";
const MASTER_MASK: &str = "555555******4444";
const AMEX: &str = "378282246310005";
const AMEX_MASK: &str = "378282*****0005";

type Outcome = Result<(), Box<dyn Error>>;

/// A card number as `pci.pan` itself: its binary form is the bytes of its text form.
#[derive(Debug, PartialEq)]
struct Digits(String);

impl ToSql for Digits {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.schema() == "pci" && ty.name() == "pan"
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Digits {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        <Self as ToSql>::accepts(ty)
    }
}

fn digits(pan: &str) -> Digits {
    Digits(pan.to_owned())
}

struct Db {
    till: Client,
    desk: Client,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let db = Db { till: connect("till").await?, desk: connect("desk").await? };
    let mut tests = Tests::default();
    tests.run("insert and select give the mask", &db, insert_and_select(&db)).await?;
    tests.run("pci.pan bound as itself", &db, bound_as_itself(&db)).await?;
    tests.run("look-up by full PAN", &db, look_up(&db)).await?;
    tests.run("IN and = ANY", &db, in_and_any(&db)).await?;
    tests.run("upsert", &db, upsert(&db)).await?;
    tests.run("update of another column keeps the card", &db, update_other(&db)).await?;
    tests.run("refused reveal", &db, refused(&db)).await?;
    tests.run("granted reveal", &db, granted(&db)).await?;
    tests.run("bad input does not come back", &db, bad_input(&db)).await?;
    tests.run("a prepared statement goes generic", &db, generic(&db)).await?;
    tests.run("simple protocol", &db, simple(&db)).await?;
    println!("1..{}\n# {} failed", tests.number, tests.failures);
    std::process::exit(i32::from(tests.failures > 0));
}

async fn insert_and_select(db: &Db) -> Outcome {
    insert(db, &[VISA, "5555-5555-5555-4444"]).await?;
    let rows = db.till.query("SELECT card, card::text FROM payments_tokio ORDER BY id", &[]).await?;
    for (row, mask) in rows.iter().zip([VISA_MASK, MASTER_MASK]) {
        assert_eq!(row.get::<_, Digits>(0), digits(mask));
        assert_eq!(row.get::<_, &str>(1), mask);
    }
    assert_eq!(rows.len(), 2);
    Ok(())
}

async fn bound_as_itself(db: &Db) -> Outcome {
    let insert = "INSERT INTO payments_tokio VALUES (1, $1, 10) RETURNING card";
    let row = db.till.query_one(insert, &[&digits(VISA)]).await?;
    assert_eq!(row.get::<_, Digits>(0), digits(VISA_MASK));
    let row = db.till.query_one("SELECT id FROM payments_tokio WHERE card = $1", &[&digits(VISA)]).await?;
    assert_eq!(row.get::<_, i64>(0), 1);
    let any = "SELECT id FROM payments_tokio WHERE card = ANY($1)";
    assert_eq!(ids(&db.till.query(any, &[&vec![digits(MASTER), digits(VISA)]]).await?), [1]);
    Ok(())
}

async fn look_up(db: &Db) -> Outcome {
    insert(db, &[VISA, MASTER]).await?;
    for parameter in ["$1::text", "$1::varchar", "$1::text::pci.pan"] {
        let query = format!("SELECT id FROM payments_tokio WHERE card = {parameter}");
        assert_eq!(ids(&db.till.query(&query, &[&MASTER]).await?), [2], "{parameter}");
        assert!(db.till.query(&query, &[&AMEX]).await?.is_empty(), "{parameter}");
    }
    Ok(())
}

async fn in_and_any(db: &Db) -> Outcome {
    insert(db, &[VISA, MASTER, AMEX]).await?;
    let within = "SELECT id FROM payments_tokio WHERE card IN ($1::text, $2::text) ORDER BY id";
    assert_eq!(ids(&db.till.query(within, &[&VISA, &AMEX]).await?), [1, 3]);
    let any = "SELECT id FROM payments_tokio WHERE card = ANY($1::text[]) ORDER BY id";
    assert_eq!(ids(&db.till.query(any, &[&vec![MASTER, AMEX]]).await?), [2, 3]);
    Ok(())
}

async fn upsert(db: &Db) -> Outcome {
    let upsert = "INSERT INTO payments_tokio (card, amount) VALUES ($1::text, $2) ON CONFLICT (card) \
        DO UPDATE SET amount = payments_tokio.amount + excluded.amount RETURNING card::text, amount";
    for (amount, total) in [(5, 5), (6, 11)] {
        let row = db.till.query_one(upsert, &[&VISA, &amount]).await?;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), (VISA_MASK, total));
    }
    Ok(())
}

async fn update_other(db: &Db) -> Outcome {
    insert(db, &[VISA]).await?;
    let changed = db.till.execute("UPDATE payments_tokio SET amount = $1 WHERE id = $2", &[&99, &1_i64]).await?;
    assert_eq!(changed, 1);
    let row = db.desk.query_one("SELECT pci.reveal(card), amount FROM payments_tokio", &[]).await?;
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), (VISA, 99));
    Ok(())
}

async fn refused(db: &Db) -> Outcome {
    insert(db, &[VISA]).await?;
    let error = db.till.query("SELECT pci.reveal(card) FROM payments_tokio", &[]).await.err().ok_or("not refused")?;
    let server = error.as_db_error().ok_or("not the server's error")?;
    assert_eq!(server.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(server.code().code(), "42501");
    assert!(server.message().contains("permission denied to reveal card numbers"), "{server:?}");
    assert!(server.hint().is_some_and(|h| h.contains("pci.grant_access")), "{server:?}");
    assert!(!format!("{server:?}").contains(VISA));
    let row = db.till.query_one("SELECT card::text FROM payments_tokio", &[]).await?;
    assert_eq!(row.get::<_, &str>(0), VISA_MASK);
    Ok(())
}

async fn granted(db: &Db) -> Outcome {
    insert(db, &[VISA, MASTER, AMEX]).await?;
    let rows = db.desk.query("SELECT card::text, pci.reveal(card) FROM payments_tokio ORDER BY id", &[]).await?;
    let found: Vec<(&str, &str)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(found, [(VISA_MASK, VISA), (MASTER_MASK, MASTER), (AMEX_MASK, AMEX)]);
    Ok(())
}

async fn bad_input(db: &Db) -> Outcome {
    for bad in ["4111111111111112", VISA_MASK, "41111111111", ""] {
        for parameter in ["$1::text", "$1"] {
            let query = format!("INSERT INTO payments_tokio (card, amount) VALUES ({parameter}, 1)");
            let typed = digits(bad);
            let value: &(dyn ToSql + Sync) = if parameter == "$1" { &typed } else { &bad };
            let error = db.till.execute(&query, &[value]).await.err().ok_or("stored")?;
            let server = error.as_db_error().ok_or("not the server's error")?;
            assert_eq!(server.code(), &SqlState::INVALID_TEXT_REPRESENTATION, "{parameter} {bad}");
            assert!(bad.is_empty() || !format!("{server:?}").contains(bad), "{parameter} {bad}: {server:?}");
        }
    }
    let row = db.till.query_one("SELECT count(*) FROM payments_tokio", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 0);
    Ok(())
}

async fn generic(db: &Db) -> Outcome {
    insert(db, &[VISA, MASTER]).await?;
    let as_text = db.till.prepare("SELECT id FROM payments_tokio WHERE card = $1::text").await?;
    let as_pan = db.till.prepare("SELECT id FROM payments_tokio WHERE card = $1").await?;
    for _ in 0..10 {
        for (pan, expected) in [(VISA, vec![1]), (MASTER, vec![2]), (AMEX, vec![])] {
            assert_eq!(ids(&db.till.query(&as_text, &[&pan]).await?), expected);
            assert_eq!(ids(&db.till.query(&as_pan, &[&digits(pan)]).await?), expected);
        }
    }
    let plans = "SELECT count(*) FROM pg_prepared_statements WHERE generic_plans > 0 AND statement IN \
        ('SELECT id FROM payments_tokio WHERE card = $1', 'SELECT id FROM payments_tokio WHERE card = $1::text')";
    let row = db.till.query_one(plans, &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 2, "statements with generic plans");
    let reveal = db.desk.prepare("SELECT pci.reveal(card) FROM payments_tokio WHERE id = $1").await?;
    for _ in 0..10 {
        assert_eq!(db.desk.query_one(&reveal, &[&1_i64]).await?.get::<_, &str>(0), VISA);
    }
    Ok(())
}

async fn simple(db: &Db) -> Outcome {
    let statements = format!(
        "INSERT INTO payments_tokio VALUES (1, '{VISA}', 1); SELECT card FROM payments_tokio WHERE card = '{VISA}'"
    );
    let messages = db.till.simple_query(&statements).await?;
    let masks: Vec<&str> = messages
        .iter()
        .filter_map(|m| if let SimpleQueryMessage::Row(row) = m { row.get(0) } else { None })
        .collect();
    assert_eq!(masks, [VISA_MASK]);
    Ok(())
}

async fn insert(db: &Db, pans: &[&str]) -> Result<(), tokio_postgres::Error> {
    for (id, pan) in (1_i64..).zip(pans) {
        db.till.execute("INSERT INTO payments_tokio VALUES ($1, $2::text, 10)", &[&id, pan]).await?;
    }
    Ok(())
}

fn ids(rows: &[tokio_postgres::Row]) -> Vec<i64> {
    rows.iter().map(|row| row.get(0)).collect()
}

#[derive(Default)]
struct Tests {
    number: u32,
    failures: u32,
}

impl Tests {
    async fn run(&mut self, name: &str, db: &Db, test: impl Future<Output = Outcome>) -> Outcome {
        self.number += 1;
        db.till.batch_execute("TRUNCATE payments_tokio").await?;
        // Statements that a panic left behind do not matter: each test begins with an empty table.
        let outcome = Caught(Box::pin(test)).await;
        match outcome {
            Ok(()) => println!("ok {} - {name}", self.number),
            Err(why) => {
                self.failures += 1;
                println!("not ok {} - {name}\n# {}", self.number, why.replace('\n', "\n# "));
            }
        }
        Ok(())
    }
}

/// A test, with its panics as failures.
struct Caught<F>(std::pin::Pin<Box<F>>);

impl<F: Future<Output = Outcome>> Future for Caught<F> {
    type Output = Result<(), String>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.0.as_mut().poll(cx)));
        match polled {
            Ok(poll) => poll.map(|outcome| outcome.map_err(|error| format!("{error:?}"))),
            Err(_) => std::task::Poll::Ready(Err("an assertion failed, see above".to_owned())),
        }
    }
}

async fn connect(user: &str) -> Result<Client, Box<dyn Error>> {
    let host = std::env::var("PGHOST")?;
    let port = std::env::var("PGPORT")?.parse()?;
    let database = std::env::var("PGDATABASE")?;
    let (client, connection) = tokio_postgres::Config::new()
        .host(&host)
        .port(port)
        .dbname(&database)
        .user(user)
        .connect(NoTls)
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            println!("# connection: {error}");
        }
    });
    Ok(client)
}
