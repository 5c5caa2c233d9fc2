//! Every growing function of a plan within bounds, also those that planners put there themselves.
//! Must never change the name or the type of an expression.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ExprSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::expr::{ScalarFunction, WindowFunctionDefinition};
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, WindowUDF,
};
use datafusion::optimizer::AnalyzerRule;

use super::aggregate::BoundedAggregate;
use super::operation::Operation;
use super::patterns::Weight;
use super::scalar::{Bounded, MAX_VALUE_BYTES};
use super::windows::BoundedWindow;
use crate::each_expr::each_expr;
use crate::error::QueryError;

/// The functions that may outgrow their arguments, each within bounds.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    /// All over windows, each row of which has a copy of their value.
    windowed: HashMap<String, Arc<AggregateUDF>>,
    /// All of distinct values.
    distinct: HashMap<String, Arc<AggregateUDF>>,
    operations: HashMap<Operator, Arc<ScalarUDF>>,
    pool: Option<Arc<dyn MemoryPool>>,
}

impl Functions {
    pub(crate) fn of(
        scalars: &[Arc<ScalarUDF>],
        aggregates: &[Arc<AggregateUDF>],
        pool: &Arc<dyn MemoryPool>,
    ) -> Self {
        let bounded = |(op, operation): (Operator, Operation)| {
            let function = Arc::new(ScalarUDF::new_from_impl(operation));
            Some((op, Arc::new(Bounded::around(&function, pool)?)))
        };
        Self {
            scalars: scalars
                .iter()
                .filter_map(|function| Bounded::around(function, pool))
                .map(|function| (function.name().to_owned(), Arc::new(function)))
                .collect(),
            aggregates: aggregates
                .iter()
                .filter_map(|function| BoundedAggregate::around(function, pool))
                .map(|function| (function.name().to_owned(), Arc::new(function)))
                .collect(),
            windowed: aggregates
                .iter()
                .map(|function| BoundedAggregate::around_window(function, pool))
                .map(|function| (function.name().to_owned(), Arc::new(function)))
                .collect(),
            distinct: aggregates
                .iter()
                .map(|function| BoundedAggregate::around_distinct(function, pool))
                .map(|function| (function.name().to_owned(), Arc::new(function)))
                .collect(),
            operations: Operation::all().filter_map(bounded).collect(),
            pool: Some(Arc::clone(pool)),
        }
    }

    /// `function` within bounds, where it needs any.
    pub(crate) fn scalar(&self, function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
        let bounded = self.scalars.get(function.name());
        bounded.map_or(function, Arc::clone)
    }

    pub(crate) fn aggregate(&self, function: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
        let bounded = self.aggregates.get(function.name());
        bounded.map_or(function, Arc::clone)
    }

    pub(crate) fn window(&self, function: Arc<WindowUDF>) -> Arc<WindowUDF> {
        match &self.pool {
            Some(pool) => BoundedWindow::around(function, pool),
            None => function,
        }
    }

