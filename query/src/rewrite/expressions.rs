//! Operators that DataFusion computes wrongly, replaced in every expression of a plan once types
//! are known. Owns which; must never change the name of a column.
//!
//! Integers: `+ - *` and the minus sign wrap around. Floats: a computed zero may be negative, a
//! computed NaN too, and both are then no longer equal to the others. Times: a comparison is drawn
//! through a cast between a wall clock and a zone as if that did not move the instant. Lists of IN:
//! a CASE among them is computed once, without a row. Years: their ends may be no times.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{
    BinaryExpr, Case, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::carriers::{Kernel, carried, carry};
use super::{spans, times, years};
use crate::each_expr::each_expr;

/// The replacements, after types have been made to agree.
#[derive(Debug)]
pub(crate) struct Expressions;

impl AnalyzerRule for Expressions {
    fn name(&self) -> &'static str {
        "right_expressions"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(replace_in)?.data)
    }
}

fn replace_in(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    each_expr(plan, |expr, schema| {
        let timed = times::replace(expr, schema)?;
        let spanned = timed.transform_data(|expr| spans::replace(expr, schema))?;
        spanned.transform_data(|expr| Ok(replace(expr, schema)))
    })?
    .map_data(LogicalPlan::recompute_schema)
}

/// One operator, whose operands have been looked at.
fn replace(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let Some(kernel) = kernel(&expr, schema) else {
        return match expr {
            Expr::InList(list) if list.list.iter().any(is_computed) => {
                Transformed::yes(spelled_out(list))
            }
            Expr::ScalarFunction(call) => checked(call),
            Expr::BinaryExpr(both) if matches!(both.op, Operator::And | Operator::Or) => {
                guarded(both, schema)
            }
            Expr::BinaryExpr(both) if is_distinction(both.op) => whole(both),
            Expr::Literal(value, metadata) if is_odd(&value) => {
                Transformed::yes(Expr::Literal(made_even(value), metadata))
            }
            other => Transformed::no(other),
        };
    };
    Transformed::yes(match (kernel, expr) {
        (Kernel::OneZero, Expr::BinaryExpr(BinaryExpr { left, op, right })) => {
            // What is divided by a zero takes its sign.
            let right = match op {
                Operator::Divide | Operator::Modulo => *right,
                _ => bare(*right),
            };
            let (left, right) = (Box::new(bare(*left)), Box::new(right));
            let inner = Expr::BinaryExpr(BinaryExpr { left, op, right });
            carry(Kernel::OneZero, vec![inner])
        }
        (Kernel::OneZero, Expr::Negative(value)) => {
            let inner = Expr::Negative(Box::new(bare(*value)));
            carry(Kernel::OneZero, vec![inner])
        }
        (Kernel::OneZero, Expr::ScalarFunction(call)) => {
            carry(Kernel::OneZero, vec![checked(call).data])
        }
        (Kernel::OneZero, other) => carry(Kernel::OneZero, vec![other]),
        (kernel, Expr::BinaryExpr(BinaryExpr { left, right, .. })) => {
            carry(kernel, vec![*left, *right])
        }
        (
            kernel,
            Expr::Negative(expr)
            | Expr::Cast(Cast { expr, .. })
            | Expr::TryCast(TryCast { expr, .. }),
        ) => carry(kernel, vec![*expr]),
        (_, other) => other,
    })
}

/// IS DISTINCT FROM something that may turn out to be NULL: compared with what TRY_CAST was given, no
/// value that cannot be cast would be one.
fn whole(both: BinaryExpr) -> Transformed<Expr> {
    let BinaryExpr { left, op, right } = both;
    let tried = |side: &Expr| matches!(side, Expr::TryCast(_));
    let changed = tried(&left) || tried(&right);
    let hidden = |side: Box<Expr>| {
        if tried(&side) {
            Box::new(carry(Kernel::Same, vec![*side]))
        } else {
            side
        }
    };
    let (left, right) = (hidden(left), hidden(right));
    let both = Expr::BinaryExpr(BinaryExpr { left, op, right });
    if changed {
        Transformed::yes(both)
    } else {
        Transformed::no(both)
    }
}

fn is_distinction(op: Operator) -> bool {
    matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom)
}

fn checked(mut call: ScalarFunction) -> Transformed<Expr> {
    match years::checked(&call.func) {
        Some(func) => {
            call.func = func;
            Transformed::yes(Expr::ScalarFunction(call))
        }
        None => Transformed::no(Expr::ScalarFunction(call)),
    }
}

