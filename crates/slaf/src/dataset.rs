use crate::column_cache::{ColumnCache, of_rows};
use crate::elsewhere;
use crate::frames::{Categories, categories_from_ipc, join_dictionary};
use crate::info::Info;
use crate::manifest::{self, ArrayEntry, FrameSchema, Manifest, MatrixEntry, TableEntry};
use crate::names::Names;
use crate::pinned::Pinned;
use crate::query::Session;
use crate::schema;
use crate::selection::Selection;
use crate::table_check;
use crate::values::{self, primitive};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{Field, Float64Type, Schema, UInt32Type, UInt64Type};
use bytes::Bytes;
use slaf_core::order::GeneOrder;
use slaf_core::{Context, Error, ErrorKind, Result, Values, near};
use slaf_ingest::{ArrayKey, Axis, MatrixKey};
use slaf_lance::error::{from_arrow, while_reading};
use slaf_lance::runtime::block_on;
use slaf_lance::{Explain, FirstTouch, Storage, Table};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::OnceCell;

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct DatasetOptions {
    /// The version to open; the newest one by default.
    pub version: Option<u64>,
    /// Credentials and settings of an object store.
    pub storage_options: HashMap<String, String>,
    pub verify: Verify,
}

/// When the files of a store are compared with the hashes that were committed.
///
/// Packed rows carry checksums of their own, and are compared with them whenever they are decoded;
/// so is each small file that is read as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Where [`Dataset::verify`](crate::Dataset::verify) is called.
    #[default]
    OnRequest,
    /// Also each file of a table, before something of it is read for the first time: it is read
    /// whole, once for each handle, or not at all if the process has found it right before.
    FirstTouch,
}

/// A committed version.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    pub version: u64,
    /// Seconds since 1970-01-01, UTC.
    pub created: u64,
    pub operation: String,
    pub n_cells: u64,
    pub n_genes: u64,
}

/// Statistics of the cells over all genes of X, in cell order.
#[derive(Clone, Debug)]
pub struct CellStats {
    /// Stored values, explicit zeros included.
    pub nnz: Vec<u32>,
    /// Values that are not zero.
    pub n_genes: Vec<u32>,
    pub total: Vec<f64>,
}

/// Statistics of the genes over all cells of X, in gene order.
#[derive(Clone, Debug)]
pub struct GeneStats {
    /// Cells in which the gene's value is not zero.
    pub n_cells: Vec<u64>,
    pub total: Vec<f64>,
}

/// A store at one version.
///
/// Opening reads the root manifest only; tables, names and annotations are read when first
/// needed and kept. A handle never changes: to see a later version, open again. Clones share
/// everything and may be used from many threads.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) inner: Arc<Inner>,
    pub(crate) session: Arc<OnceLock<Session>>,
}

/// Columns of var that hold gene symbols, in the order of preference; the names are those that
/// Cell Ranger, scanpy, CELLxGENE and Seurat write.
const SYMBOLS: [&str; 9] = [
    "gene_symbol", "gene_symbols", "symbol", "symbols", "gene_name", "gene_names", "feature_name", "gene_short_name",
    "name",
];

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) storage: Storage,
    pub(crate) manifest: Manifest,
    pinned: Arc<Pinned>,
    first_touch: Option<Arc<FirstTouch>>,
    cells: OnceCell<Table>,
    genes: OnceCell<Table>,
    by_gene: OnceCell<Table>,
    raw_genes: OnceCell<Table>,
    categories: OnceCell<Categories>,
    order: OnceCell<GeneOrder>,
    raw_order: OnceCell<GeneOrder>,
    cell_ids: OnceCell<Arc<StringArray>>,
    gene_ids: OnceCell<Arc<StringArray>>,
    cell_names: OnceCell<Names>,
    gene_names: OnceCell<Names>,
    symbols: OnceCell<Option<Names>>,
    columns: Mutex<ColumnCache>,
}

/// The tables of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TableName {
    Cells,
    Genes,
    ByGene,
    RawGenes,
}

impl TableName {
    /// The column with the names of the rows.
    fn index(self) -> &'static str {
        if self == TableName::Cells { schema::CELL_ID } else { schema::GENE_ID }
    }

    /// What a row is, for messages.
    fn row(self) -> &'static str {
        if self == TableName::Cells { "cell" } else { "gene" }
    }
}

