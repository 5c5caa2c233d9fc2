//! Bounds on what functions make, beside the memory pool that bounds what operators hold. Owns which
//! functions can make a value larger than their arguments, and how large it may be; must never let
//! one of them run without its bound, also not while a plan is made.

mod aggregate;
mod estimate;
mod joined;
pub(crate) mod literals;
pub(crate) mod rule;
mod scalar;
mod sizes;
#[cfg(test)]
mod tests;
