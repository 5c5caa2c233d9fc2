//! One test for each way a conf is refused, and for what the shipped files say. Must never need a
//! node.

mod values;

use super::*;

fn parse_text(text: &str) -> Result<Conf, ConfError> {
    parse("node.toml", text, [], &[])
}

/// The lines of the refusal of `text`.
fn refusal(text: &str) -> Vec<String> {
    let error = parse_text(text).expect_err("this conf must be refused");
    error.to_string().lines().map(str::to_owned).collect()
}

fn primary_of(conf: Conf) -> Primary {
    match conf.role {
        Role::Primary(primary) => primary,
        Role::Secondary(_) => panic!("a secondary"),
    }
}

#[test]
fn a_primary_needs_nothing_but_its_role() {
    let conf = parse_text(PRIMARY).unwrap();
    assert_eq!(conf.node.data_dir, PathBuf::from("data"));
    assert!(!conf.node.name.is_empty());
    assert_eq!(primary_of(conf), Primary::default());
}

#[test]
fn a_secondary_needs_three_keys() {
    let conf = parse_text(SECONDARY).unwrap();
    let upstreams = vec!["10.0.0.1:7441".to_owned()];
    let expected = Secondary {
        following: Following::new(upstreams, PathBuf::from("certs/b")),
        storage: Storage::default(),
        http: Http::default(),
    };
    assert_eq!(conf.role, Role::Secondary(expected));
    assert_eq!(
        refusal("[node]\nrole = \"secondary\"\n"),
        [
            "node.toml: replication.upstream is missing: a secondary needs its primary's \
             host:port, such as \"primary.example:7441\"",
            "node.toml: replication.certs is missing: a secondary needs the directory that \
             `headwater certs node` made for it",
        ]
    );
}

#[test]
fn every_key_can_be_given_by_the_environment() {
    for key in all_keys() {
        let Some((section, _)) = key.split_once('.') else {
            continue;
        };
        let variable = format!("HEADWATER_{}", key.replacen('.', "_", 1).to_uppercase());
        for text in [PRIMARY, SECONDARY] {
            let given = [(variable.clone(), "\u{7}".to_owned())];
            let told = parse("node.toml", text, given, &[]).map_err(|error| error.to_string());
            let unknown = told.is_err_and(|told| told.contains("is unknown"));
            assert!(!unknown, "{variable}");
        }
        if section != "node" {
            let empty = parse_text(&format!("{PRIMARY}[{section}]\n"));
            assert!(empty.is_ok(), "{section}: {empty:?}");
        }
    }
}

#[test]
fn conf_files_equal_defaults() {
    let file = include_str!("../../../../conf/primary.toml");
    let minimal = format!("{PRIMARY}[http]\n");
    assert_eq!(parse_text(file), parse_text(&minimal));

    let file = include_str!("../../../../conf/secondary.toml");
    let minimal = "[node]\nrole = \"secondary\"\n[replication]\n\
                   upstream = \"primary.example:7441\"\ncerts = \"certs/secondary-1\"\n";
    assert_eq!(parse_text(file), parse_text(minimal));

    let file = include_str!("../../../../conf/relay.toml");
    let minimal = "[node]\nrole = \"secondary\"\n[replication]\n\
                   upstream = [\"primary.example:7441\", \"relay-2.example:7441\"]\n\
                   certs = \"certs/relay-1\"\nlisten = \"127.0.0.1:7441\"\n";
    assert_eq!(parse_text(file), parse_text(minimal));
}

#[test]
fn conf_files_show_every_key() {
    let files = [
        (
            include_str!("../../../../conf/primary.toml"),
            RoleName::Primary,
        ),
        (
            include_str!("../../../../conf/secondary.toml"),
            RoleName::Secondary,
        ),
        (
            include_str!("../../../../conf/relay.toml"),
            RoleName::Secondary,
        ),
    ];
    for (file, role) in files {
        let source = Source::parse("conf", file).unwrap();
        let other = match role {
            RoleName::Primary => RoleName::Secondary,
            RoleName::Secondary => RoleName::Primary,
        };
        let mut known = other_keys(Some(other));
        known.extend([
            "node.name",
            "node.role",
            "node.data_dir",
            "node.memory_limit",
        ]);
        // Lists have no default to show; the examples in them have their own test.
        for list in source::LISTS {
            known.remove(list);
        }
        let written: BTreeSet<&str> = source.entries.keys().map(String::as_str).collect();
        assert_eq!(written, known, "{role}");
    }
}

#[test]
fn unreadable_file_is_named() {
    let error = load(Path::new("/nowhere/node.toml"), &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/node.toml: cannot be read: "),
        "{error}"
    );
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    let lines = refusal("[node]\nrole = \"primary\nname = 1\n");
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("node.toml:2: is not TOML: "),
        "{lines:?}"
    );
}