impl Inner {
    /// What is loaded on first use. Others wait for whoever loads it, and so for the store.
    async fn once<'a, T, F: Future<Output = Result<T>>>(
        &'a self,
        cell: &'a OnceCell<T>,
        load: impl FnOnce() -> F,
    ) -> Result<&'a T> {
        self.storage.guard(cell.get_or_try_init(load)).await
    }

    /// Opens a table on first use.
    pub(crate) async fn table(&self, name: TableName) -> Result<&Table> {
        let tables = &self.manifest.tables;
        let (cell, entry): (&OnceCell<Table>, Option<&TableEntry>) = match name {
            TableName::Cells => (&self.cells, Some(&tables.cells)),
            TableName::Genes => (&self.genes, Some(&tables.genes)),
            TableName::ByGene => (&self.by_gene, tables.by_gene.as_ref()),
            TableName::RawGenes => (&self.raw_genes, tables.raw_genes.as_ref()),
        };
        let entry = entry.ok_or_else(|| Error::new(ErrorKind::Internal, format!("the store has no table {name:?}")))?;
        let open = async || {
            let opened = async {
                let table = Table::open(&self.storage, entry, self.pinned.clone()).await?;
                self.check_is_ours(&table, entry).await?;
                Ok::<_, Error>(table)
            };
            let opened = opened.await;
            let is_corrupt = opened.as_ref().is_err_and(|e| e.kind() == ErrorKind::Corrupt);
            if let (Some(first_touch), true) = (&self.first_touch, is_corrupt) {
                // What differs is a better name of the fault than what came of it.
                let folder = format!("{}/_versions/", entry.path);
                let files = self.manifest.files.iter().filter(|f| f.path.starts_with(&folder));
                first_touch.check(files.map(|f| f.path.clone()).collect()).await?;
            }
            let mut table = opened?;
            if let Some(first_touch) = &self.first_touch {
                table.compare_on_first_touch(first_touch.clone()).await?;
            }
            table_check::check(&self.manifest, name, &table).at(self.storage.full(&entry.path))?;
            Ok(table)
        };
        self.once(cell, open).await
    }

    /// Tables of a store that was removed and made again have the same names.
    async fn check_is_ours(&self, table: &Table, entry: &TableEntry) -> Result<()> {
        let Some(name) = table.transaction() else { return Ok(()) };
        let path = format!("{}/_transactions/{name}", entry.path);
        if self.manifest.files.iter().any(|f| f.path == path) {
            return Ok(());
        }
        let message = "another table than the one that was committed (`slaf verify` checks the whole store)";
        let error = Error::corrupt(message).at(self.storage.full(&entry.path));
        Err(self.pinned.explain(error).await)
    }

    /// One column of a table, whole.
    pub(crate) async fn column(&self, name: TableName, column: &str) -> Result<ArrayRef> {
        self.column_of(name, column, &Selection::All).await
    }

    async fn strings(&self, name: TableName, column: &str) -> Result<Arc<StringArray>> {
        let array = self.column(name, column).await?;
        let strings = array
            .as_string_opt::<i32>()
            .filter(|s| s.null_count() == 0)
            .ok_or_else(|| Error::corrupt(format!("column {column} holds no names")))?;
        Ok(Arc::new(strings.clone()))
    }

    pub(crate) async fn cell_ids(&self) -> Result<&Arc<StringArray>> {
        self.once(&self.cell_ids, || self.strings(TableName::Cells, schema::CELL_ID)).await
    }

    pub(crate) async fn gene_ids(&self) -> Result<&Arc<StringArray>> {
        self.once(&self.gene_ids, || self.strings(TableName::Genes, schema::GENE_ID)).await
    }

    /// The names of the cells or genes.
    pub(crate) async fn ids(&self, axis: Axis) -> Result<&Arc<StringArray>> {
        match axis {
            Axis::Cells => self.cell_ids().await,
            Axis::Genes => self.gene_ids().await,
        }
    }

    pub(crate) async fn cell_names(&self) -> Result<&Names> {
        self.once(&self.cell_names, || async { Names::new(self.cell_ids().await?.clone()) }).await
    }

    pub(crate) async fn gene_names(&self) -> Result<&Names> {
        self.once(&self.gene_names, || async { Names::new(self.gene_ids().await?.clone()) }).await
    }

    /// The genes by symbol, if var has a column of symbols.
    pub(crate) async fn symbols(&self) -> Result<Option<&Names>> {
        let load = async || {
            let frame = &self.manifest.var;
            let Some(column) = SYMBOLS.iter().find(|s| frame.columns.iter().any(|c| c.name == **s)) else {
                return Ok(None);
            };
            let columns = [column.to_string()];
            let array = self.frame_columns(TableName::Genes, frame, &columns, false, &Selection::All).await?;
            let text = arrow::compute::cast(&array[0], &arrow::datatypes::DataType::Utf8).map_err(from_arrow)?;
            Ok::<_, Error>(Some(Names::new(Arc::new(text.as_string::<i32>().clone()))?))
        };
        Ok(self.once(&self.symbols, load).await?.as_ref())
    }

    async fn load_order(&self, name: TableName) -> Result<GeneOrder> {
        let ranks = self.column(name, schema::RANK).await?;
        let ranks = ranks
            .as_primitive_opt::<UInt32Type>()
            .ok_or_else(|| Error::corrupt("the ranks of the genes are no uint32"))?;
        GeneOrder::from_ranks(ranks.values().to_vec())
            .ok_or_else(|| Error::corrupt("the ranks of the genes are no permutation"))
    }

    /// The gene order of X and the layers.
    pub(crate) async fn order(&self) -> Result<&GeneOrder> {
        self.once(&self.order, || self.load_order(TableName::Genes)).await
    }

    /// The gene order of raw.
    pub(crate) async fn raw_order(&self) -> Result<&GeneOrder> {
        self.once(&self.raw_order, || self.load_order(TableName::RawGenes)).await
    }

    /// A file of this version, whole, compared with its hash.
    async fn read_file(&self, path: &str) -> Result<Bytes> {
        let bytes = match self.storage.read(path).await.map_err(while_reading) {
            Err(e) => return Err(self.pinned.explain(e).await),
            Ok(bytes) => bytes,
        };
        let hash = self.manifest.files.iter().find(|f| f.path == path).map(|f| f.blake3.as_str());
        if hash != Some(blake3::hash(&bytes).to_hex().as_str()) {
            return Err(while_reading(Error::corrupt("its content has changed")).at(self.storage.full(path)));
        }
        Ok(bytes)
    }

    pub(crate) async fn categories(&self) -> Result<&Categories> {
        let load = || async {
            match &self.manifest.categories {
                Some(path) => {
                    let bytes = self.read_file(path).await?;
                    categories_from_ipc(bytes).at(self.storage.full(path))
                }
                None => Ok(Categories::new()),
            }
        };
        self.once(&self.categories, load).await
    }

    /// Columns of obs or var with the users' names; names come first.
    pub(crate) async fn frame(
        &self,
        name: TableName,
        frame: &FrameSchema,
        columns: Option<&[String]>,
        rows: &Selection,
    ) -> Result<RecordBatch> {
        let all: Vec<String>;
        let columns = match columns {
            Some(columns) => columns,
            None => {
                all = frame.columns.iter().map(|c| c.name.clone()).collect();
                &all
            }
        };
        let arrays = self.frame_columns(name, frame, columns, true, rows).await?;
        let mut fields = vec![Field::new(name.index(), arrow::datatypes::DataType::Utf8, false)];
        let named = columns.iter().zip(&arrays[1..]);
        fields.extend(named.map(|(name, array)| Field::new(name, array.data_type().clone(), true)));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(from_arrow)
    }

    /// Columns of obs or var by the users' names, after the names of the rows if these are wanted.
    pub(crate) async fn frame_columns(
        &self,
        name: TableName,
        frame: &FrameSchema,
        columns: &[String],
        with_index: bool,
        rows: &Selection,
    ) -> Result<Vec<ArrayRef>> {
        let chosen = columns.iter().map(|n| column_of(frame, n)).collect::<Result<Vec<_>>>()?;
        let mut ids: Vec<&str> = if with_index { vec![name.index()] } else { Vec::new() };
        ids.extend(chosen.iter().map(|c| c.id.as_str()));
        let mut arrays = self.columns_of(name, &ids, rows).await?;
        let of_frame = arrays.iter_mut().skip(usize::from(with_index));
        for (array, column) in of_frame.zip(chosen).filter(|(_, c)| c.kind == "categorical") {
            let categories = self
                .categories()
                .await?
                .get(&column.id)
                .ok_or_else(|| Error::corrupt("its categories are missing").at(&column.name))?;
            *array = join_dictionary(array, categories).at(&column.name)?;
        }
        Ok(arrays)
    }

    /// Columns of a table, by their names in Lance, for some rows. Whole columns are kept, so that
    /// the next query does not read them.
    async fn columns_of(&self, name: TableName, columns: &[&str], rows: &Selection) -> Result<Vec<ArrayRef>> {
        let table = self.table(name).await?;
        rows.check(table.rows(), name.row())?;
        let cache = || self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = cache().get(name, columns) {
            return whole.iter().map(|array| of_rows(array, rows)).collect();
        }
        let mut unique = columns.to_vec();
        unique.sort_unstable();
        unique.dedup();
        let resolved = rows.resolve(table.rows());
        let batches = table.read(&unique, &resolved.ranges, 1 << 16).await?;
        let order = resolved.order.map(UInt32Array::from);
        let read = |column: &&str| -> Result<ArrayRef> {
            let at = unique.partition_point(|u| u < column);
            let parts: Vec<&dyn Array> = batches.iter().map(|b| b.column(at).as_ref()).collect();
            let all = match &parts[..] {
                [] => arrow::array::new_empty_array(table.arrow_field(column)?.data_type()),
                parts => concat(parts).map_err(from_arrow)?,
            };
            match &order {
                Some(order) => take(&all, order, None).map_err(from_arrow),
                None => Ok(all),
            }
        };
        let arrays: Vec<ArrayRef> = columns.iter().map(read).collect::<Result<_>>()?;
        if *rows == Selection::All || *rows == Selection::Range(0..table.rows()) {
            cache().keep(name, columns, &arrays);
        }
        Ok(arrays)
    }

    /// One column of a table, by its name in Lance, for some rows.
    pub(crate) async fn column_of(&self, name: TableName, column: &str, rows: &Selection) -> Result<ArrayRef> {
        Ok(self.columns_of(name, &[column], rows).await?.swap_remove(0))
    }
}

