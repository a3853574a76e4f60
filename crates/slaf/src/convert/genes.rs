//! The `genes` table, and `raw_genes` where the input has a raw.

use super::cells::{Packing, array_columns, array_entries, frame_columns};
use super::job::Job;
use super::stripe::GeneSums;
use crate::config;
use crate::store::fields::{array_fields, frame_fields};
use crate::store::frames::Categories;
use crate::store::manifest::{ArrayEntry, FrameSchema, MatrixEntry, TableEntry};
use crate::store::schema::{self, raw_gene_fields};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::Schema;
use slaf_core::order::GeneOrder;
use slaf_core::{Context, Error, Result};
use slaf_ingest::{Axis, Frame, MatrixKey};
use slaf_lance::TableWriter;
use slaf_lance::error::from_arrow;
use std::sync::Arc;

/// What was written along the gene axis.
pub(crate) struct GenesWritten {
    pub(crate) table: TableEntry,
    pub(crate) var: FrameSchema,
    pub(crate) matrices: Vec<MatrixEntry>,
    pub(crate) arrays: Vec<ArrayEntry>,
}

impl Job<'_> {
    pub(crate) fn write_genes(
        &self,
        order: &GeneOrder,
        sums: &GeneSums,
        categories: &mut Categories,
    ) -> Result<GenesWritten> {
        let description = self.input.description();
        let var = FrameSchema::new(&description.var, "v");
        let arrays = array_entries(description, Axis::Genes, "w");
        let mut packings = Vec::new();
        for (i, info) in description.matrices.iter().filter(|m| matches!(m.key, MatrixKey::Varp(_))).enumerate() {
            packings.push(self.packing(info, format!("q{i}"))?);
        }
        let mut fields = schema::gene_fields();
        fields.extend(frame_fields(&var));
        fields.extend(array_fields(&arrays));
        fields.extend(packings.iter().map(Packing::field));
        let schema = Arc::new(Schema::new(fields));

        let frame = self.input.var()?;
        let n = frame.index.len();
        let mut columns = self.gene_columns(&frame, order).at("var")?;
        let by_gene = |of: &dyn Fn(usize) -> usize| (0..n).map(of).collect::<Vec<_>>();
        let ranks = by_gene(&|g| order.rank_of[g] as usize);
        columns.push(Arc::new(UInt64Array::from_iter_values(ranks.iter().map(|&r| sums.n_cells[r]))));
        columns.push(Arc::new(Float64Array::from_iter_values(ranks.iter().map(|&r| sums.total[r]))));
        columns.extend(frame_columns(&var, &frame, categories, 0..n as u64).at("var")?);
        columns.extend(array_columns(self.input, &arrays, 0..n as u64)?);
        let mut writer =
            TableWriter::create(self.place.storage, &self.place.table("genes"), &schema, config::fragment_rows())?;
        let mut done = 0;
        while done < n {
            let rows = if packings.is_empty() { n } else { config::batch_rows().min(n - done) };
            let mut batch: Vec<ArrayRef> = columns.iter().map(|c| c.slice(done, rows)).collect();
            for packing in &mut packings {
                batch.push(packing.next_column(rows, None)?);
            }
            writer.send(RecordBatch::try_new(schema.clone(), batch).map_err(from_arrow)?)?;
            done += rows;
        }
        Ok(GenesWritten {
            table: writer.finish()?,
            var,
            matrices: packings.iter().map(Packing::entry).collect(),
            arrays,
        })
    }

    pub(crate) fn write_raw_genes(
        &self,
        order: &GeneOrder,
        categories: &mut Categories,
    ) -> Result<(TableEntry, FrameSchema)> {
        let description = self.input.description();
        let schema = FrameSchema::new(description.raw_var.as_ref().unwrap_or(&description.var), "r");
        let frame = self.input.raw_var()?.ok_or_else(|| Error::malformed("missing").at("raw/var"))?;
        let mut fields = raw_gene_fields();
        fields.extend(frame_fields(&schema));
        let lance = Arc::new(Schema::new(fields));
        let mut columns = self.gene_columns(&frame, order).at("raw/var")?;
        columns.extend(frame_columns(&schema, &frame, categories, 0..frame.index.len() as u64).at("raw/var")?);
        let mut writer =
            TableWriter::create(self.place.storage, &self.place.table("raw_genes"), &lance, config::fragment_rows())?;
        writer.send(RecordBatch::try_new(lance, columns).map_err(from_arrow)?)?;
        Ok((writer.finish()?, schema))
    }

    /// Names and ranks.
    fn gene_columns(&self, frame: &Frame, order: &GeneOrder) -> Result<Vec<ArrayRef>> {
        if frame.index.len() != order.rank_of.len() {
            let (names, genes) = (frame.index.len(), order.rank_of.len());
            return Err(Error::malformed(format!("{names} names for the {genes} columns of the matrix")));
        }
        Ok(vec![
            Arc::new(StringArray::from_iter_values(&frame.index)),
            Arc::new(UInt32Array::from(order.rank_of.clone())),
        ])
    }
}
