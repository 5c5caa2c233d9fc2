//! Load: who publishes, who follows, and the rows of logs that are filled before a measurement.
//! Must never start a server or a node, and never print a number as a result.

pub mod conn;
pub mod cpu;
pub mod fleet;
pub mod generator;
mod light;
pub mod lights;
pub mod noise;
pub mod packet;
pub mod probe;
pub mod rows;
#[cfg(test)]
mod selftest;
pub mod writer;
