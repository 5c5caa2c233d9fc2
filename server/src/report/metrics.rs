//! The body of `/metrics`, rendered when asked. Owns the text format; must never keep a series of a
//! peer that is gone.

use std::fmt::{Display, Write};
use std::time::Duration;

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

    /// Numbers that only rise, one for each text of `label`.
    pub(crate) fn counters_by<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.family(name, "counter", help);
        for (text, count) in samples {
            self.sample(name, &[(label, text)], count);
        }
    }

    /// How values are spread: `(quantile, value)` of late, sum and count of all there were.
    pub(crate) fn summary(
        &mut self,
        name: &str,
        help: &str,
        quantiles: &[(f64, f64)],
        sum: f64,
        count: u64,
    ) {
        self.family(name, "summary", help);
        for (quantile, value) in quantiles {
            self.sample(name, &[("quantile", &quantile.to_string())], value);
        }
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], count);
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

    /// The whole text.
    pub(crate) fn finish(self) -> String {
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

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

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
        text.counters_by("b_total", "All b.", "result", [("ok", 1), ("error", 0)]);
        text.summary("c_seconds", "C.", &[(0.0, 0.5), (1.0, 2.5)], 3.0, 2);
        assert_eq!(
            text.text,
            "# HELP a_total All a.\n# TYPE a_total counter\na_total 7\n\
             # HELP lag Lag.\n# TYPE lag gauge\n\
             lag{secondary=\"x\\\"\\\\\\n\",id=\"1\"} 1.5\nlag{secondary=\"x\",id=\"2\"} 2\n\
             # HELP lsn LSN.\n# TYPE lsn gauge\nlsn{stage=\"durable\"} 3\n\
             # HELP build Build.\n# TYPE build gauge\nbuild{version=\"1\",role=\"primary\"} 1\n\
             # HELP b_total All b.\n# TYPE b_total counter\n\
             b_total{result=\"ok\"} 1\nb_total{result=\"error\"} 0\n\
             # HELP c_seconds C.\n# TYPE c_seconds summary\n\
             c_seconds{quantile=\"0\"} 0.5\nc_seconds{quantile=\"1\"} 2.5\n\
             c_seconds_sum 3\nc_seconds_count 2\n"
        );
    }
}
