//! From SQL text to a stream of rows. Owns the DataFusion session, its memory pool
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
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{
    SendableRecordBatchStream, SessionState, SessionStateBuilder, SessionStateDefaults,
};
use datafusion::logical_expr::ScalarUDF;
use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

use crate::at_zone::{AtZone, Zoneless};
use crate::bounds::rule::{BoundFunctions, Functions};
use crate::catalog::{CATALOG, PUBLIC};
use crate::config::Config;
use crate::encode::Encoder;
use crate::encode::format::Output;
use crate::error::QueryError;
use crate::mark::Mark;
use crate::node::Node;
use crate::params::Params;
use crate::pump::{self, Sink, Transfer};
use crate::rewrite;
use crate::statement::{Core, Statement};
use crate::stats::QueryStats;
use crate::stop::Stop;
use crate::version::Version;
use crate::watch;
use crate::zone::{LocalTimes, TimeZone};

/// SQL over the log of one node, on threads of its own.
pub struct Engine {
    core: Arc<Core>,
    threads: Handle,
    runtime: Option<Runtime>,
}

impl Engine {
    /// Starts the query threads.
    ///
    /// # Errors
    /// When there can be no threads, or no session with this much memory.
    pub fn new(config: &Config, node: Arc<dyn Node>) -> Result<Self, QueryError> {
        let session = session(config).map_err(|e| QueryError::Start(e.strip_backtrace()))?;
        let runtime = runtime(config)?;
        Ok(Self {
            core: Arc::new(Core::new(node, session, config)),
            threads: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Answers one statement. Dropping the stream stops the query.
    ///
    /// # Errors
    /// Whatever ends the query before its first rows; what comes later is in the stream.
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
            time_zone: None,
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
    pub fn encoded(&self, statement: Statement, output: Output) -> Transfer<Bytes> {
        let zone = statement.time_zone.as_ref().map(TimeZone::name);
        let encoder = Encoder::new(output, zone);
        self.start(statement, encoder)
    }

    /// The time a query that asks for `requested` gets.
    #[must_use]
    pub fn limit(&self, requested: Option<Duration>) -> Duration {
        self.core.limit(requested)
    }

    /// What it has counted since it started.
    #[must_use]
    pub fn stats(&self) -> QueryStats {
        self.core.stats()
    }

    /// Starts a query whose rows go through `sink`.
    fn start<S: Sink>(&self, statement: Statement, sink: S) -> Transfer<S::Item> {
        let (sender, receiver) = pump::channel();
        let stop = Stop::after(self.core.limit(statement.timeout));
        let work = pump::pump(
            Arc::clone(&self.core),
            statement,
            sink,
            sender,
            stop.clone(),
        );
        let task = AbortOnDropHandle::new(self.threads.spawn(work));
        Transfer::new(receiver, task, stop)
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

/// A session with functions and planners, and with nothing that reads or writes elsewhere.
fn session(config: &Config) -> Result<SessionState, DataFusionError> {
    let mut options = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_target_partitions(config.threads.max(1));
    // Times without a zone are UTC, like those of the tables.
    let execution = &mut options.options_mut().execution;
    execution.time_zone = Some("+00:00".to_owned());
    // Where the planner's two halves do not agree on what may be NULL, either is safe.
    execution.skip_physical_aggregate_schema_check = true;
    let environment = environment(config)?;
    let scalars = SessionStateDefaults::default_scalar_functions();
    let aggregates = rewrite::aggregates();
    let bounds = Functions::of(&scalars, &aggregates, &environment.memory_pool);
    let bounds = Arc::new(bounds);
    let version = Arc::new(ScalarUDF::new_from_impl(Version::new()));
    let scalars = scalars
        .into_iter()
        .filter(|made| made.name() != version.name());
    let scalars = scalars.map(|made| bounds.scalar(made));
    let at_zone = Arc::new(ScalarUDF::new_from_impl(AtZone::new()));
    let mark = Arc::new(ScalarUDF::new_from_impl(Mark::new()));
    let scalars = scalars.chain([Arc::clone(&version), at_zone, mark]);
    let aggregates = aggregates.into_iter().map(|made| bounds.aggregate(made));
    let windows = rewrite::windows().into_iter();
    let windows = windows.map(|made| bounds.window(made));
    let mut analyzers = Analyzer::new().rules;
    analyzers.extend([
        Arc::new(LocalTimes) as Arc<dyn AnalyzerRule + Send + Sync>,
        Arc::new(rewrite::Multisets),
        Arc::new(rewrite::Membership),
        Arc::new(rewrite::Expressions),
        Arc::new(BoundFunctions(Arc::clone(&bounds))),
    ]);
    let state = SessionStateBuilder::new()
        .with_config(options)
        .with_runtime_env(environment)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(scalars.collect())
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(aggregates.collect())
        .with_window_functions(windows.collect())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .with_analyzer_rules(watch::analyzer_rules(analyzers))
        .with_optimizer_rules(watch::optimizer_rules(Optimizer::new().rules))
        .with_physical_optimizer_rules(watch::physical_rules(rewrite::physical_rules()))
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

fn runtime(config: &Config) -> Result<Runtime, QueryError> {
    let next = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(
            config.threads.max(1) + config.max_concurrent_queries.clamp(1, MOST_PLANNED),
        )
        .max_blocking_threads(config.max_concurrent_queries.clamp(1, MOST_PLANNED))
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

    fn start(&mut self, _schema: &SchemaRef, _zoneless: Zoneless) -> Result<(), QueryError> {
        Ok(())
    }

    fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>, QueryError> {
        Ok(Some(batch))
    }

    fn finish(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        Ok(None)
    }

    fn bytes(item: &RecordBatch) -> usize {
        item.get_array_memory_size()
    }
}

/// Holds the deepest statement that `guard` lets through. Reserved, not used, until one comes.
const STACK_BYTES: usize = 128 << 20;
/// Statements that may be planned at once, each on a thread of its own; and that many threads more
/// than there are cores run them, since a join may keep its thread for long without a row.
const MOST_PLANNED: usize = 64;
/// Consumers that an out-of-memory message names.
const LARGEST_NAMED: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");
