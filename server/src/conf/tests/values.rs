//! One test for each kind of value that a conf refuses: sizes, times, numbers, flags, addresses.
//! Must never need a node.

use super::super::ingest::{TIME_RULE, ZONE_RULE};
use super::*;

#[test]
fn size_out_of_range_or_without_unit_is_refused() {
    let rule = "must be a size with its unit, from \"1 KiB\" to \"16 MiB\"";
    for value in [
        "\"2 GiB\"",
        "\"1 B\"",
        "1048576",
        "\"1048576\"",
        "\"a lot\"",
        "true",
    ] {
        assert_eq!(
            refusal(&format!("{PRIMARY}[mqtt]\nmax_packet = {value}\n")),
            [format!("node.toml: mqtt.max_packet = {value}: {rule}")]
        );
    }
    let conf = parse_text(&format!("{PRIMARY}[log]\nsegment_size = \"1 MiB\"\n")).unwrap();
    assert_eq!(primary_of(conf).log.segment_size, 1 << 20);
}

#[test]
fn time_out_of_range_or_without_unit_is_refused() {
    let rule = "must be a time with its unit, from \"0 ms\" to \"1 s\"";
    for value in ["\"2 s\"", "5", "\"5\"", "\"soon\""] {
        assert_eq!(
            refusal(&format!("{PRIMARY}[log]\nmax_group_delay = {value}\n")),
            [format!("node.toml: log.max_group_delay = {value}: {rule}")]
        );
    }
    let conf = parse_text(&format!("{PRIMARY}[log]\nmax_group_delay = \"250 us\"\n")).unwrap();
    assert_eq!(
        primary_of(conf).log.max_group_delay,
        Duration::from_micros(250)
    );
}

#[test]
fn both_roles_keep_their_disk_and_memory() {
    let keys = "[log]\nreserve_disk = \"0 B\"\ncompaction_rate = \"1 MiB\"\nscrub_rate = \"0\"\n\
                create = \"never\"\n";
    let expected = Storage {
        reserve_disk: Some(0),
        compaction_rate: 1 << 20,
        scrub_rate: 0,
        create: Create::Never,
    };
    assert_eq!(
        refusal(&format!("{PRIMARY}[log]\ncreate = \"always\"\n")),
        ["node.toml: log.create = \"always\": must be \"auto\" or \"never\""]
    );
    let conf = parse_text(&format!("{PRIMARY}memory_limit = \"128 MiB\"\n{keys}")).unwrap();
    assert_eq!(conf.node.memory_limit, Some(128 << 20));
    assert_eq!(primary_of(conf).storage, expected);
    let conf = parse_text(&format!("{SECONDARY}{keys}")).unwrap();
    let Role::Secondary(secondary) = conf.role else {
        panic!("a primary");
    };
    assert_eq!(
        (conf.node.memory_limit, secondary.storage),
        (None, expected)
    );
}

#[test]
fn a_zone_is_one_that_there_is() {
    let zone = |name: &str| {
        let text = format!("{PRIMARY}[ingest]\ntime_zone = \"{name}\"\n");
        parse_text(&text).map(|conf| primary_of(conf).ingest.reading.zone)
    };
    assert_eq!(zone("").unwrap(), None);
    for name in ["UTC", "Europe/Berlin", "europe/berlin", "+01:00"] {
        assert_eq!(zone(name).unwrap(), intake::Zone::parse(name), "{name}");
        assert!(zone(name).unwrap().is_some(), "{name}");
    }
    for name in ["Berlin", "local", "+99:00"] {
        assert_eq!(
            refusal(&format!("{PRIMARY}[ingest]\ntime_zone = \"{name}\"\n")),
            [format!(
                "node.toml: ingest.time_zone = \"{name}\": {ZONE_RULE}"
            )]
        );
    }
}

#[test]
fn times_that_rows_may_have_are_a_stretch_between_two_days() {
    let times = |keys: &str| {
        let text = format!("{PRIMARY}[ingest]\n{keys}");
        parse_text(&text).map(|conf| primary_of(conf).ingest.times)
    };
    let second = |time: i64| time / 1_000_000_000;
    let kept = times("min_time = \"1970-01-02\"\nmax_time = \"2000-01-01T01:00:00+01:00\"");
    let kept = kept.unwrap();
    assert_eq!((second(kept.from), second(kept.to)), (86_400, 946_684_800));
    assert_eq!(times("").unwrap(), Ingest::default().times);
    for wrong in [
        "",
        "1700",
        "5",
        "1600-01-01",
        "2300-01-01",
        "1970-01-01T00:00:00",
    ] {
        assert_eq!(
            refusal(&format!("{PRIMARY}[ingest]\nmin_time = \"{wrong}\"\n")),
            [format!(
                "node.toml: ingest.min_time = \"{wrong}\": {TIME_RULE}"
            )]
        );
    }
    let crossed = times("min_time = \"2000-01-01\"\nmax_time = \"2000-01-01\"").unwrap_err();
    assert!(
        crossed
            .to_string()
            .contains("must be later than ingest.min_time")
    );
}

