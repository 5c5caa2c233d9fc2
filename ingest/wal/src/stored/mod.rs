//! Files of a log as they are read: piece by piece, through one cache of checked pieces and a
//! bounded number of open files, never mapped. Knows no format, and must never hand out a piece
//! that whoever knows it has not checked.

mod cache;
mod descriptors;
mod file;
mod home;
mod straight;

pub use cache::Cache;
pub(crate) use file::StoredFile;
pub(crate) use home::Home;
pub(crate) use straight::{Content, Straight};
