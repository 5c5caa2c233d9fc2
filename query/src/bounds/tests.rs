//! Every function that grows has a bound, and every bound holds. Must never make a large value.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::{SessionStateBuilder, SessionStateDefaults};
use datafusion::prelude::SessionContext;

use super::estimate::Estimate;
use super::rule::{BoundFunctions, Functions};
use crate::error::QueryError;

fn context(memory: usize) -> SessionContext {
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory));
    let scalars = SessionStateDefaults::default_scalar_functions();
    let aggregates = SessionStateDefaults::default_aggregate_functions();
    let functions = Arc::new(Functions::of(&scalars, &aggregates, &pool));
    let scalars = scalars.into_iter().map(|f| functions.scalar(f)).collect();
    let aggregates = aggregates.into_iter();
    let aggregates = aggregates.map(|f| functions.aggregate(f)).collect();
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_scalar_functions(scalars)
        .with_aggregate_functions(aggregates)
        .with_analyzer_rule(Arc::new(BoundFunctions(functions)))
        .build();
    SessionContext::new_with_state(state)
}

async fn answer(context: &SessionContext, sql: &str) -> Result<String, DataFusionError> {
    let batches = context.sql(sql).await?.collect().await?;
    let text = arrow::util::pretty::pretty_format_batches(&batches)?.to_string();
    let rows = text.lines().skip(3).filter(|line| line.starts_with('|'));
    let values = rows.map(|line| line.trim_matches(['|', ' ']).to_owned());
    Ok(values.collect::<Vec<_>>().join(","))
}

async fn refused(context: &SessionContext, sql: &str, function: &str) {
    let error = answer(context, sql).await.expect_err(sql);
    match QueryError::from_datafusion(&error, sql) {
        QueryError::ValueTooLarge { function: by, .. } => assert_eq!(by, function, "{sql}"),
        QueryError::Memory(text) => assert!(text.contains(function), "{sql}: {text}"),
        other => panic!("{sql}: {other}"),
    }
}

#[tokio::test]
async fn constants_and_columns_are_refused_by_name() {
    let context = context(64 << 20);
    for (function, call) in TOO_LARGE {
        refused(
            &context,
            &format!("SELECT {call} FROM generate_series(1, 1) AS t(value)"),
            function,
        )
        .await;
        // Also what planning computes.
        if !call.contains("value") {
            let hidden = format!("SELECT 1 WHERE ({call}) IS NULL");
            refused(&context, &hidden, function).await;
        }
    }
}

#[tokio::test]
async fn a_batch_of_large_values_is_refused_too() {
    let context = context(64 << 20);
    let from = "FROM generate_series(1, 8192) AS t(value)";
    let sql = format!("SELECT max(length(repeat('x', 1000000 + value))) {from}");
    refused(&context, &sql, "repeat").await;
    let sql = format!("SELECT max(length(repeat('x', 20000 + value))) {from}");
    refused(&context, &sql, "repeat").await;
    let sql = format!("SELECT max(length(repeat('x', 200 + value % 2))) {from}");
    assert_eq!(answer(&context, &sql).await.expect(&sql), "201");
}

#[tokio::test]
async fn aggregates_and_windows_have_bounds() {
    let context = context(64 << 20);
    let from = "FROM generate_series(1, 3000000) AS t(value)";
    refused(
        &context,
        &format!("SELECT array_agg(value) {from}"),
        "array_agg",
    )
    .await;
    let sql = format!("SELECT string_agg(value::text, ',') {from}");
    refused(&context, &sql, "string_agg").await;
    let sql = format!("SELECT value % 1, array_length(array_agg(value)) {from} GROUP BY 1");
    refused(&context, &sql, "array_agg").await;
    let few = "FROM generate_series(1, 20000) AS t(value)";
    for call in ["array_agg(value)", "string_agg(value::text, ',')"] {
        let function = call.split('(').next().expect("a name");
        let sql = format!("SELECT count(a) FROM (SELECT {call} OVER (ORDER BY value) AS a {few})");
        refused(&context, &sql, function).await;
    }
    let sql = "SELECT arrow_cast(NULL, 'FixedSizeBinary(2000000000)')";
    refused(&context, sql, "arrow_cast").await;
    let sql = "SELECT approx_percentile_cont(value, 0.5, 2000000000) FROM range(1, 9)";
    refused(&context, sql, "approx_percentile_cont").await;
}

