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
