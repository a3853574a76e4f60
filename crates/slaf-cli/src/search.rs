use crate::answer::AnswerArgs;
use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::store::StoreArgs;
use arrow::array::{RecordBatch, RecordBatchIterator};
use slaf::neighbors::Measure;
use slaf::{ArrayKey, Axis, Cancel, Dataset, Error, SearchOptions, SearchQuery, Selection};

/// Find the cells that are nearest to others by an embedding
///
/// The answer is that of comparing every cell; slaf index makes it quicker where cells are many. Of cells
/// at the same distance those of smaller number come first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf search pbmc.slaf --cell AAACATACAACCAC-1 -k 5\n\
        \x20 slaf search pbmc.slaf --gene CD3D --include gene_integer_id")]
pub(crate) struct Args {
    #[command(flatten)]
    question: Question,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// What is searched for, and where.
#[derive(Debug, clap::Args)]
struct Question {
    #[command(flatten)]
    store: StoreArgs,
    /// The array of obsm with the coordinates of the cells; with --gene, the array of varm
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    of: Of,
    /// How many are found for each
    #[arg(short = 'k', value_name = "N", default_value_t = 10)]
    k: usize,
    /// A condition in SQL over the columns of cells (with --gene, of genes): only these are found
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// Further columns: cell_integer_id, and columns of obs (with --gene, gene_integer_id and of var);
    /// distance, which is always there, stands where it is named
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    include: Vec<String>,
    /// l2, cosine, or ip for the negative of the sum of products; l2 by default, for genes cosine
    #[arg(long, value_name = "METRIC", value_parser = measure)]
    metric: Option<Measure>,
    /// Leave a cell out of what is found for itself
    #[arg(long)]
    exclude_self: bool,
}

/// One of the three ways to say whose neighbours are wanted.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Of {
    /// The name of a cell whose neighbours are wanted (repeatable)
    #[arg(long = "cell", value_name = "NAME")]
    cells: Vec<String>,
    /// The name of a gene whose neighbours are wanted, among genes (repeatable)
    #[arg(long = "gene", value_name = "NAME")]
    genes: Vec<String>,
    /// Coordinates in place of a cell, for example 0.5,-1,2.25
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_hyphen_values = true)]
    vector: Vec<f64>,
}

fn measure(name: &str) -> Result<Measure, String> {
    name.parse().map_err(|e: Error| e.message().to_string())
}

impl Question {
    fn axis(&self) -> Axis {
        if self.of.genes.is_empty() { Axis::Cells } else { Axis::Genes }
    }

    fn key(&self) -> ArrayKey {
        let usual = if self.of.genes.is_empty() { "X_pca" } else { "PCs" };
        ArrayKey { axis: self.axis(), name: self.key.clone().unwrap_or_else(|| usual.to_string()) }
    }

    fn query(&self, dataset: &Dataset) -> slaf::Result<SearchQuery> {
        fn names(names: &[String]) -> Vec<&str> {
            names.iter().map(String::as_str).collect()
        }
        Ok(match self.axis() {
            Axis::Genes => SearchQuery::Rows(Selection::Ids(dataset.resolve_genes(&names(&self.of.genes))?)),
            Axis::Cells if self.of.vector.is_empty() => {
                SearchQuery::Rows(Selection::Ids(dataset.resolve_cells(&names(&self.of.cells))?))
            }
            Axis::Cells => SearchQuery::Points { dims: self.of.vector.len(), values: self.of.vector.clone() },
        })
    }

    fn among(&self, dataset: &Dataset) -> slaf::Result<Selection> {
        let Some(condition) = &self.condition else { return Ok(Selection::All) };
        Ok(Selection::Ids(dataset.rows_where(self.axis(), condition, &Cancel::default())?))
    }

    fn find(&self) -> slaf::Result<RecordBatch> {
        let dataset = self.store.open()?;
        let (key, query) = (self.key(), self.query(&dataset)?);
        let usual = if self.axis() == Axis::Cells { Measure::L2 } else { Measure::Cosine };
        let options = SearchOptions {
            k: self.k,
            measure: self.metric.unwrap_or(usual),
            among: self.among(&dataset)?,
            exclude_self: self.exclude_self,
        };
        let hits = dataset.nearest(&key, &query, &options, &|_| true)?;
        dataset.hits(&key, &query, &hits, &self.include)
    }
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let question = args.question;
    args.answer.write(interrupt, move || {
        let found = question.find()?;
        let schema = found.schema();
        Ok(Box::new(RecordBatchIterator::new([Ok(found)], schema)))
    })
}
