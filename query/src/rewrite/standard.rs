//! Operators that DataFusion reads otherwise than standard SQL and PostgreSQL do, in a statement's
//! text: SIMILAR TO, ANY and ALL of an array, rows of values, `^`. Owns what they are put as, and how
//! much longer a statement may become by it; must never hand on one that is read otherwise.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value, VisitMut, VisitorMut};

use super::rows;
use crate::error::QueryError;

/// Puts the operators of `statement` in words that are read rightly.
///
/// # Errors
/// When one has none.
pub(crate) fn standardize(statement: &mut Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(inner) => match inner.visit(&mut Standard { room: MAX_COPIES }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(refusal) => Err(QueryError::NotSupported(refusal.to_owned())),
        },
        Statement::Explain(explain) => standardize(&mut explain.statement),
        _ => Ok(()),
    }
}

struct Standard {
    /// Bytes of text that copies of operands may have yet.
    room: usize,
}

impl VisitorMut for Standard {
    type Break = &'static str;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        // Before they are made: what is in each other multiplies.
        match self.room.checked_sub(copies(expr)) {
            Some(room) => self.room = room,
            None => return ControlFlow::Break(TOO_MANY),
        }
        let made = match expr {
            Expr::SimilarTo {
                negated,
                expr: value,
                pattern,
                escape_char,
            } => {
                let escape = match escape_char.as_ref().map(|escape| &escape.value) {
                    Some(Value::SingleQuotedString(text)) => text.chars().next(),
                    _ => Some('\\'),
                };
                let Some(regex) = literal(pattern).and_then(|text| regex(text, escape)) else {
                    return ControlFlow::Break(SIMILAR);
                };
                let op = if *negated {
                    BinaryOperator::PGRegexNotMatch
                } else {
                    BinaryOperator::PGRegexMatch
                };
                let regex = Value::SingleQuotedString(regex).with_empty_span();
                both(value, op, Expr::Value(regex))
            }
            Expr::AnyOp {
                left,
                compare_op,
                right,
                ..
            } => match elements(right) {
                Some(items) => match chain(left, compare_op, items, &BinaryOperator::Or) {
                    Ok(made) => made,
                    Err(refusal) => return ControlFlow::Break(refusal),
                },
                None => return ControlFlow::Continue(()),
            },
            Expr::AllOp {
                left,
                compare_op,
                right,
            } => match elements(right) {
                Some(items) => match chain(left, compare_op, items, &BinaryOperator::And) {
                    Ok(made) => made,
                    Err(refusal) => return ControlFlow::Break(refusal),
                },
                None => return ControlFlow::Continue(()),
            },
            Expr::BinaryOp {
                op: BinaryOperator::BitwiseXor,
                ..
            } => return ControlFlow::Break(CARET),
            _ => match rows::spread(expr) {
                Ok(Some(made)) => made,
                Ok(None) => return ControlFlow::Continue(()),
                Err(refusal) => return ControlFlow::Break(refusal),
            },
        };
        *expr = made;
        ControlFlow::Continue(())
    }
}

/// Bytes of the copies of operands that `expr` is put with.
fn copies(expr: &Expr) -> usize {
    match expr {
        Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
            elements(right).map_or(0, |items| rows::text_len(left).saturating_mul(items.len()))
        }
        _ => rows::copies(expr),
    }
}

fn both(left: &Expr, op: BinaryOperator, right: Expr) -> Expr {
    let binary = Expr::BinaryOp {
        left: Box::new(left.clone()),
        op,
        right: Box::new(right),
    };
    Expr::Nested(Box::new(binary))
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        Expr::Nested(inner) => literal(inner),
        _ => None,
    }
}

/// Those of an array that is spelled out, and has any.
fn elements(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Array(array) if !array.elem.is_empty() => Some(&array.elem),
        Expr::Nested(inner) => elements(inner),
        _ => None,
    }
}

/// `left` compared with each of `items`, in a tree that is not deep.
fn chain(
    left: &Expr,
    compare: &BinaryOperator,
    items: &[Expr],
    join: &BinaryOperator,
) -> Result<Expr, &'static str> {
    if let [item] = items {
        return rows::pair(left, compare, item);
    }
    let (first, second) = items.split_at(items.len() / 2);
    let first = chain(left, compare, first, join)?;
    let second = chain(left, compare, second, join)?;
    Ok(both(&first, join.clone(), second))
}

/// A pattern of SIMILAR TO as a regular expression.
fn regex(pattern: &str, escape: Option<char>) -> Option<String> {
    let mut made = String::from("^(?s:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(next) = chars.next() {
        if Some(next) == escape {
            let literal = chars.next()?;
            if !literal.is_alphanumeric() {
                made.push('\\');
            }
            made.push(literal);
            continue;
        }
        match next {
            '[' if !in_class => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
        match next {
            '%' if !in_class => made.push_str(".*"),
            '_' if !in_class => made.push('.'),
            '.' | '^' | '$' if !in_class => {
                made.push('\\');
                made.push(next);
            }
            '\\' => made.push_str("\\\\"),
            other => made.push(other),
        }
    }
    made.push_str(")$");
    Some(made)
}

/// Some times the longest statement.
const MAX_COPIES: usize = 4 << 20;

const TOO_MANY: &str = "so many comparisons in each other, of rows of values or with the elements of \
                        arrays: type them as a join, or fewer of them";
const SIMILAR: &str = "SIMILAR TO with a pattern that is no constant, or none: type ~ and a regular \
                       expression";
const CARET: &str = "a ^ b is a power in PostgreSQL and DuckDB and an exclusive or elsewhere: type \
                     power(a, b), or (a | b) - (a & b)";

#[cfg(test)]
mod tests {
    use super::regex;

    #[test]
    fn patterns_of_similar_to_are_regular_expressions_of_the_whole_text() {
        for (pattern, expected) in [
            ("(a|b)%", "^(?s:(a|b).*)$"),
            ("_b_", "^(?s:.b.)$"),
            ("a.b", "^(?s:a\\.b)$"),
            ("a\\%", "^(?s:a\\%)$"),
            ("[^%_]+", "^(?s:[^%_]+)$"),
            ("a{2,3}", "^(?s:a{2,3})$"),
        ] {
            assert_eq!(regex(pattern, Some('\\')).as_deref(), Some(expected));
        }
        assert_eq!(regex("a\\", Some('\\')), None);
    }
}
