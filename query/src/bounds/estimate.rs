//! How large what a function makes can be, from its arguments alone. Owns one estimate for each
//! function whose result may outgrow them; must never be lower than what the function makes.

use std::cell::{OnceCell, RefCell};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use super::patterns::Weight;
use super::sizes::{SLOT, leaves, value_bytes};

/// What is estimated of a function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Estimate {
    /// Bytes of the value of a row.
    Bytes(fn(&[Argument], usize) -> u64),
    /// Steps that a row takes, of a function that cannot be stopped and takes more of them than it
    /// has bytes.
    Steps(fn(&[Argument], usize) -> u64),
    /// Both, in this order.
    Both(fn(&[Argument], usize) -> u64, fn(&[Argument], usize) -> u64),
}

impl Estimate {
    /// That of the function called `name`, where its result may outgrow its arguments.
    pub(crate) fn of(name: &str) -> Option<Self> {
        ESTIMATES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, estimate)| *estimate)
    }

    pub(crate) fn bytes(self) -> Option<fn(&[Argument], usize) -> u64> {
        match self {
            Self::Bytes(bytes) | Self::Both(bytes, _) => Some(bytes),
            Self::Steps(_) => None,
        }
    }

    pub(crate) fn steps(self) -> Option<fn(&[Argument], usize) -> u64> {
        match self {
            Self::Steps(steps) | Self::Both(_, steps) => Some(steps),
            Self::Bytes(_) => None,
        }
    }
}

/// One argument of a call: a constant, or a value for each row.
#[derive(Debug)]
pub(crate) struct Argument {
    array: ArrayRef,
    constant: bool,
    integers: OnceCell<Option<Int64Array>>,
    /// Of the last pattern that was asked for.
    weight: RefCell<Option<(String, Weight)>>,
}

impl Argument {
    pub(crate) fn new(value: &ColumnarValue) -> Result<Self> {
        let (array, constant) = match value {
            ColumnarValue::Array(array) => (ArrayRef::clone(array), false),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
        };
        Ok(Self {
            array,
            constant,
            integers: OnceCell::new(),
            weight: RefCell::new(None),
        })
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.constant
    }

    fn at(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }

    fn is_null(&self, row: usize) -> bool {
        self.at(row) >= self.array.len() || self.array.is_null(self.at(row))
    }

    fn bytes(&self, row: usize) -> u64 {
        value_bytes(self.array.as_ref(), self.at(row))
    }

    /// A list's values and their bytes.
    fn leaves(&self, row: usize) -> (u64, u64) {
        leaves(self.array.as_ref(), self.at(row))
    }

    /// A number, or what a date or time is stored as; the largest where it does not fit.
    fn integer(&self, row: usize) -> Option<i64> {
        let integers = self.integers.get_or_init(|| {
            let cast = cast(&self.array, &DataType::Int64).ok()?;
            Some(cast.as_primitive_opt()?.clone())
        });
        if self.is_null(row) {
            return None;
        }
        let at = self.at(row);
        let known = integers.as_ref().filter(|integers| integers.is_valid(at));
        Some(known.map_or(i64::MAX, |integers| integers.value(at)))
    }

    /// A number of things; 0 where it is negative or null.
    fn count(&self, row: usize) -> u64 {
        let integer = self.integer(row).unwrap_or(0);
        u64::try_from(integer).unwrap_or(0)
    }

    fn text(&self, row: usize) -> &str {
        if self.is_null(row) {
            return "";
        }
        let at = self.at(row);
        match self.array.data_type() {
            DataType::Utf8 => self.array.as_string::<i32>().value(at),
            DataType::LargeUtf8 => self.array.as_string::<i64>().value(at),
            DataType::Utf8View => self.array.as_string_view().value(at),
            _ => "",
        }
    }

    /// What the pattern at `row` weighs by `weigh`, and whether it is another than the last.
    fn weight(&self, row: usize, weigh: fn(&str) -> Weight) -> (Weight, bool) {
        let pattern = self.text(row);
        let mut last = self.weight.borrow_mut();
        if let Some((known, weight)) = last.as_ref()
            && known == pattern
        {
            return (*weight, row == 0);
        }
        let weight = weigh(pattern);
        *last = Some((pattern.to_owned(), weight));
        (weight, true)
    }

