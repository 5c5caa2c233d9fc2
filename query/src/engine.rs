//! From SQL text to a stream of rows, without HTTP. Owns the DataFusion session, its memory pool
//! and the query threads; must never register anything that reaches outside the process: no file
//! formats, no table factories, no object stores, no spill files.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{
    SendableRecordBatchStream, SessionState, SessionStateBuilder, SessionStateDefaults,
};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;
use wal::{Log, Lsn, Snapshot};

use crate::admit::{Admission, Admitted};
use crate::catalog::{CATALOG, Catalogs, PUBLIC, View};
use crate::config::Config;
use crate::encode::Encoder;
use crate::encode::format::Format;
use crate::error::{self, QueryError};
use crate::guard;
use crate::names;
use crate::node::Node;
use crate::params::Params;
use crate::pump::{self, Sink, Transfer};

/// SQL over the log of one node, on threads of its own.
pub struct Engine {
    core: Arc<Core>,
    threads: Handle,
    runtime: Option<Runtime>,
}

impl Engine {
    /// Starts the query threads.
    pub fn new(config: &Config, node: Arc<dyn Node>) -> Result<Self, QueryError> {
        let session = session(config).map_err(|e| QueryError::Start(e.strip_backtrace()))?;
        let runtime = runtime(config.threads)?;
        let core = Core {
            node,
            session,
            admission: Admission::new(config.max_concurrent_queries),
            query_timeout: config.query_timeout,
        };
        Ok(Self {
            core: Arc::new(core),
            threads: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Answers one statement. Dropping the stream stops the query.
    pub async fn sql(
        &self,
        sql: &str,
        params: Params,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let statement = Statement {
            sql: sql.to_owned(),
            params,
            as_of: None,
            timeout: None,
        };
        let mut transfer = self.start(statement, Batches);
        let head = transfer.head().await?;
        let batches = transfer.map_err(DataFusionError::from);
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            head.schema,
            batches,
        )))
    }

    /// Answers one statement as the bytes of a format. Dropping the transfer stops the query.
    #[must_use]
    pub fn encoded(&self, statement: Statement, format: Format) -> Transfer<Bytes> {
        self.start(statement, Encoder::new(format))
    }

    /// The time a query that asks for `requested` gets.
    #[must_use]
    pub fn limit(&self, requested: Option<Duration>) -> Duration {
        self.core.limit(requested)
    }

    /// Starts a query whose rows go through `sink`.
    fn start<S: Sink>(&self, statement: Statement, sink: S) -> Transfer<S::Item> {
        let (sender, receiver) = pump::channel();
        let work = pump::pump(Arc::clone(&self.core), statement, sink, sender);
        Transfer::new(receiver, AbortOnDropHandle::new(self.threads.spawn(work)))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Drop for Engine {
    /// Not waited for: the last handle may go on a thread that must not block.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

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
}

/// The rows of a statement, and the snapshot they are of.
pub(crate) struct Answer {
    pub(crate) rows: SendableRecordBatchStream,
    pub(crate) snapshot: Arc<Snapshot>,
    /// How far the node was behind when the snapshot was taken.
    pub(crate) lag_ms: Option<u64>,
}

/// What the tasks on the query threads share.
pub(crate) struct Core {
    node: Arc<dyn Node>,
    session: SessionState,
    admission: Admission,
    query_timeout: Duration,
}

impl Core {
    pub(crate) fn admit(&self, sql: &str) -> Result<Admitted, QueryError> {
        self.admission.admit(sql)
    }

    pub(crate) fn limit(&self, requested: Option<Duration>) -> Duration {
        requested.map_or(self.query_timeout, |limit| limit.min(self.query_timeout))
    }

    /// Plans a statement over one snapshot and starts it.
    pub(crate) async fn open(&self, asked: &Statement) -> Result<Answer, QueryError> {
        guard::inspect(&asked.sql)?;
        let log = self.node.log().ok_or(QueryError::NoLog)?;
        // Before the snapshot, which may be fresher than that, never staler.
        let lag_ms = self.node.lag_ms();
        let snapshot = snapshot(&log, asked.as_of)?;
        let mut state = self.session.clone();
        state.register_catalog_list(Arc::new(Catalogs::new(View {
            snapshot: Arc::clone(&snapshot),
            node: Arc::clone(&self.node),
            running: self.admission.running(),
        })));
        state.mark_start_execution();
        let translate = |error: DataFusionError| QueryError::from_datafusion(&error, &asked.sql);
        let plan = logical_plan(&state, asked).await?;
        let plan = state.create_physical_plan(&plan).await.map_err(translate)?;
        let rows = execute_stream(plan, state.task_ctx()).map_err(translate)?;
        Ok(Answer {
            rows,
            snapshot,
            lag_ms,
        })
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

async fn logical_plan(state: &SessionState, asked: &Statement) -> Result<LogicalPlan, QueryError> {
    let translate = |error: DataFusionError| QueryError::from_datafusion(&error, &asked.sql);
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state
        .sql_to_statement(&asked.sql, &dialect)
        .map_err(translate)?;
    guard::check(&statement)?;
    let tables = state
        .resolve_table_references(&statement)
        .map_err(translate)?;
    let plan = match state.statement_to_plan(statement).await {
        Ok(plan) => plan,
        Err(error) => return Err(unknown_table(state, &tables).unwrap_or_else(|| translate(error))),
    };
    // A second lock behind `guard`: whatever a new parser version lets through stops here.
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(|_| QueryError::ReadOnly {
            what: "a statement that writes".to_owned(),
        })?;
    match asked.params.values() {
        Some(values) => plan.with_param_values(values.clone()).map_err(translate),
        None => Ok(plan),
    }
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

/// A session with functions and planners, and with nothing that reads or writes elsewhere.
fn session(config: &Config) -> Result<SessionState, DataFusionError> {
    let mut options = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(config.threads.max(1));
    // Times without a zone are UTC, like those of the tables.
    options.options_mut().execution.time_zone = Some("+00:00".to_owned());
    let state = SessionStateBuilder::new()
        .with_config(options)
        .with_runtime_env(environment(config)?)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(SessionStateDefaults::default_scalar_functions())
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .build();
    Ok(state)
}

fn environment(config: &Config) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let limit = usize::try_from(config.memory_limit).unwrap_or(usize::MAX);
    let pool = TrackConsumersPool::new(GreedyMemoryPool::new(limit), LARGEST_NAMED);
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .build()?;
    // The only store that is registered by default.
    environment.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    Ok(Arc::new(environment))
}

fn runtime(threads: usize) -> Result<Runtime, QueryError> {
    let next = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name_fn(move || format!("query-{}", next.fetch_add(1, Ordering::Relaxed)))
        .thread_stack_size(STACK_BYTES)
        .enable_time()
        .build()
        .map_err(|error| QueryError::Start(error.to_string()))
}

/// Hands batches on as they are.
struct Batches;

impl Sink for Batches {
    type Item = RecordBatch;

    fn start(&mut self, _schema: &SchemaRef) -> Result<(), QueryError> {
        Ok(())
    }

    fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>, QueryError> {
        Ok(Some(batch))
    }

    fn finish(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        Ok(None)
    }
}

/// Holds the deepest statement that `guard` lets through. Reserved, not used, until one comes.
const STACK_BYTES: usize = 128 << 20;
const BLOCKING_THREADS: usize = 4;
/// Consumers that an out-of-memory message names.
const LARGEST_NAMED: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");
