//! Sums that overflow, times as people type them, and zeros of old files. Must never accept a wrong
//! number in place of an error.

use query::QueryError;

use crate::ask::{answer, ask};
use crate::world::{World, tail};

fn world() -> World {
    tail(&[])
}

#[tokio::test]
async fn sums_of_decimals_and_of_different_values_overflow_with_an_error() {
    let world = world();
    let large = "CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0))";
    let rows = format!("(VALUES (1, {large}), (2, {large}), (3, -{large} / 3)) AS t(a, x)");
    for sql in [
        format!("SELECT sum(x) FROM {rows}"),
        format!("SELECT a % 1, sum(x) FROM {rows} GROUP BY a % 1"),
        format!("SELECT sum(DISTINCT x) FROM (SELECT x - a AS x FROM {rows})"),
        format!("SELECT sum(x) OVER (ORDER BY a ROWS 1 PRECEDING) FROM {rows}"),
        "SELECT sum(DISTINCT 9223372036854775807 - value) \
         OVER (ORDER BY value ROWS 1 PRECEDING) FROM range(0, 9)"
            .to_owned(),
    ] {
        let refused = ask(&world.engine, &sql).await;
        assert!(
            matches!(refused, Err(QueryError::Execution(_))),
            "{sql}: {refused:?}"
        );
    }
    for (sql, expected) in [
        (
            "SELECT sum(x), sum(DISTINCT x) FROM \
             (SELECT x::decimal(9, 2) AS x FROM (VALUES (1.25), (1.25), (-2.00)) AS t(x))",
            "0.50|-0.75",
        ),
        (
            "SELECT string_agg(s::text, ' ') FROM (SELECT sum(DISTINCT x) OVER \
             (ORDER BY a ROWS 2 PRECEDING) AS s FROM \
             (VALUES (1, 5), (2, 5), (3, NULL), (4, 7), (5, NULL), (6, NULL), (7, NULL)) AS t(a, x) \
             ORDER BY a)",
            "5 5 5 12 7 7",
        ),
        (
            "SELECT string_agg(s::text, ' ') FROM (SELECT sum(x::decimal(9, 1)) OVER \
             (ORDER BY a ROWS 1 PRECEDING) AS s FROM (VALUES (1, 1.5), (2, 2.5), (3, NULL)) AS t(a, x) \
             ORDER BY a)",
            "1.5 4.0 2.5",
        ),
        (
            "SELECT sum(x) FROM (VALUES (CAST(NULL AS DECIMAL(9, 2)))) AS t(x)",
            "NULL",
        ),
        (
            "SELECT a, sum(x) FROM (VALUES (1, 1.10::decimal(9, 2)), (1, 2.20::decimal(9, 2))) AS t(a, x) GROUP BY a",
            "1|3.30",
        ),
    ] {
        let rows = answer(&world.engine, sql).await;
        assert_eq!(rows[0].join("|"), expected, "{sql}");
    }
}

