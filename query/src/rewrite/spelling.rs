//! Names without quotes, which SQL folds to lower case: one that exists exactly as it is written is
//! that one; else the folded one; else the only one that differs in case alone. Owns that choice,
//! for tables and columns; must never touch a name in quotes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart,
    Query, Select, SelectItem, Statement as SqlStatement, TableAlias, TableFactor, VisitMut,
    VisitorMut, WildcardAdditionalOptions,
};

/// The names there are.
#[derive(Debug, Default)]
pub(crate) struct Spelling {
    names: BTreeSet<String>,
    /// Those that are not in lower case.
    odd: Vec<String>,
    /// What the statement itself names.
    aliases: BTreeSet<String>,
}

impl Spelling {
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names: BTreeSet<String> = names.into_iter().collect();
        let odd = names.iter().filter(|name| **name != folded(name)).cloned();
        Self {
            odd: odd.collect(),
            names,
            aliases: BTreeSet::new(),
        }
    }

    /// Whether folding finds every name there is.
    pub(crate) fn is_plain(&self) -> bool {
        self.odd.is_empty()
    }

    /// The name that is meant, where it is not the folded one.
    fn meant(&self, written: &str) -> Option<&str> {
        if let Some(exact) = self.exact(written) {
            return Some(exact);
        }
        let wanted = folded(written);
        if self.names.contains(&wanted) || self.aliases.contains(&wanted) {
            return None;
        }
        let mut similar = self.odd.iter().filter(|name| folded(name) == wanted);
        match (similar.next(), similar.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    fn exact(&self, written: &str) -> Option<&str> {
        self.odd
            .iter()
            .find(|name| *name == written)
            .map(String::as_str)
    }
}

/// Quotes what names a table exactly, as tables are called in FROM.
pub(crate) fn respell_tables(statement: &mut Statement, tables: &Spelling) {
    visit(statement, &mut Tables { tables });
}

/// Quotes what names a column that folding would miss. `columns` are those of all tables.
pub(crate) fn respell(statement: &mut Statement, columns: &mut Spelling, tables: &Spelling) {
    let mut aliases = Aliases::default();
    visit(statement, &mut aliases);
    columns.aliases = aliases.0;
    visit(statement, &mut Columns { columns, tables });
}

fn visit<V: VisitorMut<Break = ()>>(statement: &mut Statement, visitor: &mut V) {
    match statement {
        Statement::Statement(statement) => {
            let inner: &mut SqlStatement = statement;
            let _ = inner.visit(visitor);
        }
        Statement::Explain(explain) => visit(&mut explain.statement, visitor),
        _ => {}
    }
}

struct Tables<'a> {
    tables: &'a Spelling,
}

impl VisitorMut for Tables<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if let Some(ObjectNamePart::Identifier(name)) = relation.0.last_mut()
            && name.quote_style.is_none()
            && self.tables.exact(&name.value).is_some()
        {
            name.quote_style = Some('"');
        }
        ControlFlow::Continue(())
    }
}

/// Names that a statement gives, folded.
#[derive(Default)]
struct Aliases(BTreeSet<String>);

impl Aliases {
    fn add(&mut self, alias: &TableAlias) {
        let columns = alias
            .columns
            .iter()
            .map(|column| folded(&column.name.value));
        self.0.extend(columns);
    }
}

impl VisitorMut for Aliases {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.add(&cte.alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.0.insert(folded(&alias.value));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } = factor
            && let Some(alias) = alias
        {
            self.add(alias);
        }
        ControlFlow::Continue(())
    }
}

struct Columns<'a> {
    columns: &'a Spelling,
    tables: &'a Spelling,
}

impl Columns<'_> {
    fn respell(&self, name: &mut Ident) {
        if name.quote_style.is_none()
            && let Some(meant) = self.columns.meant(&name.value)
        {
            meant.clone_into(&mut name.value);
            name.quote_style = Some('"');
        }
    }

    fn respell_last(&self, name: &mut ObjectName) {
        if let Some(ObjectNamePart::Identifier(name)) = name.0.last_mut() {
            self.respell(name);
        }
    }

    fn respell_wildcard(&self, options: &mut WildcardAdditionalOptions) {
        if let Some(except) = &mut options.opt_except {
            self.respell(&mut except.first_element);
            for name in &mut except.additional_elements {
                self.respell(name);
            }
        }
        match &mut options.opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => self.respell_last(name),
            Some(ExcludeSelectItem::Multiple(names)) => {
                for name in names {
                    self.respell_last(name);
                }
            }
            None => {}
        }
    }

    fn respell_joins(&self, joins: &mut [Join]) {
        for join in joins {
            if let Some(JoinConstraint::Using(names)) = constraint(&mut join.join_operator) {
                for name in names {
                    self.respell_last(name);
                }
            }
        }
    }
}

impl VisitorMut for Columns<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => self.respell(name),
            Expr::CompoundIdentifier(parts) => {
                if let [.., table, column] = parts.as_mut_slice() {
                    self.respell(column);
                    if table.quote_style.is_none() && self.tables.exact(&table.value).is_some() {
                        table.quote_style = Some('"');
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            match item {
                // ORDER BY asks for it by the name of the column.
                SelectItem::ExprWithAlias { alias, .. }
                    if alias.quote_style.is_none()
                        && self.columns.exact(&alias.value).is_some() =>
                {
                    alias.quote_style = Some('"');
                }
                SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
                    self.respell_wildcard(options);
                }
                _ => {}
            }
        }
        for table in &mut select.from {
            self.respell_joins(&mut table.joins);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::NestedJoin {
            table_with_joins, ..
        } = factor
        {
            self.respell_joins(&mut table_with_joins.joins);
        }
        ControlFlow::Continue(())
    }
}

fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        _ => None,
    }
}

fn folded(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::Spelling;

    fn meant(names: &[&str], written: &str) -> Option<String> {
        let spelling = Spelling::new(names.iter().map(|name| (*name).to_owned()));
        spelling.meant(written).map(str::to_owned)
    }

    #[test]
    fn exact_wins_then_folded_then_the_only_one_that_is_alike() {
        assert_eq!(meant(&["time", "Time"], "Time").as_deref(), Some("Time"));
        assert_eq!(meant(&["time", "Time"], "time"), None);
        assert_eq!(meant(&["time", "Time"], "TIME"), None);
        assert_eq!(meant(&["Temp"], "temp").as_deref(), Some("Temp"));
        assert_eq!(meant(&["Temp", "TEMP"], "temp"), None);
        assert_eq!(meant(&["Temp", "TEMP"], "TEMP").as_deref(), Some("TEMP"));
        assert_eq!(meant(&["v"], "V"), None);
        assert_eq!(meant(&["v"], "w"), None);
    }
}
