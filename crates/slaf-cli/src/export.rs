use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StoreArgs;
use clap::ValueEnum;
use slaf::{ExportFormat, ExportOptions};
use std::path::{Path, PathBuf};

/// Write a store to an h5ad file or a 10x mtx folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf export pbmc.slaf back.h5ad --compress\n\
        \x20 slaf export pbmc.slaf folder --format 10x-mtx")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The file or folder to write
    output: PathBuf,
    /// The format; by default h5ad for *.h5ad, and 10x-mtx for a name without an extension
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Replace what is at OUTPUT
    #[arg(long)]
    overwrite: bool,
    /// Compress with gzip
    #[arg(long)]
    compress: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    H5ad,
    #[value(name = "10x-mtx")]
    Mtx10x,
}

impl FormatArg {
    fn of(path: &Path) -> Outcome<FormatArg> {
        match path.extension() {
            Some(e) if e.eq_ignore_ascii_case("h5ad") => Ok(FormatArg::H5ad),
            None => Ok(FormatArg::Mtx10x),
            Some(_) => Err(Failure::Usage(format!(
                "the format of {} is not clear from its name: give --format h5ad or --format 10x-mtx",
                path.display()
            ))),
        }
    }
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let format = match args.format.map_or_else(|| FormatArg::of(&args.output), Ok)? {
        FormatArg::H5ad => ExportFormat::H5ad,
        FormatArg::Mtx10x => ExportFormat::Mtx10x,
    };
    let Args { store, output, overwrite, compress, .. } = args;
    let options = ExportOptions { overwrite, compression: compress };
    let dataset = interrupt.abandonable(move || Ok(store.open()?))?;
    let shown = output.display().to_string();
    let dataset = interrupt.change(move |progress| {
        slaf::export(&dataset, &output, format, &options, progress)?;
        Ok(dataset)
    })?;
    say(format_args!("{shown}: {} cells x {} genes", dataset.n_cells(), dataset.n_genes()))?;
    match dataset.manifest().measured {
        Some(_) => say("note: which genes were measured in which cells is not in it: they are zeros"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_name_formats() {
        assert_eq!(FormatArg::of(Path::new("a/b.h5ad")).unwrap(), FormatArg::H5ad);
        assert_eq!(FormatArg::of(Path::new("a/matrix")).unwrap(), FormatArg::Mtx10x);
        assert!(matches!(FormatArg::of(Path::new("a.zarr")), Err(Failure::Usage(_))));
    }
}