#[tokio::test]
async fn what_is_small_is_answered_as_ever() {
    let context = context(64 << 20);
    for (call, expected) in [
        ("length(repeat('x', 10000000))", "10000000"),
        ("repeat('ab', 3)", "ababab"),
        ("repeat('ab', -3)", ""),
        ("lpad('x', 3, 'ü')", "üüx"),
        ("'a' || 'b' || NULL", ""),
        ("'a' || 1 || 'b'", "a1b"),
        ("concat('a', NULL, 1)", "a1"),
        ("concat_ws('-', 'a', NULL, 'b')", "a-b"),
        ("overlay('abcdef' placing 'zz' from 2 for 1)", "azzcdef"),
        ("replace('abab', 'a', 'xyz')", "xyzbxyzb"),
        ("[1, 2] || [3]", "[1, 2, 3]"),
        ("array_length(range(0, 1000000))", "1000000"),
        ("array_to_string([1, NULL, 3], '-', '*')", "1-*-3"),
        ("generate_series(1, 3)", "[1, 2, 3]"),
        ("array_repeat(1, 3)", "[1, 1, 1]"),
        ("string_to_array('a,b', ',')", "[a, b]"),
        ("'abc' ~ 'b'", "true"),
        ("'abc' ~ repeat('b', 2)", "false"),
        ("'ab' !~* upper('b')", "false"),
        ("'aXb' LIKE 'a' || '_' || 'b'", "true"),
        ("NULL LIKE repeat('_a', 10)", ""),
        ("regexp_like('abc', 'B', 'i')", "true"),
        ("regexp_count('abcabc', 'b')", "2"),
        (
            "length(regexp_replace(repeat('ab', 1000000), 'b', 'cc', 'g'))",
            "3000000",
        ),
        ("repeat('ab', 1000000) ~ '^(\\w+-)*x$'", "false"),
    ] {
        let sql = format!("SELECT {call}");
        assert_eq!(answer(&context, &sql).await.expect(&sql), expected, "{sql}");
    }
    let from = "FROM generate_series(1, 3) AS t(value)";
    for (call, expected) in [
        ("sum((('a' || value) ~ (value || '$'))::int)", "3"),
        ("sum((('a' || value) LIKE ('%_' || value))::int)", "3"),
        ("array_agg(value)", "[1, 2, 3]"),
        ("array_agg(value ORDER BY value DESC)", "[3, 2, 1]"),
        ("string_agg(value::text, '+' ORDER BY value)", "1+2+3"),
        ("string_agg(value::text || 'x', '+')", "1x+2x+3x"),
        ("array_agg(DISTINCT value % 1)", "[0]"),
    ] {
        let sql = format!("SELECT {call} {from}");
        assert_eq!(answer(&context, &sql).await.expect(&sql), expected, "{sql}");
    }
    let sql = format!(
        "SELECT value::text || 'a' AS k, count(*) {from} GROUP BY value::text || 'a' ORDER BY 1 LIMIT 1"
    );
    assert_eq!(answer(&context, &sql).await.expect(&sql), "1a | 1");
}

/// A function that an upgrade brings is looked at before it is let in.
#[test]
fn every_function_is_known_to_grow_or_not_to() {
    let scalars = SessionStateDefaults::default_scalar_functions();
    let mut strange: Vec<&str> = scalars
        .iter()
        .map(|function| function.name())
        .filter(|name| {
            Estimate::of(name).is_none()
                && !NOT_LARGER
                    .split_ascii_whitespace()
                    .any(|known| known == *name)
        })
        .collect();
    strange.sort_unstable();
    assert!(strange.is_empty(), "{strange:?}");
    let aggregates = SessionStateDefaults::default_aggregate_functions();
    let aggregates = aggregates.len();
    assert_eq!(aggregates, 39, "aggregates came or went");
}

