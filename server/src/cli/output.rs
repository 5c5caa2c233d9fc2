//! Standard output of commands. Owns what became of it; must never end a command by a panic because
//! nobody reads, nor call that a failure, nor be silent about any other reason.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use super::exit::fail;

/// Writes a line, as `println!` does where all goes well.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::output::line(format_args!($($words)*))
    };
}
pub(super) use say;

pub(super) fn line(words: fmt::Arguments<'_>) {
    text(&format!("{words}\n"));
}

/// Writes a text as it is. Nothing is written any more once that has failed.
pub(super) fn text(text: &str) {
    let mut lost = lost();
    if lost.is_none() {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        *lost = written.err();
    }
}

/// Whether nobody can read any more what is written.
pub(super) fn is_lost() -> bool {
    lost().is_some()
}

/// How a command ends that ends with `code` and may have written something: with `failure` where that
/// is lost. A reader that has seen enough, such as `head`, changes nothing: what was to be done is
/// done.
pub(super) fn end(code: ExitCode, failure: u8) -> ExitCode {
    match lost().take() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe && code == ExitCode::SUCCESS => fail(
            &format!("cannot write to standard output: {error}"),
            failure,
        ),
        _ => code,
    }
}

/// Notes why what another has written was not taken, if it was not.
pub(super) fn note(written: io::Result<()>) {
    if let Err(error) = written {
        lost().get_or_insert(error);
    }
}

fn lost() -> std::sync::MutexGuard<'static, Option<io::Error>> {
    LOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first failure.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::FAILURE;

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_all_else_is() {
        for (kind, code) in [
            (ErrorKind::BrokenPipe, ExitCode::SUCCESS),
            (ErrorKind::StorageFull, ExitCode::from(FAILURE)),
        ] {
            note(Err(kind.into()));
            // The first counts.
            note(Err(ErrorKind::Other.into()));
            assert!(is_lost());
            assert_eq!(end(ExitCode::SUCCESS, FAILURE), code);
            assert!(!is_lost());
        }
        note(Err(ErrorKind::StorageFull.into()));
        assert_eq!(end(ExitCode::from(2), FAILURE), ExitCode::from(2));
        note(Ok(()));
        assert_eq!(end(ExitCode::SUCCESS, FAILURE), ExitCode::SUCCESS);
    }
}
