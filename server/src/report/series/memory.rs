//! The metrics of memory. Must never keep a number from one scrape to the next.

use crate::report::memory::Memory;
use crate::report::metrics::Exposition;

/// What the process has and what its parts hold.
pub(crate) fn memory(text: &mut Exposition, memory: &Memory) {
    let parts = || memory.parts.iter();
    let held = parts().filter_map(|part| Some(([part.part.clone()], part.bytes?)));
    text.gauges(
        "headwater_memory_bytes",
        "Bytes that a part of the node holds.",
        ["part"],
        held,
    );
    let limits = parts().map(|part| ([part.part.clone()], part.limit_bytes));
    text.gauges(
        "headwater_memory_limit_bytes",
        "Bytes that a part of the node may hold; all together are node.memory_limit, unless \
         http.memory_limit is less than what it leaves to queries.",
        ["part"],
        limits,
    );
    if let Some(bytes) = memory.resident_bytes {
        text.gauge(
            "headwater_resident_memory_bytes",
            "Bytes of this process in memory, files that it has mapped included.",
            bytes,
        );
    }
}
