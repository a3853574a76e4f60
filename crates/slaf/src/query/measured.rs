//! Which genes were measured in which cells, in SQL: the tables that `sources()` and `measured()` give,
//! and `source_of`, which joins cells with them.

use super::made_table::{Make, Rows, made_table};
use crate::selection::Selection;
use crate::store::Snapshot;
use crate::store::measured::place_of;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf};
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::{Axis, Measured};
use slaf_lance::error::from_arrow;
use slaf_sql::error::to_datafusion;
use slaf_sql::limits::Limits;
use std::sync::Arc;

/// `source_of(cell_integer_id)`: the `source_id` of a cell.
pub(super) fn source_of(snapshot: Arc<Snapshot>) -> ScalarUDF {
    let run = move |args: &[ColumnarValue]| {
        let is_scalar = args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let cells = ColumnarValue::values_to_arrays(args)?.swap_remove(0);
        let cells = cells.as_primitive::<Int64Type>();
        let found: Int64Array = cells.iter().map(|cell| place_of(&snapshot.manifest, cell?)).collect();
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?),
            false => ColumnarValue::Array(Arc::new(found)),
        })
    };
    create_udf("source_of", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(run))
}

/// `sources()`: a row for each source of the cells.
#[derive(Debug)]
pub(super) struct SourcesFunction {
    pub(super) snapshot: Arc<Snapshot>,
}

impl TableFunctionImpl for SourcesFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> DfResult<Arc<dyn TableProvider>> {
        if !args.exprs().is_empty() {
            return Err(to_datafusion(Error::new(ErrorKind::InvalidQuery, "sources() takes nothing")));
        }
        Ok(made_table(sources_schema(), Sources { snapshot: self.snapshot.clone() }))
    }
}

fn sources_schema() -> SchemaRef {
    let number = |name| Field::new(name, DataType::Int64, false);
    let name = Field::new("source", DataType::Utf8, true);
    let fields = vec![number("source_id"), name, number("first_cell"), number("n_cells"), number("n_genes")];
    Arc::new(Schema::new(fields))
}

/// The sources as rows.
pub(crate) fn sources_batch(measured: &Measured) -> Result<RecordBatch> {
    let sources = measured.sources();
    let n_genes: Vec<i64> = measured.sets().iter().map(|set| set.count_set_bits() as i64).collect();
    let number =
        |of: &dyn Fn(usize) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..sources.len()).map(of))) };
    let names: StringArray = sources.iter().map(|s| s.name.as_deref()).collect();
    let columns: Vec<ArrayRef> = vec![
        number(&|i| i as i64),
        Arc::new(names),
        number(&|i| sources[i].first_cell as i64),
        number(&|i| sources[i].n_cells as i64),
        number(&|i| n_genes[sources[i].set]),
    ];
    RecordBatch::try_new(sources_schema(), columns).map_err(from_arrow)
}

#[derive(Debug)]
struct Sources {
    snapshot: Arc<Snapshot>,
}

#[async_trait]
impl Make for Sources {
    async fn make(&self, _: &SchemaRef, _: Option<&Limits>) -> Result<Arc<dyn Rows>> {
        let measured = self.snapshot.sources().await?;
        Ok(Arc::new(sources_batch(&measured)?))
    }
}

/// `measured()`, `measured('CD3D', 7)`: a row for each gene of each source that measured it, of all genes
/// or of some, by id, by symbol or by number.
#[derive(Debug)]
pub(super) struct MeasuredFunction {
    pub(super) snapshot: Arc<Snapshot>,
}

#[derive(Clone, Debug)]
enum Gene {
    Name(String),
    Number(u64),
}

