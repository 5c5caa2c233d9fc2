//! What a scan leaves out: never a row that a filter lets through. Must never fail by chance: a
//! failure names its seed, and `HEADWATER_SEED` brings it back.

use query::QueryError;

use crate::ask::{answer, ask};
use crate::predicates::predicate;
use crate::world::{Made, World, random_rows, states};

fn seed() -> u64 {
    std::env::var("HEADWATER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..))
}

fn at(text: &str) -> i64 {
    let nanos = match text {
        "2026-11-05T12:00:00Z" => 1_793_880_000,
        "2026-11-06T03:00:00Z" => 1_793_934_000,
        "2026-11-05T03:00:00Z" => 1_793_847_600,
        other => panic!("{other}"),
    };
    nanos * 1_000_000_000
}

/// Rows counted by a filter, and by looking at each.
async fn counted(world: &World, table: &str, predicate: &str) -> Result<[String; 2], QueryError> {
    let sql = format!(
        "SELECT (SELECT count(*) FROM {table} AS t WHERE {predicate}) AS filtered, \
         (SELECT count(*) FILTER (WHERE {predicate}) FROM {table} AS t) AS looked"
    );
    // A subquery may only stand in WHERE.
    let sql = if predicate.contains("SELECT") {
        format!(
            "SELECT (SELECT count(*) FROM {table} AS t WHERE {predicate}) AS filtered, \
             (SELECT count(*) FROM (SELECT * FROM {table} LIMIT 1000000000) AS t \
             WHERE {predicate}) AS looked"
        )
    } else {
        sql
    };
    let rows = ask(&world.engine, &sql).await?;
    Ok([rows[0][0].clone(), rows[0][1].clone()])
}

#[tokio::test]
async fn local_days_keep_their_rows() {
    let rows: Vec<Made> = [
        "2026-11-05T12:00:00Z",
        "2026-11-06T03:00:00Z",
        "2026-11-05T03:00:00Z",
    ]
    .into_iter()
    .map(|text| Made {
        time: at(text),
        tags: Vec::new(),
        fields: vec![("v", wal::Value::Int(1))],
    })
    .collect();
    for world in states(&rows) {
        for (predicate, expected) in [
            (
                "(time AT TIME ZONE 'America/New_York')::date = '2026-11-05'",
                "2",
            ),
            (
                "(time AT TIME ZONE 'America/New_York')::date = '2026-11-04'",
                "1",
            ),
            (
                "(time AT TIME ZONE 'Pacific/Kiritimati')::date = '2026-11-06'",
                "2",
            ),
            (
                "(time AT TIME ZONE 'Etc/GMT+12')::date <= '2026-11-04'",
                "1",
            ),
            (
                "to_local_time(time AT TIME ZONE 'America/New_York')::date = '2026-11-05'",
                "2",
            ),
            (
                "CAST(time::timestamp AT TIME ZONE 'America/New_York' AS TIMESTAMP(3)) >= \
                 '2026-11-05T17:00:00'",
                "2",
            ),
        ] {
            let counts = counted(&world, "t", predicate).await.expect(predicate);
            assert_eq!(counts, [expected, expected], "{}: {predicate}", world.state);
        }
    }
}

#[tokio::test]
async fn the_other_count_is_not_pushed_into_the_scan() {
    let rows = random_rows(&mut fastrand::Rng::with_seed(1), 10);
    let worlds = states(&rows);
    let sql = "EXPLAIN SELECT count(*) FILTER (WHERE time < '2026-01-01' AND device = 'd1') FROM t";
    let plan = format!("{:?}", answer(&worlds[0].engine, sql).await);
    assert!(
        plan.contains("pruned=0") && !plan.contains("partial_filters"),
        "{plan}"
    );
}

#[tokio::test]
async fn a_filter_and_a_look_at_every_row_count_the_same() {
    let seed = seed();
    eprintln!("HEADWATER_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let rows = random_rows(&mut rng, 1_500);
    let worlds = states(&rows);
    let mut refused = 0;
    for _ in 0..PREDICATES {
        let depth = rng.u8(..3);
        let predicate = predicate(&mut rng, depth);
        let mut all = Vec::new();
        for world in &worlds {
            for table in ["t", "k"] {
                match counted(world, table, &predicate).await {
                    Ok([filtered, looked]) => {
                        let (state, note) = (world.state, format!("seed {seed}"));
                        assert_eq!(filtered, looked, "{note}, {state}, {table}: {predicate}");
                        all.push((table, filtered));
                    }
                    // Rows that break it may be told or not, as the order of tests goes.
                    Err(
                        QueryError::Execution(_)
                        | QueryError::Plan(_)
                        | QueryError::NotSupported(_),
                    ) => refused += 1,
                    Err(error) => panic!("seed {seed}, {}: {predicate}: {error:?}", world.state),
                }
            }
        }
        for table in ["t", "k"] {
            let mut counts = all.iter().filter(|(of, _)| *of == table);
            if let Some(first) = counts.next() {
                assert!(
                    counts.all(|next| next == first),
                    "seed {seed}: {predicate}: {all:?}"
                );
            }
        }
    }
    let asked = PREDICATES * worlds.len() * 2;
    assert!(
        refused * 2 < asked,
        "seed {seed}: {refused} of {asked} refused"
    );
}

const PREDICATES: usize = 600;