/// AND and OR, whose left side may be there so that the right one does not divide by zero: what it
/// divides by is NULL where the left side decides.
fn guarded(both: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    let BinaryExpr { left, op, right } = both;
    let open = match divisions(&right) {
        1..=MOST_GUARDED => open(&left, op),
        _ => None,
    };
    let Some(open) = open else {
        return Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }));
    };
    let guard = |mut division: BinaryExpr| {
        let kind = division.right.get_type(schema);
        if kind.is_ok_and(|kind| has_two_zeros(&kind)) {
            return Transformed::no(Expr::BinaryExpr(division));
        }
        division.right = Box::new(Expr::Case(Case {
            expr: None,
            when_then_expr: vec![(Box::new(open.clone()), division.right)],
            else_expr: None,
        }));
        Transformed::yes(Expr::BinaryExpr(division))
    };
    let whole = right.clone();
    let right = right.transform_up(|part| {
        Ok(match part {
            Expr::BinaryExpr(division) if is_division_by(division.op, &division.right) => {
                guard(division)
            }
            other => Transformed::no(other),
        })
    });
    let right = Box::new(right.map_or(*whole, |made| made.data));
    Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
}

/// Whether what is left of `op` leaves the answer open. Looks at no part that divides itself: each
/// of a chain would carry all those before it, twice as much each time.
fn open(left: &Expr, op: Operator) -> Option<Expr> {
    let mut rest = vec![left];
    let (mut parts, mut room) = (Vec::new(), GUARD_NODES);
    while let Some(part) = rest.pop() {
        match part {
            Expr::BinaryExpr(both) if both.op == op => {
                rest.push(&both.right);
                rest.push(&both.left);
            }
            Expr::Literal(..) => {}
            other if other.exists(is_costly).unwrap_or(true) => {}
            other => {
                if let Some(left) = room.checked_sub(nodes(other)) {
                    room = left;
                    parts.push(other);
                }
            }
        }
    }
    let tests = parts.into_iter().map(|part| {
        let part = Box::new(part.clone());
        match op {
            Operator::And => Expr::IsNotFalse(part),
            _ => Expr::IsNotTrue(part),
        }
    });
    tests.reduce(Expr::and)
}

/// What is not asked twice.
fn is_costly(part: &Expr) -> Result<bool> {
    Ok(match part {
        Expr::BinaryExpr(BinaryExpr { op, right, .. }) => {
            matches!(op, Operator::Divide | Operator::Modulo)
                && !matches!(**right, Expr::Literal(..))
        }
        Expr::ScalarSubquery(_)
        | Expr::InSubquery(_)
        | Expr::Exists(_)
        | Expr::SetComparison(_) => true,
        other => other.is_volatile_node(),
    })
}

fn is_division(part: &Expr) -> bool {
    match part {
        Expr::BinaryExpr(BinaryExpr { op, right, .. }) => is_division_by(*op, right),
        _ => false,
    }
}

/// How many divisions are in `expr`; more than are guarded where there are more.
fn divisions(expr: &Expr) -> usize {
    count(expr, MOST_GUARDED, is_division)
}

/// Of how many nodes `expr` is; more than a guard has where there are more.
fn nodes(expr: &Expr) -> usize {
    count(expr, GUARD_NODES, |_| true)
}