    fn within(&self, expr: Expr, schema: &dyn ExprSchema) -> Result<Transformed<Expr>> {
        if let Expr::ScalarFunction(call) = &expr
            && CASTS.contains(&call.func.name())
        {
            check_width(call.func.name(), &expr.get_type(schema)?)?;
        }
        Ok(match expr {
            Expr::ScalarFunction(mut call) => match self.scalars.get(call.func.name()) {
                Some(bounded) => {
                    call.func = Arc::clone(bounded);
                    Transformed::yes(Expr::ScalarFunction(call))
                }
                None => Transformed::no(Expr::ScalarFunction(call)),
            },
            Expr::AggregateFunction(mut call) => {
                let name = call.func.name();
                let grows = self.aggregates.get(name);
                let distinct = || self.distinct.get(name).filter(|_| call.params.distinct);
                match grows.or_else(distinct) {
                    Some(bounded) => {
                        call.func = Arc::clone(bounded);
                        Transformed::yes(Expr::AggregateFunction(call))
                    }
                    None => Transformed::no(Expr::AggregateFunction(call)),
                }
            }
            Expr::WindowFunction(mut call) => {
                let bounded = match &call.fun {
                    WindowFunctionDefinition::AggregateUDF(function) => {
                        self.windowed.get(function.name())
                    }
                    WindowFunctionDefinition::WindowUDF(_) => None,
                };
                match bounded {
                    Some(bounded) => {
                        call.fun = WindowFunctionDefinition::AggregateUDF(Arc::clone(bounded));
                        Transformed::yes(Expr::WindowFunction(call))
                    }
                    None => Transformed::no(Expr::WindowFunction(call)),
                }
            }
            Expr::BinaryExpr(both) if !is_light(both.op, &both.right) => {
                match self.operation(both.op, &both.left, &both.right, schema) {
                    Some(call) => Transformed::yes(call),
                    None => Transformed::no(Expr::BinaryExpr(both)),
                }
            }
            Expr::Like(like) => {
                let op = match (like.negated, like.case_insensitive) {
                    (false, false) => Operator::LikeMatch,
                    (false, true) => Operator::ILikeMatch,
                    (true, false) => Operator::NotLikeMatch,
                    (true, true) => Operator::NotILikeMatch,
                };
                let call = match like.escape_char {
                    None if !is_light(op, &like.pattern) => {
                        self.operation(op, &like.expr, &like.pattern, schema)
                    }
                    _ => None,
                };
                match call {
                    Some(call) => Transformed::yes(call),
                    None => Transformed::no(Expr::Like(like)),
                }
            }
            other => Transformed::no(other),
        })
    }

    /// An operator of two texts as a function within bounds.
    fn operation(
        &self,
        op: Operator,
        left: &Expr,
        right: &Expr,
        schema: &dyn ExprSchema,
    ) -> Option<Expr> {
        let bounded = self.operations.get(&op)?;
        let (one, other) = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
        if one != other || !is_text(&one) {
            return None;
        }
        let args = vec![left.clone(), right.clone()];
        let call = ScalarFunction::new_udf(Arc::clone(bounded), args);
        Some(Expr::ScalarFunction(call))
    }
}

/// Whether any text is compared with a pattern in few steps; such is left to the planner, which knows
/// simpler ways for some.
fn is_light(op: Operator, pattern: &Expr) -> bool {
    let weight: fn(&str) -> Weight = match op {
        Operator::RegexMatch
        | Operator::RegexIMatch
        | Operator::RegexNotMatch
        | Operator::RegexNotIMatch => |pattern| Weight::of_regex(pattern, false),
        Operator::LikeMatch
        | Operator::ILikeMatch
        | Operator::NotLikeMatch
        | Operator::NotILikeMatch => Weight::of_like,
        _ => return false,
    };
    match pattern {
        Expr::Literal(value, _) => match value.try_as_str() {
            Some(Some(text)) => weight(text).is_light(),
            _ => true,
        },
        _ => false,
    }
}

/// Values of a fixed size take it even where they are null.
fn check_width(function: &str, data_type: &DataType) -> Result<()> {
    let wanted = width(data_type);
    if wanted <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let refusal = QueryError::ValueTooLarge {
        function: function.to_owned(),
        wanted,
        limit: MAX_VALUE_BYTES,
        unit: "bytes",
        of: "one value".to_owned(),
    };
    Err(refusal.into())
}

fn width(data_type: &DataType) -> u64 {
    let size = |size: i32| u64::try_from(size).unwrap_or(0);
    match data_type {
        DataType::FixedSizeBinary(bytes) => size(*bytes),
        DataType::FixedSizeList(field, length) => {
            width(field.data_type()).saturating_mul(size(*length))
        }
        DataType::List(field) | DataType::LargeList(field) => width(field.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| width(field.data_type())).sum(),
        _ => 8,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Puts the functions of a plan within bounds, after their arguments have got their types.
pub(crate) struct BoundFunctions(pub(crate) Arc<Functions>);

impl fmt::Debug for BoundFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundFunctions").finish_non_exhaustive()
    }
}

impl AnalyzerRule for BoundFunctions {
    fn name(&self) -> &'static str {
        "bound_functions"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            each_expr(plan, |expr, schema| self.0.within(expr, schema))
        })
        .map(|bounded| bounded.data)
    }
}

/// Functions that a text tells the type of what they make.
const CASTS: &[&str] = &["arrow_cast", "arrow_try_cast"];
