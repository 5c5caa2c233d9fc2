//! IN (SELECT ...) where NULL must not be taken for false. Owns the three values of such a
//! condition; must never touch one for which true and everything else is all that counts.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Case, Exists, InSubquery};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery,
    lit,
};
use datafusion::optimizer::AnalyzerRule;

/// Puts IN (SELECT ...) as EXISTS where it has to.
#[derive(Debug)]
pub(crate) struct Membership;

impl AnalyzerRule for Membership {
    fn name(&self) -> &'static str {
        "membership"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    match plan {
        LogicalPlan::Filter(Filter {
            predicate, input, ..
        }) if has_membership(&predicate)? => {
            let predicate = condition(predicate, &schema)?;
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(
                predicate, input,
            )?)))
        }
        LogicalPlan::Join(mut join) => match join.filter.take() {
            Some(filter) if has_membership(&filter)? => {
                join.filter = Some(condition(filter, &schema)?);
                Ok(Transformed::yes(LogicalPlan::Join(join)))
            }
            filter => {
                join.filter = filter;
                Ok(Transformed::no(LogicalPlan::Join(join)))
            }
        },
        other => Ok(Transformed::no(other)),
    }
}

fn has_membership(expr: &Expr) -> Result<bool> {
    expr.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_))))
}

/// A condition of which only true counts.
fn condition(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::And | Operator::Or),
            right,
        }) => Ok(Expr::BinaryExpr(BinaryExpr::new(
            Box::new(condition(*left, schema)?),
            op,
            Box::new(condition(*right, schema)?),
        ))),
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(InSubquery {
                expr,
                subquery,
                negated,
            }) => condition(
                Expr::InSubquery(InSubquery::new(expr, subquery, !negated)),
                schema,
            ),
            inner => value(Expr::Not(Box::new(inner)), schema),
        },
        Expr::InSubquery(InSubquery { negated: false, .. }) => Ok(expr),
        Expr::InSubquery(membership) => Questions::new(membership, schema)?.none(),
        other => value(other, schema),
    }
}

/// An expression of which all three values count.
fn value(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let replaced = expr.transform_up(|expr| match expr {
        Expr::InSubquery(membership) => {
            let negated = membership.negated;
            let found = Questions::new(membership, schema)?.three_valued();
            Ok(Transformed::yes(if negated {
                Expr::Not(Box::new(found))
            } else {
                found
            }))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}

/// What decides `value IN (SELECT ...)`, as conditions that are never NULL.
struct Questions {
    value: Expr,
    /// A row equals the value.
    equal: Expr,
    /// A row is NULL; `None` where none can be.
    null: Option<Expr>,
    /// The value is NULL and there is a row; `None` where it cannot be.
    unknown: Option<Expr>,
}

impl Questions {
    fn new(membership: InSubquery, schema: &DFSchema) -> Result<Self> {
        let InSubquery { expr, subquery, .. } = membership;
        let value = *expr;
        if value.contains_outer() {
            return Err(DataFusionError::NotImplemented(
                "NOT IN (SELECT ...) of a column of an outer query; \
                 write NOT EXISTS (SELECT ... WHERE ...) instead"
                    .to_owned(),
            ));
        }
        let rows = subquery.subquery.schema();
        let row = Expr::Column(Column::from(rows.qualified_field(0)));
        let row_is_nullable = rows.field(0).is_nullable();
        let value_is_nullable = value.nullable(schema)?;
        let outer = outside(value.clone(), schema)?;
        let equal = exists(&subquery, Some(row.clone().eq(outer)))?;
        let null = row_is_nullable
            .then(|| exists(&subquery, Some(row.is_null())))
            .transpose()?;
        let unknown = value_is_nullable
            .then(|| {
                Ok::<_, DataFusionError>(value.clone().is_null().and(exists(&subquery, None)?))
            })
            .transpose()?;
        Ok(Self {
            value,
            equal,
            null,
            unknown,
        })
    }

    /// True where the value is surely in no row.
    fn none(self) -> Result<Expr> {
        let mut none = negated(self.equal);
        if let Some(null) = self.null {
            none = none.and(negated(null));
        }
        if let Some(Expr::BinaryExpr(BinaryExpr { right, .. })) = self.unknown {
            none = none.and(self.value.is_not_null().or(negated(*right)));
        }
        Ok(none)
    }

    fn three_valued(self) -> Expr {
        let mut cases = vec![(Box::new(self.equal), Box::new(lit(true)))];
        let unknown = Expr::Literal(ScalarValue::Boolean(None), None);
        for question in [self.null, self.unknown].into_iter().flatten() {
            cases.push((Box::new(question), Box::new(unknown.clone())));
        }
        Expr::Case(Case::new(None, cases, Some(Box::new(lit(false)))))
    }
}

/// EXISTS turned round without a NOT around it, which the planner knows best.
fn negated(expr: Expr) -> Expr {
    match expr {
        Expr::Exists(Exists { subquery, negated }) => Expr::Exists(Exists::new(subquery, !negated)),
        other => Expr::Not(Box::new(other)),
    }
}

fn exists(subquery: &Subquery, filter: Option<Expr>) -> Result<Expr> {
    let mut builder = LogicalPlanBuilder::from(Arc::clone(&subquery.subquery));
    if let Some(filter) = filter {
        builder = builder.filter(filter)?;
    }
    let mut plan = builder.build()?;
    let outer_ref_columns = plan.all_out_ref_exprs();
    if outer_ref_columns.is_empty() {
        // The same for every row that asks: one row tells.
        plan = LogicalPlanBuilder::from(plan).limit(0, Some(1))?.build()?;
    }
    Ok(Expr::Exists(Exists {
        subquery: Subquery {
            subquery: Arc::new(plan),
            outer_ref_columns,
            spans: subquery.spans.clone(),
        },
        negated: false,
    }))
}

/// An expression as the subquery sees it.
fn outside(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let seen = expr.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let field = Arc::clone(schema.field_from_column(&column)?);
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(seen.data)
}