#[test]
fn role_is_required_and_checked() {
    let rule = "must be \"primary\" or \"secondary\"";
    assert_eq!(
        refusal(""),
        [format!("node.toml: node.role is missing: {rule}")]
    );
    assert_eq!(
        refusal("[node]\nrole = \"leader\"\n"),
        [format!("node.toml: node.role = \"leader\": {rule}")]
    );
    assert_eq!(
        refusal("[node]\nrole = 1\n"),
        ["node.toml: node.role = 1: must be a text"]
    );
}

#[test]
fn name_is_checked() {
    assert_eq!(
        refusal(&format!("{PRIMARY}name = \"a\\tb\"\n")),
        ["node.toml: node.name = \"a\\tb\": must be 1 to 128 bytes without control characters"]
    );
}

#[test]
fn keys_are_not_unknown_because_the_role_is() {
    let lines = refusal("[mqtt]\nworkers = 1\n[replication]\nupstream = \"a:1\"\n");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("node.toml: node.role is missing"));
}

#[test]
fn unknown_key_is_refused_with_the_nearest() {
    let cases = [
        (
            "[mqtt]\nmax_packets = \"1 MiB\"\n",
            "mqtt.max_packets",
            "mqtt.max_packet",
        ),
        (
            "[http]\nlisen = \"127.0.0.1:1\"\n",
            "http.lisen",
            "http.listen",
        ),
        ("[mqqt]\nworkers = 1\n", "mqqt.workers", "mqtt.workers"),
        (
            "[lgo]\nsegment_size = \"1 MiB\"\n",
            "lgo.segment_size",
            "log.segment_size",
        ),
    ];
    for (text, key, nearest) in cases {
        let known = format!("the nearest known key is {nearest}");
        assert_eq!(
            refusal(&format!("{PRIMARY}{text}")),
            [format!("node.toml: {key} is unknown; {known}")]
        );
    }
    let bare = refusal(&format!("max_inflight = 1\n{PRIMARY}"));
    assert_eq!(
        bare,
        ["node.toml: max_inflight is unknown; the nearest known key is mqtt.max_inflight"]
    );
    let empty = refusal(&format!("{PRIMARY}[mqqt]\n"));
    assert!(empty[0].starts_with("node.toml: mqqt is unknown; the nearest known key is mqtt."));
}

#[test]
fn keys_of_the_other_role_are_refused() {
    assert_eq!(
        refusal(&format!(
            "{PRIMARY}[replication]\nupstream = \"a:1\"\ncerts = \"c\"\n"
        )),
        ["node.toml: replication.upstream belongs to a secondary, and node.role is \"primary\""]
    );
    assert_eq!(
        refusal(&format!("{SECONDARY}[mqtt]\nmax_inflight = 1\n")),
        ["node.toml: mqtt.max_inflight belongs to a primary, and node.role is \"secondary\""]
    );
    assert_eq!(
        refusal(&format!("{SECONDARY}[log]\nmax_group_delay = \"1 ms\"\n")),
        ["node.toml: log.max_group_delay belongs to a primary, and node.role is \"secondary\""]
    );
    assert_eq!(
        refusal(&format!("{SECONDARY}[log]\nkeep_segments = \"1 GiB\"\n")),
        ["node.toml: log.keep_segments belongs to a primary, and node.role is \"secondary\""]
    );
}

#[test]
fn keys_to_come_are_refused_as_such() {
    let cases = [
        ("[[mqtt.user]]\nname = \"a\"\n", "mqtt.user"),
        ("[[http.token]]\nname = \"a\"\n", "http.token"),
        ("[mqtt]\ntls_listen = \"0.0.0.0:8883\"\n", "mqtt.tls_listen"),
        ("[[user]]\nname = \"a\"\n", "user"),
        ("[pg]\nlisten = \"127.0.0.1:5432\"\n", "pg.listen"),
        ("[archive]\nto = \"file:///a\"\n", "archive.to"),
        ("[cluster]\npeers = [\"a:1\"]\n", "cluster.peers"),
    ];
    for (text, key) in cases {
        assert_eq!(
            refusal(&format!("{PRIMARY}{text}")),
            [format!(
                "node.toml: {key} is not supported by this version yet"
            )]
        );
    }
}

#[test]
fn a_path_that_a_shell_would_expand_is_refused() {
    for path in ["~/headwater", "~", "$HOME/headwater", "a\\u0000b"] {
        let text = format!("{PRIMARY}data_dir = \"{path}\"\n");
        let [line] = &refusal(&text)[..] else {
            panic!("{path}");
        };
        assert!(line.contains("are not expanded"), "{line}");
    }
    let text = format!("{PRIMARY}data_dir = \"a~b/$c\"\n");
    assert!(parse("node.toml", &text, [], &[]).is_ok());
}