    /// Nanoseconds of a date or time; the number itself of a number.
    fn moment(&self, row: usize) -> Option<i128> {
        let unit = match self.array.data_type() {
            DataType::Date32 => 86_400_000_000_000,
            DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
            DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
            _ => 1,
        };
        Some(i128::from(self.integer(row)?) * unit)
    }

    /// A step from one element of a series to the next, at least this long.
    fn step(&self, row: usize) -> u128 {
        if *self.array.data_type() != DataType::Interval(IntervalUnit::MonthDayNano) {
            return self.moment(row).map_or(1, i128::unsigned_abs);
        }
        let steps = self.array.as_primitive::<IntervalMonthDayNanoType>();
        if self.is_null(row) {
            return 1;
        }
        let step = steps.value(self.at(row));
        let days = i128::from(step.months) * 28 + i128::from(step.days);
        (days * 82_800_000_000_000 + i128::from(step.nanoseconds)).unsigned_abs()
    }
}

/// All arguments one after the other.
fn together(arguments: &[Argument], row: usize) -> u64 {
    let bytes = arguments.iter().map(|argument| argument.bytes(row) + SLOT);
    bytes.fold(0, u64::saturating_add)
}

/// One of the arguments, which becomes as long as the rows are many if it is a constant.
fn widest(arguments: &[Argument], row: usize) -> u64 {
    let bytes = arguments.iter().map(|argument| argument.bytes(row));
    bytes.max().unwrap_or(0)
}

fn repeat(arguments: &[Argument], row: usize) -> u64 {
    let [text, count] = arguments else { return 0 };
    text.bytes(row).saturating_mul(count.count(row))
}

fn pad(arguments: &[Argument], row: usize) -> u64 {
    let [_, length, rest @ ..] = arguments else {
        return 0;
    };
    let length = length.count(row);
    let narrow = length.saturating_mul(4) <= SMALL
        || arguments[0].text(row).is_ascii() && rest.iter().all(|fill| fill.text(row).is_ascii());
    length.saturating_mul(if narrow { 1 } else { 4 })
}

fn replace(arguments: &[Argument], row: usize) -> u64 {
    let [text, from, to] = arguments else {
        return 0;
    };
    let (length, found, put) = (text.bytes(row), from.bytes(row), to.bytes(row));
    if put <= found {
        return length;
    }
    let at_most = length.saturating_add((length / found.max(1) + 1).saturating_mul(put));
    if at_most <= SMALL || found == 0 {
        return at_most;
    }
    let count = text.text(row).matches(from.text(row)).count() as u64;
    length.saturating_add(count.saturating_mul(put))
}

fn translate(arguments: &[Argument], row: usize) -> u64 {
    let [text, _, to] = arguments else { return 0 };
    let growth = if to.text(row).is_ascii() { 1 } else { 4 };
    text.bytes(row).saturating_mul(growth)
}

fn concat_ws(arguments: &[Argument], row: usize) -> u64 {
    let [separator, parts @ ..] = arguments else {
        return 0;
    };
    let between = (parts.len() as u64).saturating_mul(separator.bytes(row));
    together(parts, row).saturating_add(between)
}

/// A reference to a group gives no more than the text over all matches.
fn regexp_replace(arguments: &[Argument], row: usize) -> u64 {
    let [text, _, replacement, flags @ ..] = arguments else {
        return 0;
    };
    let everywhere = flags.iter().any(|flags| flags.text(row).contains('g'));
    let length = text.bytes(row);
    let matches = if everywhere { length + 1 } else { 1 };
    let refers = |byte: &u8| matches!(byte, b'\\' | b'$');
    let references = replacement.text(row).bytes().filter(|byte| refers(byte));
    let copies = (references.count() as u64 + 1).saturating_mul(length);
    copies.saturating_add(matches.saturating_mul(replacement.bytes(row)))
}

