//! The body of `/metrics`: what one node knows about itself, rendered when asked, and after it what
//! the libraries of this process have counted. Must never keep a series of a peer that is gone.

use std::fmt::{Display, Write};
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Prometheus text, family by family.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

impl Exposition {
    /// A number that only rises.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// Numbers that only rise, each with its name and what it counts.
    pub(crate) fn counters<const N: usize>(&mut self, counts: [(&str, &str, u64); N]) {
        for (name, help, count) in counts {
            self.counter(name, help, count);
        }
    }

    /// A number that rises and falls.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// One gauge for each set of values of `labels`, all different; nothing at all when there are
    /// none.
    pub(crate) fn gauges<const N: usize, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        samples: impl IntoIterator<Item = ([String; N], V)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.family(name, "gauge", help);
        }
        for (texts, value) in samples {
            let texts = texts.iter().map(String::as_str);
            let labels: Vec<(&str, &str)> = labels.into_iter().zip(texts).collect();
            self.sample(name, &labels, value);
        }
    }

    /// A gauge that is always 1 and carries texts.
    pub(crate) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, "gauge", help);
        self.sample(name, labels, 1);
    }

    /// The whole text, with the process's own counts.
    pub(crate) fn finish(mut self) -> String {
        if let Some(handle) = process_counts() {
            self.text.push_str(&handle.render());
        }
        self.text
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escape(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

/// Starts counting for the libraries of this process; further calls do nothing.
pub(crate) fn install() {
    process_counts();
}

/// One recorder per process, whatever the number of nodes in it. `None` when somebody else has
/// installed one: then the counts are theirs to show.
fn process_counts() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        let handle = PrometheusBuilder::new().install_recorder().ok()?;
        let upkeep = handle.clone();
        // Between two scrapes histograms would gather samples without end.
        let upkeep = move || {
            loop {
                std::thread::sleep(UPKEEP);
                upkeep.run_upkeep();
            }
        };
        let spawned = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(upkeep);
        spawned.ok().map(|_| handle)
    });
    handle.as_ref()
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

const UPKEEP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_help_and_type_and_labels_are_escaped() {
        let mut text = Exposition::default();
        text.counter("a_total", "All a.", 7_u64);
        let lags = [
            (["x\"\\\n", "1"].map(str::to_owned), 1.5),
            (["x", "2"].map(str::to_owned), 2.0),
        ];
        text.gauges("lag", "Lag.", ["secondary", "id"], lags);
        let none: [([String; 1], u64); 0] = [];
        text.gauges("none", "None.", ["secondary"], none);
        text.gauges("lsn", "LSN.", ["stage"], [(["durable".to_owned()], 3_u64)]);
        text.info("build", "Build.", &[("version", "1"), ("role", "primary")]);
        assert_eq!(
            text.text,
            "# HELP a_total All a.\n# TYPE a_total counter\na_total 7\n\
             # HELP lag Lag.\n# TYPE lag gauge\n\
             lag{secondary=\"x\\\"\\\\\\n\",id=\"1\"} 1.5\nlag{secondary=\"x\",id=\"2\"} 2\n\
             # HELP lsn LSN.\n# TYPE lsn gauge\nlsn{stage=\"durable\"} 3\n\
             # HELP build Build.\n# TYPE build gauge\nbuild{version=\"1\",role=\"primary\"} 1\n"
        );
    }

    #[test]
    fn installing_twice_is_installing_once() {
        install();
        install();
        assert!(process_counts().is_some());
    }
}
