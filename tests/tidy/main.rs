//! Promises of the source tree itself: who may depend on whom, in which order a crate's folders
//! stand, which words are used, how long a file may be, that the documents are those of the code.
//! Must never need a node, a network or a disk but the checkout.

#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod dependencies;
mod documents;
mod layers;
mod sizes;
mod tasks;
mod tree;
mod words;
