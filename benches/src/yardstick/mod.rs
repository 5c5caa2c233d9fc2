//! Yardsticks: the cheapest things that could do the same job, which Headwater is measured beside.
//! Must never use anything of the product.

pub mod bulk;
pub mod lossy;
pub mod noop;
pub mod servers;
pub mod tls;
