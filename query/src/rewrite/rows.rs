//! Rows of values in a statement's text, `(a, b) = (c, d)`, which DataFusion compares as structures:
//! NULL in one of them is a value there, and expressions in them are refused. Owns that they are
//! compared value by value; must never compare rows of different lengths.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator};

/// `expr` without rows, if it compares some.
///
/// # Errors
/// What to type, where rows cannot be compared.
pub(super) fn spread(expr: &Expr) -> Result<Option<Expr>, &'static str> {
    match expr {
        Expr::BinaryOp { left, op, right } if row(left).is_some() && row(right).is_some() => {
            compare(left, op, right)
        }
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right)
            if row(left).is_some() && row(right).is_some() =>
        {
            let distinct = each(left, right, &BinaryOperator::Or, &|a, b| {
                let (a, b) = (Box::new(a.clone()), Box::new(b.clone()));
                Ok(Expr::IsDistinctFrom(a, b))
            })?;
            let same = matches!(expr, Expr::IsNotDistinctFrom(..));
            Ok(Some(negated_if(same, distinct)))
        }
        Expr::InList {
            expr: value,
            list,
            negated,
        } if row(value).is_some() => {
            let equal = |item: &Expr| match compare(value, &BinaryOperator::Eq, item)? {
                Some(made) => Ok(made),
                None => Err(LENGTHS),
            };
            let items: Vec<Expr> = list.iter().map(equal).collect::<Result<_, _>>()?;
            Ok(joined(&items, &BinaryOperator::Or).map(|any| negated_if(*negated, any)))
        }
        Expr::Between {
            expr: value,
            negated,
            low,
            high,
        } if row(value).is_some() => {
            let low = compare(value, &BinaryOperator::GtEq, low)?.ok_or(LENGTHS)?;
            let high = compare(value, &BinaryOperator::LtEq, high)?.ok_or(LENGTHS)?;
            let between = binary(low, BinaryOperator::And, high);
            Ok(Some(negated_if(*negated, between)))
        }
        Expr::IsNull(value) | Expr::IsNotNull(value) => Ok(row(value).and_then(|values| {
            let test = |value: &Expr| match expr {
                Expr::IsNull(_) => Expr::IsNull(Box::new(value.clone())),
                _ => Expr::IsNotNull(Box::new(value.clone())),
            };
            let tests: Vec<Expr> = values.iter().map(test).collect();
            joined(&tests, &BinaryOperator::And)
        })),
        Expr::InSubquery { expr: value, .. } if row(value).is_some() => Err(SUBQUERY),
        _ => Ok(None),
    }
}

/// Bytes of the copies of values that `spread` makes of `expr`.
pub(super) fn copies(expr: &Expr) -> usize {
    match expr {
        Expr::BinaryOp { left, op, right } if is_ordering(op) && row(left).is_some() => {
            2 * (text_len(left) + text_len(right))
        }
        Expr::InList { expr, list, .. } if row(expr).is_some() => {
            text_len(expr).saturating_mul(list.len())
        }
        Expr::Between {
            expr, low, high, ..
        } if row(expr).is_some() => 4 * text_len(expr) + 2 * (text_len(low) + text_len(high)),
        _ => 0,
    }
}

/// How long `expr` is as text.
pub(super) fn text_len(expr: &Expr) -> usize {
    expr.to_string().len()
}

fn is_ordering(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Gt, GtEq, Lt, LtEq};
    matches!(op, Lt | LtEq | Gt | GtEq)
}

/// Two values, which may be rows themselves.
pub(super) fn pair(left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Expr, &'static str> {
    if row(left).is_some() || row(right).is_some() {
        return compare(left, op, right)?.ok_or(LENGTHS);
    }
    Ok(binary(left.clone(), op.clone(), right.clone()))
}

fn row(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Tuple(values) if !values.is_empty() => Some(values),
        Expr::Nested(inner) => row(inner),
        _ => None,
    }
}

/// None for an operator that does not compare.
fn compare(left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Option<Expr>, &'static str> {
    let first = match op {
        BinaryOperator::Eq => {
            return each(left, right, &BinaryOperator::And, &|a, b| pair(a, op, b)).map(Some);
        }
        BinaryOperator::NotEq => {
            return each(left, right, &BinaryOperator::Or, &|a, b| pair(a, op, b)).map(Some);
        }
        BinaryOperator::Lt | BinaryOperator::LtEq => BinaryOperator::Lt,
        BinaryOperator::Gt | BinaryOperator::GtEq => BinaryOperator::Gt,
        _ => return Ok(None),
    };
    let (left, right) = (row(left).ok_or(LENGTHS)?, row(right).ok_or(LENGTHS)?);
    if left.len() != right.len() {
        return Err(LENGTHS);
    }
    let mut made: Option<Expr> = None;
    for (a, b) in left.iter().zip(right).rev() {
        made = Some(match made {
            None => pair(a, op, b)?,
            // Those before decide, where they differ.
            Some(rest) => {
                let same = pair(a, &BinaryOperator::Eq, b)?;
                let rest = binary(same, BinaryOperator::And, rest);
                binary(pair(a, &first, b)?, BinaryOperator::Or, rest)
            }
        });
    }
    Ok(made)
}

/// Values of two rows, side by side.
fn each(
    left: &Expr,
    right: &Expr,
    join: &BinaryOperator,
    make: &dyn Fn(&Expr, &Expr) -> Result<Expr, &'static str>,
) -> Result<Expr, &'static str> {
    let (left, right) = (row(left).ok_or(LENGTHS)?, row(right).ok_or(LENGTHS)?);
    if left.len() != right.len() {
        return Err(LENGTHS);
    }
    let pairs: Vec<Expr> = left
        .iter()
        .zip(right)
        .map(|(a, b)| make(a, b))
        .collect::<Result<_, _>>()?;
    joined(&pairs, join).ok_or(LENGTHS)
}

/// In a tree that is not deep.
fn joined(items: &[Expr], join: &BinaryOperator) -> Option<Expr> {
    match items {
        [] => None,
        [item] => Some(item.clone()),
        _ => {
            let (first, second) = items.split_at(items.len() / 2);
            Some(binary(
                joined(first, join)?,
                join.clone(),
                joined(second, join)?,
            ))
        }
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    let (left, right) = (Box::new(left), Box::new(right));
    Expr::Nested(Box::new(Expr::BinaryOp { left, op, right }))
}

fn negated_if(negated: bool, expr: Expr) -> Expr {
    if !negated {
        return expr;
    }
    let (op, expr) = (UnaryOperator::Not, Box::new(expr));
    Expr::Nested(Box::new(Expr::UnaryOp { op, expr }))
}

const LENGTHS: &str = "rows of values are compared with rows of as many values: (a, b) = (1, 2)";
const SUBQUERY: &str = "a row of values IN (SELECT ...): type EXISTS (SELECT 1 FROM ... WHERE x = a \
                        AND y = b)";
