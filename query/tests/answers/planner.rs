//! Wrong answers of DataFusion's planner that this crate keeps it from. Must never be mended by
//! changing the right answer.

use crate::upstream::{Case, check};

#[tokio::test]
async fn what_may_be_null_does_not_stop_an_aggregate() {
    check(
        "engine.rs (skip_physical_aggregate_schema_check)",
        &[
            Case {
                sql: "SELECT count(*) FILTER (WHERE p) FROM (SELECT v IS TRUE AS p \
                      FROM (VALUES (true), (NULL), (false)) AS t(v))",
                alone: None,
                right: Some(&["1"]),
            },
            Case {
                sql: "SELECT bool_or(p), max(q), count(r) FROM (SELECT v IS NOT NULL AS p, \
                      coalesce(v, false) AS q, v IS DISTINCT FROM true AS r \
                      FROM (VALUES (true), (NULL), (false)) AS t(v))",
                alone: Some(&["true|true|3"]),
                right: Some(&["true|true|3"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn a_filter_stays_above_an_outer_join() {
    check(
        "rules.rs",
        &[
            Case {
                sql: "SELECT t.d, u.w FROM (VALUES ('a')) AS t(d) RIGHT JOIN \
                      (VALUES ('a', 1), ('b', 2)) AS u(d, w) ON t.d = u.d \
                      WHERE substr(t.d, 1, 1) <= 'z' ORDER BY u.w",
                alone: Some(&["a|1", "NULL|2"]),
                right: Some(&["a|1"]),
            },
            Case {
                sql: "SELECT t.w, u.d FROM (VALUES ('a', 1), ('b', 2)) AS t(d, w) LEFT JOIN \
                      (VALUES ('a')) AS u(d) ON t.d = u.d WHERE upper(u.d) = 'A' ORDER BY t.w",
                alone: Some(&["1|a"]),
                right: Some(&["1|a"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn a_filter_through_a_cast_keeps_the_sort() {
    check(
        "opaque.rs",
        &[
            Case {
                sql: "SELECT v FROM (VALUES (5.7), (5.1), (5.4)) AS t(v) \
                      WHERE CAST(v AS BIGINT) = 5 ORDER BY v",
                alone: Some(&["5.7", "5.1", "5.4"]),
                right: Some(&["5.1", "5.4", "5.7"]),
            },
            Case {
                sql: "SELECT v FROM (VALUES (8), (6), (7)) AS t(v) WHERE v / 3 = 2 ORDER BY v",
                alone: Some(&["8", "6", "7"]),
                right: Some(&["6", "7", "8"]),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn a_case_in_a_list_is_computed_for_every_row() {
    check(
        "expressions.rs",
        &[
            Case {
                sql: "SELECT v FROM (VALUES (1, false), (1, true), (2, false)) AS t(v, b) \
                      WHERE 1 IN (CASE WHEN b THEN NULL ELSE v END, NULL)",
                alone: Some(&[]),
                right: Some(&["1"]),
            },
            Case {
                sql: "SELECT 1 IN (v, NULL), 1 NOT IN (v + 1, v + 2), v IN (1, 3, 5) \
                      FROM (VALUES (1), (0)) AS t(v)",
                alone: Some(&["true|true|true", "NULL|false|false"]),
                right: Some(&["true|true|true", "NULL|false|false"]),
            },
        ],
    )
    .await;
}
