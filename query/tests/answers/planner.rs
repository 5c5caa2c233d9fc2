//! Wrong answers of DataFusion's planner that this crate keeps it from. Must never be mended by
//! changing the right answer.

use crate::ask::{answer, ask};
use crate::upstream::{Case, check};
use crate::world::tail;

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

#[tokio::test]
async fn rows_of_values_are_compared_value_by_value() {
    let world = tail(&[]);
    for (sql, expected) in [
        (
            "SELECT (a, b) = (1, c), (a, b) <> (1, c), (a, b) = (3, c), (a, b) < (2, c), \
             (a, b) >= (1, c) FROM (VALUES (1, 2, NULL)) AS t(a, b, c)",
            "NULL|NULL|false|true|NULL",
        ),
        (
            "SELECT (a, b) IN ((1, NULL), (a + 0, b * 1)), (a, b) NOT IN ((1, NULL), (3, 4)), \
             NOT ((a, b) IN ((1, NULL))), (a, b) IS NOT DISTINCT FROM (1, 2), \
             (a, NULL) IS DISTINCT FROM (a, NULL) FROM (VALUES (1, 2)) AS t(a, b)",
            "true|NULL|NULL|true|false",
        ),
        (
            "SELECT (a, upper(b)) BETWEEN (1, 'A') AND (1, 'B'), ((a, b), 1) = ((1, 'b'), 1), \
             (a, NULL) IS NULL, (a, NULL) IS NOT NULL, (NULL, NULL) IS NULL, \
             (1, 'b') = ANY (ARRAY[(a, b), (2, 'c')]) FROM (VALUES (1, 'b')) AS t(a, b)",
            "true|true|false|false|true|true",
        ),
        (
            "SELECT count(*) FROM (VALUES (1, 'x'), (1, NULL), (2, 'y')) AS t(a, b) \
             WHERE NOT ((a, b) = (1, 'x'))",
            "1",
        ),
    ] {
        let rows = answer(&world.engine, sql).await;
        assert_eq!(rows[0].join("|"), expected, "{sql}");
    }
    for sql in [
        "SELECT (1, 2) = (1, 2, 3)",
        "SELECT (1, 2) IN ((1, 2), 3)",
        "SELECT (a, a) IN (SELECT 1, 1) FROM (VALUES (1)) AS t(a)",
    ] {
        let refused = ask(&world.engine, sql).await;
        assert!(
            matches!(refused, Err(query::QueryError::NotSupported(_))),
            "{sql}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn comparisons_that_multiply_in_each_other_are_refused() {
    let world = tail(&[]);
    let rows = |depth: usize| {
        (0..depth).fold("true".to_owned(), |in_it, _| {
            format!("(({in_it}, 2) BETWEEN (false, 1) AND (true, 9))")
        })
    };
    let any = |depth: usize| {
        let items = vec!["true"; 100].join(", ");
        (0..depth).fold("true".to_owned(), |in_it, _| {
            format!("({in_it} = ANY (ARRAY[{items}]))")
        })
    };
    for (small, large) in [(rows(3), rows(11)), (any(1), any(6))] {
        ask(&world.engine, &format!("SELECT {small}"))
            .await
            .expect("a few");
        let refused = ask(&world.engine, &format!("SELECT {large}")).await;
        let refused = refused.expect_err("they would fill the memory").to_string();
        assert!(refused.contains("fewer of them"), "{refused}");
    }
}

#[tokio::test]
async fn a_chain_of_divisions_is_not_longer_with_its_guards() {
    let world = tail(&[]);
    let divisions: Vec<String> = (1..60).map(|n| format!("{n} / i >= 0")).collect();
    for (sql, expected) in [
        (format!("i <> 0 AND {}", divisions.join(" AND ")), "2"),
        (format!("i = 0 OR {}", divisions.join(" OR ")), "3"),
        (
            "i IN (SELECT 1) AND random() < 2 AND i > 0 AND 3 / i = 3".to_owned(),
            "1",
        ),
    ] {
        let sql = format!("SELECT count(*) FROM (VALUES (0), (1), (2)) AS t(i) WHERE {sql}");
        assert_eq!(answer(&world.engine, &sql).await, [[expected]], "{sql}");
    }
}

#[tokio::test]
async fn the_first_rows_of_a_union_are_those_of_the_whole_key() {
    let world = tail(&[]);
    let rows = "(SELECT value AS id FROM generate_series(1, 20000))";
    for (sql, expected) in [
        (
            format!(
                "SELECT id, 1 AS kind FROM {rows} UNION ALL \
                 SELECT id, 2 FROM {rows} WHERE id > 9000 ORDER BY kind DESC, id LIMIT 2"
            ),
            "9001|2 9002|2",
        ),
        (
            format!(
                "SELECT id, 'a' AS kind FROM {rows} UNION ALL SELECT id, 'b' FROM {rows} \
                 WHERE id % 7000 = 6999 UNION ALL SELECT id, NULL FROM {rows} WHERE id = 12345 \
                 ORDER BY kind DESC NULLS FIRST, id DESC LIMIT 3"
            ),
            "12345|NULL 13999|b 6999|b",
        ),
    ] {
        let rows = answer(&world.engine, &sql).await;
        let rows: Vec<String> = rows.iter().map(|row| row.join("|")).collect();
        assert_eq!(rows.join(" "), expected, "{sql}");
    }
}

#[tokio::test]
async fn what_cannot_be_cast_is_not_distinct_from_null() {
    let world = tail(&[]);
    let sql = "SELECT count(*) FILTER (WHERE TRY_CAST(x AS BIGINT) IS DISTINCT FROM (-NULL::bigint)), \
               count(*) FILTER (WHERE TRY_CAST(x AS BIGINT) IS NOT DISTINCT FROM NULL), \
               count(*) FILTER (WHERE NULL::date IS DISTINCT FROM TRY_CAST(x AS DATE)), \
               count(*) FILTER (WHERE TRY_CAST(x AS BIGINT) IS DISTINCT FROM 7) \
               FROM (SELECT repeat(v, 1) AS x FROM (VALUES ('a'), ('7'), (' 7'), (NULL)) AS t(v))";
    assert_eq!(answer(&world.engine, sql).await, [["2", "2", "0", "2"]]);
}
