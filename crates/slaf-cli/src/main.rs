//! The `slaf` command.

fn main() {
    std::process::exit(slaf_cli::run(std::env::args_os()));
}
