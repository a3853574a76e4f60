//! The `slaf` command.

use std::io::Write;

fn main() {
    // A file beyond the limit of its size is an error to report, not a reason to die.
    #[cfg(unix)]
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    if let Err(e) = slaf_cli::logging::start_from_environment() {
        // Nobody is left to be told when writing fails.
        let _ = writeln!(std::io::stderr(), "slaf: {e} [{}]", e.kind().as_str());
        std::process::exit(1);
    }
    std::process::exit(slaf_cli::run(std::env::args_os()));
}
