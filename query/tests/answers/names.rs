//! Which column or table a name without quotes is. Must never depend on the order of columns.

use std::borrow::Cow;

use wal::Value;

use crate::ask::{answer, ask};
use crate::world::{Made, World, tail};

fn world() -> World {
    let row = |fields: Vec<(&'static str, Value<'static>)>| Made {
        time: 1_793_836_800_000_000_000,
        tags: vec![("Site", "north".to_owned())],
        fields,
    };
    let twins = row(vec![
        ("Time", Value::Text(Cow::Borrowed("noon"))),
        ("La", Value::Int(1)),
        ("la", Value::Int(2)),
        ("Temp", Value::Float(20.5)),
        ("V", Value::Int(7)),
        ("v", Value::Int(8)),
    ]);
    let odd = row(vec![("KwH", Value::Int(1)), ("KWh", Value::Int(2))]);
    let (upper, lower) = (
        row(vec![("n", Value::Int(1))]),
        row(vec![("n", Value::Int(2))]),
    );
    let only = row(vec![("n", Value::Int(3))]);
    tail(&[
        ("twins", &[twins]),
        ("odd", &[odd]),
        ("Plant", &[upper]),
        ("plant", &[lower]),
        ("Alone", &[only]),
    ])
}

#[tokio::test]
async fn an_exact_name_wins_then_the_folded_one_then_the_only_one_alike() {
    let world = world();
    for (sql, expected) in [
        ("SELECT Time FROM twins", "noon"),
        ("SELECT time FROM twins", "2026-11-05T00:00:00Z"),
        ("SELECT TIME FROM twins", "2026-11-05T00:00:00Z"),
        ("SELECT La, la FROM twins", "1|2"),
        ("SELECT LA FROM twins", "2"),
        (
            "SELECT twins.La, t.la FROM twins JOIN twins AS t ON twins.La < t.la",
            "1|2",
        ),
        (
            "SELECT temp, TEMP + 1 FROM twins WHERE tEMP > 20",
            "20.5|21.5",
        ),
        (
            "SELECT max(Temp) AS Temp FROM twins GROUP BY Site ORDER BY Temp",
            "20.5",
        ),
        (
            "SELECT site FROM twins WHERE SITE = 'north' GROUP BY site ORDER BY Site",
            "north",
        ),
        (
            "SELECT x FROM (SELECT temp AS x FROM twins) ORDER BY X",
            "20.5",
        ),
        (
            "WITH w AS (SELECT temp FROM twins) SELECT Temp FROM w",
            "20.5",
        ),
        (
            "SELECT a.v, b.V FROM twins AS a JOIN twins AS b USING (Site)",
            "8|7",
        ),
        (
            "SELECT * EXCEPT (time, Time, La, la, Temp, V, site) FROM twins",
            "8",
        ),
        ("SELECT KwH, KWh FROM odd", "1|2"),
        (
            "SELECT lag(temp) OVER (PARTITION BY site ORDER BY time) FROM twins",
            "NULL",
        ),
        (
            "SELECT sum(n) FILTER (WHERE site LIKE 'n%') FROM Plant",
            "1",
        ),
        ("SELECT Plant.n FROM Plant", "1"),
        ("SELECT plant.n FROM plant", "2"),
        ("SELECT p.n FROM PLANT AS p", "2"),
        ("SELECT a.n, b.n FROM Plant AS a, plant AS b", "1|2"),
        ("SELECT n FROM alone", "3"),
        ("SELECT alone.n FROM ALONE", "3"),
    ] {
        let rows = answer(&world.engine, sql).await;
        assert_eq!(rows.len(), 1, "{sql}");
        assert_eq!(rows[0].join("|"), expected, "{sql}");
    }
}

#[tokio::test]
async fn a_name_that_may_be_two_is_refused() {
    let world = world();
    for sql in [
        "SELECT kwh FROM odd",
        "SELECT \"temp\" FROM twins",
        "SELECT \"TIME\" FROM twins",
    ] {
        let error = ask(&world.engine, sql).await.expect_err(sql);
        assert!(
            matches!(error, query::QueryError::Plan(_)),
            "{sql}: {error:?}"
        );
    }
}

