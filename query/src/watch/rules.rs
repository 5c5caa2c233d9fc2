//! The planner's rules, each with a look at whether the statement may go on before and after it. Must
//! never change what a rule does.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;

use crate::account;

type Analyzers = Vec<Arc<dyn AnalyzerRule + Send + Sync>>;
type Optimizers = Vec<Arc<dyn OptimizerRule + Send + Sync>>;
type PhysicalOptimizers = Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>;

pub(crate) fn analyzer_rules(rules: Analyzers) -> Analyzers {
    let watched = rules.into_iter().map(|rule| Arc::new(Watched(rule)) as _);
    watched.collect()
}

pub(crate) fn optimizer_rules(rules: Optimizers) -> Optimizers {
    let watched = rules.into_iter().map(|rule| Arc::new(Watched(rule)) as _);
    watched.collect()
}

pub(crate) fn physical_rules(rules: PhysicalOptimizers) -> PhysicalOptimizers {
    let watched = rules.into_iter().map(|rule| Arc::new(Watched(rule)) as _);
    watched.collect()
}

#[derive(Debug)]
struct Watched<R: ?Sized>(Arc<R>);

impl AnalyzerRule for Watched<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        account::check()?;
        let analyzed = self.0.analyze(plan, config)?;
        account::check()?;
        Ok(analyzed)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl OptimizerRule for Watched<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    /// Called for each node of a plan by most rules.
    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        account::check()?;
        let rewritten = self.0.rewrite(plan, config)?;
        account::check()?;
        Ok(rewritten)
    }
}

impl PhysicalOptimizerRule for Watched<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        account::check()?;
        let optimized = self.0.optimize(plan, config)?;
        account::check()?;
        Ok(optimized)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        account::check()?;
        let optimized = self.0.optimize_with_context(plan, context)?;
        account::check()?;
        Ok(optimized)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