#[test]
fn anonymous_beyond_loopback_is_refused_unless_meant() {
    assert_eq!(
        refusal(&format!("{PRIMARY}[mqtt]\nlisten = \"0.0.0.0:1883\"\n")),
        [
            "node.toml: mqtt.listen = \"0.0.0.0:1883\": listening beyond loopback lets anyone who \
          reaches the port publish; set mqtt.insecure_anonymous = true if that is meant"
        ]
    );
    assert_eq!(
        refusal(&format!("{SECONDARY}[http]\nlisten = \"[::]:7440\"\n")),
        [
            "node.toml: http.listen = \"[::]:7440\": listening beyond loopback lets anyone who \
          reaches the port read everything; set http.insecure_anonymous = true if that is meant"
        ]
    );
    let meant = "[mqtt]\nlisten = \"0.0.0.0:1883\"\ninsecure_anonymous = true\n";
    let conf = parse_text(&format!("{PRIMARY}{meant}")).unwrap();
    assert_eq!(primary_of(conf).mqtt.listen.to_string(), "0.0.0.0:1883");
    assert!(parse_text(&format!("{PRIMARY}[mqtt]\nlisten = \"[::1]:1883\"\n")).is_ok());
}

#[test]
fn refusing_anonymous_clients_needs_users() {
    assert_eq!(
        refusal(&format!("{PRIMARY}[mqtt]\nallow_anonymous = false\n")),
        [
            "node.toml: mqtt.allow_anonymous = false: this version knows no [[mqtt.user]] yet, so \
          nobody could publish"
        ]
    );
}

#[test]
fn replication_on_a_primary_needs_certificates() {
    assert_eq!(
        refusal(&format!(
            "{PRIMARY}[replication]\nlisten = \"127.0.0.1:7441\"\n"
        )),
        [
            "node.toml: replication.certs is missing: a primary that listens for secondaries needs \
          the directory that `headwater certs node` made for it"
        ]
    );
    let conf = parse_text(&format!("{PRIMARY}[replication]\ncerts = \"certs/a\"\n")).unwrap();
    let shipping = primary_of(conf).replication.unwrap();
    assert_eq!(shipping.serving.listen.to_string(), "127.0.0.1:7441");
    assert_eq!(shipping.certs, PathBuf::from("certs/a"));
}

#[test]
fn http_on_a_primary_is_on_when_its_section_is_there() {
    assert_eq!(primary_of(parse_text(PRIMARY).unwrap()).http, None);
    let conf = parse_text(&format!("{PRIMARY}[http]\n")).unwrap();
    assert_eq!(primary_of(conf).http, Some(Http::default()));
}

#[test]
fn command_line_wins_over_environment_over_file() {
    let text = format!("{PRIMARY}[mqtt]\nmax_inflight = 1\nworkers = 1\nmax_connections = 1\n");
    let variables = [
        ("HEADWATER_MQTT_MAX_INFLIGHT", "2"),
        ("HEADWATER_MQTT_WORKERS", "2"),
        ("HEADWATER_LOG", "debug"),
        ("HEADWATER_HOME", "/nowhere"),
        ("PATH", "/bin"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let set = [
        "mqtt.max_inflight=3".to_owned(),
        "node.data_dir = /var/lib/a=b".to_owned(),
    ];
    let conf = parse("node.toml", &text, variables, &set).unwrap();
    assert_eq!(conf.node.data_dir, PathBuf::from("/var/lib/a=b"));
    let mqtt = primary_of(conf).mqtt;
    assert_eq!(
        (mqtt.max_inflight, mqtt.workers, mqtt.max_connections),
        (3, 2, 1)
    );
}

#[test]
fn refusals_name_the_variable_or_the_option() {
    let variables = [("HEADWATER_HTTP_LISTEM".to_owned(), "a".to_owned())];
    let set = ["mqtt.workers=many".to_owned(), "mqtt".to_owned()];
    let error = parse("node.toml", PRIMARY, variables, &set).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--set mqtt: must be section.key=value\n\
         --set: mqtt.workers = \"many\": must be an integer from 0 to 1024\n\
         HEADWATER_HTTP_LISTEM: http.listem is unknown; the nearest known key is http.listen"
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let lines = refusal(
        "[node]\nrole = \"primary\"\n[mqtt]\nmax_inflight = 0\nmax_packet = 1\nspeed = 9\n",
    );
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn acknowledgements_may_wait_for_secondaries() {
    let replication = "[replication]\ncerts = \"certs/a\"\n";
    let asked = |value: &str| format!("{PRIMARY}[mqtt]\nack = {value}\n");
    let conf = parse_text(&format!("{}{replication}", asked("\"replicated:2\""))).unwrap();
    assert_eq!(primary_of(conf).mqtt.ack.to_string(), "replicated:2");
    for value in ["\"replicated:9\"", "\"soon\"", "2"] {
        assert_eq!(
            refusal(&asked(value)),
            [format!(
                "node.toml: mqtt.ack = {value}: must be \"durable\", or \"replicated:1\" to \
                 \"replicated:8\""
            )]
        );
    }
    assert_eq!(
        refusal(&asked("\"replicated:1\"")),
        [
            "node.toml: mqtt.ack = \"replicated:1\": without replication.certs no secondary can \
             connect"
        ]
    );
}

const PRIMARY: &str = "[node]\nrole = \"primary\"\n";
const SECONDARY: &str = "[node]\nrole = \"secondary\"\n[replication]\n\
                         upstream = \"10.0.0.1:7441\"\ncerts = \"certs/b\"\n";
