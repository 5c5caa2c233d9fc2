//! Which of DataFusion's physical rules run, and one beside them. Must never leave out one that makes
//! a plan valid.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;

/// All but those that push filters down once more: they push a filter on the empty side of an outer
/// join into the other, and no scan here takes a filter from them.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    rules.push(Arc::new(WholeKeys));
    rules
}

/// Lets the first rows of each part of a union be sorted by the whole key. DataFusion leaves out what
/// is constant in each part, and then drops a row of one for those of another that come before it by
/// the rest of the key: the parts share what they have found so far.
#[derive(Debug)]
struct WholeKeys;

impl PhysicalOptimizerRule for WholeKeys {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(with_whole_key).data()
    }

    fn name(&self) -> &'static str {
        "whole_keys"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn with_whole_key(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() else {
        return Ok(Transformed::no(plan));
    };
    let Some(sort) = merge.input().downcast_ref::<SortExec>() else {
        return Ok(Transformed::no(plan));
    };
    if sort.fetch().is_none() || !sort.preserve_partitioning() || sort.expr() == merge.expr() {
        return Ok(Transformed::no(plan));
    }
    let whole = SortExec::new(merge.expr().clone(), Arc::clone(sort.input()))
        .with_preserve_partitioning(true)
        .with_fetch(sort.fetch());
    let merged = SortPreservingMergeExec::new(merge.expr().clone(), Arc::new(whole))
        .with_fetch(merge.fetch());
    Ok(Transformed::yes(Arc::new(merged)))
}
