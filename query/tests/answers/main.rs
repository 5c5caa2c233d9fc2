//! Right answers, asked of whole engines over real logs: the same rows in every state of
//! compaction, and plain DataFusion beside them. Must never accept an answer because DataFusion
//! alone gives it.

#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod ask;
mod memory;
mod names;
mod numbers;
mod order;
mod planner;
mod predicates;
mod pruning;
mod refusals;
mod upstream;
mod world;
