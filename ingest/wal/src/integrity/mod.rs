//! Is what lies on the disk what was written: verification, scrubbing, repair, digests. It must
//! never report bytes as right that it has not read.

pub(crate) mod digest;
pub(crate) mod repair;
pub(crate) mod scrub;
pub(crate) mod verify;
