//! How much of a plan a statement becomes. Owns the count, in which what is named twice counts twice,
//! and the limits; must never refuse a statement for what it reads, nor look at a table.
//!
//! The planner puts the text of a common table expression, of an alias or of a named window where
//! its name is, so a short statement can double as often as it has lines.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, GroupByWithModifier, ObjectName, OrderByKind, Query, Select, SelectItem,
    SetExpr, Value, Visit, Visitor, WindowType,
};

use crate::columns::folded;
use crate::error::QueryError;

/// Refuses a statement whose plan would be too large to be made in time.
///
/// `longest_param` is that of the values that the statement comes with, in bytes.
///
/// # Errors
/// With what there is too much of, and how much there may be.
pub(crate) fn weigh(statement: &Statement, longest_param: usize) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(inner) => {
            let mut scale = Scale {
                longest_param,
                ..Scale::default()
            };
            match inner.visit(&mut scale) {
                ControlFlow::Break(error) => Err(error),
                ControlFlow::Continue(()) => Ok(()),
            }
        }
        Statement::Explain(explain) => weigh(&explain.statement, longest_param),
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Scale {
    /// The queries around the place that is looked at.
    around: Vec<Around>,
    wildcards: u64,
    longest_param: usize,
}

#[derive(Default)]
struct Around {
    weight: u64,
    /// Names of common table expressions by where their queries are.
    named: HashMap<usize, String>,
    /// Their weights, once they are known.
    tables: HashMap<String, u64>,
    windows: HashMap<String, u64>,
}

impl Scale {
    fn add(&mut self, weight: u64) -> ControlFlow<QueryError> {
        let Some(around) = self.around.last_mut() else {
            return ControlFlow::Continue(());
        };
        around.weight = around.weight.saturating_add(weight);
        within(around.weight, MAX_WEIGHT, WHAT_WEIGHT)
    }

    /// What a long constant weighs beside a short one.
    fn long(&self, value: &Value) -> u64 {
        let bytes = match value {
            Value::Placeholder(_) => self.longest_param,
            Value::SingleQuotedString(text) => text.len(),
            _ => 0,
        };
        bytes as u64 / EACH_BYTES
    }
}

