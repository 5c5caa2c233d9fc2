//! Percentiles, medians and Markdown tables. Must never measure anything itself.

use std::fmt;

/// The middle and the tail of a set of times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    /// How many there were.
    pub count: usize,
    /// The median.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of values in any order and unit. All zero when there are none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self {
            count: values.len(),
            p50: at(&values, 0.50),
            p99: at(&values, 0.99),
            max: values.last().copied().unwrap_or(0.0),
        }
    }
}

/// The median of a few rounds; 0 when there were none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// The smallest value that `part` of the sorted values do not exceed.
fn at(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// A Markdown table, as BENCHMARKS.md keeps it.
#[derive(Clone, Debug)]
pub struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// An empty table.
    pub fn new(header: &[&str]) -> Self {
        let mut table = Self {
            columns: header.len(),
            text: String::new(),
        };
        table.line(header);
        table.line(&vec!["---"; header.len()]);
        table
    }

    /// Adds a row; it has as many cells as the header.
    pub fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        debug_assert_eq!(cells.len(), self.columns, "a row is as wide as the header");
        self.line(cells);
    }

    fn line<S: AsRef<str>>(&mut self, cells: &[S]) {
        self.text.push('|');
        for cell in cells {
            self.text.push(' ');
            self.text.push_str(cell.as_ref());
            self.text.push_str(" |");
        }
        self.text.push('\n');
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// A whole number with commas: 1,234,567.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_and_median_on_known_numbers() {
        let spread = Spread::of((1..=200).rev().map(f64::from).collect());
        assert_eq!(
            (spread.count, spread.p50, spread.p99, spread.max),
            (200, 100.0, 198.0, 200.0)
        );
        assert_eq!(Spread::of(Vec::new()).max, 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        let text = [0.0, 999.4, 1000.0, 1_234_567.0].map(grouped);
        assert_eq!(text, ["0", "999", "1,000", "1,234,567"]);
    }
}