/// Functions, and calls that make too much.
const TOO_LARGE: &[(&str, &str)] = &[
    ("~", "repeat('ab', 100000) ~ '(a|b)*a(a|b){5000}'"),
    ("!~", "repeat('ab', 100000) !~ '(a|b)*a(a|b){5000}'"),
    ("~*", "repeat('ab', 100000) ~* '(a|b)*a(a|b){5000}'"),
    ("!~*", "repeat('ab', 100000) !~* '(a|b)*a(a|b){5000}'"),
    ("~", "'x' ~ repeat('x', 100000)"),
    ("~", "'x' ~ repeat('\\w', 5000)"),
    (
        "LIKE",
        "repeat('ab', 1000000) LIKE '%a__________________b%'",
    ),
    (
        "ILIKE",
        "repeat('ab', 1000000) ILIKE '%a__________________b%'",
    ),
    (
        "NOT LIKE",
        "repeat('ab', 1000000) NOT LIKE '%a__________________b%'",
    ),
    (
        "NOT ILIKE",
        "repeat('ab', 1000000) NOT ILIKE '%a__________________b%'",
    ),
    ("LIKE", "'x' LIKE repeat('x%', 100000)"),
    (
        "regexp_like",
        "regexp_like(repeat('ab', 100000), '(a|b)*a(a|b){5000}')",
    ),
    (
        "regexp_count",
        "regexp_count(repeat('a', 100000), 'a.*x|a')",
    ),
    (
        "regexp_instr",
        "regexp_instr(repeat('a', 100000), 'a.*x|a')",
    ),
    (
        "regexp_match",
        "regexp_match(repeat('ab', 100000), '(a|b)*a(a|b){5000}')",
    ),
    (
        "regexp_replace",
        "regexp_replace(repeat('a', 100000), 'a.*x|a', 'b', 'g')",
    ),
    ("repeat", "repeat('x', 2000000000)"),
    ("repeat", "repeat('x', value * 2000000000)"),
    ("lpad", "lpad('x', 2000000000)"),
    ("rpad", "rpad('x', 20000000, 'ab')"),
    (
        "replace",
        "replace(repeat('x', 1000000), 'x', repeat('y', 1000))",
    ),
    (
        "replace",
        "replace(repeat('x', 1000000), '', repeat('y', 1000))",
    ),
    (
        "concat",
        "concat(repeat('x', 10000000), repeat('y', 10000000))",
    ),
    ("||", "repeat('x', 10000000) || repeat('y', 10000000)"),
    (
        "concat_ws",
        "concat_ws(repeat('x', 10000000), 'a', 'b', 'c')",
    ),
    (
        "overlay",
        "overlay(repeat('x', 10000000) placing repeat('y', 10000000) from 1)",
    ),
    ("translate", "translate(repeat('x', 10000000), 'x', '€')"),
    (
        "regexp_replace",
        "regexp_replace(repeat('x', 1000000), 'x', repeat('y', 1000), 'g')",
    ),
    (
        "regexp_match",
        "regexp_match(repeat('x', 1000000), repeat('(', 30) || 'x' || repeat(')', 30))",
    ),
    ("to_char", "to_char(now(), repeat('%c', 5000000))"),
    ("array_repeat", "array_repeat(1, 2000000000)"),
    ("array_repeat", "array_repeat(NULL, 2000000000)"),
    ("array_resize", "array_resize([1], 2000000000, 0)"),
    (
        "array_concat",
        "array_concat(range(0, 1500000), range(0, 1500000))",
    ),
    (
        "array_append",
        "array_append([repeat('x', 10000000)], repeat('x', 10000000))",
    ),
    (
        "make_array",
        "[repeat('x', 10000000), repeat('x', 10000000)]",
    ),
    (
        "array_replace_all",
        "array_replace_all(array_repeat('x', 10000), 'x', repeat('y', 10000))",
    ),
    (
        "array_to_string",
        "array_to_string(range(0, 1000000), repeat('y', 1000))",
    ),
    (
        "string_to_array",
        "string_to_array(repeat('x,', 5000000), ',')",
    ),
    ("generate_series", "generate_series(1, 3000000000)"),
    ("range", "range(0, 3000000000)"),
    ("range", "range(0, -3000000000, -1)"),
    (
        "generate_series",
        "generate_series('2000-01-01'::timestamp, '2030-01-01'::timestamp, INTERVAL '1 second')",
    ),
    (
        "levenshtein",
        "levenshtein(repeat('x', 1000000), repeat('y', 1000000))",
    ),
    (
        "named_struct",
        "named_struct('a', repeat('x', 10000000), 'b', repeat('x', 10000000))",
    ),
];

/// What these make is no larger than a small multiple of their arguments.
const NOT_LARGER: &str = "\
    abs acos acosh array_add array_any_value array_avg array_compact array_dims \
    array_distance array_distinct array_element array_except array_has array_has_all \
    array_has_any array_intersect array_length array_max array_min array_ndims \
    array_normalize array_pop_back array_pop_front array_position array_positions \
    array_product array_remove array_remove_all array_remove_n array_reverse array_scale \
    array_slice array_sort array_subtract array_sum arrow_cast arrow_field arrow_metadata \
    arrow_try_cast arrow_typeof ascii asin asinh atan atan2 atanh bit_length btrim \
    cardinality cast_to_type cbrt ceil character_length chr coalesce contains cos cosh \
    cosine_distance cot current_date current_time date_bin date_part date_trunc decode \
    degrees empty encode ends_with exp factorial file_row_index find_in_set flatten floor \
    from_unixtime gcd get_field initcap inner_product input_file_name isnan iszero lcm left \
    ln log log10 log2 lower ltrim make_date make_time map_entries map_extract map_keys \
    map_values nanvl now nullif nvl octet_length pi power radians random reverse right round rtrim signum sin sinh split_part sqrt \
    starts_with strpos substr substr_index tan tanh to_date timezone to_hex to_local_time to_time \
    to_timestamp to_timestamp_micros to_timestamp_millis to_timestamp_nanos \
    to_timestamp_seconds to_unixtime trunc try_cast_to_type union_extract union_tag upper \
    uuid version with_metadata";