/// Each group gives a text of its own.
fn regexp_match(arguments: &[Argument], row: usize) -> u64 {
    let [text, pattern, ..] = arguments else {
        return 0;
    };
    let groups = pattern.text(row).bytes().filter(|byte| *byte == b'(');
    (groups.count() as u64 + 1).saturating_mul(text.bytes(row) + SLOT)
}

/// No part of a format gives more than `%+`.
fn to_char(arguments: &[Argument], row: usize) -> u64 {
    let format = arguments.get(1).map_or(0, |format| format.bytes(row));
    format.saturating_mul(20).saturating_add(64)
}

fn array_to_string(arguments: &[Argument], row: usize) -> u64 {
    let [list, between @ ..] = arguments else {
        return 0;
    };
    let (count, bytes) = list.leaves(row);
    let each = widest_sum(between, row).saturating_add(PRINTED);
    bytes.saturating_add(count.saturating_mul(each))
}

fn widest_sum(arguments: &[Argument], row: usize) -> u64 {
    let bytes = arguments.iter().map(|argument| argument.bytes(row));
    bytes.fold(0, u64::saturating_add)
}

fn string_to_array(arguments: &[Argument], row: usize) -> u64 {
    let [text, delimiter, ..] = arguments else {
        return 0;
    };
    let length = text.bytes(row);
    let parts = match delimiter.bytes(row) {
        0 => length,
        _ if length <= SMALL => length,
        _ => text.text(row).matches(delimiter.text(row)).count() as u64,
    };
    length.saturating_add((parts + 1).saturating_mul(2 * SLOT))
}

fn series(arguments: &[Argument], row: usize) -> u64 {
    let (start, stop, step) = match arguments {
        [stop] => (Some(0), stop.moment(row), 1),
        [start, stop] => (start.moment(row), stop.moment(row), 1),
        [start, stop, step, ..] => (start.moment(row), stop.moment(row), step.step(row)),
        [] => return 0,
    };
    let (Some(start), Some(stop)) = (start, stop) else {
        return 0;
    };
    if step == 0 {
        return 0;
    }
    let count = (stop - start).unsigned_abs() / step + 1;
    u64::try_from(count)
        .unwrap_or(u64::MAX)
        .saturating_mul(SLOT)
}

fn array_repeat(arguments: &[Argument], row: usize) -> u64 {
    let [element, count] = arguments else {
        return 0;
    };
    let each = element.bytes(row).saturating_add(SLOT);
    each.saturating_mul(count.count(row))
}

fn array_resize(arguments: &[Argument], row: usize) -> u64 {
    let [list, length, fill @ ..] = arguments else {
        return 0;
    };
    let each = widest_sum(fill, row).saturating_add(SLOT);
    let fill = length.count(row).saturating_mul(each);
    list.bytes(row).saturating_add(fill)
}

fn array_replace(arguments: &[Argument], row: usize) -> u64 {
    let [list, _, to, ..] = arguments else {
        return 0;
    };
    let (count, bytes) = list.leaves(row);
    let put = count.saturating_mul(to.bytes(row).saturating_add(SLOT));
    bytes.saturating_add(put)
}

/// Shorter lists are filled up.
fn arrays_zip(arguments: &[Argument], row: usize) -> u64 {
    let counts = arguments.iter().map(|list| list.leaves(row).0);
    let filled = counts.max().unwrap_or(0).saturating_mul(SLOT);
    let filled = filled.saturating_mul(arguments.len() as u64);
    together(arguments, row).saturating_add(filled)
}

fn regex_steps(arguments: &[Argument], row: usize) -> u64 {
    matching(
        arguments,
        row,
        |pattern| Weight::of_regex(pattern, false),
        Weight::steps,
    )
}

fn all_regex_steps(arguments: &[Argument], row: usize) -> u64 {
    matching(
        arguments,
        row,
        |pattern| Weight::of_regex(pattern, false),
        Weight::all_steps,
    )
}

fn regex_group_steps(arguments: &[Argument], row: usize) -> u64 {
    matching(
        arguments,
        row,
        |pattern| Weight::of_regex(pattern, true),
        Weight::steps,
    )
}

