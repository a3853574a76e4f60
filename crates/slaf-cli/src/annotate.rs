use crate::failure::{Outcome, from_arrow};
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use slaf::grow::{AddOptions, Additions, AnnotationTable, add};
use slaf::{Axis, Error};
use slaf_ingest::open_text;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Add columns of a table to the annotation of cells or genes
///
/// The table is a csv or tsv with a header, also packed by gzip. An empty field is a missing value. Texts of which some
/// come more than once become categories.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf annotate pbmc.slaf labels.csv --on cell_id\n\
        \x20 slaf annotate pbmc.slaf genes.tsv --genes --on gene_id --overwrite")]
pub(crate) struct Args {
    /// The store
    store: String,
    /// The table
    table: PathBuf,
    /// The column that says where a row belongs: cell_id (gene_id), or one that obs (var) has, too;
    /// without it, the rows are in the order of the store's
    #[arg(long, value_name = "COLUMN")]
    on: Option<String>,
    /// The table is about genes
    #[arg(long)]
    genes: bool,
    /// Replace columns of the same name
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let axis = if args.genes { Axis::Genes } else { Axis::Cells };
    let options = AddOptions { overwrite: args.overwrite, ..AddOptions::default() };
    say(interrupt.change(move |progress| {
        let batch = read(&args.table, args.on.as_deref())?;
        let table = AnnotationTable::new(axis, &batch, args.on.as_deref()).map_err(|e| e.at(args.table.display()))?;
        Ok(add(&args.store, &Additions::Table(&table), &options, &args.storage.grow(), progress)?)
    })?)
}

/// The table, with types that hold all its values; `key` is text.
fn read(path: &Path, key: Option<&str>) -> Outcome<RecordBatch> {
    let format = Format::default().with_header(true).with_delimiter(if has_tabs(path) { b'\t' } else { b',' });
    let opened = || open_text(path).map_err(|e| Error::new(e.kind(), e.message()).with_source(e).at(path.display()));
    let malformed = |e: ArrowError| Error::malformed(e.to_string()).at(path.display());
    let (schema, _) = format.infer_schema(opened()?, None).map_err(malformed)?;
    if schema.fields().is_empty() {
        return Err(Error::malformed("it is empty: a table begins with the names of its columns")
            .at(path.display())
            .into());
    }
    let mut seen = HashSet::new();
    if let Some(again) = schema.fields().iter().find(|field| !seen.insert(field.name())) {
        return Err(Error::malformed(format!("the column \"{}\" comes twice", again.name())).at(path.display()).into());
    }
    let fields = schema.fields().iter().map(|field| {
        let data_type = match field.data_type() {
            t if Some(field.name().as_str()) != key && (t.is_numeric() || *t == DataType::Boolean) => t.clone(),
            _ => DataType::Utf8,
        };
        Field::new(field.name(), data_type, true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let reader = ReaderBuilder::new(schema.clone()).with_format(format).build(opened()?).map_err(malformed)?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let batch = concat_batches(&schema, &batches).map_err(from_arrow)?;
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let column = if Some(field.name().as_str()) == key { column.clone() } else { with_categories(column)? };
        Ok((field.name(), column))
    });
    let columns = columns.collect::<Outcome<Vec<_>>>()?;
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .map_err(from_arrow)
}

/// Whether the name is that of a table whose fields are between tabs.
fn has_tabs(path: &Path) -> bool {
    let is =
        |path: &Path, ends: &[&str]| path.extension().is_some_and(|e| ends.iter().any(|x| e.eq_ignore_ascii_case(x)));
    let packed = path.file_stem().map(Path::new).filter(|_| is(path, &["gz"]));
    is(packed.unwrap_or(path), &["tsv", "txt"])
}

/// Texts as categories, where some come more than once.
fn with_categories(column: &ArrayRef) -> Outcome<ArrayRef> {
    let Some(texts) = column.as_string_opt::<i32>() else { return Ok(column.clone()) };
    let distinct: HashSet<&str> = texts.iter().flatten().collect();
    if distinct.len() >= texts.len() {
        return Ok(column.clone());
    }
    let categorical = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    cast(column, &categorical).map_err(from_arrow)
}
