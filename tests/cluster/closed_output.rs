//! Commands whose standard output nobody reads, or that has no room: they do what they are for, and
//! end without a panic. Must never miss a subcommand: those that `--help` tells of are all here.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

use tests::cluster::Cluster;
use tests::http::Http;
use tests::node::{conf, program, run};

/// Runs a command with its standard output at `out`.
fn into(out: impl Into<Stdio>, arguments: &[String]) -> Output {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped());
    command.output().expect("the program runs")
}

/// The names of a command's own commands, as it tells them.
fn subcommands(of: &[&str]) -> BTreeSet<String> {
    let (_, text) = run(&[of, &["--help"]].concat());
    let listed = text.split("Commands:\n").nth(1).unwrap_or_default();
    let listed = listed.lines().take_while(|line| line.starts_with("  "));
    let names = listed.filter_map(|line| {
        let name = line.strip_prefix("  ")?;
        name.starts_with(char::is_alphabetic)
            .then(|| name.split(' ').next())?
    });
    names
        .map(|name| [of, &[name]].concat().join(" "))
        .filter(|name| !name.ends_with("help"))
        .collect()
}

/// What each command is asked, with the code that it ends with.
fn cases(cluster: &Cluster, url: &str, other: &str) -> Vec<(String, i32)> {
    let path = |name: &str| cluster.path(name).display().to_string();
    let (certs, stopped) = (path("more"), path("stopped"));
    let conf = conf("primary.toml").display().to_string();
    let set = format!("--set node.data_dir={} --set", path("none"));
    let set = format!("{set} log.reserve_disk=1MiB --set mqtt.listen=127.0.0.1:0");
    let cases = [
        ("--help", 0),
        ("--version", 0),
        ("quickstart --seconds 1 --devices 1", 0),
        ("serve --help", 0),
        ("check-conf CONF SET", 0),
        (
            "check-conf CONF SET --topic plant/press/1 --payload {\"v\":1}",
            0,
        ),
        ("certs init CERTS", 0),
        ("certs node CERTS n1", 0),
        ("certs revoke CERTS n1", 0),
        ("sql --url URL SELECT+*+FROM+generate_series(1,300000)", 0),
        (
            "sql --url URL --format csv SELECT+*+FROM+generate_series(1,300000)",
            0,
        ),
        ("sql --url URL SELECT+nothing", 1),
        ("status --url URL", 0),
        ("verify --url URL", 0),
        ("verify STOPPED", 0),
        ("verify --url URL --against OTHER", 0),
        ("repair STOPPED", 0),
        ("open STOPPED", 0),
        ("forget --url URL nobody", 1),
        ("table rename-column t v w --url URL", 0),
        ("table change-type t w text --url URL", 0),
        ("table change-role t w tag --url URL", 0),
        ("table rename t u --url URL", 0),
        // None of its rows wait for that.
        ("table expire u --url URL", 1),
        ("table drop u --lose-all-rows --url URL", 0),
        ("dump STOPPED", 0),
        ("dump STOPPED --format csv", 0),
    ];
    let filled = |text: &str| {
        text.replace("CONF", &conf)
            .replace("SET", &set)
            .replace("CERTS", &certs)
            .replace("STOPPED", &stopped)
            .replace("OTHER", other)
            .replace("URL", url)
    };
    cases.map(|(text, code)| (filled(text), code)).to_vec()
}

/// The words of a case; those of a statement are held together by `+`.
fn words(case: &str) -> Vec<String> {
    let words = case
        .split(' ')
        .map(|word| match word.split_once("SELECT+") {
            Some(_) => word.replace('+', " "),
            None => word.to_owned(),
        });
    words.collect()
}

#[test]
fn nobody_reads_what_commands_write() {
    let mut cluster = Cluster::new();
    let node = cluster.primary();
    let http = Http::of(&node);
    let rows: Vec<String> = (0..5_000).map(|n| format!("{{\"v\":{n}}}")).collect();
    let sent = http.send("/api/v1/ingest/t", "application/x-ndjson", &rows.join("\n"));
    assert_eq!(sent.expect("an answer").status, 200);
    let secondary = cluster.secondary("secondary", None);
    let other = Http::of(&secondary);
    // A node's directory for the commands that want it stopped.
    let mut stopped = Cluster::new();
    let own = stopped.primary();
    let sent = Http::of(&own).send("/api/v1/ingest/t", "application/x-ndjson", &rows.join("\n"));
    assert_eq!(sent.expect("an answer").status, 200);
    own.stop();
    std::fs::rename(stopped.path("primary"), cluster.path("stopped")).expect("moves");

    let cases = cases(&cluster, http.url(), other.url());
    let mut all = subcommands(&[]);
    for group in ["certs", "table"] {
        assert!(all.remove(group), "{group} is a command");
        all.extend(subcommands(&[group]));
    }
    for name in &all {
        let asked = cases
            .iter()
            .any(|(case, _)| case.starts_with(name.as_str()));
        assert!(asked, "{name} has no case");
    }
    for (case, code) in &cases {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = into(writer, &words(case));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(*code), "{case}: {said}");
        assert!(!said.contains("panicked"), "{case}: {said}");
        assert!(!said.contains("roken pipe"), "{case}: {said}");
    }
    // What is lost for another reason is told.
    for (case, code) in &cases {
        // Done already, and refused the second time.
        let once = ["certs", "table"].iter().any(|name| case.starts_with(name));
        if once || case.starts_with("quickstart") {
            continue;
        }
        let full = OpenOptions::new().write(true).open("/dev/full");
        let ended = into(full.expect("a device"), &words(case));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let expected = match *code {
            // That would be a difference.
            0 if case.contains("--against") => 2,
            0 => 1,
            code => code,
        };
        assert_eq!(ended.status.code(), Some(expected), "{case}: {said}");
        assert!(!said.contains("panicked"), "{case}: {said}");
        assert!(
            *code != 0 || said.contains("No space left"),
            "{case}: {said}"
        );
    }
}