#[tokio::test]
async fn times_are_read_in_the_forms_of_postgresql() {
    let world = world();
    for (sql, expected) in [
        ("SELECT TIMESTAMP '2026-11-05 00:00'", "2026-11-05T00:00:00"),
        (
            "SELECT TIMESTAMPTZ '2026-11-05 00:00+02'",
            "2026-11-04T22:00:00Z",
        ),
        ("SELECT '2026-11-5 1:02'::timestamp", "2026-11-05T01:02:00"),
        (
            "SELECT x::timestamp FROM (VALUES ('20261105T1030')) AS t(x)",
            "2026-11-05T10:30:00",
        ),
        (
            "SELECT TRY_CAST('2026-11-05 10:30 PM' AS TIMESTAMP)",
            "2026-11-05T22:30:00",
        ),
        (
            "SELECT to_timestamp('2026-11-05 00:00')",
            "2026-11-05T00:00:00Z",
        ),
        (
            "SELECT TIMESTAMP '2026-11-05 24:00:00'",
            "2026-11-06T00:00:00",
        ),
        (
            "SELECT date_trunc('hour', '2026-11-05 10:30')",
            "2026-11-05T10:00:00",
        ),
        (
            "SELECT count(*) FROM (VALUES (TIMESTAMP '2026-11-05 10:30')) AS t(x) \
             WHERE x > '2026-11-05 10:29' AND x BETWEEN '2026-11-05 10:30' AND '2026-11-05 10:31'",
            "1",
        ),
        (
            "SELECT to_char(TIMESTAMP '2026-11-05 10:30', 'YYYY-MM-DD HH24:MI')",
            "2026-11-05 10:30",
        ),
        (
            "SELECT to_char(TIMESTAMP '2026-11-05 10:30', '%d.%m.')",
            "05.11.",
        ),
        ("SELECT to_date('05/11/2026', 'DD/MM/YYYY')", "2026-11-05"),
        (
            "SELECT to_timestamp('05.11.2026 10:30:00', 'DD.MM.YYYY HH24:MI:SS')",
            "2026-11-05T10:30:00Z",
        ),
    ] {
        let rows = answer(&world.engine, sql).await;
        assert_eq!(rows[0].join("|"), expected, "{sql}");
    }
    for sql in [
        "SELECT TIMESTAMP '2026-02-30 00:00'",
        "SELECT to_char(now(), 'YYYY-MM-DDTHH24:MI:SS')",
        "SELECT to_char(now(), 'Month YYYY')",
        "SELECT date_bin(INTERVAL '1 hour', TIMESTAMP '2026-01-01 00:30', TIMESTAMP '1700-01-01 00:00')",
        "SELECT date_bin(INTERVAL '1 hour', x, TIMESTAMP '2026-01-01 00:30') \
         FROM (VALUES (TIMESTAMP '1700-01-01 00:00')) AS t(x)",
    ] {
        let refused = ask(&world.engine, sql).await;
        assert!(
            matches!(refused, Err(QueryError::Execution(_) | QueryError::Plan(_))),
            "{sql}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn intervals_are_as_long_as_they_are() {
    let world = world();
    let days = "(VALUES (TIMESTAMP '2026-02-01 00:00'), (TIMESTAMP '2026-03-01 00:00')) AS t(x)";
    for (sql, expected) in [
        (
            format!("SELECT max(x) - min(x) > INTERVAL '1 day', max(x) - min(x) > INTERVAL '1 month' FROM {days}"),
            "true|false",
        ),
        (
            format!("SELECT count(*) FROM (SELECT x - lag(x) OVER (ORDER BY x) AS d FROM {days}) WHERE d > INTERVAL '1 day'"),
            "1",
        ),
        (
            format!("SELECT count(*) FROM {days} WHERE TIMESTAMP '2026-03-02 00:00' - x > INTERVAL '2 days'"),
            "1",
        ),
        (
            format!("SELECT count(*) FROM {days} WHERE TIMESTAMP '2026-03-02 00:00' - x BETWEEN INTERVAL '1 hour' AND INTERVAL '1 day'"),
            "1",
        ),
        (
            "SELECT INTERVAL '25 hours' > INTERVAL '1 day', INTERVAL '1 month' = INTERVAL '30 days', \
             INTERVAL '24 hours' IN (INTERVAL '1 day'), INTERVAL '1 day' IS DISTINCT FROM NULL"
                .to_owned(),
            "true|true|true|true",
        ),
        (
            "SELECT count(*) FROM (VALUES (0), (1), (5), (NULL)) AS t(x) WHERE x <> 0 AND 10 / x > 1"
                .to_owned(),
            "2",
        ),
        (
            "SELECT count(*) FROM (VALUES (0), (1), (50)) AS t(x) WHERE NOT (x = 0 OR 10 / x > 1)"
                .to_owned(),
            "1",
        ),
        (
            "SELECT 1 = ANY (ARRAY[NULL, 2]), 1 = ANY (ARRAY[1, NULL]), 1 <> ALL (ARRAY[2, NULL]), \
             1 > ALL (ARRAY[0, -1]), 1 < ANY (ARRAY[0, NULL])"
                .to_owned(),
            "NULL|true|NULL|true|NULL",
        ),
        (
            "SELECT 'abc' SIMILAR TO '(a|b)%', 'abc' SIMILAR TO 'b%', 'abc' SIMILAR TO '_b_', \
             'a.c' NOT SIMILAR TO 'a.c', 'abc' SIMILAR TO 'a.c', NULL SIMILAR TO 'a'"
                .to_owned(),
            "true|false|true|false|false|NULL",
        ),
    ] {
        let rows = answer(&world.engine, &sql).await;
        assert_eq!(rows[0].join("|"), expected, "{sql}");
    }
    for sql in [
        "SELECT 2 ^ 3",
        "SELECT max(x) FROM (VALUES (INTERVAL '25 hours'), (INTERVAL '1 day')) AS t(x)",
        "SELECT greatest(INTERVAL '25 hours', INTERVAL '1 day')",
        "SELECT 'a' SIMILAR TO x FROM (VALUES ('a')) AS t(x)",
    ] {
        let refused = ask(&world.engine, sql).await;
        assert!(
            matches!(
                refused,
                Err(QueryError::NotSupported(_) | QueryError::Plan(_))
            ),
            "{sql}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn the_seconds_of_an_interval_have_their_fraction() {
    let world = world();
    let late = "TIMESTAMP '2026-10-25 23:59:59.5'";
    for (sql, expected) in [
        (
            format!("SELECT extract(epoch FROM TIMESTAMP '2026-03-08 18:30:00' - {late})"),
            "-19978199.5",
        ),
        (
            format!(
                "SELECT extract(EPOCH FROM {late} - x) FROM (VALUES (TIMESTAMP '2026-10-25 00:00:00.000001')) AS t(x)"
            ),
            "86399.499999",
        ),
        (
            format!(
                "SELECT avg(date_part('epoch', x - {late})) FROM (VALUES ({late}), (TIMESTAMP '2026-10-27 00:00:00')) AS t(x)"
            ),
            "43200.25",
        ),
        (
            "SELECT extract(epoch FROM INTERVAL '-2 days -1.25 seconds'), \
             extract(epoch FROM INTERVAL '14 months'), extract(epoch FROM INTERVAL '1 month')"
                .to_owned(),
            "-172801.25|36741600.0|2592000.0",
        ),
    ] {
        let rows = answer(&world.engine, &sql).await;
        assert_eq!(rows[0].join("|"), expected, "{sql}");
    }
}
