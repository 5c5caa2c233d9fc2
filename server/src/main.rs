//! The program `headwater`: the allocator and the way into `server::run`. Must never do more.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    server::run(std::env::args_os())
}