/// The column with this name.
fn column_of<'a>(frame: &'a FrameSchema, name: &str) -> Result<&'a crate::manifest::ColumnSchema> {
    frame.columns.iter().find(|c| c.name == name).ok_or_else(|| {
        let near = near(name, frame.columns.iter().map(|c| c.name.as_str()));
        let hint = if near.is_empty() { String::new() } else { format!("; did you mean \"{}\"?", near.join("\", \"")) };
        Error::new(ErrorKind::UnknownColumn, format!("no column \"{name}\"{hint}"))
    })
}

impl Dataset {
    /// Opens the newest version of the store at a path or `file://`, `s3://`, `gs://` or `az://`
    /// address.
    ///
    /// # Errors
    /// `not-found`, `not-a-store`, `corrupt` (naming the newest intact version), or
    /// `unsupported-feature`.
    pub fn open(uri: &str) -> Result<Dataset> {
        Self::open_with(uri, &DatasetOptions::default())
    }

    /// Opens a store with options.
    ///
    /// # Errors
    /// As [`Dataset::open`]; `not-found` also for a version that does not exist.
    pub fn open_with(uri: &str, options: &DatasetOptions) -> Result<Dataset> {
        elsewhere::refuse_web(uri)?;
        let storage = block_on(Storage::new(uri, &options.storage_options))?;
        let manifest = block_on(manifest::load(&storage, options.version)).map_err(|e| match e.kind() {
            ErrorKind::NotAStore => elsewhere::explain(e, &storage),
            _ => e,
        })?;
        let first_touch = (options.verify == Verify::FirstTouch).then(|| {
            let files = manifest.files.iter().map(|f| (f.path.clone(), f.length, f.blake3.clone()));
            Arc::new(FirstTouch::new(storage.clone(), files))
        });
        Ok(Dataset::of(Arc::new(Inner {
            pinned: Arc::new(Pinned::new(&storage, &manifest)),
            storage,
            manifest,
            first_touch,
            cells: OnceCell::new(),
            genes: OnceCell::new(),
            by_gene: OnceCell::new(),
            raw_genes: OnceCell::new(),
            categories: OnceCell::new(),
            order: OnceCell::new(),
            raw_order: OnceCell::new(),
            cell_ids: OnceCell::new(),
            gene_ids: OnceCell::new(),
            cell_names: OnceCell::new(),
            gene_names: OnceCell::new(),
            symbols: OnceCell::new(),
            columns: Mutex::default(),
        })))
    }