impl Visitor for Scale {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let mut around = Around::default();
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let place = place_of(&table.query);
            around.named.insert(place, folded(&table.alias.name));
        }
        self.around.push(around);
        self.add(EACH_QUERY)?;
        let Some(order_by) = &query.order_by else {
            return ControlFlow::Continue(());
        };
        if let OrderByKind::Expressions(keys) = &order_by.kind {
            within(keys.len() as u64, MAX_LIST, "sort keys")?;
            if let SetExpr::Select(select) = query.body.as_ref() {
                let aliases = Aliases::of(select);
                self.add(aliases.named(keys.iter().map(|key| &key.expr)))?;
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let weight = self.around.pop().map_or(0, |around| around.weight);
        let place = place_of(query);
        if let Some(outer) = self.around.last_mut()
            && let Some(name) = outer.named.get(&place)
        {
            outer.tables.insert(name.clone(), weight);
        }
        self.add(weight)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<QueryError> {
        within(
            select.projection.len() as u64,
            MAX_LIST,
            "columns of one SELECT",
        )?;
        for item in &select.projection {
            if let SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) = item {
                self.wildcards += 1;
            }
        }
        within(self.wildcards, MAX_WILDCARDS, "times all columns (*)")?;
        let windows = select.named_window.iter();
        let windows: Vec<_> = windows
            .map(|window| (folded(&window.0), count(&window.1)))
            .collect();
        if let Some(around) = self.around.last_mut() {
            around.windows.extend(windows);
        }
        let mut later: Vec<&Expr> = select.having.iter().chain(&select.qualify).collect();
        if let GroupByExpr::Expressions(groups, modifiers) = &select.group_by {
            within(groups.len() as u64, MAX_LIST, "groups")?;
            within(grouping_sets(groups, modifiers), MAX_SETS, "grouping sets")?;
            later.extend(groups);
        }
        self.add(Aliases::of(select).named(later.into_iter()))
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<QueryError> {
        let name = match relation.0.as_slice() {
            [part] => part.as_ident().map(folded),
            _ => None,
        };
        let known = name.and_then(|name| {
            let mut around = self.around.iter().rev();
            around.find_map(|around| around.tables.get(&name).copied())
        });
        self.add(known.unwrap_or(0).saturating_add(EACH_QUERY))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<QueryError> {
        if let Expr::Function(call) = expr
            && let Some(WindowType::NamedWindow(name)) = &call.over
        {
            let name = folded(name);
            let mut around = self.around.iter().rev();
            let window = around.find_map(|around| around.windows.get(&name).copied());
            self.add(window.unwrap_or(0))?;
        }
        if let Expr::Value(value) = expr {
            self.add(self.long(&value.value))?;
        }
        self.add(1)
    }
}

/// What the columns of a SELECT stand for.
struct Aliases {
    names: HashMap<String, u64>,
    places: Vec<u64>,
}

impl Aliases {
    fn of(select: &Select) -> Self {
        let (mut names, mut places) = (HashMap::new(), Vec::new());
        for item in &select.projection {
            let weight = match item {
                SelectItem::UnnamedExpr(expr) => count(expr),
                SelectItem::ExprWithAlias { expr, alias } => {
                    let weight = count(expr);
                    names.insert(folded(alias), weight);
                    weight
                }
                _ => 1,
            };
            places.push(weight);
        }
        Self { names, places }
    }

    /// The weight of the columns that `exprs` name, each as often as it is named.
    fn named<'a>(&self, exprs: impl Iterator<Item = &'a Expr>) -> u64 {
        struct Named<'a>(&'a Aliases, u64);
        impl Visitor for Named<'_> {
            type Break = ();
            fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
                let weight = match expr {
                    Expr::Identifier(name) => self.0.names.get(&folded(name)).copied(),
                    Expr::Value(value) => match &value.value {
                        Value::Number(number, _) => {
                            let place = number.parse::<usize>().ok();
                            let place = place.and_then(|place| place.checked_sub(1));
                            place.and_then(|place| self.0.places.get(place).copied())
                        }
                        _ => None,
                    },
                    _ => None,
                };
                self.1 = self.1.saturating_add(weight.unwrap_or(0));
                ControlFlow::Continue(())
            }
        }
        let mut named = Named(self, 0);
        for expr in exprs {
            let _ = expr.visit(&mut named);
        }
        named.1
    }
}

/// Expressions in `part`, with those in them.
fn count(part: &impl Visit) -> u64 {
    struct Count(u64);
    impl Visitor for Count {
        type Break = ();
        fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
    }
    let mut count = Count(0);
    let _ = part.visit(&mut count);
    count.0
}

fn grouping_sets(groups: &[Expr], modifiers: &[GroupByWithModifier]) -> u64 {
    let all_sets = |columns: usize| {
        let columns = u32::try_from(columns).unwrap_or(u32::MAX);
        1_u64.checked_shl(columns).unwrap_or(u64::MAX)
    };
    let mut sets = 1_u64;
    for group in groups {
        sets = sets.saturating_mul(match group {
            Expr::Cube(columns) => all_sets(columns.len()),
            Expr::Rollup(columns) => columns.len() as u64 + 1,
            Expr::GroupingSets(sets) => sets.len() as u64,
            _ => 1,
        });
    }
    for modifier in modifiers {
        sets = sets.saturating_mul(match modifier {
            GroupByWithModifier::Cube => all_sets(groups.len()),
            GroupByWithModifier::Rollup => groups.len() as u64 + 1,
            _ => 1,
        });
    }
    sets
}

