//! One test for each way a `[[table]]` is refused, and for what the shipped example says. Must
//! never need a node.

use super::*;
use crate::conf::{Role, parse};

fn declared(text: &str) -> Vec<TableDef> {
    match parse("node.toml", text, [], &[]).unwrap().role {
        Role::Primary(primary) => primary.tables,
        Role::Secondary(_) => panic!("a secondary"),
    }
}

/// The lines of the refusal of one table with these lines.
fn refusal(lines: &str) -> Vec<String> {
    let text = format!("{PRIMARY}[[table]]\n{lines}\n");
    refusal_of(&text)
}

fn refusal_of(text: &str) -> Vec<String> {
    let error = parse("node.toml", text, [], &[]).expect_err("this conf must be refused");
    error.to_string().lines().map(str::to_owned).collect()
}

fn column(name: &str, role: ColumnRole, kind: ColumnType) -> Column {
    Column::new(name, role, kind)
}

#[test]
fn a_name_is_enough() {
    let plain = |name: &str| TableDef {
        name: name.to_owned(),
        ..TableDef::default()
    };
    let text = "[[table]]\nname = \"a\"\n[[table]]\nname = \"b\"\nretention = \"\"\n";
    let text = format!("{PRIMARY}{text}");
    assert_eq!(declared(&text), [plain("a"), plain("b")]);
    assert!(declared(PRIMARY).is_empty());
}