fn all_regex_group_steps(arguments: &[Argument], row: usize) -> u64 {
    matching(
        arguments,
        row,
        |pattern| Weight::of_regex(pattern, true),
        Weight::all_steps,
    )
}

fn like_steps(arguments: &[Argument], row: usize) -> u64 {
    matching(arguments, row, Weight::of_like, Weight::steps)
}

fn matching(
    arguments: &[Argument],
    row: usize,
    weigh: fn(&str) -> Weight,
    steps: fn(Weight, u64, bool) -> u64,
) -> u64 {
    let [text, pattern, ..] = arguments else {
        return 0;
    };
    if text.is_null(row) || pattern.is_null(row) {
        return 0;
    }
    let (weight, anew) = pattern.weight(row, weigh);
    steps(weight, text.bytes(row), anew)
}

/// Every letter of one text with every one of the other.
fn levenshtein(arguments: &[Argument], row: usize) -> u64 {
    let [one, other, ..] = arguments else {
        return 0;
    };
    one.bytes(row).saturating_mul(other.bytes(row))
}

/// Texts that cannot become too large, whatever one letter becomes.
const SMALL: u64 = 4_096;
/// The longest that a number or time is written.
const PRINTED: u64 = 40;

/// Every function whose result may outgrow its arguments by more than a small factor.
const ESTIMATES: &[(&str, Estimate)] = &[
    ("!~", Estimate::Steps(regex_steps)),
    ("!~*", Estimate::Steps(regex_steps)),
    ("ILIKE", Estimate::Steps(like_steps)),
    ("LIKE", Estimate::Steps(like_steps)),
    ("NOT ILIKE", Estimate::Steps(like_steps)),
    ("NOT LIKE", Estimate::Steps(like_steps)),
    ("||", Estimate::Bytes(together)),
    ("~", Estimate::Steps(regex_steps)),
    ("~*", Estimate::Steps(regex_steps)),
    ("array_append", Estimate::Bytes(together)),
    ("array_concat", Estimate::Bytes(together)),
    ("array_prepend", Estimate::Bytes(together)),
    ("array_repeat", Estimate::Bytes(array_repeat)),
    ("array_replace", Estimate::Bytes(array_replace)),
    ("array_replace_all", Estimate::Bytes(array_replace)),
    ("array_replace_n", Estimate::Bytes(array_replace)),
    ("array_resize", Estimate::Bytes(array_resize)),
    ("array_to_string", Estimate::Bytes(array_to_string)),
    ("array_union", Estimate::Bytes(together)),
    ("arrays_zip", Estimate::Bytes(arrays_zip)),
    ("concat", Estimate::Bytes(together)),
    ("concat_ws", Estimate::Bytes(concat_ws)),
    ("generate_series", Estimate::Bytes(series)),
    ("greatest", Estimate::Bytes(widest)),
    ("least", Estimate::Bytes(widest)),
    ("levenshtein", Estimate::Steps(levenshtein)),
    ("lpad", Estimate::Bytes(pad)),
    ("make_array", Estimate::Bytes(together)),
    ("map", Estimate::Bytes(together)),
    ("named_struct", Estimate::Bytes(together)),
    ("nvl2", Estimate::Bytes(widest)),
    ("overlay", Estimate::Bytes(together)),
    ("range", Estimate::Bytes(series)),
    ("regexp_count", Estimate::Steps(all_regex_steps)),
    ("regexp_instr", Estimate::Steps(all_regex_group_steps)),
    ("regexp_like", Estimate::Steps(regex_steps)),
    (
        "regexp_match",
        Estimate::Both(regexp_match, regex_group_steps),
    ),
    (
        "regexp_replace",
        Estimate::Both(regexp_replace, all_regex_group_steps),
    ),
    ("repeat", Estimate::Bytes(repeat)),
    ("replace", Estimate::Bytes(replace)),
    ("rpad", Estimate::Bytes(pad)),
    ("string_to_array", Estimate::Bytes(string_to_array)),
    ("struct", Estimate::Bytes(together)),
    ("to_char", Estimate::Bytes(to_char)),
    ("translate", Estimate::Bytes(translate)),
];
