use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use slaf::{ConvertOptions, Durability, Join, LEAST_MEMORY, OpenOptions, Workers};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Which part of an input is read, where its format has several.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PartArgs {
    /// 10x files and folders with several genomes: read this one
    #[arg(long, value_name = "NAME")]
    genome: Option<String>,
    /// 10x files: read only features of this type, for example "Gene Expression"
    #[arg(long, value_name = "TYPE")]
    feature_type: Option<String>,
    /// MuData files: read this modality
    #[arg(long, value_name = "NAME")]
    modality: Option<String>,
}

impl PartArgs {
    /// Options that choose the part, and are otherwise as these.
    pub(crate) fn of(self, options: OpenOptions) -> OpenOptions {
        let PartArgs { genome, feature_type, modality } = self;
        OpenOptions { genome, feature_type, modality, ..options }
    }
}

/// Make a store from h5ad, h5mu, AnnData's Zarr, 10x HDF5, 10x mtx, loom, csv or tsv
///
/// The format is found from the content of the files. Several inputs become one store: their
/// cells are put one after the other, their genes are joined by name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf convert pbmc.h5ad pbmc.slaf\n\
        \x20 slaf convert donor1/ donor2/ both.slaf --join inner\n\
        \x20 slaf convert samples/*.h5ad all.slaf --workers 8")]
pub(crate) struct Args {
    /// The files or folders to read: folders of one data set, or of h5ad files
    #[arg(required = true, num_args = 1..)]
    inputs: Vec<PathBuf>,
    /// The store to make
    output: String,
    /// Replace what is at OUTPUT
    #[arg(long)]
    overwrite: bool,
    /// Go on where the input holds something that a store cannot hold; the report names it
    #[arg(long)]
    allow_loss: bool,
    /// Genes of several inputs: those of any (outer), of all of them (inner), or of the first (reference)
    #[arg(long, value_parser = named(Join::ALL, Join::name), default_value = "outer")]
    join: Join,
    /// The obs column that names the input of each cell, where there are several inputs
    #[arg(long, value_name = "NAME")]
    source_column: Option<String>,
    /// Take a layer that some of several inputs lack as zeros in their cells
    #[arg(long)]
    fill_layers: bool,
    /// Leave out the gene-major copy: smaller, but queries of genes read every cell
    #[arg(long)]
    no_by_gene: bool,
    /// How much memory to use, for example 800M or 4G (1G by default, at least 1M); with --workers, each of
    /// them
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory: Option<usize>,
    /// Convert in parts, by so many processes on this machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    #[command(flatten)]
    part: PartArgs,
    /// Text tables: genes are the rows
    #[arg(long, conflicts_with = "cells_in_rows")]
    genes_in_rows: bool,
    /// Text tables: cells are the rows
    #[arg(long)]
    cells_in_rows: bool,
    /// Wait until the store is on the disk (full), or leave that to the operating system (os)
    #[arg(long, value_parser = named(Durability::ALL, Durability::name), default_value = "full")]
    durability: Durability,
    #[command(flatten)]
    storage: StorageArgs,
}

impl Args {
    fn options(&self) -> ConvertOptions {
        let defaults = ConvertOptions::default();
        ConvertOptions {
            overwrite: self.overwrite,
            allow_loss: self.allow_loss,
            by_gene: !self.no_by_gene,
            memory: self.memory.unwrap_or(defaults.memory),
            join: self.join,
            source_column: self.source_column.clone().or(defaults.source_column),
            fill_layers: self.fill_layers,
            few_names: defaults.few_names,
            input: OpenOptions {
                genes_in_rows: (self.genes_in_rows || self.cells_in_rows).then_some(self.genes_in_rows),
                ..self.part.clone().of(defaults.input)
            },
            storage_options: self.storage.to_map(),
            durability: self.durability,
        }
    }
}

pub(crate) fn run(args: Args, interrupt: &Interrupt, worker: Vec<OsString>) -> Outcome {
    say(interrupt.change(move |progress| {
        let (options, output) = (args.options(), &args.output);
        let inputs: Vec<&Path> = args.inputs.iter().map(PathBuf::as_path).collect();
        Ok(match args.workers {
            Some(count) => {
                let workers = Workers { count: count as usize, command: worker };
                slaf::convert_with_workers(&inputs, output, &options, None, &workers, progress)?
            }
            None => slaf::convert(&inputs, output, &options, progress)?,
        })
    })?)
}

/// Parses the name of a value of an enum; the help lists the names that there are.
pub(crate) fn named<T>(all: &'static [T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = slaf::Error> + Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.iter().map(|value| name(*value))).try_map(|name| name.parse())
}

/// A budget of memory: a number of bytes, with a unit or without.
pub(crate) fn memory(text: &str) -> Result<usize, String> {
    let bytes = slaf::parse_bytes(text)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| "expected a number of bytes such as 800M or 4G".to_string())?;
    match bytes < LEAST_MEMORY {
        true => Err(format!("the least that is heeded is {}M", LEAST_MEMORY >> 20)),
        false => Ok(bytes),
    }
}
