//! The program `headwater`: the allocator and the way into `server::run`. Must never do more.

use std::alloc::{GlobalAlloc, Layout};
use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocator, which tells queries what they take.
struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe to implement; each call is handed on as it came"
)]
// SAFETY: all calls go to an allocator that keeps the promises; counting allocates nothing and
// cannot panic.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        query::allocated(layout.size());
        // SAFETY: the caller's promises are the allocator's.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        query::allocated(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        query::freed(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        query::freed(layout.size());
        query::allocated(new_size);
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(memory, layout, new_size) }
    }
}

fn main() -> ExitCode {
    server::run(std::env::args_os())
}
