//! One statement, from its text to a running plan over one snapshot. Owns the order of checks: the
//! guard, the freshness of what is read, the planner, the guard again. Must never let two tables
//! of one statement be read from two snapshots.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser;
use wal::{Log, Lsn, Snapshot};

use crate::account::{self, Account, Ledger};
use crate::admit::{Admission, Admitted};
use crate::at_zone::{self, Zoneless};
use crate::bounds::{copies, literals, widths};
use crate::catalog::{CATALOG, Catalogs, PUBLIC, View};
use crate::config::Config;
use crate::error::{self, QueryError};
use crate::names;
use crate::naming;
use crate::node::Node;
use crate::params::Params;
use crate::prepare::{self, Prepared, Titles};
use crate::resident::Resident;
use crate::rewrite::{self, Spelling};
use crate::shadow::Shadow;
use crate::stats::{Counters, QueryStats};
use crate::stop::Stop;
use crate::watch;
use crate::zone::TimeZone;

/// One statement to answer.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its text.
    pub sql: String,
    /// Values for its placeholders.
    pub params: Params,
    /// Answers as of this LSN, instead of the newest.
    pub as_of: Option<Lsn>,
    /// May only shorten the configured timeout.
    pub timeout: Option<Duration>,
    /// Where its days begin; UTC without.
    pub time_zone: Option<TimeZone>,
}

/// The rows of a statement, and the snapshot they are of.
pub(crate) struct Answer {
    pub(crate) rows: SendableRecordBatchStream,
    /// Their columns, by the names that the answer has for them.
    pub(crate) schema: SchemaRef,
    /// What times without a zone are.
    pub(crate) zoneless: Zoneless,
    /// What may surprise whoever asked.
    pub(crate) notices: Vec<String>,
    pub(crate) snapshot: Arc<Snapshot>,
    /// How far the node was behind when the snapshot was taken.
    pub(crate) lag_ms: Option<u64>,
    /// Memory for the plan's constants and for copies of long values, while it runs.
    pub(crate) held: Arc<MemoryReservation>,
}

/// What the tasks on the query threads share.
pub(crate) struct Core {
    node: Arc<dyn Node>,
    session: SessionState,
    admission: Admission,
    ledger: Arc<Ledger>,
    query_timeout: Duration,
    counters: Arc<Counters>,
}

impl Core {
    pub(crate) fn new(node: Arc<dyn Node>, session: SessionState, config: &Config) -> Self {
        let counters = Arc::new(Counters::default());
        let resident = Resident::new(Arc::clone(&node), config.process_limit);
        Self {
            node,
            session,
            admission: Admission::new(config, Arc::clone(&counters)),
            ledger: Arc::new(Ledger::new(config.memory_ceiling, resident)),
            query_timeout: config.query_timeout,
            counters,
        }
    }

    pub(crate) fn stats(&self) -> QueryStats {
        let (waiting, paused) = self.admission.idle();
        let reserved = self.session.runtime_env().memory_pool.reserved() as u64;
        QueryStats {
            waiting: waiting as u64,
            paused: paused as u64,
            memory_bytes: self.ledger.total().max(reserved),
            ..self.counters.stats()
        }
    }

    pub(crate) async fn admit(&self, sql: &str) -> Result<Admitted, QueryError> {
        self.admission.admit(sql).await
    }

    /// An account for a statement that has been let in.
    pub(crate) fn account(&self, stop: &Stop, admitted: &Admitted) -> Account {
        self.ledger.open(stop.clone(), admitted.seat())
    }

    pub(crate) fn limit(&self, requested: Option<Duration>) -> Duration {
        requested.map_or(self.query_timeout, |limit| limit.min(self.query_timeout))
    }

