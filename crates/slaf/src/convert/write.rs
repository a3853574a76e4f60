//! What an input becomes: tables, files and a root manifest.

use super::cell_names::NamesWriter;
use super::cells::RowSink;
use super::job::Job;
use super::report::ConvertReport;
use super::stripe::GeneSums;
use super::target::Target;
use crate::store::frames::Categories;
use crate::store::manifest::{
    ArrayEntry, Extras, FORMAT_VERSION, FileEntry, FrameSchema, Manifest, MatrixEntry, MeasuredEntry, NameSegment,
    Stripe, TableEntry, Tables,
};
use slaf_core::Result;
use slaf_core::order::GeneOrder;
use slaf_ingest::MatrixKey;
use slaf_lance::runtime::block_on;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tracing::Instrument;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// What root manifests say wrote them.
pub(crate) fn software() -> String {
    format!("slaf {}", env!("CARGO_PKG_VERSION"))
}

/// The tables and files of a version that is written as a whole.
pub(crate) struct Written {
    pub(crate) tables: Tables,
    pub(crate) obs: FrameSchema,
    pub(crate) var: FrameSchema,
    pub(crate) raw_var: Option<FrameSchema>,
    pub(crate) matrices: Vec<MatrixEntry>,
    pub(crate) arrays: Vec<ArrayEntry>,
    pub(crate) stripes: Vec<Stripe>,
    pub(crate) categories: Option<String>,
    pub(crate) cell_names: Vec<NameSegment>,
    pub(crate) measured: Option<MeasuredEntry>,
    pub(crate) extras: Option<Extras>,
    by_gene_bytes: u64,
    duplicates: u64,
}

/// The tables that a pass over the cells has written.
pub(super) struct CellsDone {
    pub(super) table: TableEntry,
    pub(super) by_gene: Option<TableEntry>,
    pub(super) names: Vec<NameSegment>,
    pub(super) obs: FrameSchema,
    pub(super) order: GeneOrder,
    pub(super) by_gene_bytes: u64,
    pub(super) stripes: Vec<Stripe>,
    pub(super) matrices: Vec<MatrixEntry>,
    pub(super) arrays: Vec<ArrayEntry>,
    pub(super) sums: GeneSums,
    pub(super) duplicates: u64,
}

impl Job<'_> {
    /// Writes all that the input holds, in one pass over the cells.
    pub(crate) fn write_all(&self) -> Result<Written> {
        let description = self.input.description();
        let mut categories = Categories::new();
        let (order, counts_by_rank) = self.gene_order(&[MatrixKey::X])?;
        let raw_order = self.raw_order()?;
        let mut plan = self.new_cells(order, counts_by_rank, raw_order.clone())?;
        plan.names = (description.n_cells > self.options.few_names).then(|| NamesWriter::new(self.place, 0));
        let cells = self.write_cells(plan, &mut categories)?;
        let (table, _) = cells.cells.finish()?;
        let by_gene = cells.by_gene.map(RowSink::finish).transpose()?.map(|(table, _)| table);
        let cells = CellsDone {
            table,
            by_gene,
            names: cells.names,
            obs: cells.obs,
            order: cells.order,
            by_gene_bytes: cells.by_gene_bytes,
            stripes: cells.stripes,
            matrices: cells.matrices,
            arrays: cells.arrays,
            sums: cells.sums,
            duplicates: cells.duplicates,
        };
        self.write_rest(cells, raw_order, categories)
    }

    /// Writes what an input holds beside its cells.
    pub(super) fn write_rest(
        &self,
        cells: CellsDone,
        raw_order: Option<GeneOrder>,
        mut categories: Categories,
    ) -> Result<Written> {
        self.tick("genes", self.input.description().n_cells)?;
        let genes = self.write_genes(&cells.order, &cells.sums, &mut categories)?;
        let raw_genes = match &raw_order {
            Some(order) => Some(self.write_raw_genes(order, &mut categories)?),
            None => None,
        };
        let categories = self.place.write_categories(&categories)?;
        let measured = self.place.write_measured(self.input.description().measured.as_ref())?;
        let extras = self.write_extras()?;
        let mut matrices = cells.matrices;
        matrices.extend(genes.matrices);
        let mut arrays = cells.arrays;
        arrays.extend(genes.arrays);
        let (raw_table, raw_var) = raw_genes.unzip();
        Ok(Written {
            tables: Tables { cells: cells.table, genes: genes.table, by_gene: cells.by_gene, raw_genes: raw_table },
            obs: cells.obs,
            var: genes.var,
            raw_var,
            matrices,
            arrays,
            stripes: cells.stripes,
            categories,
            cell_names: cells.names,
            measured,
            extras,
            by_gene_bytes: cells.by_gene_bytes,
            duplicates: cells.duplicates,
        })
    }

    pub(super) fn run(&self, target: &Target, started: Instant) -> Result<ConvertReport> {
        let written = self.write_all()?;
        self.commit(target, written, Vec::new(), started)
    }

    /// Commits what was written; `hashed` are the files of parts, which were hashed by who wrote them.
    pub(super) fn commit(
        &self,
        target: &Target,
        written: Written,
        hashed: Vec<FileEntry>,
        started: Instant,
    ) -> Result<ConvertReport> {
        let description = self.input.description();
        self.tick("committing", description.n_cells)?;
        let mut manifest = Manifest {
            checksum: String::new(),
            format: "slaf".to_string(),
            format_version: FORMAT_VERSION,
            reader_features: Vec::new(),
            writer_features: Vec::new(),
            version: target.version,
            write_id: target.write_id.clone(),
            created: now(),
            created_by: software(),
            operation: "convert".to_string(),
            lineage: Vec::new(),
            tags: BTreeMap::new(),
            expired: Vec::new(),
            n_cells: description.n_cells,
            n_genes: description.n_genes,
            tables: written.tables,
            obs: written.obs,
            var: written.var,
            raw_var: written.raw_var,
            matrices: written.matrices,
            arrays: written.arrays,
            stripes: written.stripes,
            categories: written.categories,
            cell_names: written.cell_names,
            measured: None,
            indexes: Vec::new(),
            heads: None,
            extras: written.extras,
            files: hashed,
        };
        manifest.set_measured(written.measured);
        let span = tracing::debug_span!("commit", version = manifest.version, cells = manifest.n_cells);
        block_on(target.commit(&mut manifest).instrument(span))?;
        let (by_gene_bytes, duplicates) = (written.by_gene_bytes, written.duplicates);
        Ok(ConvertReport::new(&manifest, description, by_gene_bytes, duplicates, started.elapsed()))
    }
}
