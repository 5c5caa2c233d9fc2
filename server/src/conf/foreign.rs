//! Variables of the environment that begin with `HEADWATER_` and are none of our keys: what an
//! orchestrator sets for a service of that name, what somebody else means, and slips. Must never
//! take one for a setting, nor pass over one without a word.

use std::collections::BTreeSet;

use super::problem::{Origin, Problem};
use super::source::Stray;

/// A variable that is no setting and not refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    #[error("{variable} is ignored: Kubernetes sets it for a service of that name")]
    ServiceLink { variable: String },
    #[error("{variable} is ignored: it names no key, nor anything like one")]
    NoKey { variable: String },
}

/// What to make of these, `known` being all keys of either role.
pub(super) fn judge(
    strays: &[Stray],
    known: &BTreeSet<&'static str>,
) -> (Vec<Ignored>, Vec<Problem>) {
    let (mut ignored, mut problems) = (Vec::new(), Vec::new());
    for stray in strays {
        let variable = stray.variable.clone();
        let nearest = known
            .iter()
            .map(|key| (likeness(&stray.name, key), *key))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match nearest {
            Some((likeness, nearest)) if likeness >= A_SLIP => problems.push(Problem::Unknown {
                key: stray.name.replacen('_', ".", 1),
                origin: Origin::Env(variable),
                nearest,
            }),
            _ => ignored.push(Ignored::NoKey { variable }),
        }
    }
    (ignored, problems)
}

/// Whether this is one of the variables that Kubernetes gives every container for a service, such
/// as `HEADWATER_HTTP_PORT=tcp://10.0.0.1:7440` and `HEADWATER_SERVICE_HOST=10.0.0.1`.
pub(super) fn is_service_link(variable: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    if variable.ends_with("_SERVICE_HOST") || (variable.ends_with("_PORT") && is_url) {
        return true;
    }
    if let Some((_, named)) = variable.split_once("_SERVICE_PORT") {
        return named.is_empty() || named.starts_with('_');
    }
    let mut parts = variable.split("_PORT_").skip(1);
    parts.any(|rest| {
        let (number, rest) = rest.split_once('_').unwrap_or((rest, ""));
        let (protocol, rest) = rest.split_once('_').unwrap_or((rest, ""));
        number.parse::<u16>().is_ok()
            && ["TCP", "UDP", "SCTP"].contains(&protocol)
            && ["", "PROTO", "PORT", "ADDR"].contains(&rest)
    })
}

/// How much `noed_role`, or `role` alone, looks like `node.role`.
fn likeness(name: &str, key: &str) -> f64 {
    let bare = key.split_once('.').map_or(key, |(_, bare)| bare);
    let whole = key.replacen('.', "_", 1);
    let to = |key: &str| strsim::normalized_damerau_levenshtein(name, key);
    to(&whole).max(to(bare))
}

/// From this likeness on a name is taken for a slip.
const A_SLIP: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{Conf, ConfError, parse};

    const PRIMARY: &str = "[node]\nrole = \"primary\"\n";

    fn with(variables: &[(&str, &str)]) -> Result<Conf, ConfError> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parse("node.toml", PRIMARY, variables, &[])
    }

    #[test]
    fn service_links_of_any_service_of_that_name_are_ignored_with_a_line() {
        let links = [
            ("HEADWATER_SERVICE_HOST", "10.0.0.1"),
            ("HEADWATER_SERVICE_PORT", "7440"),
            ("HEADWATER_SERVICE_PORT_HTTP", "7440"),
            ("HEADWATER_PORT", "tcp://10.0.0.1:7440"),
            ("HEADWATER_PORT_7440_TCP", "tcp://10.0.0.1:7440"),
            ("HEADWATER_PORT_7440_TCP_PROTO", "tcp"),
            ("HEADWATER_PORT_7440_TCP_PORT", "7440"),
            ("HEADWATER_PORT_7440_TCP_ADDR", "10.0.0.1"),
            ("HEADWATER_HTTP_PORT", "tcp://10.0.0.1:7440"),
            ("HEADWATER_MQTT_SERVICE_HOST", "10.0.0.1"),
            ("HEADWATER_MQTT_SERVICE_PORT_MQTT_TLS", "8883"),
            ("HEADWATER_REPLICATION_PORT_7441_UDP_ADDR", "10.0.0.1"),
        ];
        let conf = with(&links).unwrap();
        let expected: Vec<Ignored> = links
            .iter()
            .map(|(variable, _)| Ignored::ServiceLink {
                variable: (*variable).to_owned(),
            })
            .collect();
        assert_eq!(conf.ignored, expected);
        assert_eq!(
            Conf {
                ignored: Vec::new(),
                ..conf
            },
            with(&[]).unwrap()
        );
    }

    #[test]
    fn slips_are_refused_with_the_nearest_key() {
        for (variable, nearest) in [
            ("HEADWATER_NOED_ROLE", "node.role"),
            ("HEADWATER_REPLICATON_UPSTREAM", "replication.upstream"),
            ("HEADWATER_HTTPS_LISTEN", "http.listen"),
            ("HEADWATER_DATA_DIR", "node.data_dir"),
            ("HEADWATER_ROLE", "node.role"),
            ("HEADWATER_NODEROLE", "node.role"),
            ("HEADWATER_HTTP_PORT", "http.listen"),
        ] {
            let error = with(&[(variable, "7440")]).unwrap_err().to_string();
            let start = format!("{variable}: ");
            assert!(error.starts_with(&start), "{error}");
            if variable != "HEADWATER_HTTP_PORT" {
                assert!(error.ends_with(nearest), "{error}");
            }
        }
    }

    #[test]
    fn what_somebody_else_means_is_ignored_with_a_line() {
        let conf = with(&[("HEADWATER_VERSION", "1"), ("HEADWATER_LOG", "info")]).unwrap();
        let variable = "HEADWATER_VERSION".to_owned();
        assert_eq!(conf.ignored, [Ignored::NoKey { variable }]);
    }
}