    /// Plans a statement over one snapshot and starts it, all of it in `account`.
    pub(crate) async fn open(
        &self,
        asked: &Statement,
        account: &Account,
    ) -> Result<Answer, QueryError> {
        account.check()?;
        let log = self.node.log().ok_or(QueryError::NoLog)?;
        // Before the snapshot, which may be fresher than that, never staler.
        let lag_ms = self.node.lag_ms();
        let snapshot = snapshot(&log, asked.as_of)?;
        let mut state = self.session.clone();
        state.register_catalog_list(Arc::new(Catalogs::new(View {
            snapshot: Arc::clone(&snapshot),
            node: Arc::clone(&self.node),
            running: self.admission.running(),
            counters: Arc::clone(&self.counters),
        })));
        let translate = |error: DataFusionError| QueryError::from_datafusion(&error, &asked.sql);
        if let Some(zone) = &asked.time_zone {
            zone.enter(&mut state).map_err(translate)?;
        }
        state.mark_start_execution();
        let mut prepared = prepare::prepare(&state, &asked.sql, &asked.params)?;
        let tables = spell(&state, &mut prepared.statement).await;
        let tables = tables.map_err(translate)?;
        let Titles { names, shadows } = prepare::titles(&mut prepared.statement);
        let notices = notices(&state, &shadows).await;
        let usual_rows = state.config().batch_size();
        let (plan, zoneless) = plan(&mut state, prepared, &tables, asked).await?;
        let task = state.task_ctx();
        let batch_rows = state.config().batch_size();
        let held = MemoryConsumer::new("long values of the statement");
        let held = Arc::new(held.register(task.memory_pool()));
        literals::reserve(&plan, batch_rows, &held).map_err(translate)?;
        let plan = copies::count(plan, batch_rows, &held).map_err(translate)?;
        let few_rows = (batch_rows < usual_rows).then_some(batch_rows);
        let plan = watch::watch(plan, few_rows, account).map_err(translate)?;
        let rows = execute_stream(plan, task).map_err(translate)?;
        let schema = rows.schema();
        Ok(Answer {
            rows,
            schema: names.map_or_else(|| SchemaRef::clone(&schema), |names| names.apply(&schema)),
            zoneless,
            notices,
            snapshot,
            lag_ms,
            held,
        })
    }
}

/// What `shadows` really hide.
async fn notices(state: &SessionState, shadows: &[Shadow]) -> Vec<String> {
    let mut notices = Vec::new();
    for shadow in shadows {
        let mut hidden = shadow.tables.is_empty();
        for table in &shadow.tables {
            hidden |= has_column(state, table, &shadow.alias).await;
        }
        if hidden {
            notices.push(shadow.notice());
        }
    }
    notices
}

async fn has_column(state: &SessionState, table: &str, column: &str) -> bool {
    let resolved = TableReference::from(table).resolve(CATALOG, PUBLIC);
    let name = resolved.table.to_string();
    let Ok(schema) = state.schema_for_ref(resolved) else {
        return false;
    };
    match schema.table(&name).await {
        Ok(Some(table)) => table.schema().column_with_name(column).is_some(),
        _ => false,
    }
}

/// What all tables of one statement are read from.
fn snapshot(log: &Log, as_of: Option<Lsn>) -> Result<Arc<Snapshot>, QueryError> {
    match as_of {
        None => Ok(log.snapshot()),
        Some(lsn) => log
            .snapshot_at(lsn)
            .map_err(|refused| error::as_of(lsn, &refused)),
    }
}

