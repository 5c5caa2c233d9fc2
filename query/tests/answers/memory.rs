//! Long values beside many rows. Must never make them: what is asked for here would take terabytes.

use query::QueryError;
use wal::Value;

use crate::ask::{answer, ask};
use crate::world::{Made, World, tail};

fn world() -> World {
    let rows: Vec<Made> = (0..20_000)
        .map(|v| Made {
            time: 1_793_836_800_000_000_000 + v,
            tags: vec![("device", format!("d{}", v % 3))],
            fields: vec![
                ("v", Value::Int(v)),
                ("s", Value::Text(format!("ab{}", v % 5).into())),
            ],
        })
        .collect();
    tail(&[("t", &rows), ("few", &rows[..3])])
}

#[tokio::test]
async fn copies_of_long_values_take_their_memory_before_they_are_made() {
    let world = world();
    for sql in [
        "SELECT length(x) FROM (SELECT repeat('x', 16000000) AS x), t",
        "SELECT sum(length(x)) FROM (SELECT repeat('x', 16000000) AS x), t",
        "SELECT sum(length(x)) FROM t, (SELECT repeat('x', 16000000) AS x)",
        "SELECT v FROM (SELECT repeat('x', 1000000) AS x), t ORDER BY x, v",
        "SELECT length(string_agg(x, ',')) FROM (SELECT repeat('x', 1000000) AS x), t",
        "SELECT array_agg(x) FROM (SELECT repeat('x', 1000000) AS x), t",
        "SELECT length(x) FROM t LEFT JOIN (SELECT repeat('x', 1000000) AS x) ON true",
        "SELECT length(x) FROM t JOIN (SELECT repeat('x', 1000000) AS x, 'd1' AS d) ON device = d",
        "SELECT length(x) FROM t JOIN (SELECT repeat('x', 1000000) AS x, 5 AS w) ON v > w",
        "SELECT x, v FROM (SELECT repeat(max(s), 400000) AS x FROM t), t",
        "SELECT x::varchar, v FROM (SELECT repeat(max(s), 400000)::varchar AS x FROM t), t",
        "SELECT repeat('x', 1000000), v FROM t",
        "SELECT CASE WHEN v % 2 = 0 THEN repeat('x', 1000000) ELSE s END FROM t",
        "SELECT concat(repeat('x', 1000000), s) FROM t",
        "SELECT s || (SELECT repeat(max(s), 400000) FROM t) FROM t",
        "SELECT a, unnest(range(0, 100000)) FROM (SELECT repeat('x', 1000000) AS a)",
        "SELECT a, unnest(range(0, 100000)) FROM (SELECT repeat(max(s), 400000) AS a FROM t)",
        "SELECT max(array_length(r)) FROM (SELECT range(0, 1000000) AS r), t",
        "SELECT count(m) FROM (SELECT max(x) OVER () AS m FROM \
         (SELECT CASE WHEN v = 3 THEN repeat(s, 400000) END AS x FROM t))",
        "SELECT count(m) FROM (SELECT first_value(x) OVER (ORDER BY v) AS m FROM \
         (SELECT CASE WHEN v = 0 THEN repeat(s, 400000) END AS x, v FROM t))",
        "SELECT count(m) FROM (SELECT lag(s, 20000, repeat('z', 60000)) OVER (ORDER BY v) AS m \
         FROM t)",
    ] {
        let error = ask(&world.engine, sql).await.map(|rows| rows.len());
        assert!(
            matches!(
                error,
                Err(QueryError::Memory(_) | QueryError::ValueTooLarge { .. })
            ),
            "{sql}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_few_copies_and_long_values_that_are_only_looked_at_are_answered() {
    let world = world();
    for (sql, expected) in [
        (
            "SELECT sum(length(x)) FROM (SELECT repeat('x', 16000000) AS x), few",
            "48000000",
        ),
        (
            "SELECT sum(length(x)) FROM few LEFT JOIN (SELECT repeat('x', 16000000) AS x) ON true",
            "48000000",
        ),
        (
            "SELECT max(length(s || (SELECT repeat(max(s), 400000) FROM few))) FROM few",
            "1200003",
        ),
        (
            "SELECT count(*) FROM t WHERE s > repeat('ab', 1000000)",
            "0",
        ),
        (
            "SELECT count(*) FROM t a JOIN t b ON a.v = b.v AND a.s = b.s",
            "20000",
        ),
        (
            "SELECT count(a) FROM (SELECT s AS a, unnest(range(0, 10)) FROM t)",
            "200000",
        ),
    ] {
        let rows = answer(&world.engine, sql).await;
        assert_eq!(rows, [[expected.to_owned()]], "{sql}");
    }
}
