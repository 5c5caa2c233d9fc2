//! What columns inside a statement are called: as PostgreSQL calls them, so that an outer query finds
//! them. Owns the aliases that a statement gets for it; must never change what a column is, nor take
//! away a name that somebody gave.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    CastKind, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, GroupByExpr, Ident, ObjectName, OrderByKind, Query, Select, SelectItem,
    SetExpr, TableAlias, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
};

use crate::columns::{folded, inferred};
use crate::names::unlike;

/// The forms in which the planner may be asked for `statement`, the one to prefer first: with
/// PostgreSQL's names, with casts told apart by their names too, as it is.
pub(crate) fn forms(statement: &Statement) -> Vec<Statement> {
    let mut named = statement.clone();
    change(&mut named, &mut Namer::default());
    let mut marked = named.clone();
    let mut marker = Marker { found: false };
    change(&mut marked, &mut marker);
    let mut forms = vec![named];
    if marker.found {
        forms.push(marked);
    }
    forms.push(statement.clone());
    forms
}

fn change(statement: &mut Statement, visitor: &mut impl VisitorMut<Break = ()>) {
    match statement {
        Statement::Statement(inner) => {
            let _ = inner.visit(visitor);
        }
        Statement::Explain(explain) => change(&mut explain.statement, visitor),
        _ => {}
    }
}

#[derive(Default)]
struct Namer {
    depth: usize,
    derived: usize,
}

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        order_by_place(query);
        let mut wanted = HashSet::new();
        for expr in ordering(query) {
            if let Expr::Identifier(name) = expr {
                wanted.insert(folded(name));
            }
        }
        let inside = self.depth > 0;
        each_select(&mut query.body, &mut |select| {
            name_columns(select, inside, &wanted);
            name_tables(select, &mut self.derived);
        });
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Gives the columns of `select` aliases: all of them `inside` a statement, and else those that are
/// ordered or grouped by under the name they have.
fn name_columns(select: &mut Select, inside: bool, ordered: &HashSet<String>) {
    let hidden = identifiers(select.having.iter().chain(&select.qualify));
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(exprs, _) => names(exprs),
        GroupByExpr::All(_) => HashSet::new(),
    };
    let mut taken = HashSet::new();
    let all: Vec<String> = select.projection.iter().filter_map(name_of).collect();
    for item in &mut select.projection {
        let (given, wanted) = match item {
            SelectItem::ExprWithAlias { alias, .. } => (folded(alias), true),
            SelectItem::UnnamedExpr(expr) => {
                let Some(name) = inferred(expr) else {
                    continue;
                };
                let column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                let alone = all.iter().filter(|other| **other == name).count() == 1;
                // A group of a column's name is that column.
                let own = identifiers(std::iter::once(&*expr)).contains(&name);
                let asked = ordered.contains(&name) || (grouped.contains(&name) && !own);
                let asked = asked && alone;
                let wanted = (inside || asked) && !column && !hidden.contains(&name);
                (name, wanted)
            }
            _ => continue,
        };
        let name = unlike(&given, &mut taken);
        let renamed = inside && name != given;
        let SelectItem::UnnamedExpr(expr) = item else {
            if renamed && let SelectItem::ExprWithAlias { alias, .. } = item {
                *alias = Ident::with_quote('"', name);
            }
            continue;
        };
        if wanted || renamed {
            let (expr, alias) = (expr.clone(), Ident::with_quote('"', name));
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
    }
}

fn name_of(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(expr) => inferred(expr),
        _ => None,
    }
}

/// Gives derived tables beside others names, so that their columns can be told from the others'.
fn name_tables(select: &mut Select, derived: &mut usize) {
    let several = select.from.len() > 1 || select.from.iter().any(|from| !from.joins.is_empty());
    if !several {
        return;
    }
    for from in &mut select.from {
        let joined = from.joins.iter_mut().map(|join| &mut join.relation);
        for table in std::iter::once(&mut from.relation).chain(joined) {
            if let TableFactor::Derived { alias, .. } = table
                && alias.is_none()
            {
                *derived += 1;
                *alias = Some(TableAlias {
                    explicit: true,
                    name: Ident::with_quote('"', format!("__table_{derived}")),
                    columns: Vec::new(),
                    at: None,
                });
            }
        }
    }
}

/// What SELECT DISTINCT is ordered by has to be one of its columns: named by its place, it is.
fn order_by_place(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return;
    };
    if !matches!(select.distinct, Some(Distinct::Distinct)) {
        return;
    }
    let mut places = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                places.push(expr.clone());
            }
            _ => return,
        }
    }
    let Some(order_by) = &mut query.order_by else {
        return;
    };
    let OrderByKind::Expressions(exprs) = &mut order_by.kind else {
        return;
    };
    for ordered in exprs {
        if matches!(ordered.expr, Expr::Identifier(_) | Expr::Value(_)) {
            continue;
        }
        if let Some(place) = places.iter().position(|expr| *expr == ordered.expr) {
            let place = Value::Number((place + 1).to_string(), false);
            ordered.expr = Expr::Value(place.with_empty_span());
        }
    }
}

