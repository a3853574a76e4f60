use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::grow::{IndexKind, IndexOptions, create_index, drop_index};
use slaf::neighbors::Measure;
use slaf::{ArrayKey, Axis, Error, Verify};

/// Make an index of an embedding, with which a search compares a part of the cells
///
/// The answers stay the same. Cells that are appended later are compared beside it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf index pbmc.slaf X_pca\n\
        \x20 slaf index pbmc.slaf X_pca --report")]
pub(crate) struct Args {
    /// The store
    store: String,
    /// The array of obsm with the coordinates of the cells; with --genes, the array of varm
    key: String,
    /// l2, cosine, or ip for the negative of the sum of products; l2 by default, for genes cosine
    #[arg(long, value_name = "METRIC", value_parser = named::<Measure>)]
    metric: Option<Measure>,
    /// auto makes none where comparing all is as fast; ivf makes one
    #[arg(long, value_name = "KIND", default_value = "auto", value_parser = named::<IndexKind>)]
    kind: IndexKind,
    /// The array is about genes
    #[arg(long)]
    genes: bool,
    /// Make none: search with and without the one that is there, and tell what it is good for
    #[arg(long)]
    report: bool,
    /// Make none: take what there is out of the store, with --metric the one for it
    #[arg(long, conflicts_with_all = ["report", "kind"])]
    drop: bool,
    #[command(flatten)]
    storage: StorageArgs,
}

fn named<T: std::str::FromStr<Err = Error>>(name: &str) -> Result<T, String> {
    name.parse().map_err(|e: Error| e.message().to_string())
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let Args { store, key, metric, kind, genes, report, drop: is_drop, storage } = args;
    let (axis, usual) = if genes { (Axis::Genes, Measure::Cosine) } else { (Axis::Cells, Measure::L2) };
    let key = ArrayKey { axis, name: key };
    if report {
        let report = move || {
            let dataset = storage.open(&store, None, Verify::OnRequest)?;
            Ok(dataset.index_report(&key, metric, QUERIES, K)?)
        };
        return say(interrupt.abandonable(report)?);
    }
    if is_drop {
        return say(interrupt.change(move |_| Ok(drop_index(&store, &key, metric, &storage.grow())?))?);
    }
    let options = IndexOptions { measure: metric.unwrap_or(usual), kind, ..IndexOptions::default() };
    say(interrupt.change(move |progress| Ok(create_index(&store, &key, &options, &storage.grow(), progress)?))?)
}

/// Queries of a report, and what is found for each.
const QUERIES: usize = 30;
const K: usize = 10;
