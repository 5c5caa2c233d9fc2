//! Which texts a tag must have for a filter to hold. A pure function from expressions to lists of
//! texts.
//!
//! Owns only what can be excluded safely: a list may hold too many texts, and must never lack one.
//! Whatever is not understood gives no list.

use arrow::datatypes::DataType;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Operator, TryCast};
use wal::{ColumnRole, Columns, TagFilter};

/// Tags of `columns` with the texts that they must have for `filter` to hold; all of them apply.
pub(crate) fn tag_filters(filter: &Expr, columns: &Columns) -> Vec<TagFilter> {
    match filter {
        Expr::BinaryExpr(binary) => binary_filters(binary, columns),
        Expr::InList(list) if !list.negated => list_filter(list, columns).into_iter().collect(),
        Expr::Alias(alias) => tag_filters(&alias.expr, columns),
        _ => Vec::new(),
    }
}

fn binary_filters(binary: &BinaryExpr, columns: &Columns) -> Vec<TagFilter> {
    let BinaryExpr { left, op, right } = binary;
    match op {
        Operator::And => {
            let mut all = tag_filters(left, columns);
            all.extend(tag_filters(right, columns));
            all
        }
        Operator::Or => either(tag_filters(left, columns), tag_filters(right, columns)),
        Operator::Eq | Operator::IsNotDistinctFrom => equality(left, right, columns)
            .or_else(|| equality(right, left, columns))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

/// A tag that only one side knows may have any text.
fn either(left: Vec<TagFilter>, mut right: Vec<TagFilter>) -> Vec<TagFilter> {
    let joined = left.into_iter().filter_map(|mut filter| {
        let same = right
            .iter()
            .position(|other| other.column == filter.column)?;
        filter.values.extend(right.swap_remove(same).values);
        Some(filter)
    });
    joined.collect()
}

fn equality(tag: &Expr, value: &Expr, columns: &Columns) -> Option<TagFilter> {
    Some(TagFilter {
        column: tag_column(tag, columns)?,
        values: vec![text(value)?.to_owned()],
    })
}

fn list_filter(list: &InList, columns: &Columns) -> Option<TagFilter> {
    let column = tag_column(&list.expr, columns)?;
    let values: Option<Vec<String>> = list
        .list
        .iter()
        .map(|item| text(item).map(str::to_owned))
        .collect();
    Some(TagFilter {
        column,
        values: values?,
    })
}

/// Index of the tag that `expr` stands for.
fn tag_column(expr: &Expr, columns: &Columns) -> Option<usize> {
    match expr {
        Expr::Column(column) => columns
            .iter()
            .position(|known| known.role == ColumnRole::Tag && *known.name == column.name),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })
            if is_text(field.data_type()) =>
        {
            tag_column(expr, columns)
        }
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })
            if is_text(field.data_type()) =>
        {
            text(expr)
        }
        _ => None,
    }
}

/// Whether a cast of text to this type keeps it as it is.
fn is_text(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::{cast, col, in_list, lit};
    use wal::{Column, ColumnType};

    /// `time`, the tags `site` and `device`, the text field `note`.
    fn columns() -> Columns {
        [
            ("time", ColumnRole::Time, ColumnType::Time),
            ("site", ColumnRole::Tag, ColumnType::Text),
            ("device", ColumnRole::Tag, ColumnType::Text),
            ("note", ColumnRole::Field, ColumnType::Text),
        ]
        .into_iter()
        .map(|(name, role, kind)| Column::new(name, role, kind))
        .collect()
    }

    fn found(filter: &Expr) -> Vec<(usize, Vec<String>)> {
        tag_filters(filter, &columns())
            .into_iter()
            .map(|filter| (filter.column, filter.values))
            .collect()
    }

    fn one(column: usize, values: &[&str]) -> Vec<(usize, Vec<String>)> {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        vec![(column, values)]
    }

    #[test]
    fn equalities_name_one_text() {
        assert_eq!(found(&col("device").eq(lit("a"))), one(2, &["a"]));
        assert_eq!(found(&lit("a").eq(col("site"))), one(1, &["a"]));
        for value in [
            ScalarValue::Utf8View(Some("a".to_owned())),
            ScalarValue::LargeUtf8(Some("a".to_owned())),
        ] {
            assert_eq!(found(&col("device").eq(lit(value))), one(2, &["a"]));
        }
    }

    #[test]
    fn casts_to_text_change_nothing() {
        let tag = cast(col("device"), DataType::Utf8);
        assert_eq!(found(&tag.clone().eq(lit("a"))), one(2, &["a"]));
        let value = cast(lit("a"), DataType::Utf8View);
        assert_eq!(found(&col("device").eq(value)), one(2, &["a"]));
        let number = cast(col("device"), DataType::Int64);
        assert!(found(&number.eq(lit(5_i64))).is_empty());
        assert!(found(&tag.eq(cast(lit(5_i64), DataType::Utf8))).is_empty());
    }

    #[test]
    fn lists_and_chains_of_or_are_unions() {
        let list = in_list(col("device"), vec![lit("a"), lit("b")], false);
        assert_eq!(found(&list), one(2, &["a", "b"]));
        let chain = col("device")
            .eq(lit("a"))
            .or(lit("b").eq(col("device")))
            .or(list);
        assert_eq!(found(&chain), one(2, &["a", "b", "a", "b"]));
    }

    #[test]
    fn what_may_hold_otherwise_excludes_nothing() {
        let tag = || col("device").eq(lit("a"));
        let null = Expr::Literal(ScalarValue::Utf8(None), None);
        for filter in [
            col("note").eq(lit("a")),
            col("nothing").eq(lit("a")),
            col("device").not_eq(lit("a")),
            col("device").gt(lit("a")),
            col("device").eq(col("site")),
            col("device").eq(null),
            in_list(col("device"), vec![lit("a")], true),
            in_list(col("device"), vec![lit("a"), col("site")], false),
            tag().or(col("site").eq(lit("b"))),
            tag().or(col("note").eq(lit("b"))),
            Expr::Not(Box::new(tag())),
        ] {
            assert!(found(&filter).is_empty(), "{filter}");
        }
    }

    #[test]
    fn and_keeps_both_sides_and_or_what_both_sides_know() {
        let device = |value: &str| col("device").eq(lit(value));
        let site = |value: &str| col("site").eq(lit(value));
        let both = device("a").and(site("n")).and(col("note").eq(lit("x")));
        let expected = [one(2, &["a"]), one(1, &["n"])].concat();
        assert_eq!(found(&both), expected);
        let either = both.clone().or(device("b").and(col("note").eq(lit("y"))));
        assert_eq!(found(&either), one(2, &["a", "b"]));
        let swapped = both.or(site("s").and(device("b")));
        let expected = [one(2, &["a", "b"]), one(1, &["n", "s"])].concat();
        assert_eq!(found(&swapped), expected);
    }
}
