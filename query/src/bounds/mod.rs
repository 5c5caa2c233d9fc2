//! Bounds on what functions make and on copies of long values, beside the memory pool that bounds
//! what operators hold. Owns which functions can make a value larger than their arguments, how large
//! it may be, and where one row becomes many; must never let one of them run without its bound, also
//! not while a plan is made.

mod aggregate;
pub(crate) mod copies;
mod estimate;
pub(crate) mod literals;
mod metered;
mod operation;
mod patterns;
pub(crate) mod rule;
mod scalar;
mod sizes;
#[cfg(test)]
mod tests;
pub(crate) mod widths;
mod windows;

pub(crate) use sizes::value_bytes;
