//! A node of either role: its parts, the order in which they start and stop, and what it answers.
//! Must never know how a part works.

pub(crate) mod answers;
mod asking;
pub(crate) mod background;
pub(crate) mod control_group;
pub(crate) mod cut_teller;
pub(crate) mod data_dir;
pub(crate) mod descriptors;
pub(crate) mod error;
pub(crate) mod healing;
pub(crate) mod kept;
pub(crate) mod members;
pub(crate) mod memory;
pub(crate) mod parts;
pub(crate) mod place_watch;
pub(crate) mod primary;
mod primary_url;
pub(crate) mod process;
pub(crate) mod role;
pub(crate) mod running;
mod schema_teller;
pub(crate) mod secondary;
pub(crate) mod slot;
pub(crate) mod tellers;
#[cfg(test)]
mod tests;
