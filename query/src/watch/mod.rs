//! Where a statement that nobody waits for any more, or that has grown too large, is told so: between
//! the rules of the planner, between the batches of operators, in the filters of joins. Must never
//! change a plan or an answer.

mod filters;
mod operators;
mod rules;

pub(crate) use filters::watched;
pub(crate) use operators::watch;
pub(crate) use rules::{analyzer_rules, optimizer_rules, physical_rules};
