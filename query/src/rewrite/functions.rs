//! The aggregate and window functions a session has. Owns which of DataFusion's are replaced; must
//! never add one that DataFusion does not know.

use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, WindowUDF};

use super::extremes::Extreme;
use super::shifts::Shift;
use super::slides::Mean;
use super::sums::ExactSum;

pub(crate) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    SessionStateDefaults::default_aggregate_functions()
        .into_iter()
        .map(|function| match function.name() {
            "sum" => Arc::new(AggregateUDF::new_from_impl(ExactSum::new())),
            "min" => Arc::new(AggregateUDF::new_from_impl(Extreme::smallest(function))),
            "max" => Arc::new(AggregateUDF::new_from_impl(Extreme::largest(function))),
            "avg" => Arc::new(AggregateUDF::new_from_impl(Mean { inner: function })),
            _ => function,
        })
        .collect()
}

pub(crate) fn windows() -> Vec<Arc<WindowUDF>> {
    SessionStateDefaults::default_window_functions()
        .into_iter()
        .map(|function| match function.name() {
            "lead" | "lag" => Arc::new(WindowUDF::new_from_impl(Shift(function))),
            _ => function,
        })
        .collect()
}