/// How many nodes are such, up to one more than `most`.
fn count(expr: &Expr, most: usize, is_such: impl Fn(&Expr) -> bool) -> usize {
    let mut found = 0;
    let counted = expr.apply(|part| {
        found += usize::from(is_such(part));
        Ok(if found > most {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    counted.map_or(most + 1, |_| found)
}

/// By something else than a constant, which is not looked after already.
fn is_division_by(op: Operator, divisor: &Expr) -> bool {
    matches!(op, Operator::Divide | Operator::Modulo)
        && !matches!(divisor, Expr::Literal(..) | Expr::Case(_))
}

/// Whether an item of a list differs from row to row and is no column: some of those are taken for
/// what they are where there is no row.
fn is_computed(item: &Expr) -> bool {
    !matches!(item, Expr::Column(_) | Expr::OuterReferenceColumn(..))
        && (!item.column_refs().is_empty() || item.contains_outer())
}

/// `x IN (a, b)` as `x = a OR x = b`, in a tree that is not deep.
fn spelled_out(list: InList) -> Expr {
    let InList {
        expr,
        list,
        negated,
    } = list;
    let mut terms: Vec<Expr> = list
        .into_iter()
        .map(|item| (*expr).clone().eq(item))
        .collect();
    while terms.len() > 1 {
        let mut pairs = Vec::with_capacity(terms.len().div_ceil(2));
        let mut rest = terms.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => left.or(right),
                None => left,
            });
        }
        terms = pairs;
    }
    let found = terms.pop().unwrap_or_else(|| lit(false));
    if negated {
        Expr::Not(Box::new(found))
    } else {
        found
    }
}

/// What must compute instead of this operator, if anything.
fn kernel(expr: &Expr, schema: &DFSchema) -> Option<Kernel> {
    match expr {
        // The right side first: in long chains it is the short one.
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_arithmetic(*op) => {
            let kind = right.get_type(schema).ok()?;
            if has_two_zeros(&kind) {
                return Some(Kernel::OneZero);
            }
            if !kind.is_integer() || !is_integer(left, schema) {
                return None;
            }
            match op {
                Operator::Plus => Some(Kernel::Add),
                Operator::Minus => Some(Kernel::Subtract),
                Operator::Multiply => Some(Kernel::Multiply),
                _ => None,
            }
        }
        Expr::Negative(value) => {
            let kind = value.get_type(schema).ok()?;
            if has_two_zeros(&kind) {
                return Some(Kernel::OneZero);
            }
            kind.is_signed_integer().then_some(Kernel::Negate)
        }
        Expr::Cast(Cast { expr, field }) => cast_kernel(expr, field.data_type(), false, schema),
        Expr::TryCast(TryCast { expr, field }) => {
            cast_kernel(expr, field.data_type(), true, schema)
        }
        Expr::ScalarFunction(ScalarFunction { func, .. }) if carried(func).is_none() => {
            let kind = expr.get_type(schema).ok()?;
            has_two_zeros(&kind).then_some(Kernel::OneZero)
        }
        _ => None,
    }
}

/// Looks no deeper than it has to.
fn is_integer(expr: &Expr, schema: &DFSchema) -> bool {
    if let Expr::ScalarFunction(ScalarFunction { func, .. }) = expr
        && let Some(Kernel::Add | Kernel::Subtract | Kernel::Multiply | Kernel::Negate) =
            carried(func)
    {
        return true;
    }
    expr.get_type(schema).is_ok_and(|kind| kind.is_integer())
}

fn cast_kernel(expr: &Expr, to: &DataType, safe: bool, schema: &DFSchema) -> Option<Kernel> {
    if has_two_zeros(to) {
        let from = expr.get_type(schema).ok()?;
        return from.is_string().then_some(Kernel::OneZero);
    }
    let DataType::Timestamp(_, new) = to else {
        return None;
    };
    let DataType::Timestamp(_, old) = expr.get_type(schema).ok()? else {
        return None;
    };
    let moves = match (&old, new) {
        (None, Some(zone)) | (Some(zone), None) => !is_utc(zone),
        _ => false,
    };
    let to = to.clone();
    moves.then_some(Kernel::Move { to, safe })
}

fn is_arithmetic(op: Operator) -> bool {
    matches!(
        op,
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
    )
}

fn has_two_zeros(kind: &DataType) -> bool {
    matches!(kind, DataType::Float32 | DataType::Float64)
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "+00:00" | "UTC" | "Z" | "+00" | "+0000" | "Etc/UTC")
}

/// An operand whose zero does not matter, because that of the result is looked after.
fn bare(expr: Expr) -> Expr {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, mut args })
            if carried(&func) == Some(&Kernel::OneZero) && args.len() == 1 =>
        {
            args.remove(0)
        }
        other => other,
    }
}

/// Whether a literal is a zero or a NaN that equals no other.
fn is_odd(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float64(Some(v)) => v.to_bits() != even(*v).to_bits(),
        ScalarValue::Float32(Some(v)) => (*v == 0.0 || v.is_nan()) && v.is_sign_negative(),
        _ => false,
    }
}

fn made_even(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Float64(Some(v)) => ScalarValue::Float64(Some(even(v))),
        ScalarValue::Float32(Some(v)) => {
            ScalarValue::Float32(Some(if v.is_nan() { f32::NAN } else { v + 0.0 }))
        }
        other => other,
    }
}

fn even(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else {
        value + 0.0
    }
}

/// Of how many nodes the guard of a division is, and how many divisions have the same one: each has
/// a copy.
const GUARD_NODES: usize = 24;
const MOST_GUARDED: usize = 1_000;
