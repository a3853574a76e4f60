use crate::failure::Outcome;
use slaf::{Error, ErrorKind};
use std::ffi::OsString;

/// From counts to clusters and markers (comes with the Python package)
///
/// The script of the Python package runs it itself and does not come here: the steps call packages
/// of Python.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// The store and the options of the Python package
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> Outcome {
    let _ = args.arguments;
    let what = "slaf analyze comes with the Python package, and this program is the one without Python: \
                pip install 'slaf[analysis]', and run the slaf that it installs";
    Err(Error::new(ErrorKind::UnsupportedFeature, what).into())
}
