//! `a IS [NOT] DISTINCT FROM b AND c`, which the parser reads as `a IS DISTINCT FROM (b AND c)`.
//! Owns how such a tree is regrouped; must never open a bracket that the client has written.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// Gives every IS [NOT] DISTINCT FROM the right side that SQL gives it.
pub(crate) fn regroup(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => {
            let _ = statement.visit(&mut Regroup);
        }
        Statement::Explain(explain) => regroup(&mut explain.statement),
        _ => {}
    }
}

struct Regroup;

impl VisitorMut for Regroup {
    type Break = ();

    /// What is below has been regrouped already, and may begin with what belongs to this operator.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let owned = std::mem::replace(expr, nothing());
        *expr = match owned {
            Expr::IsDistinctFrom(left, right) => hang(*right, IS, |first| {
                Expr::IsDistinctFrom(left, Box::new(first))
            }),
            Expr::IsNotDistinctFrom(left, right) => hang(*right, IS, |first| {
                Expr::IsNotDistinctFrom(left, Box::new(first))
            }),
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: inner,
            } => hang(*inner, NOT, |first| Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(first),
            }),
            Expr::BinaryOp { left, op, right } => match binding(&op) {
                Some(strength) => hang(*right, strength, |first| Expr::BinaryOp {
                    left,
                    op,
                    right: Box::new(first),
                }),
                None => Expr::BinaryOp { left, op, right },
            },
            other => other,
        };
        ControlFlow::Continue(())
    }
}

/// Wraps the first operand of `expr` that binds stronger than `strength`, and leaves above it what
/// binds weaker or comes later.
fn hang(expr: Expr, strength: u8, wrap: impl FnOnce(Expr) -> Expr) -> Expr {
    match expr {
        Expr::BinaryOp { left, op, right } if binding(&op).is_some_and(|own| own <= strength) => {
            Expr::BinaryOp {
                left: Box::new(hang(*left, strength, wrap)),
                op,
                right,
            }
        }
        Expr::IsDistinctFrom(left, right) if strength >= IS => {
            Expr::IsDistinctFrom(Box::new(hang(*left, strength, wrap)), right)
        }
        Expr::IsNotDistinctFrom(left, right) if strength >= IS => {
            Expr::IsNotDistinctFrom(Box::new(hang(*left, strength, wrap)), right)
        }
        other => match other {
            Expr::IsNull(e) if strength >= IS => Expr::IsNull(Box::new(hang(*e, strength, wrap))),
            Expr::IsNotNull(e) if strength >= IS => {
                Expr::IsNotNull(Box::new(hang(*e, strength, wrap)))
            }
            Expr::IsTrue(e) if strength >= IS => Expr::IsTrue(Box::new(hang(*e, strength, wrap))),
            Expr::IsNotTrue(e) if strength >= IS => {
                Expr::IsNotTrue(Box::new(hang(*e, strength, wrap)))
            }
            Expr::IsFalse(e) if strength >= IS => Expr::IsFalse(Box::new(hang(*e, strength, wrap))),
            Expr::IsNotFalse(e) if strength >= IS => {
                Expr::IsNotFalse(Box::new(hang(*e, strength, wrap)))
            }
            Expr::IsUnknown(e) if strength >= IS => {
                Expr::IsUnknown(Box::new(hang(*e, strength, wrap)))
            }
            Expr::IsNotUnknown(e) if strength >= IS => {
                Expr::IsNotUnknown(Box::new(hang(*e, strength, wrap)))
            }
            first => wrap(first),
        },
    }
}

/// How strongly the operators bind that bind weaker than IS.
fn binding(op: &BinaryOperator) -> Option<u8> {
    match op {
        BinaryOperator::And => Some(10),
        BinaryOperator::Or => Some(5),
        _ => None,
    }
}

fn nothing() -> Expr {
    Expr::Value(ValueWithSpan {
        value: Value::Null,
        span: Span::empty(),
    })
}

const IS: u8 = 17;
const NOT: u8 = 15;