    pub(crate) fn of(inner: Arc<Inner>) -> Dataset {
        Dataset { inner, session: Arc::default() }
    }

    /// Where the store is.
    pub fn uri(&self) -> &str {
        self.inner.storage.uri()
    }

    /// The version of this handle.
    pub fn version(&self) -> u64 {
        self.inner.manifest.version
    }

    /// The committed versions, oldest first.
    ///
    /// # Errors
    /// Those of reading the root manifests.
    pub fn versions(&self) -> Result<Vec<VersionInfo>> {
        block_on(async {
            let mut out = Vec::new();
            for version in manifest::versions(&self.inner.storage).await? {
                let m = match manifest::read(&self.inner.storage, version).await {
                    // Replaced since it was listed.
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    m => m?,
                };
                out.push(VersionInfo {
                    version,
                    created: m.created,
                    operation: m.operation,
                    n_cells: m.n_cells,
                    n_genes: m.n_genes,
                });
            }
            Ok(out)
        })
    }

    /// The number of cells.
    pub fn n_cells(&self) -> u64 {
        self.inner.manifest.n_cells
    }

    /// The number of genes.
    pub fn n_genes(&self) -> u64 {
        self.inner.manifest.n_genes
    }

    /// The root manifest of this version.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// A summary for people.
    pub fn info(&self) -> Info {
        Info::new(self.uri(), &self.inner.manifest)
    }

