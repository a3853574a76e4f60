//! The `slaf` command.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before Rust's runtime, which hides that the standard output is closed.
extern "C" fn look_at_stdout() {
    STDOUT_CLOSED.store(slaf_cli::standard_output::is_closed(), Ordering::Relaxed);
}

// SAFETY: the system calls the functions of this section once, without arguments that matter; this
// one allocates nothing and needs nothing of the runtime.
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static LOOK_AT_STDOUT: extern "C" fn() = look_at_stdout;

fn main() {
    // A file beyond the limit of its size is an error to report, not a reason to die.
    #[cfg(unix)]
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    if STDOUT_CLOSED.load(Ordering::Relaxed) {
        std::process::exit(slaf_cli::standard_output::refuse());
    }
    if let Err(e) = slaf_cli::logging::start_from_environment() {
        // Nobody is left to be told when writing fails.
        let _ = writeln!(std::io::stderr(), "slaf: {e} [{}]", e.kind().as_str());
        std::process::exit(1);
    }
    // Without its own place it starts no workers, and says so.
    let worker = slaf_cli::worker_command().unwrap_or_default();
    std::process::exit(slaf_cli::run(std::env::args_os(), worker));
}
