//! What the columns of an answer are called: as PostgreSQL calls them. Owns the names at the top of
//! a statement, and that two of them may be equal; must never change which value is in which column,
//! nor a name that the statement itself refers to.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Ident, ObjectName, Query, Select, SelectItem, SetExpr,
};

/// The names of an answer's columns, as far as the statement tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ColumnNames {
    first: Vec<String>,
    /// Whether there are columns of a `*` between the first and the last.
    more: bool,
    last: Vec<String>,
}

impl ColumnNames {
    /// Those of `query`; none where it does not tell them.
    pub(crate) fn of(query: &Query) -> Option<Self> {
        let items = &leftmost(&query.body)?.projection;
        let mut names = Self::default();
        for item in items {
            let name = match item {
                SelectItem::ExprWithAlias { alias, .. } => folded(alias),
                SelectItem::UnnamedExpr(expr) if is_many(expr) => return None,
                SelectItem::UnnamedExpr(expr) => {
                    name_of(expr).unwrap_or_else(|| UNNAMED.to_owned())
                }
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(_, _) => {
                    names.more = true;
                    names.last.clear();
                    continue;
                }
                SelectItem::ExprWithAliases { .. } => return None,
            };
            if names.more {
                names.last.push(name);
            } else {
                names.first.push(name);
            }
        }
        Some(names)
    }

    /// `schema` with these names; as it is where they do not fit.
    pub(crate) fn apply(&self, schema: &SchemaRef) -> SchemaRef {
        let (count, named) = (schema.fields().len(), self.first.len() + self.last.len());
        if named > count || (named < count && !self.more) {
            return SchemaRef::clone(schema);
        }
        let last = count - self.last.len();
        let fields = schema.fields().iter().enumerate().map(|(at, field)| {
            let name = match at.checked_sub(last) {
                Some(at) => self.last.get(at),
                None => self.first.get(at),
            };
            match name {
                Some(name) => Field::clone(field).with_name(name.as_str()),
                None => Field::clone(field),
            }
        });
        let fields: Vec<Field> = fields.collect();
        Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
    }
}

/// Lets columns of one name stand beside each other at the top of `query`: the planner wants them
/// different.
pub(crate) fn tell_apart(query: &mut Query) {
    each_select(&mut query.body, &mut |select| {
        let wild = select.projection.iter().any(|item| {
            matches!(
                item,
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(_, _)
            )
        });
        let mut seen: Vec<Title> = Vec::new();
        for (at, item) in select.projection.iter_mut().enumerate() {
            let Some(title) = Title::of(item) else {
                continue;
            };
            let taken = seen.iter().any(|other| other.collides(&title));
            let hidden = taken || (wild && title.column.is_some());
            seen.push(title);
            if hidden {
                let expr = match item {
                    SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) => {
                        expr.clone()
                    }
                    _ => continue,
                };
                let alias = Ident::with_quote('"', format!("__column_{at}"));
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
        }
    });
}

/// What the planner would call a column.
struct Title {
    text: String,
    /// Of a plain column its bare name, and whether the table is named, too.
    column: Option<(String, bool)>,
}

impl Title {
    fn of(item: &SelectItem) -> Option<Self> {
        let (text, column) = match item {
            SelectItem::ExprWithAlias { alias, .. } => (folded(alias), None),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => {
                (folded(name), Some((folded(name), false)))
            }
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                let all: Vec<String> = parts.iter().map(folded).collect();
                (all.join("."), Some((all.last()?.clone(), true)))
            }
            SelectItem::UnnamedExpr(expr) if !is_many(expr) => (expr.to_string(), None),
            _ => return None,
        };
        Some(Self { text, column })
    }

    fn collides(&self, other: &Self) -> bool {
        let same_column = match (&self.column, &other.column) {
            (Some((one, of_table)), Some((two, of_other))) => {
                one == two && !(*of_table && *of_other)
            }
            _ => false,
        };
        same_column || self.text == other.text
    }
}

fn each_select(body: &mut SetExpr, change: &mut impl FnMut(&mut Select)) {
    match body {
        SetExpr::Select(select) => change(select),
        SetExpr::Query(query) => each_select(&mut query.body, change),
        SetExpr::SetOperation { left, right, .. } => {
            each_select(left, change);
            each_select(right, change);
        }
        _ => {}
    }
}

fn leftmost(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => leftmost(&query.body),
        SetExpr::SetOperation { left, .. } => leftmost(left),
        _ => None,
    }
}

/// An expression that may become any number of columns.
fn is_many(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if last_of(&call.name) == "unnest")
}

/// The name of a column that is `expr`; none where it may be any number of them.
pub(crate) fn inferred(expr: &Expr) -> Option<String> {
    (!is_many(expr)).then(|| name_of(expr).unwrap_or_else(|| UNNAMED.to_owned()))
}

