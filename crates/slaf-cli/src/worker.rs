use crate::failure::Outcome;
use std::ffi::OsString;
use std::io;

/// The subcommand that is a worker process.
pub(crate) const NAME: &str = "convert-parts";

/// The command that starts a worker process of this program.
///
/// # Errors
/// Where the system does not tell where this program is.
pub fn command() -> io::Result<Vec<OsString>> {
    Ok(vec![std::env::current_exe()?.into_os_string(), NAME.into()])
}

pub(crate) fn run() -> Outcome {
    Ok(slaf::serve(io::stdin().lock(), io::stdout())?)
}
