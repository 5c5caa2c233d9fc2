//! Wrong answers of DataFusion that this crate rewrites or refuses. Each test says what DataFusion
//! alone answers, so that an upgrade that mends it is noticed, and what is right. Must never be
//! mended by changing the right answer.

use crate::ask::{Rows, ask, plain};
use crate::world::{World, tail};

/// One statement over `VALUES`, so that both can be asked.
pub(crate) struct Case {
    pub(crate) sql: &'static str,
    /// Of DataFusion alone; `None`: an error.
    pub(crate) alone: Option<&'static [&'static str]>,
    /// `None`: an error.
    pub(crate) right: Option<&'static [&'static str]>,
}

fn world() -> World {
    tail(&[])
}

fn joined(rows: Rows) -> Vec<String> {
    rows.into_iter().map(|row| row.join("|")).collect()
}

/// Both sides of every case; `file` is what may go once DataFusion is right.
pub(crate) async fn check(file: &str, cases: &[Case]) {
    let world = world();
    let mut wrong = Vec::new();
    for Case { sql, alone, right } in cases {
        let ours = ask(&world.engine, sql).await.map(joined);
        let right = right.map(owned);
        if ours.as_ref().ok() != right.as_ref() {
            wrong.push(format!(
                "{sql}\n  is answered {ours:?}\n  and not {right:?}"
            ));
        }
        let theirs = plain(sql).await.map(joined);
        let alone = alone.map(owned);
        if theirs.as_ref().ok() != alone.as_ref() {
            wrong.push(format!(
                "{sql}\n  DataFusion alone answers {theirs:?} now and not {alone:?}: where it is \
                 right, query/src/rewrite/{file} need not see to it any more"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn owned(rows: &[&str]) -> Vec<String> {
    rows.iter().map(|row| (*row).to_owned()).collect()
}

#[tokio::test]
async fn is_distinct_from_ends_before_and() {
    check(
        "precedence.rs",
        &[
            Case {
                sql: "SELECT 1 IS DISTINCT FROM 2 AND false",
                alone: None,
                right: Some(&["false"]),
            },
            Case {
                sql: "SELECT true IS DISTINCT FROM true AND false",
                alone: Some(&["true"]),
                right: Some(&["false"]),
            },
            Case {
                sql: "SELECT true IS NOT DISTINCT FROM false OR true",
                alone: Some(&["true"]),
                right: Some(&["true"]),
            },
            Case {
                sql: "SELECT false AND true IS DISTINCT FROM true AND false OR true",
                alone: Some(&["false"]),
                right: Some(&["true"]),
            },
            Case {
                sql: "SELECT NOT true IS DISTINCT FROM true AND false",
                alone: Some(&["false"]),
                right: Some(&["false"]),
            },
            Case {
                sql: "SELECT true IS DISTINCT FROM (true AND false)",
                alone: Some(&["true"]),
                right: Some(&["true"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn integers_do_not_wrap() {
    check(
        "expressions.rs",
        &[
            Case {
                sql: "SELECT v + 1 FROM (VALUES (9223372036854775807)) AS t(v)",
                alone: Some(&["-9223372036854775808"]),
                right: None,
            },
            Case {
                sql: "SELECT v * 2 FROM (VALUES (9223372036854775807)) AS t(v)",
                alone: Some(&["-2"]),
                right: None,
            },
            Case {
                sql: "SELECT -2 - v FROM (VALUES (9223372036854775807)) AS t(v)",
                alone: Some(&["9223372036854775807"]),
                right: None,
            },
            Case {
                sql: "SELECT -v FROM (VALUES (-9223372036854775808)) AS t(v)",
                alone: Some(&["-9223372036854775808"]),
                right: None,
            },
            Case {
                sql: "SELECT 2147483647::int + 1::int",
                alone: Some(&["-2147483648"]),
                right: None,
            },
            Case {
                sql: "SELECT v + 1, -v, v * v, v - 3 FROM (VALUES (2), (NULL)) AS t(v)",
                alone: Some(&["3|-2|4|-1", "NULL|NULL|NULL|NULL"]),
                right: Some(&["3|-2|4|-1", "NULL|NULL|NULL|NULL"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn sums_do_not_wrap() {
    check(
        "sums.rs",
        &[
            Case {
                sql: "SELECT sum(v) FROM (VALUES (9223372036854775807), (1)) AS t(v)",
                alone: Some(&["-9223372036854775808"]),
                right: None,
            },
            Case {
                sql: "SELECT g, sum(v) FROM (VALUES (1, 9223372036854775807), (1, 1)) AS t(g, v) \
                      GROUP BY g",
                alone: Some(&["1|-9223372036854775808"]),
                right: None,
            },
            Case {
                sql: "SELECT sum(v) OVER (ORDER BY v) FROM \
                      (VALUES (9223372036854775807), (1)) AS t(v)",
                alone: Some(&["1", "-9223372036854775808"]),
                right: None,
            },
            Case {
                sql: "SELECT sum(DISTINCT v) FROM (VALUES (9223372036854775807), (1)) AS t(v)",
                alone: Some(&["-9223372036854775808"]),
                right: None,
            },
            Case {
                sql: "SELECT sum(DISTINCT v), sum(DISTINCT w), count(DISTINCT v) FROM \
                      (VALUES (9223372036854775807, 2), (1, 2), (1, 3)) AS t(v, w)",
                alone: Some(&["-9223372036854775808|5|2"]),
                right: None,
            },
            Case {
                sql: "SELECT sum(DISTINCT v), sum(DISTINCT w), count(DISTINCT v) FROM \
                      (VALUES (7, 2), (1, 2), (1, 3), (NULL, 3)) AS t(v, w)",
                alone: Some(&["8|5|2"]),
                right: Some(&["8|5|2"]),
            },
            // Too large on the way, not at the end.
            Case {
                sql: "SELECT sum(v) FROM (VALUES (9223372036854775807), (1), (-2)) AS t(v)",
                alone: Some(&["9223372036854775806"]),
                right: Some(&["9223372036854775806"]),
            },
            Case {
                sql: "SELECT sum(v) OVER (ORDER BY v ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), \
                      sum(v) FILTER (WHERE v > 9) OVER () FROM (VALUES (1), (2), (NULL)) AS t(v)",
                alone: Some(&["1|NULL", "3|NULL", "2|NULL"]),
                right: Some(&["1|NULL", "3|NULL", "2|NULL"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn copies_are_counted_by_all() {
    check(
        "multisets.rs",
        &[
            Case {
                sql: "SELECT v FROM (VALUES (1), (1), (1), (NULL), (NULL)) AS t(v) \
                      EXCEPT ALL SELECT v FROM (VALUES (1), (NULL)) AS t(v) ORDER BY v",
                alone: Some(&[]),
                right: Some(&["1", "1", "NULL"]),
            },
            Case {
                sql: "SELECT v FROM (VALUES (1), (1), (1), (NULL), (NULL)) AS t(v) \
                      INTERSECT ALL SELECT v FROM (VALUES (1), (1), (NULL), (2)) AS t(v) \
                      ORDER BY v",
                alone: Some(&["1", "1", "1", "NULL", "NULL"]),
                right: Some(&["1", "1", "NULL"]),
            },
            Case {
                sql: "SELECT a, b FROM (VALUES (1, 'x'), (1, 'x'), (1, 'y')) AS t(a, b) \
                      EXCEPT ALL SELECT a, b FROM (VALUES (1, 'x')) AS u(a, b) ORDER BY b",
                alone: Some(&["1|y"]),
                right: Some(&["1|x", "1|y"]),
            },
            Case {
                sql: "SELECT v FROM (VALUES (1), (1), (2)) AS t(v) EXCEPT SELECT 2",
                alone: Some(&["1"]),
                right: Some(&["1"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn years_that_times_cannot_reach_are_years() {
    check(
        "years.rs",
        &[
            Case {
                sql: "SELECT count(*) FROM (VALUES (TIMESTAMP '2026-11-05 12:00:00')) t(v) \
                      WHERE extract(year FROM v) <> 1000",
                alone: Some(&["0"]),
                right: Some(&["1"]),
            },
            Case {
                sql: "SELECT count(*) FROM (VALUES (TIMESTAMP '2262-01-05 12:00:00')) t(v) \
                      WHERE extract(year FROM v) >= 2262 AND extract(year FROM v) <= 2262 \
                      AND extract(year FROM v) > -10 AND extract(year FROM v) < 4000",
                alone: Some(&["0"]),
                right: Some(&["1"]),
            },
            Case {
                sql: "SELECT count(*) FROM (VALUES (TIMESTAMP '1677-10-05 12:00:00')) t(v) \
                      WHERE extract(year FROM v) = 1677",
                alone: Some(&["0"]),
                right: Some(&["1"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn at_time_zone_gives_an_instant_for_a_local_time_and_back() {
    check(
        "../at_zone.rs",
        &[
            Case {
                sql: "SELECT TIMESTAMP '2026-01-01 11:00:00' AT TIME ZONE 'America/New_York' \
                      = TIMESTAMP '2026-01-01 16:00:00'",
                alone: Some(&["false"]),
                right: Some(&["true"]),
            },
            Case {
                sql: "SELECT (TIMESTAMPTZ '2026-01-01T16:00:00Z' AT TIME ZONE 'America/New_York') \
                      ::timestamp = TIMESTAMP '2026-01-01 11:00:00'",
                alone: Some(&["false"]),
                right: Some(&["true"]),
            },
            Case {
                sql: "SELECT date_trunc('day', TIMESTAMPTZ '2026-11-06T03:00:00Z' \
                      AT TIME ZONE 'America/New_York') AT TIME ZONE 'America/New_York' \
                      = TIMESTAMPTZ '2026-11-05T05:00:00Z'",
                alone: Some(&["false"]),
                right: Some(&["true"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn a_cast_to_a_zone_moves_the_instant_in_comparisons_too() {
    check(
        "expressions.rs",
        &[
            Case {
                sql: "SELECT v AT TIME ZONE 'America/New_York' = '2026-11-05T16:00:00Z' \
                      FROM (VALUES (TIMESTAMP '2026-11-05 11:00:00')) AS t(v)",
                alone: Some(&["false"]),
                right: Some(&["true"]),
            },
            Case {
                sql: "SELECT v AT TIME ZONE 'America/New_York' > '2026-11-05T15:59:00Z', \
                      v AT TIME ZONE 'America/New_York' IN ('2026-11-05T16:00:00Z', \
                      '2026-11-05T11:00:00Z') \
                      FROM (VALUES (TIMESTAMP '2026-11-05 11:00:00')) AS t(v)",
                alone: Some(&["false|true"]),
                right: Some(&["true|true"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn there_is_one_zero_and_one_nan() {
    const FLOATS: &str = "(VALUES (0.0), (-0.0), (1.0)) AS t(v)";
    let sql =
        |sql: &str| -> &'static str { Box::leak(sql.replace("FLOATS", FLOATS).into_boxed_str()) };
    check(
        "expressions.rs",
        &[
            Case {
                sql: sql("SELECT count(DISTINCT v), count(DISTINCT -v) FROM FLOATS"),
                alone: Some(&["3|3"]),
                right: Some(&["2|2"]),
            },
            Case {
                sql: sql("SELECT count(*) OVER (PARTITION BY v) FROM FLOATS ORDER BY 1"),
                alone: Some(&["1", "1", "1"]),
                right: Some(&["1", "2", "2"]),
            },
            Case {
                sql: sql("SELECT rank() OVER (ORDER BY v) FROM FLOATS ORDER BY 1"),
                alone: Some(&["1", "2", "3"]),
                right: Some(&["1", "1", "3"]),
            },
            Case {
                sql: sql("SELECT nullif(v, 0.0), CASE v WHEN 0.0 THEN 'zero' END FROM FLOATS"),
                alone: Some(&["NULL|zero", "-0.0|NULL", "1.0|NULL"]),
                right: Some(&["NULL|zero", "NULL|zero", "1.0|NULL"]),
            },
            Case {
                sql: "SELECT count(DISTINCT -v), count(DISTINCT v * -1.0), count(DISTINCT v / 2) \
                      FROM (VALUES (0.0), ('-0'::double), (-1e-320 / 1e10)) AS t(v)",
                alone: Some(&["2|2|2"]),
                right: Some(&["1|1|1"]),
            },
            // What divides zero by zero is negative on this machine.
            Case {
                sql: "SELECT v / w > 1, max(v / w) OVER (), rank() OVER (ORDER BY v / w) \
                      FROM (VALUES (0.0, 0.0), (5.0, 1.0)) AS t(v, w) ORDER BY v",
                alone: Some(&["false|5.0|1", "true|5.0|2"]),
                right: Some(&["true|NaN|2", "true|NaN|1"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn nan_is_the_largest_float_in_groups() {
    check(
        "extremes.rs",
        &[
            Case {
                sql: "SELECT g, min(v), max(v) FROM \
                      (VALUES (1, 'NaN'::double), (1, 1.0), (1, 2.0)) AS t(g, v) GROUP BY g",
                alone: Some(&["1|1.0|2.0"]),
                right: Some(&["1|1.0|NaN"]),
            },
            Case {
                sql: "SELECT g, min(v), max(v) FROM \
                      (VALUES (1, '-inf'::double), (1, NULL), (2, 'inf'::double), (3, NULL)) \
                      AS t(g, v) GROUP BY g ORDER BY g",
                alone: Some(&[
                    "1|-inf|-1.7976931348623157e308",
                    "2|1.7976931348623157e308|inf",
                    "3|NULL|NULL",
                ]),
                right: Some(&["1|-inf|-inf", "2|inf|inf", "3|NULL|NULL"]),
            },
            Case {
                sql: "SELECT min(v), max(v), greatest(1.0, max(v)), least(1.0, max(v)) FROM \
                      (VALUES ('NaN'::double), (1.0), (2.0)) AS t(v)",
                alone: Some(&["1.0|NaN|NaN|1.0"]),
                right: Some(&["1.0|NaN|NaN|1.0"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn lead_counts_over_a_gap() {
    check(
        "shifts.rs",
        &[
            Case {
                sql: "SELECT lead(v, 2) IGNORE NULLS OVER (ORDER BY n DESC) FROM \
                      (VALUES (1, 10), (2, NULL), (3, 30), (4, 40), (5, 50), (6, NULL)) \
                      AS t(n, v) ORDER BY n",
                alone: Some(&["NULL", "NULL", "NULL", "NULL", "30", "40"]),
                right: Some(&["NULL", "NULL", "NULL", "10", "30", "40"]),
            },
            Case {
                sql: "SELECT lag(v, 2, -1) IGNORE NULLS OVER (ORDER BY n), \
                      lead(v) OVER (ORDER BY n DESC) FROM \
                      (VALUES (1, 10), (2, NULL), (3, NULL), (4, 40), (5, NULL), (6, 60)) \
                      AS t(n, v) ORDER BY n",
                alone: Some(&["-1|NULL", "-1|10", "-1|NULL", "-1|NULL", "10|40", "10|NULL"]),
                right: Some(&["-1|NULL", "-1|10", "-1|NULL", "-1|NULL", "10|40", "10|NULL"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn a_window_forgets_what_has_left_it() {
    check(
        "slides.rs",
        &[
            Case {
                sql: "SELECT sum(v) OVER w, avg(v) OVER w FROM \
                      (VALUES (1, 'NaN'::double), (2, 1.0), (3, 2.0), (4, NULL)) AS t(n, v) \
                      WINDOW w AS (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) \
                      ORDER BY n",
                alone: Some(&["NaN|NaN", "NaN|NaN", "NaN|NaN", "NaN|NaN"]),
                right: Some(&["NaN|NaN", "NaN|NaN", "3.0|1.5", "2.0|2.0"]),
            },
            Case {
                sql: "SELECT sum(v) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) \
                      FROM (VALUES (1, 1e300), (2, 1.0), (3, 2.0)) AS t(n, v) ORDER BY n",
                alone: Some(&["1e300", "1e300", "0.0"]),
                right: Some(&["1e300", "1e300", "3.0"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn membership_has_three_values() {
    check(
        "membership.rs",
        &[
            // Nothing is known not to be in a list with a NULL.
            Case {
                sql: "SELECT v FROM (VALUES (1), (2)) AS t(v) WHERE v NOT IN \
                      (SELECT w FROM (VALUES (1), (NULL)) AS u(w))",
                alone: Some(&[]),
                right: Some(&[]),
            },
            Case {
                sql: "SELECT v FROM (VALUES (1), (2)) AS t(v) WHERE v NOT IN \
                      (SELECT w FROM (VALUES (1), (NULL)) AS u(w)) OR v = 9",
                alone: Some(&["2"]),
                right: Some(&[]),
            },
            Case {
                sql: "SELECT v FROM (VALUES (1), (2)) AS t(v) WHERE NOT (v IN \
                      (SELECT w FROM (VALUES (1), (NULL)) AS u(w)) AND v < 9)",
                alone: Some(&["2"]),
                right: Some(&[]),
            },
            Case {
                sql: "SELECT v FROM (VALUES (1), (NULL)) AS t(v) WHERE (v IN \
                      (SELECT w FROM (VALUES (1), (2)) AS u(w))) IS NULL",
                alone: Some(&[]),
                right: Some(&["NULL"]),
            },
            Case {
                sql: "SELECT v FROM (VALUES (1), (2)) AS t(v) WHERE 5 NOT IN \
                      (SELECT w FROM (VALUES (1), (NULL)) AS u(w))",
                alone: Some(&["1", "2"]),
                right: Some(&[]),
            },
            Case {
                sql: "SELECT v FROM (VALUES (1, 1), (2, 2), (NULL, 3), (NULL, 1)) AS t(v, g) \
                      WHERE v NOT IN (SELECT w FROM (VALUES (7, 1), (NULL, 2)) AS u(w, h) \
                      WHERE h = g) ORDER BY v",
                alone: None,
                right: Some(&["1", "NULL"]),
            },
            Case {
                sql: "SELECT v FROM (VALUES (1), (NULL)) AS t(v) WHERE v NOT IN \
                      (SELECT w FROM (VALUES (1), (NULL)) AS u(w) WHERE w > 5) ORDER BY v",
                alone: Some(&["1", "NULL"]),
                right: Some(&["1", "NULL"]),
            },
        ],
    )
    .await;
}
