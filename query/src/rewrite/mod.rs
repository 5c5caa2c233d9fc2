//! What is asked, put so that DataFusion answers it rightly: the text's tree, the plan before it is
//! optimised, the plan before it is run, and some functions.
//!
//! Owns everything that is here only because DataFusion alone would give a wrong answer; a test of
//! each says when an upgrade has mended it, and what can go then. Must never change what a right
//! answer would be.

mod carriers;
mod clock_text;
mod delegate;
mod expressions;
mod extremes;
mod folds;
mod functions;
mod membership;
mod multisets;
mod opaque;
mod patterns;
mod precedence;
mod rows;
mod rules;
mod shifts;
mod slides;
mod spans;
mod spelling;
mod standard;
mod sums;
mod times;
mod years;

pub(crate) use expressions::Expressions;
pub(crate) use functions::{aggregates, windows};
pub(crate) use membership::Membership;
pub(crate) use multisets::Multisets;
pub(crate) use opaque::hide;
pub(crate) use precedence::regroup;
pub(crate) use rules::physical_rules;
pub(crate) use spelling::{Spelling, respell, respell_tables};
pub(crate) use standard::standardize;
