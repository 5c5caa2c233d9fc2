//! Names in GROUP BY that mean another thing than they seem to: an alias of the same select that a
//! column of its tables hides. Owns the search for them; must never change what they mean.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, TableFactor, Visit, Visitor,
};

use crate::columns::folded;

/// An alias that GROUP BY may not mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shadow {
    pub(crate) alias: String,
    /// What the alias stands for.
    pub(crate) expr: String,
    /// Its place in the select.
    pub(crate) place: usize,
    /// Tables that may have a column of that name; empty where one is known to be there.
    pub(crate) tables: Vec<String>,
}

impl Shadow {
    /// What to tell whoever asked.
    pub(crate) fn notice(&self) -> String {
        format!(
            "GROUP BY {alias} groups by the column {alias}, which hides {expr} AS {alias}; to group \
             by the latter, type GROUP BY {place} or choose another alias",
            alias = self.alias,
            expr = self.expr,
            place = self.place
        )
    }
}

/// All in `query` and the queries in it.
pub(crate) fn shadows(query: &Query) -> Vec<Shadow> {
    let mut search = Search::default();
    let ControlFlow::Continue(()) = query.visit(&mut search);
    search.found
}

#[derive(Default)]
struct Search {
    /// By the names of WITH, whether they may have a column of some name.
    named: HashMap<String, Columns>,
    found: Vec<Shadow>,
}

impl Visitor for Search {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = Columns::of(&table.query.body);
            self.named.insert(folded(&table.alias.name), columns);
        }
        self.body(&query.body);
        ControlFlow::Continue(())
    }
}

impl Search {
    fn body(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    fn select(&mut self, select: &Select) {
        let GroupByExpr::Expressions(groups, _) = &select.group_by else {
            return;
        };
        for (at, item) in select.projection.iter().enumerate() {
            let SelectItem::ExprWithAlias { expr, alias } = item else {
                continue;
            };
            let alias = folded(alias);
            let grouped = groups
                .iter()
                .any(|group| plain(group).is_some_and(|name| name == alias));
            if !grouped || plain(expr).is_some_and(|column| column == alias) {
                continue;
            }
            if let Some(tables) = self.hiding(select, &alias) {
                self.found.push(Shadow {
                    alias,
                    expr: expr.to_string(),
                    place: at + 1,
                    tables,
                });
            }
        }
    }

    /// The tables that may hide `alias`; none at all where nothing does.
    fn hiding(&self, select: &Select, alias: &str) -> Option<Vec<String>> {
        let mut tables = Vec::new();
        let from = select.from.iter();
        let factors = from.flat_map(|from| {
            let joined = from.joins.iter().map(|join| &join.relation);
            std::iter::once(&from.relation).chain(joined)
        });
        for factor in factors {
            match factor {
                TableFactor::Table {
                    name, args: None, ..
                } => {
                    let name = name.to_string();
                    match self.named.get(&name.to_lowercase()) {
                        Some(columns) if columns.may_have(alias) => return Some(Vec::new()),
                        Some(_) => {}
                        None => tables.push(name),
                    }
                }
                TableFactor::Derived { subquery, .. }
                    if Columns::of(&subquery.body).may_have(alias) =>
                {
                    return Some(Vec::new());
                }
                _ => {}
            }
        }
        (!tables.is_empty()).then_some(tables)
    }
}

/// The columns that a query is known to give.
struct Columns(Vec<String>);

impl Columns {
    fn of(body: &SetExpr) -> Self {
        let items = match body {
            SetExpr::Select(select) => select.projection.as_slice(),
            SetExpr::Query(query) => return Self::of(&query.body),
            SetExpr::SetOperation { left, .. } => return Self::of(left),
            _ => &[],
        };
        let names = items.iter().filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
            SelectItem::UnnamedExpr(expr) => plain(expr),
            _ => None,
        });
        Self(names.collect())
    }

    fn may_have(&self, name: &str) -> bool {
        self.0.iter().any(|column| column == name)
    }
}

/// The bare name of a plain column.
fn plain(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(|name: &Ident| folded(name)),
        Expr::Nested(inner) => plain(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn found(sql: &str) -> Vec<(String, Vec<String>)> {
        let mut statements = Parser::parse_sql(&GenericDialect, sql).expect(sql);
        let Statement::Query(query) = statements.remove(0) else {
            panic!("no query: {sql}");
        };
        let shadows = shadows(&query).into_iter();
        shadows
            .map(|shadow| (shadow.alias, shadow.tables))
            .collect()
    }

    #[test]
    fn an_alias_that_a_column_may_hide_is_found_wherever_it_is() {
        let of_table = vec![("time".to_owned(), vec!["t".to_owned()])];
        let sure = vec![("time".to_owned(), Vec::new())];
        for (sql, expected) in [
            (
                "SELECT f(time) AS time, count(*) FROM t GROUP BY time",
                &of_table,
            ),
            ("SELECT f(time) AS \"time\" FROM t GROUP BY Time", &of_table),
            (
                "SELECT 1 FROM (SELECT f(time) AS time FROM t GROUP BY time) x",
                &of_table,
            ),
            (
                "SELECT f(time) AS time FROM (SELECT time FROM t) x GROUP BY time",
                &sure,
            ),
            (
                "WITH x AS (SELECT v AS time FROM t) SELECT f(time) AS time FROM x GROUP BY time",
                &sure,
            ),
            ("SELECT f(time) AS time FROM t GROUP BY 1", &Vec::new()),
            ("SELECT f(time) AS t2 FROM t GROUP BY time", &Vec::new()),
            ("SELECT t.time AS time FROM t GROUP BY time", &Vec::new()),
            (
                "SELECT f(v) AS time FROM (SELECT v FROM t) x GROUP BY time",
                &Vec::new(),
            ),
        ] {
            assert_eq!(&found(sql), expected, "{sql}");
        }
    }
}
