//! Nodes under test: processes, what they answer and what they use. Must never look inside a node:
//! its command line, conf, HTTP surface and `/proc` are all there is.

pub mod data_dir;
mod headwater;
pub mod http;
pub mod peak;
pub mod process;

pub use headwater::{Follow, Headwater, Primary, Secondary};
