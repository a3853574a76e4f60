//! Whether there is a standard output: results must not get lost, nor land in a file that is opened
//! in its place.

use crate::failure::Failure;
use std::io::{self, Write};

/// What errors name.
pub(crate) const PLACE: &str = "the standard output";

/// What became of it that something could not be printed.
pub(crate) fn failed(e: io::Error) -> Failure {
    Failure::from(e).at(PLACE)
}

/// Whether the standard output was closed, as by `>&-`. A Rust program has to ask before its
/// `main`: the runtime puts `/dev/null` in its place.
#[must_use]
pub fn is_closed() -> bool {
    #[cfg(unix)]
    // SAFETY: asks for the flags of a descriptor, which need not be open.
    let closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) == -1 };
    #[cfg(not(unix))]
    let closed = false;
    closed
}

/// Tells the user and returns the exit status.
pub fn refuse() -> i32 {
    let message = "slaf: the standard output is closed: send it to /dev/null if it is not wanted [io]";
    // Nobody is left to be told when writing fails.
    let _ = writeln!(std::io::stderr(), "{message}");
    1
}