impl TableFunctionImpl for MeasuredFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> DfResult<Arc<dyn TableProvider>> {
        let gene = |expr: &Expr| {
            let wrong = || {
                let what = format!(
                    "measured takes ids, symbols or numbers of genes, or nothing: measured('CD3D', 7); it does not \
                     take {expr}"
                );
                to_datafusion(Error::new(ErrorKind::InvalidQuery, what))
            };
            if let Expr::Placeholder(parameter) = expr {
                let what = format!(
                    "measured takes no parameter such as {}, since it is a table: write the gene into the text, \
                     measured('CD3D'), or compare with the parameter: measured() WHERE gene_id = ?",
                    parameter.id
                );
                return Err(to_datafusion(Error::new(ErrorKind::InvalidQuery, what)));
            }
            let Expr::Literal(value, _) = expr else { return Err(wrong()) };
            if let Some(Some(name)) = value.try_as_str() {
                return Ok(Gene::Name(name.to_string()));
            }
            let number = value.data_type().is_integer().then(|| value.cast_to(&DataType::UInt64).ok()).flatten();
            match number {
                Some(ScalarValue::UInt64(Some(number))) => Ok(Gene::Number(number)),
                _ => Err(wrong()),
            }
        };
        let genes = args.exprs().iter().map(gene).collect::<DfResult<Vec<_>>>()?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("source_id", DataType::Int64, false),
            Field::new("gene_integer_id", DataType::Int64, false),
            Field::new("gene_id", DataType::Utf8, false),
            Field::new("n_cells", DataType::Int64, false),
        ]));
        Ok(made_table(schema, MeasuredGenes { snapshot: self.snapshot.clone(), genes }))
    }
}

#[derive(Debug)]
struct MeasuredGenes {
    snapshot: Arc<Snapshot>,
    /// All, if there are none.
    genes: Vec<Gene>,
}

impl MeasuredGenes {
    /// The genes that are asked for, by their numbers.
    async fn chosen(&self) -> Result<Selection> {
        if self.genes.is_empty() {
            return Ok(Selection::All);
        }
        let mut numbers = Vec::new();
        for gene in &self.genes {
            numbers.push(match gene {
                Gene::Name(name) => self.snapshot.row_of_name(Axis::Genes, name).await?,
                Gene::Number(number) => *number,
            });
        }
        numbers.sort_unstable();
        numbers.dedup();
        let chosen = Selection::Ids(numbers);
        chosen.check(self.snapshot.manifest.n_genes, "gene")?;
        Ok(chosen)
    }
}

#[async_trait]
impl Make for MeasuredGenes {
    async fn make(&self, _: &SchemaRef, _: Option<&Limits>) -> Result<Arc<dyn Rows>> {
        let chosen = self.chosen().await?;
        let names = self.snapshot.ids_of(Axis::Genes, &chosen).await?;
        let numbers = chosen.iter(self.snapshot.manifest.n_genes).map(|gene| gene as i64).collect();
        let measured = self.snapshot.sources().await?.into_owned();
        Ok(Arc::new(MeasuredRows { measured, numbers, names }))
    }
}

/// The rows of `measured()`, a piece for each source: of many sources, they are many.
#[derive(Debug)]
struct MeasuredRows {
    measured: Measured,
    /// The genes that are asked for, rising.
    numbers: Vec<i64>,
    names: ArrayRef,
}

impl Rows for MeasuredRows {
    fn n_pieces(&self) -> usize {
        self.measured.sources().len()
    }

    fn piece(&self, at: usize, schema: &SchemaRef) -> Result<RecordBatch> {
        let source = &self.measured.sources()[at];
        let set = self.measured.genes(source);
        let places = (0..).zip(&self.numbers).filter(|(_, gene)| set.value(**gene as usize)).map(|(place, _)| place);
        let places = UInt32Array::from_iter_values(places);
        let numbers: ArrayRef = Arc::new(Int64Array::from(self.numbers.clone()));
        let same = |value: i64| Arc::new(Int64Array::from(vec![value; places.len()])) as ArrayRef;
        let columns = vec![
            same(at as i64),
            take(&numbers, &places, None).map_err(from_arrow)?,
            take(&self.names, &places, None).map_err(from_arrow)?,
            same(source.n_cells as i64),
        ];
        RecordBatch::try_new(schema.clone(), columns).map_err(from_arrow)
    }
}