    /// Columns of obs (all by default) for some cells: first `cell_id` (Utf8), then the columns
    /// under the user's names; a categorical is `Dictionary(Int32, _)` with all its categories.
    ///
    /// # Errors
    /// `unknown-column` with near names, `out-of-range`, `corrupt`.
    pub fn obs(&self, columns: Option<&[String]>, rows: &Selection) -> Result<RecordBatch> {
        block_on(self.inner.frame(TableName::Cells, &self.inner.manifest.obs, columns, rows))
            .map_err(|e| self.name(e, "obs"))
    }

    /// Columns of var (all by default) for some genes: first `gene_id`; see [`Dataset::obs`].
    ///
    /// # Errors
    /// As [`Dataset::obs`].
    pub fn var(&self, columns: Option<&[String]>, rows: &Selection) -> Result<RecordBatch> {
        block_on(self.inner.frame(TableName::Genes, &self.inner.manifest.var, columns, rows))
            .map_err(|e| self.name(e, "var"))
    }

    /// The var frame of raw, if there is a raw.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn raw_var(&self) -> Result<Option<RecordBatch>> {
        let Some(frame) = &self.inner.manifest.raw_var else { return Ok(None) };
        block_on(self.inner.frame(TableName::RawGenes, frame, None, &Selection::All)).map(Some)
    }

    /// Errors of arguments name the frame; those of files name their own place already.
    fn name(&self, error: Error, what: &str) -> Error {
        if error.kind() == ErrorKind::UnknownColumn { error.at(what) } else { error }
    }

    /// The names of all cells.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn cell_ids(&self) -> Result<Arc<StringArray>> {
        block_on(self.inner.cell_ids()).cloned()
    }

    /// The names of all genes.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn gene_ids(&self) -> Result<Arc<StringArray>> {
        block_on(self.inner.gene_ids()).cloned()
    }

    /// The numbers of cells by name.
    ///
    /// # Errors
    /// `unknown-cell` (lists up to five, with near names), `ambiguous-name`.
    pub fn resolve_cells(&self, names: &[&str]) -> Result<Vec<u64>> {
        block_on(self.inner.cell_names())?.resolve(names, "cell", ErrorKind::UnknownCell)
    }

    /// The numbers of genes by name (the index of var).
    ///
    /// # Errors
    /// `unknown-gene` (lists up to five, with near names), `ambiguous-name`.
    pub fn resolve_genes(&self, names: &[&str]) -> Result<Vec<u64>> {
        block_on(self.inner.gene_names())?.resolve(names, "gene", ErrorKind::UnknownGene)
    }

    /// The entry of a matrix: shape, value type, size.
    ///
    /// # Errors
    /// `unknown-table` with the matrices that there are.
    pub fn matrix_info(&self, key: &MatrixKey) -> Result<&MatrixEntry> {
        self.inner.manifest.matrix(key).ok_or_else(|| {
            let all: Vec<_> =
                self.inner.manifest.matrices.iter().filter_map(|m| Some(m.key().ok()?.to_string())).collect();
            let list =
                if all.is_empty() { "it has no matrices".to_string() } else { format!("it has {}", all.join(", ")) };
            Error::new(ErrorKind::UnknownTable, format!("the store has no {key}; {list}"))
        })
    }

    /// Rows of an obsm or varm array, row-major, and its width.
    ///
    /// # Errors
    /// `unknown-table`, `out-of-range`, `corrupt`.
    pub fn array(&self, key: &ArrayKey, rows: &Selection) -> Result<(Values, usize)> {
        let entry = self.array_entry(key)?;
        let dtype = slaf_core::Dtype::from_name(&entry.dtype)?;
        if entry.column.is_none() {
            return Ok((Values::empty(dtype), 0));
        }
        let lists = block_on(self.array_column(key, rows))?;
        Ok((values::from_lists(&lists, dtype, entry.width)?, entry.width as usize))
    }

    fn array_entry(&self, key: &ArrayKey) -> Result<&ArrayEntry> {
        let slot = if key.axis == Axis::Cells { "obsm" } else { "varm" };
        self.inner
            .manifest
            .arrays
            .iter()
            .find(|a| a.key() == *key)
            .ok_or_else(|| Error::new(ErrorKind::UnknownTable, format!("the store has no {slot}/{}", key.name)))
    }

    /// Rows of an obsm or varm array as lists of fixed size.
    pub(crate) async fn array_column(&self, key: &ArrayKey, rows: &Selection) -> Result<ArrayRef> {
        let column = self.array_entry(key)?.column.as_deref().unwrap_or_default();
        let name = if key.axis == Axis::Cells { TableName::Cells } else { TableName::Genes };
        self.inner.column_of(name, column, rows).await
    }

    /// The HDF5 file with the elements of [`Manifest::extras`] (uns and whatever no table holds),
    /// in AnnData's on-disk format.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn extras(&self) -> Result<Option<Bytes>> {
        match &self.inner.manifest.extras {
            Some(extras) => block_on(self.inner.read_file(&extras.path)).map(Some),
            None => Ok(None),
        }
    }

    /// Stored statistics of the cells.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn cell_stats(&self) -> Result<CellStats> {
        block_on(async {
            let counts = async |name| {
                let array = self.inner.column(TableName::Cells, name).await?;
                Ok::<_, Error>(primitive::<UInt32Type>(&array, name)?.to_vec())
            };
            let total = self.inner.column(TableName::Cells, schema::TOTAL).await?;
            Ok(CellStats {
                nnz: counts(schema::NNZ).await?,
                n_genes: counts(schema::N_GENES).await?,
                total: primitive::<Float64Type>(&total, schema::TOTAL)?.to_vec(),
            })
        })
    }

    /// Stored statistics of the genes.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn gene_stats(&self) -> Result<GeneStats> {
        block_on(async {
            let n_cells = self.inner.column(TableName::Genes, schema::N_CELLS).await?;
            let total = self.inner.column(TableName::Genes, schema::TOTAL).await?;
            Ok(GeneStats {
                n_cells: primitive::<UInt64Type>(&n_cells, schema::N_CELLS)?.to_vec(),
                total: primitive::<Float64Type>(&total, schema::TOTAL)?.to_vec(),
            })
        })
    }
}