/// Has casts in columns and groups tell their type in their name, which they otherwise share with
/// what they cast.
struct Marker {
    found: bool,
}

impl VisitorMut for Marker {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let casts = &mut Casts::default();
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _ = expr.visit(casts);
            }
        }
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            let _ = exprs.visit(casts);
        }
        for expr in select.having.iter_mut().chain(&mut select.qualify) {
            let _ = expr.visit(casts);
        }
        self.found |= casts.found;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut casts = Casts::default();
        if let Some(order_by) = &mut query.order_by {
            let _ = order_by.visit(&mut casts);
        }
        self.found |= casts.found;
        ControlFlow::Continue(())
    }
}

#[derive(Default)]
struct Casts {
    found: bool,
    /// Of queries in the expression: their casts are marked by themselves.
    depth: usize,
}

impl VisitorMut for Casts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let Expr::Cast {
            data_type, kind, ..
        } = expr
        else {
            return ControlFlow::Continue(());
        };
        let kind = match kind {
            CastKind::Cast | CastKind::DoubleColon => "",
            _ => "try ",
        };
        let shown = Value::SingleQuotedString(format!("{kind}{data_type}"));
        let shown = Expr::Value(shown.with_empty_span());
        let args = [expr.clone(), shown];
        let args = args.map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
        *expr = Expr::Function(Function {
            name: ObjectName::from(vec![Ident::new(MARK)]),
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: None,
                args: args.to_vec(),
                clauses: Vec::new(),
            }),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: Vec::new(),
        });
        self.found = true;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

fn each_select(body: &mut SetExpr, change: &mut impl FnMut(&mut Select)) {
    match body {
        SetExpr::Select(select) => change(select),
        SetExpr::SetOperation { left, right, .. } => {
            each_select(left, change);
            each_select(right, change);
        }
        // A query in brackets is visited by itself.
        _ => {}
    }
}

fn ordering(query: &Query) -> Vec<&Expr> {
    match query.order_by.as_ref().map(|order_by| &order_by.kind) {
        Some(OrderByKind::Expressions(exprs)) => exprs.iter().map(|by| &by.expr).collect(),
        _ => Vec::new(),
    }
}

fn names(exprs: &[Expr]) -> HashSet<String> {
    let names = exprs.iter().filter_map(|expr| match expr {
        Expr::Identifier(name) => Some(folded(name)),
        _ => None,
    });
    names.collect()
}

/// All names without a table in `exprs`.
fn identifiers<'a>(exprs: impl Iterator<Item = &'a Expr>) -> HashSet<String> {
    #[derive(Default)]
    struct Search(HashSet<String>);
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Identifier(name) = expr {
                self.0.insert(folded(name));
            }
            ControlFlow::Continue(())
        }
    }
    let mut search = Search::default();
    for expr in exprs {
        let _ = expr.visit(&mut search);
    }
    search.0
}

/// The function that is its first argument.
pub(crate) const MARK: &str = "__cast";

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn all(sql: &str) -> Vec<String> {
        let mut statements = Parser::parse_sql(&GenericDialect, sql).expect(sql);
        let statement = Statement::Statement(Box::new(statements.remove(0)));
        forms(&statement).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_inside_have_postgresqls_names() {
        for (sql, expected) in [
            (
                "SELECT * FROM (SELECT max(v), v FROM t)",
                "SELECT * FROM (SELECT max(v) AS \"max\", v FROM t)",
            ),
            (
                "SELECT max(v) FROM t ORDER BY max",
                "SELECT max(v) AS \"max\" FROM t ORDER BY max",
            ),
            ("SELECT max(v) FROM t", "SELECT max(v) FROM t"),
            (
                "WITH w AS (SELECT 1, v, v AS V FROM t) SELECT * FROM w",
                "WITH w AS (SELECT 1 AS \"?column?\", v, v AS \"v_2\" FROM t) SELECT * FROM w",
            ),
            (
                "SELECT * FROM (SELECT max(v) FROM t HAVING max > 1)",
                "SELECT * FROM (SELECT max(v) FROM t HAVING max > 1)",
            ),
            (
                "SELECT * FROM t JOIN (SELECT 1 AS a) ON a = v",
                "SELECT * FROM t JOIN (SELECT 1 AS a) AS \"__table_1\" ON a = v",
            ),
            (
                "SELECT DISTINCT lower(s) FROM t ORDER BY lower(s) DESC",
                "SELECT DISTINCT lower(s) FROM t ORDER BY 1 DESC",
            ),
        ] {
            assert_eq!(all(sql)[0], expected);
            assert_eq!(all(sql).last().map(String::as_str), Some(sql));
        }
    }

    #[test]
    fn casts_are_told_apart_outside_of_filters() {
        let forms = all("SELECT v::text FROM t WHERE v::text = 'a' GROUP BY v::text");
        assert_eq!(
            forms[1],
            "SELECT __cast(v::TEXT, 'TEXT') FROM t WHERE v::TEXT = 'a' \
             GROUP BY __cast(v::TEXT, 'TEXT')"
        );
        assert_eq!(all("SELECT v FROM t").len(), 2);
    }
}
