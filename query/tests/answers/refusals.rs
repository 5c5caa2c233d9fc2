//! What a refused statement is told. Must never be sent to the engine's authors.

use std::borrow::Cow;

use wal::Value;

use crate::ask::ask;
use crate::world::{Made, tail};

#[tokio::test]
async fn no_function_over_any_type_speaks_of_the_engine() {
    let row = Made {
        time: 1_793_836_800_000_000_000,
        tags: vec![("site", "north".to_owned())],
        fields: vec![
            ("value", Value::Text(Cow::Borrowed("7"))),
            ("i", Value::Int(1)),
            ("f", Value::Float(1.5)),
            ("b", Value::Bool(true)),
        ],
    };
    let world = tail(&[("t", &[row])]);
    let arguments = [
        "value",
        "site",
        "i",
        "f",
        "b",
        "time",
        "NULL",
        "[1]",
        "time::date",
    ];
    for function in FUNCTIONS {
        for argument in arguments {
            for call in [
                format!("{function}({argument})"),
                format!("{function}({argument}, i)"),
            ] {
                let sql = format!("SELECT {call} FROM t");
                let Err(error) = ask(&world.engine, &sql).await else {
                    continue;
                };
                let told = error.to_string();
                for word in ["DataFusion", "bug", "Utf8", "Internal error", "Physical"] {
                    assert!(!told.contains(word), "{sql}: {told}");
                }
                assert!(
                    !matches!(error, query::QueryError::Internal(_)),
                    "{sql}: {told}"
                );
            }
        }
    }
    let told = ask(&world.engine, "SELECT avg(value) FROM t").await;
    let told = told.expect_err("a text").to_string();
    assert!(
        told.ends_with("value is text: avg(TRY_CAST(value AS DOUBLE))"),
        "{told}"
    );
}

#[tokio::test]
async fn subqueries_in_the_wrong_place_are_told_the_right_one() {
    let world = tail(&[]);
    for sql in [
        "SELECT v IN (SELECT 1) FROM (VALUES (1)) AS t(v)",
        "SELECT * FROM (VALUES (1)) AS t(v) LEFT JOIN (VALUES (1)) AS u(w) ON v IN (SELECT 1)",
    ] {
        let error = ask(&world.engine, sql).await.expect_err(sql);
        assert!(
            matches!(error, query::QueryError::NotSupported(_)),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("WHERE, HAVING and QUALIFY"),
            "{error}"
        );
    }
}

const FUNCTIONS: &[&str] = &[
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "stddev",
    "var_pop",
    "median",
    "approx_median",
    "approx_distinct",
    "bool_and",
    "bit_and",
    "bit_xor",
    "array_agg",
    "first_value",
    "corr",
    "string_agg",
    "approx_percentile_cont",
    "regr_slope",
    "abs",
    "sqrt",
    "round",
    "upper",
    "length",
    "to_timestamp",
    "date_trunc",
    "date_part",
    "power",
    "atan2",
    "substr",
    "log",
    "repeat",
    "left",
    "concat",
    "nullif",
    "coalesce",
    "greatest",
    "to_char",
    "regexp_match",
];