fn within(wanted: u64, limit: u64, what: &'static str) -> ControlFlow<QueryError> {
    if wanted > limit {
        return ControlFlow::Break(QueryError::TooComplex {
            wanted,
            limit,
            what,
        });
    }
    ControlFlow::Continue(())
}

fn place_of(query: &Query) -> usize {
    std::ptr::from_ref(query) as usize
}

const WHAT_WEIGHT: &str = "expressions, where what is named counts each time";
/// Expressions that a plan may be made of; those of a list of numbers among them.
const MAX_WEIGHT: u64 = 200_000;
/// As much of a constant weighs as much as an expression.
const EACH_BYTES: u64 = 256;
/// What a query or a table weighs without its expressions.
const EACH_QUERY: u64 = 8;
/// Columns, groups and sort keys of one SELECT: PostgreSQL takes 1,664.
const MAX_LIST: u64 = 2_048;
const MAX_WILDCARDS: u64 = 64;
/// As in PostgreSQL.
const MAX_SETS: u64 = 4_096;

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn weighed(sql: &str) -> Result<(), QueryError> {
        let mut parsed = DFParser::parse_sql(sql).expect(sql);
        weigh(&parsed.pop_front().expect("a statement"), 1 << 20)
    }

    fn doubled(times: usize, join: &str) -> String {
        let mut sql = "WITH c0 AS (SELECT 1 AS x)".to_owned();
        for level in 1..=times {
            let below = level - 1;
            sql += &format!(", c{level} AS (SELECT p.x FROM c{below} p {join} c{below} q)");
        }
        format!("{sql} SELECT count(*) FROM c{times}")
    }

    fn many(each: &str, times: usize) -> String {
        vec![each; times].join(", ")
    }

    #[test]
    fn what_is_named_counts_each_time() {
        assert_eq!(weighed(&doubled(8, "CROSS JOIN")), Ok(()));
        for times in [16, 24, 70] {
            let refused = weighed(&doubled(times, "CROSS JOIN")).expect_err("too large");
            assert!(
                matches!(refused, QueryError::TooComplex { .. }),
                "{refused}"
            );
        }
        let sum = vec!["a"; 1_000].join(" + ");
        for refused in [
            format!("SELECT {sum} AS y FROM t ORDER BY {}", many("y", 500)),
            format!("SELECT {sum} FROM t ORDER BY {}", many("1", 500)),
            format!("SELECT {sum} AS y FROM t GROUP BY {}", many("y", 500)),
            format!(
                "SELECT {} FROM t WINDOW w AS (PARTITION BY {})",
                many("sum(a) OVER w", 500),
                many("a", 500)
            ),
            format!("EXPLAIN SELECT {}", many("1", 2_049)),
            format!("SELECT {} FROM t", many("*", 65)),
            format!("SELECT 1 FROM t GROUP BY CUBE({})", many("a", 62)),
            format!(
                "SELECT 1 FROM t GROUP BY CUBE({}), ROLLUP(a, b)",
                many("a", 11)
            ),
            format!("SELECT 1 FROM t ORDER BY {}", many("a", 3_000)),
            format!("SELECT {}", many("length($1)", 100)),
        ] {
            let error = weighed(&refused).expect_err(&refused[..60]);
            assert!(matches!(error, QueryError::TooComplex { .. }), "{error}");
        }
    }

    #[test]
    fn what_people_write_is_let_in() {
        for sql in [
            format!("SELECT 1 FROM t WHERE a IN ({})", many("1", 100_000)),
            format!("SELECT {} FROM t", many("a + b", 2_000)),
            "SELECT a AS y FROM t GROUP BY ROLLUP(y, b), b ORDER BY y, 1".to_owned(),
            "WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM a, b".to_owned(),
            format!("SELECT 1 FROM t GROUP BY CUBE({})", many("a", 12)),
        ] {
            assert_eq!(weighed(&sql), Ok(()), "{}", &sql[..40]);
        }
    }
}