#[test]
fn what_is_advertised_is_a_url() {
    let advertised = |url: &str| {
        let text = format!("{PRIMARY}[cluster]\nadvertise_http = \"{url}\"\n");
        parse_text(&text).map(|conf| primary_of(conf).advertise_http)
    };
    assert_eq!(advertised("").unwrap(), None);
    let url = "https://a.example:7440";
    assert_eq!(advertised(url).unwrap().as_deref(), Some(url));
    for url in ["a.example:7440", "http://", "ftp://a", "http://a b"] {
        let error = advertised(url).unwrap_err().to_string();
        assert!(error.contains("must be a URL"), "{error}");
    }
}

#[test]
fn keeping_no_segments_is_a_choice() {
    let conf = parse_text(&format!("{PRIMARY}[log]\nkeep_segments = \"0 B\"\n")).unwrap();
    assert_eq!(primary_of(conf).log.keep_segments, 0);
    let rule = "must be a size with its unit, from \"0 B\" to \"1 PiB\"";
    assert_eq!(
        refusal(&format!("{PRIMARY}[log]\nkeep_segments = \"\"\n")),
        [format!("node.toml: log.keep_segments = \"\": {rule}")]
    );
}

#[test]
fn disk_settings_out_of_range_are_refused() {
    let rate = "must be a size with its unit, from \"0 B\" to \"1 TiB\"";
    let reserve = &format!("{rate}, or empty");
    for (key, rule) in [
        ("reserve_disk", reserve.as_str()),
        ("compaction_rate", rate),
    ] {
        for value in ["\"2 TiB\"", "\"0\"", "0"] {
            assert_eq!(
                refusal(&format!("{PRIMARY}[log]\n{key} = {value}\n")),
                [format!("node.toml: log.{key} = {value}: {rule}")]
            );
        }
    }
}

#[test]
fn memory_that_is_too_little_is_refused() {
    let rule = "must be a size with its unit, from \"128 MiB\" to \"1 PiB\", or empty";
    for value in ["\"127 MiB\"", "\"half\"", "512"] {
        assert_eq!(
            refusal(&format!("{PRIMARY}memory_limit = {value}\n")),
            [format!("node.toml: node.memory_limit = {value}: {rule}")]
        );
    }
    let rule = "must be a size with its unit, from \"16 MiB\" to \"1 TiB\", or empty";
    assert_eq!(
        refusal(&format!("{SECONDARY}[http]\nmemory_limit = \"1 MiB\"\n")),
        [format!("node.toml: http.memory_limit = \"1 MiB\": {rule}")]
    );
}

#[test]
fn integer_out_of_range_is_refused() {
    let rule = "must be an integer from 1 to 65535";
    for value in ["0", "65536", "-1", "1.5", "\"64\""] {
        assert_eq!(
            refusal(&format!("{PRIMARY}[mqtt]\nmax_inflight = {value}\n")),
            [format!("node.toml: mqtt.max_inflight = {value}: {rule}")]
        );
    }
}

#[test]
fn flag_that_is_none_is_refused() {
    assert_eq!(
        refusal(&format!("{PRIMARY}[mqtt]\ninsecure_anonymous = \"yes\"\n")),
        ["node.toml: mqtt.insecure_anonymous = \"yes\": must be true or false"]
    );
}

#[test]
fn address_that_is_none_is_refused() {
    assert_eq!(
        refusal(&format!("{PRIMARY}[http]\nlisten = \"localhost:7440\"\n")),
        [
            "node.toml: http.listen = \"localhost:7440\": must be an IP address and a port, such as \
          \"127.0.0.1:1883\" or \"[::1]:1883\""
        ]
    );
}

#[test]
fn upstream_without_port_is_refused() {
    for value in ["primary.example", "primary.example:0", ":7441", "a:b"] {
        let text = SECONDARY.replace("10.0.0.1:7441", value);
        assert_eq!(
            refusal(&text),
            [format!(
                "node.toml: replication.upstream = \"{value}\": must be host:port, such as \
                 \"primary.example:7441\", or a list of up to 8 of them"
            )]
        );
    }
}

#[test]
fn hosts_and_origins_are_lists_of_what_browsers_call_them() {
    let http = |keys: &str| {
        let conf = parse_text(&format!("{PRIMARY}[http]\n{keys}\n"));
        conf.map(|conf| primary_of(conf).http.expect("a section"))
    };
    let keys = "allowed_hosts = [\"a.example\", \"*.b.example\", \"*\"]\n\
                allowed_origins = [\"https://c.example:3000\", \"http://[::1]:3000\"]";
    let both = http(keys).unwrap();
    assert_eq!(both.allowed_hosts, ["a.example", "*.b.example", "*"]);
    let origins = ["https://c.example:3000", "http://[::1]:3000"];
    assert_eq!(both.allowed_origins, origins);
    assert_eq!(http("allowed_hosts = []").unwrap(), Http::default());
    for odd in ["a b", "http://a", "a:80", "a/b", "*.", "a.*"] {
        http(&format!("allowed_hosts = [{odd:?}]")).expect_err(odd);
    }
    for odd in [
        "a.example",
        "https://",
        "https://a/",
        "ftp://a",
        "https://a b",
    ] {
        http(&format!("allowed_origins = [{odd:?}]")).expect_err(odd);
    }
}
