//! A wall clock that is wrong, or is set back: a row must never be hidden by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::cluster::{Cluster, catch_up};
use tests::http::Http;
use tests::node::{Node, Place};
use tests::{digest, eventually};

use crate::field::{holds, publish};
use crate::healing::upstream;

/// A library that, loaded before all others, sets the wall clock of a process ahead.
fn clock_ahead(cluster: &Cluster) -> PathBuf {
    const SOURCE: &str = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdlib.h>
        #include <time.h>
        int clock_gettime(clockid_t id, struct timespec *t) {
            static int (*real)(clockid_t, struct timespec *);
            if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
            const char *ahead = getenv("CLOCK_AHEAD_S");
            int result = real(id, t);
            if (result == 0 && id == CLOCK_REALTIME && ahead) t->tv_sec += atol(ahead);
            return result;
        }
    "#;
    let (source, library) = (cluster.path("clock.c"), cluster.path("clock.so"));
    fs::write(&source, SOURCE).expect("writes");
    // Whoever has linked this test has it.
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl");
    let output = compiler.output().expect("cc runs");
    assert!(output.status.success(), "{output:?}");
    library
}

fn ahead(library: &Path, by: Duration) -> Place {
    let variable = |name: &str, value: String| (name.to_owned(), value);
    Place {
        environment: vec![
            variable("LD_PRELOAD", library.display().to_string()),
            variable("CLOCK_AHEAD_S", by.as_secs().to_string()),
        ],
        ..Place::default()
    }
}

#[test]
fn a_clock_that_was_set_back_hides_no_row_from_a_secondary() {
    const HOURS: Duration = Duration::from_secs(7200);
    let mut cluster = Cluster::new();
    let library = clock_ahead(&cluster);
    cluster.place("primary", ahead(&library, HOURS));
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    publish(&cluster, 0..100, 0);
    catch_up(&primary, &secondary);
    let committed = Http::of(&secondary).status()["committed_unix_ms"].as_u64();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let committed = Duration::from_millis(committed.unwrap_or(0));
    assert!(
        committed > now + HOURS / 2,
        "the clock was not ahead: {committed:?}"
    );

    // Two hours back, and the log is of the future.
    primary.kill();
    cluster.place("primary", Place::default());
    let primary = cluster.primary();
    publish(&cluster, 100..200, 0);
    catch_up(&primary, &secondary);
    holds(&secondary, 200);
    secondary.kill();
    publish(&cluster, 200..300, 0);
    let secondary = cluster.secondary("secondary", None);
    catch_up(&primary, &secondary);
    eventually("it follows, and says so", || match upstream(&secondary) {
        upstream if upstream["state"] == "streaming" && upstream["lag_rows"] == 0 => Ok(()),
        upstream => Err(upstream),
    });

    // And ahead again.
    primary.stop();
    cluster.place("primary", ahead(&library, HOURS));
    let primary = cluster.primary();
    publish(&cluster, 300..400, 0);
    catch_up(&primary, &secondary);
    holds(&primary, 400);
    holds(&secondary, 400);
    digest::equal(&Http::of(&primary), &Http::of(&secondary));
}

#[test]
fn a_clock_that_jumps_ahead_expires_nothing_however_the_node_is_started() {
    const JUMP: Duration = Duration::from_secs(40 * 86_400);
    let mut cluster = Cluster::new();
    cluster.declare("[[table]]\nname = \"load\"\nretention = \"30 days\"");
    let library = clock_ahead(&cluster);
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    publish(&cluster, 0..100, 0);
    catch_up(&primary, &secondary);
    let cuts = |node: &Node| {
        let cuts = Http::of(node).metric("headwater_log_retention_cuts_total");
        cuts.unwrap_or_default()
    };
    eventually("the clock is believed", || {
        if cuts(&primary) > 0.0 {
            Ok(())
        } else {
            Err("no cut")
        }
    });
    primary.kill();

    // Rows of a wrong clock, and a crash right behind them.
    cluster.place("primary", ahead(&library, JUMP));
    for round in 1..3 {
        let primary = cluster.primary();
        publish(&cluster, round * 100..(round + 1) * 100, 0);
        eventually("it is told", || {
            let waiting = Http::of(&primary).status()["waiting_cuts"][0].clone();
            match (waiting["table"].as_str(), waiting["left_s"].as_u64()) {
                (Some("load"), Some(left)) if left > 80_000 => Ok(()),
                _ => Err(waiting),
            }
        });
        assert_eq!(cuts(&primary), 0.0);
        catch_up(&primary, &secondary);
        holds(&primary, (round + 1) * 100);
        holds(&secondary, (round + 1) * 100);
        primary.kill();
    }

    // Set right: rows of now are taken and seen.
    cluster.place("primary", Place::default());
    let primary = cluster.primary();
    publish(&cluster, 300..400, 0);
    catch_up(&primary, &secondary);
    holds(&primary, 400);
    holds(&secondary, 400);
    assert_eq!(
        Http::of(&primary).metric("headwater_log_waiting_cuts"),
        Some(0.0)
    );
}