#[test]
fn the_example_in_the_conf_file_is_whole_and_good() {
    let file = include_str!("../../../../conf/primary.toml");
    let is_example = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(' '))
    };
    let lines = file.lines();
    let text: String = lines
        .map(|line| if is_example(line) { &line[1..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    for key in KEYS {
        assert!(text.contains(&format!("\n{key} = ")), "{key}");
    }
    // The route in it waits for secondaries.
    let text = text.replace("\ncerts = \"\"\n", "\ncerts = \"c\"\n");
    let field = |name, kind| column(name, ColumnRole::Field, kind);
    let plant = TableDef {
        name: "plant".to_owned(),
        columns: vec![
            column("site", ColumnRole::Tag, ColumnType::Text),
            field("count", ColumnType::Int),
            field("note", ColumnType::Text),
            field("ok", ColumnType::Bool),
            field("temperature", ColumnType::Float),
        ],
        strict: false,
        options: TableOptions {
            dedup: Dedup::None,
            retention: Some(Duration::from_secs(90 * 86_400)),
        },
    };
    let mut tables = declared(&text);
    // Whether TOML keeps the order of names is not ours to say.
    tables[0].columns[1..].sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(tables, [plant]);
}

#[test]
fn options_are_taken() {
    let lines = "name = \"a\"\nretention = \"2 weeks\"\ndedup = \"key\"\nstrict = true\n";
    let tables = declared(&format!("{PRIMARY}[[table]]\n{lines}"));
    let retention = Some(Duration::from_secs(14 * 86_400));
    let options = TableOptions {
        dedup: Dedup::Key,
        retention,
    };
    assert_eq!((tables[0].options, tables[0].strict), (options, true));
}

#[test]
fn names_are_checked() {
    assert_eq!(
        refusal("strict = true"),
        ["node.toml: table[0].name is missing: every [[table]] says which table it is about"]
    );
    assert_eq!(
        refusal("name = 1"),
        ["node.toml: table[0].name = 1: must be a text"]
    );
    let long = "x".repeat(257);
    for name in ["", "a\\tb", &long] {
        assert_eq!(
            refusal(&format!("name = \"{name}\"")),
            [format!(
                "node.toml: table[0].name = \"{name}\": {NAME_RULE}"
            )]
        );
    }
    for name in ["system", "system.queries", "information_schema"] {
        assert_eq!(
            refusal(&format!("name = \"{name}\"")),
            [format!(
                "node.toml: table[0].name = \"{name}\": is reserved, as is every name that \
                 begins with \"system.\""
            )]
        );
    }
    assert_eq!(
        refusal("name = \"a\"\n[[table]]\nname = \"a\""),
        ["node.toml: table[1].name = \"a\": an earlier [[table]] has the same name"]
    );
}

#[test]
fn dead_letters_have_a_retention_only() {
    let name = "name = \"system.dead_letters\"\n";
    let tables = declared(&format!(
        "{PRIMARY}[[table]]\n{name}retention = \"7 days\"\n"
    ));
    assert!(tables[0].options.retention.is_some());
    let rule = "of system.dead_letters only the retention can be set";
    for (key, value) in [
        ("dedup", "\"key\""),
        ("strict", "false"),
        ("tags", "[\"site\"]"),
        ("columns", "{ok = \"bool\"}"),
    ] {
        let lines = refusal(&format!("{name}{key} = {value}"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with(rule), "{lines:?}");
    }
}

#[test]
fn options_are_checked() {
    let cases = [
        (
            "retention = \"59 s\"",
            "must be a time with its unit, from \"1 min\" to \"36500 days\", or empty",
        ),
        (
            "retention = 90",
            "must be a time with its unit, from \"1 min\" to \"36500 days\", or empty",
        ),
        ("dedup = \"all\"", "must be \"none\" or \"key\""),
        ("dedup = true", "must be \"none\" or \"key\""),
        ("strict = \"yes\"", "must be true or false"),
        (
            "tags = \"site\"",
            "must be a list of column names, such as [\"site\"]",
        ),
        (
            "tags = [1]",
            "must be a list of column names, such as [\"site\"]",
        ),
        (
            "columns = \"ok\"",
            "must name columns and their types, such as { ok = \"bool\" }",
        ),
    ];
    for (line, rule) in cases {
        assert_eq!(
            refusal(&format!("name = \"a\"\n{line}")),
            [format!("node.toml: table[0].{line}: {rule}")]
        );
    }
}

#[test]
fn columns_are_checked() {
    let types = "must be \"float\", \"int\", \"bigint\", \"bool\" or \"text\"";
    let time = "is a column of every table by itself";
    let time_tag = format!("\"time\" {time}");
    let empty_tag = format!("\"\" {NAME_RULE}");
    let cases = [
        (
            "columns = { a = \"number\" }",
            "columns.a = \"number\"",
            types,
        ),
        ("columns = { a = 1 }", "columns.a = 1", types),
        (
            "columns = { time = \"int\" }",
            "columns.time = \"int\"",
            time,
        ),
        (
            "tags = [\"a\"]\ncolumns = { a = \"int\" }",
            "columns.a = \"int\"",
            "is a tag already",
        ),
        (
            "columns = { \"\" = \"int\" }",
            "columns. = \"int\"",
            NAME_RULE,
        ),
        ("tags = [\"time\"]", "tags = [\"time\"]", time_tag.as_str()),
        (
            "tags = [\"a\", \"a\"]",
            "tags = [\"a\", \"a\"]",
            "\"a\" is there twice",
        ),
        ("tags = [\"\"]", "tags = [\"\"]", empty_tag.as_str()),
    ];
    for (lines, shown, rule) in cases {
        assert_eq!(
            refusal(&format!("name = \"a\"\n{lines}")),
            [format!("node.toml: table[0].{shown}: {rule}")]
        );
    }
    let many: Vec<String> = (0..wal::MAX_COLUMNS)
        .map(|at| format!("\"c{at}\""))
        .collect();
    let lines = refusal(&format!("name = \"a\"\ntags = [{}]", many.join(", ")));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].ends_with("a table has at most 1023 tags and columns"));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    assert_eq!(
        refusal("name = \"a\"\nretenton = \"1 day\""),
        ["node.toml: table[0].retenton is unknown; the nearest known key is retention"]
    );
    assert_eq!(
        refusal("name = \"a\"\ncompression = \"lz4\""),
        ["node.toml: table[0].compression is not supported by this version yet"]
    );
}

#[test]
fn tables_are_lists_in_the_file() {
    let rule = "tables are written in the conf file, each as a [[table]]";
    for table in ["[table]\nname = \"a\"\n", "table = 1\n"] {
        // A bare key has to stand before the first section.
        let text = if table.starts_with('[') {
            format!("{PRIMARY}{table}")
        } else {
            format!("{table}{PRIMARY}")
        };
        let lines = refusal_of(&text);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("node.toml: table = "), "{lines:?}");
        assert!(lines[0].ends_with(rule), "{lines:?}");
    }
    let set = ["table.name=a".to_owned()];
    let error = parse("node.toml", PRIMARY, [], &set).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("--set: table.name = \"a\": {rule}")
    );
}

#[test]
fn tables_belong_to_a_primary() {
    let secondary = "[node]\nrole = \"secondary\"\n[replication]\nupstream = \"a:1\"\n\
                     certs = \"c\"\n[[table]]\nname = \"a\"\n[[table]]\nname = \"b\"\n";
    assert_eq!(
        refusal_of(secondary),
        ["node.toml: table belongs to a primary, and node.role is \"secondary\""]
    );
}

const PRIMARY: &str = "[node]\nrole = \"primary\"\n";