#[tokio::test]
async fn columns_inside_have_the_names_of_postgresql_and_equal_names_stand_beside_each_other() {
    let rows: Vec<Made> = (0..4)
        .map(|v| Made {
            time: 1_793_836_800_000_000_000 + v * 50_000_000_000_000,
            tags: vec![("dev", format!("D{}", v % 2))],
            fields: vec![("i", Value::Int(v * 7))],
        })
        .collect();
    let world = tail(&[("t", &rows)]);
    for (sql, expected) in NAMES {
        let rows = answer(&world.engine, sql).await;
        assert_eq!(rows.len(), 1, "{sql}");
        if !expected.is_empty() {
            assert_eq!(rows[0].join("|"), *expected, "{sql}");
        }
    }
}

const NAMES: &[(&str, &str)] = &[
    ("SELECT max(i), max(CAST(i AS VARCHAR)) FROM t", "21|7"),
    ("SELECT i::text, i::double, i FROM t WHERE i = 7", "7|7.0|7"),
    (
        "SELECT count(*) FROM (SELECT time::date, time FROM t GROUP BY time::date, time)",
        "4",
    ),
    (
        "SELECT time::date, time, count(*) FROM t GROUP BY time::date, time \
             ORDER BY time::date DESC, time LIMIT 1",
        "2026-11-06|2026-11-06T03:46:40Z|1",
    ),
    (
        "SELECT sum(i), sum(i::double) FROM t GROUP BY dev HAVING sum(i::double) > 20 \
             ORDER BY sum(i), sum(i::double)",
        "28|28.0",
    ),
    (
        "SELECT sum(i::text::int), sum(i::int) OVER (), i::int FROM t WHERE i = 0 GROUP BY i",
        "0|0|0",
    ),
    (
        "SELECT DISTINCT lower(dev) FROM t ORDER BY lower(dev) LIMIT 1",
        "d0",
    ),
    (
        "SELECT DISTINCT i + 1 FROM t ORDER BY i + 1 DESC LIMIT 1",
        "22",
    ),
    ("SELECT max FROM (SELECT max(i) FROM t) AS x", "21"),
    ("SELECT \"max(t.i)\" FROM (SELECT max(i) FROM t)", "21"),
    (
        "SELECT max(i) FROM t GROUP BY dev ORDER BY max DESC LIMIT 1",
        "21",
    ),
    (
        "SELECT date_trunc('day', time), count(*) FROM t GROUP BY date_trunc \
             ORDER BY date_trunc LIMIT 1",
        "2026-11-05T00:00:00Z|2",
    ),
    (
        "WITH w AS (SELECT dev, avg(i), count(*) FROM t GROUP BY dev) \
             SELECT avg, count FROM w ORDER BY dev LIMIT 1",
        "7.0|2",
    ),
    (
        "SELECT dev, max FROM t JOIN (SELECT dev, max(i) FROM t GROUP BY dev) USING (dev) \
             WHERE i = 0",
        "D0|14",
    ),
    (
        "SELECT * FROM (SELECT 1, 2, 'a', i, i AS I FROM t WHERE i = 7)",
        "1|2|a|7|7",
    ),
    (
        "SELECT * FROM (SELECT *, max(i) OVER () FROM t) WHERE i = 0 AND max = 21",
        "",
    ),
    (
        "SELECT (SELECT max(i) FROM t) WHERE EXISTS (SELECT lower(dev) FROM t)",
        "21",
    ),
    ("SELECT i FROM t WHERE i IN (SELECT max(i) FROM t)", "21"),
    ("SELECT x.a FROM (SELECT max(i) FROM t) AS x(a)", "21"),
    (
        "SELECT sum FROM (SELECT sum(i) FROM t UNION ALL SELECT min(i) FROM t) ORDER BY sum DESC \
             LIMIT 1",
        "42",
    ),
    ("(SELECT max(i) FROM t) ORDER BY max", "21"),
];
