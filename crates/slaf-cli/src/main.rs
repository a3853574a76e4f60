//! The `slaf` command.

fn main() {
    // A file beyond the limit of its size is an error to report, not a reason to die.
    #[cfg(unix)]
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    std::process::exit(slaf_cli::run(std::env::args_os()));
}
