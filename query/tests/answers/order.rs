//! Rows in the order that was asked for, whatever the planner thinks of a filter. Must never sort
//! an answer before looking at it.

use crate::ask::{answer, ask};
use crate::predicates::predicate;
use crate::world::{random_rows, states};

/// The same, so that the planner learns nothing from the filter.
fn apart(column: &str, predicate: &str) -> String {
    format!(
        "SELECT v FROM (SELECT * FROM (SELECT {column} AS v, \
         CASE WHEN {predicate} THEN 1 ELSE 0 END AS kept FROM t LIMIT 1000000000) \
         WHERE kept = 1) ORDER BY v"
    )
}

#[tokio::test]
async fn a_filter_through_a_cast_or_a_sum_leaves_the_order_alone() {
    let rows = random_rows(&mut fastrand::Rng::with_seed(7), 600);
    for world in states(&rows) {
        for (column, predicate) in [
            ("f", "CAST(f AS BIGINT) = 5"),
            ("f", "f + 1e300 = 1e300"),
            ("i", "i / 3 = 2"),
            ("i", "CAST(i AS DOUBLE) * 1e-320 = 0"),
            ("time", "time::date = '2026-11-05'"),
            ("time", "CAST(time AS TIMESTAMP(0)) = '2026-11-05'"),
            (
                "time",
                "(time AT TIME ZONE 'Europe/Berlin')::date = '2026-11-05'",
            ),
            ("time", "date_trunc('day', time) = '2026-11-05'"),
            ("time", "time - INTERVAL '1 month' = '2026-10-05'"),
        ] {
            let sql = format!("SELECT {column} FROM t WHERE {predicate} ORDER BY {column}");
            let asked = answer(&world.engine, &sql).await;
            let sorted = answer(&world.engine, &apart(column, predicate)).await;
            assert_eq!(asked, sorted, "{}: {sql}", world.state);
            assert!(asked.len() > 1 || column == "i", "{}: {sql}", world.state);
        }
    }
}

#[tokio::test]
async fn statistics_never_break_the_planner() {
    let mut rows = random_rows(&mut fastrand::Rng::with_seed(3), 40_000);
    rows.sort_by_key(|row| row.time);
    for world in states(&rows) {
        for sql in [
            "SELECT count(*) FROM t WHERE f > 1 AND time::date >= '2026-01-01'",
            "SELECT count(*) FROM t WHERE f > 1 AND time::date <= '2026-11-05'",
            "SELECT count(*) FROM t WHERE i > 1 AND CAST(time AS TIMESTAMP(0)) < '2026-11-05'",
            "SELECT count(*) FROM t AS a JOIN t AS b ON a.time = b.time AND a.i = b.i \
             WHERE a.time::date >= '2026-11-05' AND b.time + INTERVAL '1 day' > a.time",
            "SELECT count(*) FROM (SELECT time FROM t ORDER BY time LIMIT 9) WHERE \
             time::date > '2026-01-01'",
            "SELECT max(d) FROM (SELECT time::date AS d FROM t UNION ALL SELECT time::date FROM k) \
             WHERE d > '2026-01-01'",
        ] {
            answer(&world.engine, sql).await;
        }
    }
}

#[tokio::test]
async fn random_filters_leave_the_order_alone() {
    let seed = std::env::var("HEADWATER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    eprintln!("HEADWATER_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let rows = random_rows(&mut rng, 400);
    let worlds = states(&rows);
    for round in 0..200 {
        let depth = rng.u8(..2);
        let predicate = predicate(&mut rng, depth);
        if predicate.contains("SELECT") {
            continue;
        }
        let column = ["time", "i", "f", "x", "device"][rng.usize(..5)];
        let world = &worlds[round % worlds.len()];
        let sorted = format!("SELECT {column} AS v FROM t WHERE {predicate} ORDER BY {column}");
        let Ok(asked) = ask(&world.engine, &sorted).await else {
            continue;
        };
        let expected = answer(&world.engine, &apart(column, &predicate)).await;
        assert_eq!(asked, expected, "seed {seed}, {}: {sorted}", world.state);
    }
}