/// The plan of the first form of a statement that has one, and what its times without a zone are.
async fn plan(
    state: &mut SessionState,
    prepared: Prepared,
    tables: &[TableReference],
    asked: &Statement,
) -> Result<(Arc<dyn ExecutionPlan>, Zoneless), QueryError> {
    let Prepared { statement, table } = prepared;
    if let Some(table) = table
        && let Some(error) = unknown_table(state, &[TableReference::from(table)])
    {
        return Err(error);
    }
    let mut first = None;
    for form in naming::forms(&statement) {
        account::check()?;
        let error = match form_plan(state, form, asked).await {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        let of_form = matches!(
            error,
            QueryError::Plan(_) | QueryError::NotSupported(_) | QueryError::Internal(_)
        );
        // The first form's tells it best.
        let told = first.get_or_insert(error);
        if !of_form {
            return Err(told.clone());
        }
    }
    let none = || QueryError::Internal("a statement without a form".to_owned());
    let error = first.unwrap_or_else(none);
    Err(unknown_table(state, tables).unwrap_or(error))
}

async fn form_plan(
    state: &mut SessionState,
    form: parser::Statement,
    asked: &Statement,
) -> Result<(Arc<dyn ExecutionPlan>, Zoneless), QueryError> {
    let translate = |error: DataFusionError| QueryError::from_datafusion(&error, &asked.sql);
    let plan = state.statement_to_plan(form).await.map_err(translate)?;
    // A second lock behind `guard`: whatever a new parser version lets through stops here.
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(|_| QueryError::ReadOnly {
            what: "a statement that writes".to_owned(),
        })?;
    let plan = match asked.params.values() {
        Some(values) => plan.with_param_values(values.clone()).map_err(translate)?,
        None => plan,
    };
    let zoneless = match asked.time_zone {
        Some(_) => Zoneless::Local,
        None => at_zone::zoneless(&plan).map_err(translate)?,
    };
    let plan = physical_plan(state, &plan).await.map_err(translate)?;
    Ok((plan, zoneless))
}

async fn physical_plan(
    state: &mut SessionState,
    plan: &LogicalPlan,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let plan = rewrite::hide(state.optimize(plan)?)?;
    account::check()?;
    let usual_rows = state.config().batch_size();
    let rows = widths::batch_rows(&plan, usual_rows)?;
    if rows < usual_rows {
        let config = state.config_mut();
        *config = std::mem::take(config).with_batch_size(rows);
    }
    state
        .query_planner()
        .create_physical_plan(&plan, state)
        .await
}

/// Finds the tables that a statement names, and has it name them and their columns as they are
/// spelled.
async fn spell(
    state: &SessionState,
    statement: &mut parser::Statement,
) -> Result<Vec<TableReference>, DataFusionError> {
    let public = TableReference::bare("").resolve(CATALOG, PUBLIC);
    let stored = state.schema_for_ref(public)?.table_names();
    let stored = Spelling::new(stored);
    rewrite::respell_tables(statement, &stored);
    let tables = state.resolve_table_references(statement)?;
    let mut columns = Vec::new();
    for table in &tables {
        let resolved = table.clone().resolve(CATALOG, PUBLIC);
        // All other names are in lower case.
        if *resolved.schema != *PUBLIC {
            continue;
        }
        let name = resolved.table.to_string();
        if let Ok(schema) = state.schema_for_ref(resolved)
            && let Some(table) = schema.table(&name).await?
        {
            let table = table.schema();
            columns.extend(table.fields().iter().map(|field| field.name().clone()));
        }
    }
    let mut columns = Spelling::new(columns);
    if !(columns.is_plain() && stored.is_plain()) {
        rewrite::respell(statement, &mut columns, &stored);
    }
    Ok(tables)
}

/// The first of `tables` that does not exist. Asked only when planning failed: a name may also be
/// that of a table function.
fn unknown_table(state: &SessionState, tables: &[TableReference]) -> Option<QueryError> {
    tables.iter().find_map(|table| {
        let resolved = table.clone().resolve(CATALOG, PUBLIC);
        let name = resolved.table.to_string();
        let Ok(schema) = state.schema_for_ref(resolved) else {
            return Some(QueryError::UnknownTable {
                name: table.to_string(),
                hint: String::new(),
            });
        };
        if schema.table_exist(&name) || state.table_functions().contains_key(&name) {
            return None;
        }
        let known = schema.table_names();
        let hint = if name.contains(['/', '\\']) {
            "; files and addresses cannot be queried".to_owned()
        } else {
            names::nearest(&name, known.iter().map(String::as_str))
                .map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
        };
        Some(QueryError::UnknownTable {
            name: table.to_string(),
            hint,
        })
    })
}
