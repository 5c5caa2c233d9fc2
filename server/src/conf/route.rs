//! `[[route]]`: what a primary's conf says of messages by their topic. Must never hold a filter
//! that MQTT would refuse.

use super::item::{Item, Keys};
use super::reader::Reader;
use super::source::ROUTES;

/// All routes, in the order of the file: the first that matches a topic wins.
pub(super) fn routes(reader: &mut Reader<'_>) -> Vec<mqtt::AckRoute> {
    let mut routes = Vec::new();
    for (at, entries) in reader.list(ROUTES).iter().enumerate() {
        let mut item = Item::new(reader, ROUTES, at, entries);
        if at == MAX_ROUTES {
            item.refuse("filter", "there are at most 1024 routes");
        }
        routes.push(item.route());
        item.check_keys(&Keys {
            known: &KEYS,
            planned: &PLANNED,
        });
    }
    routes
}

/// When a message is acknowledged; `None` when the text says nothing of the kind.
pub(super) fn parse_ack(text: &str) -> Option<mqtt::Ack> {
    text.parse().ok()
}

impl Item<'_, '_> {
    fn route(&mut self) -> mqtt::AckRoute {
        let rule = || "must be a text".to_owned();
        let filter = self.value("filter", rule, |entry| entry.text().map(str::to_owned));
        if !self.has("filter") {
            self.missing("filter", "every [[route]] says which topics it is about");
        }
        let filter = filter.unwrap_or_else(|| "#".to_owned());
        if let Err(error) = mqtt::check_filter(&filter) {
            self.refuse("filter", &error.to_string());
        }
        let rule = || ACK_RULE.to_owned();
        let ack = self.value("ack", rule, |entry| parse_ack(entry.text()?));
        if !self.has("ack") {
            self.missing("ack", "a [[route]] of this version says nothing else");
        }
        let ack = ack.unwrap_or(mqtt::Ack::Durable);
        mqtt::AckRoute { filter, ack }
    }
}

pub(super) const ACK_RULE: &str = "must be \"durable\", or \"replicated:1\" to \"replicated:8\"";

const KEYS: [&str; 2] = ["filter", "ack"];

/// Keys of the public surface that this version does not have yet.
const PLANNED: [&str; 6] = ["table", "format", "time", "tags", "columns", "on_error"];

/// Every message is held against them in turn.
const MAX_ROUTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{Role, parse};

    const PRIMARY: &str = "[node]\nrole = \"primary\"\n[replication]\ncerts = \"c\"\n";

    fn routed(lines: &str) -> Vec<mqtt::AckRoute> {
        let text = format!("{PRIMARY}{lines}");
        match parse("node.toml", &text, [], &[]).unwrap().role {
            Role::Primary(primary) => primary.routes,
            Role::Secondary(_) => panic!("a secondary"),
        }
    }

    fn refusal_of(text: &str) -> Vec<String> {
        let error = parse("node.toml", text, [], &[]).expect_err("this conf must be refused");
        error.to_string().lines().map(str::to_owned).collect()
    }

    /// The lines of the refusal of one route with these lines.
    fn refusal(lines: &str) -> Vec<String> {
        refusal_of(&format!("{PRIMARY}[[route]]\n{lines}\n"))
    }

    #[test]
    fn routes_keep_their_order() {
        assert!(routed("").is_empty());
        let routes = routed(
            "[[route]]\nfilter = \"plant/+/alarms/#\"\nack = \"replicated:2\"\n\
             [[route]]\nfilter = \"plant/{site}/+\"\nack = \"durable\"\n",
        );
        let shown: Vec<_> = routes
            .iter()
            .map(|route| format!("{} {}", route.filter, route.ack))
            .collect();
        assert_eq!(
            shown,
            ["plant/+/alarms/# replicated:2", "plant/{site}/+ durable"]
        );
    }

    #[test]
    fn filters_are_checked() {
        assert_eq!(
            refusal("ack = \"durable\""),
            [
                "node.toml: route[0].filter is missing: every [[route]] says which topics it is \
                 about"
            ]
        );
        assert_eq!(
            refusal("filter = 1\nack = \"durable\""),
            ["node.toml: route[0].filter = 1: must be a text"]
        );
        let cases = [
            ("a/b+/c", "+ must be a whole level"),
            ("a/#/c", "# must be the whole last level"),
            ("", "a filter must have between 1 and 65535 bytes"),
        ];
        for (filter, rule) in cases {
            assert_eq!(
                refusal(&format!("filter = \"{filter}\"\nack = \"durable\"")),
                [format!("node.toml: route[0].filter = \"{filter}\": {rule}")]
            );
        }
    }

    #[test]
    fn acknowledgements_are_checked() {
        assert_eq!(
            refusal("filter = \"#\""),
            ["node.toml: route[0].ack is missing: a [[route]] of this version says nothing else"]
        );
        for value in [
            "\"replicated:0\"",
            "\"replicated:9\"",
            "\"replicated\"",
            "\"\"",
            "2",
        ] {
            assert_eq!(
                refusal(&format!("filter = \"#\"\nack = {value}")),
                [format!("node.toml: route[0].ack = {value}: {ACK_RULE}")]
            );
        }
    }

    #[test]
    fn other_keys_are_refused_by_name() {
        for (key, value) in [
            ("table", "\"plant\""),
            ("format", "\"json\""),
            ("time", "{ field = \"ts\" }"),
            ("tags", "[\"site\"]"),
            ("columns", "{ t = \"/t\" }"),
            ("on_error", "\"reject\""),
        ] {
            assert_eq!(
                refusal(&format!(
                    "filter = \"#\"\nack = \"durable\"\n{key} = {value}"
                )),
                [format!(
                    "node.toml: route[0].{key} is not supported by this version yet"
                )]
            );
        }
        assert_eq!(
            refusal("filter = \"#\"\nack = \"durable\"\nfliter = \"#\""),
            ["node.toml: route[0].fliter is unknown; the nearest known key is filter"]
        );
    }

    #[test]
    fn routes_belong_to_a_primary_and_into_the_file() {
        let secondary = "[node]\nrole = \"secondary\"\n[replication]\nupstream = \"a:1\"\n\
                         certs = \"c\"\n[[route]]\nfilter = \"#\"\nack = \"durable\"\n";
        assert_eq!(
            refusal_of(secondary),
            ["node.toml: route belongs to a primary, and node.role is \"secondary\""]
        );
        let set = ["route.filter=#".to_owned()];
        let error = parse("node.toml", PRIMARY, [], &set).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--set: route.filter = \"#\": routes are written in the conf file, each as a [[route]]"
        );
    }

    #[test]
    fn replicas_that_cannot_be_are_not_waited_for() {
        let text = "[node]\nrole = \"primary\"\n[[route]]\nfilter = \"#\"\n\
                    ack = \"replicated:1\"\n";
        assert_eq!(
            refusal_of(text),
            [
                "node.toml: replication.certs is missing: a [[route]] waits for secondaries, and \
                 without certificates none can connect"
            ]
        );
    }
}