/// The name of an expression that has none of its own; `None` for `?column?`.
fn name_of(expr: &Expr) -> Option<String> {
    let fixed = |name: &str| Some(name.to_owned());
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded),
        Expr::Function(call) => Some(last_of(&call.name)),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => name_of(inner),
        Expr::Cast {
            expr,
            data_type,
            kind,
            ..
        } => {
            let of_type = || type_name(data_type);
            match kind {
                CastKind::Cast | CastKind::DoubleColon => name_of(expr).or_else(of_type),
                _ => name_of(expr).or_else(|| fixed("try_cast")),
            }
        }
        Expr::Case { else_result, .. } => {
            let other = else_result.as_ref().and_then(|other| name_of(other));
            other.or_else(|| fixed("case"))
        }
        Expr::AtTimeZone { .. } => fixed("timezone"),
        Expr::Extract { .. } => fixed("extract"),
        Expr::Ceil { .. } => fixed("ceil"),
        Expr::Floor { .. } => fixed("floor"),
        Expr::Position { .. } => fixed("position"),
        Expr::Substring { .. } => fixed("substring"),
        Expr::Trim { .. } => fixed("btrim"),
        Expr::Overlay { .. } => fixed("overlay"),
        Expr::Exists { .. } => fixed("exists"),
        Expr::Array(_) => fixed("array"),
        Expr::Tuple(_) => fixed("row"),
        Expr::Interval(_) => fixed("interval"),
        Expr::TypedString(typed) => type_name(&typed.data_type),
        Expr::Subquery(query) => match leftmost(&query.body)?.projection.as_slice() {
            [SelectItem::UnnamedExpr(expr)] => name_of(expr),
            [SelectItem::ExprWithAlias { alias, .. }] => Some(folded(alias)),
            _ => None,
        },
        _ => None,
    }
}

/// As PostgreSQL calls a type inside.
fn type_name(data_type: &DataType) -> Option<String> {
    let text = data_type.to_string().to_ascii_lowercase();
    let bare = text.split('(').next().unwrap_or_default().trim();
    let name = match bare {
        "int" | "integer" | "int4" => "int4",
        "bigint" | "int8" => "int8",
        "smallint" | "int2" => "int2",
        "double" | "double precision" | "float8" | "float" => "float8",
        "real" | "float4" => "float4",
        "boolean" | "bool" => "bool",
        "decimal" | "numeric" => "numeric",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "character varying" => "varchar",
        other if other.contains(' ') || other.is_empty() => return None,
        other => other,
    };
    Some(name.to_owned())
}

fn last_of(name: &ObjectName) -> String {
    let last = name.0.last().and_then(|part| part.as_ident());
    last.map(folded).unwrap_or_default()
}

/// A name as SQL understands it: in lower case unless it is quoted.
pub(crate) fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

const UNNAMED: &str = "?column?";

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn query(sql: &str) -> Query {
        let mut statements = Parser::parse_sql(&GenericDialect, sql).expect(sql);
        match statements.remove(0) {
            Statement::Query(query) => *query,
            other => panic!("no query: {other}"),
        }
    }

    fn names(sql: &str) -> Vec<String> {
        ColumnNames::of(&query(sql)).expect(sql).first
    }

    #[test]
    fn columns_are_called_what_postgresql_calls_them() {
        for (expr, name) in [
            ("1", "?column?"),
            ("'x'", "?column?"),
            ("1 + v", "?column?"),
            ("v IS NULL", "?column?"),
            ("max(v)", "max"),
            ("COUNT(*)", "count"),
            ("t.V", "v"),
            ("t.\"V\"", "V"),
            ("date_trunc('hour', time)", "date_trunc"),
            ("v::text", "v"),
            ("CAST(1 AS BIGINT)", "int8"),
            ("'1'::double precision", "float8"),
            ("CASE WHEN v > 1 THEN 1 END", "case"),
            ("CASE WHEN v > 1 THEN 1 ELSE v END", "v"),
            ("extract(hour FROM time)", "extract"),
            ("time AT TIME ZONE 'UTC'", "timezone"),
            ("row_number() OVER (ORDER BY v)", "row_number"),
            ("count(*) FILTER (WHERE v > 1)", "count"),
            ("(SELECT max(v) FROM t)", "max"),
            ("EXISTS (SELECT 1)", "exists"),
            ("ARRAY[1]", "array"),
            ("INTERVAL '1 day'", "interval"),
            ("DATE '2026-01-01'", "date"),
            ("((lower(s)))", "lower"),
            ("v AS \"V w\"", "V w"),
            ("v AS VW", "vw"),
        ] {
            assert_eq!(names(&format!("SELECT {expr} FROM t")), [name], "{expr}");
        }
    }

    #[test]
    fn a_star_leaves_the_names_around_it() {
        let names = ColumnNames::of(&query("SELECT max(a), *, 1 FROM t")).expect("names");
        let given = ["max(t.a)", "x", "y", "Int64(1)"];
        let fields = given.map(|name| Field::new(name, arrow::datatypes::DataType::Int64, true));
        let renamed = names.apply(&Arc::new(Schema::new(fields.to_vec())));
        let renamed: Vec<&str> = renamed.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(renamed, ["max", "x", "y", "?column?"]);
        let other = Arc::new(Schema::new(vec![fields[0].clone()]));
        assert_eq!(names.apply(&other), other);
    }

    #[test]
    fn equal_names_are_told_apart_inside() {
        for (sql, expected) in [
            ("SELECT v, v FROM t", "SELECT v, v AS \"__column_1\" FROM t"),
            (
                "SELECT 1 AS a, 2 AS A",
                "SELECT 1 AS a, 2 AS \"__column_1\"",
            ),
            ("SELECT *, v FROM t", "SELECT *, v AS \"__column_1\" FROM t"),
            (
                "SELECT max(v), max(v) FROM t",
                "SELECT max(v), max(v) AS \"__column_1\" FROM t",
            ),
            (
                "SELECT v, t.v FROM t",
                "SELECT v, t.v AS \"__column_1\" FROM t",
            ),
            ("SELECT a.v, b.v FROM a, b", "SELECT a.v, b.v FROM a, b"),
            ("SELECT v, w FROM t", "SELECT v, w FROM t"),
        ] {
            let mut query = query(sql);
            tell_apart(&mut query);
            assert_eq!(query.to_string(), expected);
        }
    }
}
