//! Rounds of a comparison: their order, and what all of them gave. Must never mix two loads.

use crate::load::generator::Report;

/// All rounds of one server or set-up under one load.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) rates: Vec<f64>,
    pub(crate) cpu: Vec<f64>,
    pub(crate) own_cpu: Vec<f64>,
    pub(crate) p50: Vec<f64>,
    pub(crate) p99: Vec<f64>,
}

impl Rounds {
    pub(crate) fn add(&mut self, report: &Report, cpu_per_million: f64) {
        self.rates.push(report.rate());
        self.cpu.push(cpu_per_million);
        self.own_cpu
            .push(report.own_cpu * 1e6 / report.messages as f64);
        self.p50.push(report.latency.p50 / 1e3);
        self.p99.push(report.latency.p99 / 1e3);
    }
}

/// Indices forwards in even rounds, backwards in odd ones.
pub(crate) fn order(count: usize, round: usize) -> Vec<usize> {
    let forwards = 0..count;
    if round.is_multiple_of(2) {
        forwards.collect()
    } else {
        forwards.rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_alternate() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [2, 1, 0]);
    }
}
