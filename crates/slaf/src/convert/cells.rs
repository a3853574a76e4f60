//! The `cells` table and `by_gene`, from one pass over the cells.

use super::cell_names::NamesWriter;
use super::exact::Exact;
use super::job::Job;
use super::pack::{PIECES, Part, pack_chunk, packed_column};
use super::stripe::{AnyStripe, GeneSums, Stripe, shard_bounds};
use crate::config;
use crate::store::fields::{array_fields, frame_fields};
use crate::store::frames::{Categories, split_dictionary};
use crate::store::manifest::{self, ArrayEntry, FrameSchema, MatrixEntry, NameSegment, Slot, TableEntry, ValueType};
use crate::store::schema::{self, by_gene_schema, packed_field};
use crate::store::values::to_lists;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use rayon::prelude::*;
use slaf_core::order::GeneOrder;
use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Value, with_values};
use slaf_ingest::{Axis, Description, Frame, Input, MatrixInfo, MatrixKey, RowStream, StreamOptions};
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::{in_pool, pool_threads};
use slaf_lance::{Growth, PartWriter, TableWriter, WrittenFile};
use std::ops::Range;
use std::sync::Arc;

/// Where rows go.
pub(crate) enum RowSink {
    New(Box<TableWriter>),
    More(Box<Growth>),
    /// Data files of a table that others write, too.
    Part(Box<PartWriter>),
}

impl RowSink {
    fn send(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            RowSink::New(writer) => writer.send(batch),
            RowSink::More(growth) => growth.send(&batch),
            RowSink::Part(writer) => writer.send(&batch),
        }
    }

    /// Ends a table; gives its entry and, where it has grown, all files of this version of it.
    pub(crate) fn finish(self) -> Result<(TableEntry, Option<Vec<String>>)> {
        match self {
            RowSink::New(writer) => Ok((writer.finish()?, None)),
            RowSink::More(growth) => growth.commit().map(|grown| (grown.entry, Some(grown.files))),
            RowSink::Part(_) => Err(Error::new(ErrorKind::Internal, "a part of a table is no table")),
        }
    }

    /// Ends a part of a table; gives its data files.
    pub(crate) fn finish_part(self) -> Result<Vec<WrittenFile>> {
        match self {
            RowSink::Part(writer) => writer.finish(),
            RowSink::New(_) | RowSink::More(_) => Err(Error::new(ErrorKind::Internal, "a table is no part of one")),
        }
    }
}

/// What a pass over the cells writes, and where.
pub(crate) struct CellsPlan<'a> {
    pub(crate) obs: FrameSchema,
    pub(crate) arrays: Vec<ArrayEntry>,
    /// Matrices with the cell axis and their columns, X first.
    pub(crate) matrices: Vec<(MatrixInfo, String)>,
    pub(crate) order: GeneOrder,
    /// About how many values the genes have: the parts of a stripe are cut by it.
    pub(crate) counts_by_rank: Vec<u64>,
    pub(crate) raw_order: Option<GeneOrder>,
    pub(crate) cells: Option<RowSink>,
    pub(crate) by_gene: Option<RowSink>,
    /// Where their names are indexed, if they are.
    pub(crate) names: Option<NamesWriter<'a>>,
    /// The row of `by_gene` that comes next.
    pub(crate) first_row: u64,
    /// The number of the first cell, for errors.
    pub(crate) first_cell: u64,
}

impl CellsPlan<'_> {
    /// The columns of `cells` that are written.
    pub(crate) fn schema(&self) -> SchemaRef {
        let mut fields = schema::cell_fields();
        fields.extend(frame_fields(&self.obs));
        fields.extend(array_fields(&self.arrays));
        fields.extend(self.matrices.iter().map(|(_, column)| packed_field(column)));
        Arc::new(Schema::new(fields))
    }
}

/// What the pass over the cells has written.
pub(crate) struct CellsWritten {
    pub(crate) cells: RowSink,
    pub(crate) by_gene: Option<RowSink>,
    pub(crate) names: Vec<NameSegment>,
    pub(crate) obs: FrameSchema,
    pub(crate) order: GeneOrder,
    pub(crate) by_gene_bytes: u64,
    pub(crate) stripes: Vec<manifest::Stripe>,
    pub(crate) matrices: Vec<MatrixEntry>,
    pub(crate) arrays: Vec<ArrayEntry>,
    pub(crate) sums: GeneSums,
    pub(crate) duplicates: u64,
    /// For each matrix the first integer that float64 rounds.
    pub(crate) rounded: Vec<Option<String>>,
}

/// A matrix on its way into a column of packed rows.
pub(crate) struct Packing {
    info: MatrixInfo,
    column: String,
    rows: Rows,
    /// The type that all chunks so far have in common.
    dtype: Dtype,
    nnz: u64,
    bytes: u64,
}

impl Packing {
    /// `memory` and `allow_loss` as [`ConvertOptions`](super::ConvertOptions) has them.
    pub(crate) fn new(
        input: &dyn Input,
        info: &MatrixInfo,
        column: String,
        memory: usize,
        allow_loss: bool,
    ) -> Result<Packing> {
        // A chunk lives as read, renumbered and packed (about 24 bytes a nonzero) some times over.
        let max_nnz = (memory / 400).clamp(1 << 10, 4 << 20);
        let options = StreamOptions { max_rows: config::batch_rows(), max_nnz };
        let rows = Rows {
            stream: input.matrix(&info.key, options)?,
            exact: Exact::new(info, allow_loss),
            chunk: CsrChunk::empty(info.dtype),
            at: 0,
        };
        Ok(Packing { info: info.clone(), column, rows, dtype: info.dtype, nnz: 0, bytes: 0 })
    }

    pub(crate) fn entry(&self) -> MatrixEntry {
        let (slot, name) = Slot::of(&self.info.key);
        MatrixEntry {
            slot,
            name: name.to_string(),
            column: self.column.clone(),
            encoding: self.info.encoding,
            dtype: self.dtype,
            n_rows: self.info.n_rows,
            n_cols: self.info.n_cols,
            nnz: self.nnz,
            bytes: self.bytes,
        }
    }

    pub(crate) fn field(&self) -> Field {
        packed_field(&self.column)
    }

    /// Packs a chunk; `order` renumbers its columns.
    pub(crate) fn pack<T: Value>(
        &mut self,
        chunk: &CsrChunk,
        values: &[T],
        order: Option<&[u32]>,
    ) -> Result<(ArrayRef, Vec<Part<T>>)> {
        self.dtype = self.dtype.promote(T::DTYPE);
        self.nnz += chunk.nnz() as u64;
        let parts = pack_chunk(chunk, values, order)?;
        let column = packed_column(&parts)?;
        self.bytes += arrow::array::AsArray::as_binary::<i32>(&column).value_data().len() as u64;
        Ok((column, parts))
    }

    /// The next `n` rows as a column.
    pub(crate) fn next_column(&mut self, n: usize, order: Option<&[u32]>) -> Result<ArrayRef> {
        let chunk = self.rows.take(n, &self.info.key)?;
        with_values!(&chunk.values, v => Ok(self.pack(&chunk, v, order)?.0))
    }
}

/// A row stream from which any number of rows can be taken.
struct Rows {
    stream: Box<dyn RowStream>,
    exact: Exact,
    chunk: CsrChunk,
    /// Rows of `chunk` that were taken.
    at: usize,
}

impl Rows {
    /// The rest of the chunk at hand, or the next one; `None` at the end.
    fn next(&mut self) -> Result<Option<CsrChunk>> {
        match self.stream.next().transpose()? {
            Some(chunk) if chunk.n_rows() == 0 => self.next(),
            Some(chunk) => {
                self.exact.add(&chunk)?;
                Ok(Some(chunk))
            }
            None => Ok(None),
        }
    }

    fn take(&mut self, n: usize, key: &MatrixKey) -> Result<CsrChunk> {
        let mut out: Option<CsrChunk> = None;
        let mut missing = n;
        while missing > 0 {
            if self.at == self.chunk.n_rows() {
                self.chunk = self
                    .next()?
                    .ok_or_else(|| Error::malformed(format!("{missing} rows are missing at the end")).at(key))?;
                self.at = 0;
            }
            let end = self.chunk.n_rows().min(self.at + missing);
            let part = self.chunk.slice(self.at..end);
            missing -= end - self.at;
            self.at = end;
            out = Some(match out {
                Some(before) => before.concat(&part),
                None => part,
            });
        }
        Ok(out.unwrap_or_else(|| CsrChunk::empty(self.chunk.values.dtype())))
    }
}

/// The values of a stripe beyond which the next one begins.
pub(crate) fn stripe_nnz(memory: usize) -> u64 {
    (memory / 8).max(1 << 10) as u64
}

/// The gene-major side of the pass.
struct ByGene {
    writer: Option<RowSink>,
    first_row: u64,
    bounds: Vec<u32>,
    current: Option<(Dtype, Box<dyn AnyStripe>)>,
    stripes: Vec<manifest::Stripe>,
    sums: GeneSums,
    first_cell: u64,
    max_nnz: u64,
    max_cells: u64,
    bytes: u64,
}

impl ByGene {
    fn new(counts_by_rank: &[u64], writer: Option<RowSink>, first_row: u64, memory: usize) -> Result<ByGene> {
        let n_genes = counts_by_rank.len();
        Ok(ByGene {
            writer,
            first_row,
            bounds: shard_bounds(counts_by_rank, PIECES * pool_threads()?),
            current: None,
            stripes: Vec::new(),
            sums: GeneSums { n_cells: vec![0; n_genes], total: vec![0.0; n_genes] },
            first_cell: 0,
            max_nnz: stripe_nnz(memory),
            max_cells: config::stripe_cells(),
            bytes: 0,
        })
    }

    fn push<T: Value>(&mut self, parts: &[Part<T>]) -> Result<()> {
        // A stripe has one value type: a wider one begins the next stripe.
        if self
            .current
            .as_ref()
            .is_some_and(|(dtype, s)| *dtype != T::DTYPE || s.nnz() >= self.max_nnz || s.n_cells() >= self.max_cells)
        {
            self.finish_stripe()?;
        }
        let keep_rows = self.writer.is_some();
        let (_, stripe) =
            self.current.get_or_insert_with(|| (T::DTYPE, Box::new(Stripe::<T>::new(&self.bounds, keep_rows))));
        match stripe.as_any().downcast_mut::<Stripe<T>>() {
            Some(stripe) => stripe.push(parts),
            None => Err(Error::new(ErrorKind::Internal, "a stripe of another value type")),
        }
    }

    fn finish_stripe(&mut self) -> Result<()> {
        let Some((_, stripe)) = self.current.take() else { return Ok(()) };
        let n_cells = stripe.n_cells();
        let n_genes = self.sums.total.len() as u64;
        self.stripes.push(manifest::Stripe {
            first_cell: self.first_cell,
            n_cells,
            first_row: self.first_row + self.stripes.len() as u64 * n_genes,
            n_genes,
        });
        self.first_cell += n_cells;
        let writer = &mut self.writer;
        self.bytes += stripe.finish(&mut self.sums, &mut |batch| match writer {
            Some(w) => w.send(batch),
            None => Ok(()),
        })?;
        Ok(())
    }
}

impl Job<'_> {
    pub(crate) fn packing(&self, info: &MatrixInfo, column: String) -> Result<Packing> {
        Packing::new(self.input, info, column, self.options.memory, self.options.allow_loss)
    }

    /// What a new store gets: columns by their numbers.
    pub(crate) fn layout(
        &self,
        order: GeneOrder,
        counts_by_rank: Vec<u64>,
        raw_order: Option<GeneOrder>,
    ) -> CellsPlan<'_> {
        let description = self.input.description();
        let matrices = description.matrices.iter().filter(|m| !matches!(m.key, MatrixKey::Varp(_))).enumerate();
        let matrices: Vec<_> = matrices
            .map(|(i, info)| {
                let column = match info.key {
                    MatrixKey::X => "x".to_string(),
                    MatrixKey::RawX => "raw".to_string(),
                    MatrixKey::Obsp(_) => format!("p{i}"),
                    _ => format!("l{i}"),
                };
                (info.clone(), column)
            })
            .collect();
        CellsPlan {
            obs: FrameSchema::new(&description.obs, "o"),
            arrays: array_entries(description, Axis::Cells, "m"),
            first_row: 0,
            first_cell: 0,
            cells: None,
            by_gene: None,
            names: None,
            matrices,
            order,
            counts_by_rank,
            raw_order,
        }
    }

    /// Whether a new store has a gene-major copy of X.
    pub(crate) fn has_by_gene(&self) -> bool {
        self.options.by_gene && self.input.description().matrices.iter().any(|m| m.key == MatrixKey::X)
    }

    /// What a new store gets, with tables of its own.
    pub(crate) fn new_cells(
        &self,
        order: GeneOrder,
        counts_by_rank: Vec<u64>,
        raw_order: Option<GeneOrder>,
    ) -> Result<CellsPlan<'_>> {
        let mut plan = self.layout(order, counts_by_rank, raw_order);
        let table = |name: &str, schema: &SchemaRef| {
            let writer =
                TableWriter::create(self.place.storage, &self.place.table(name), schema, config::fragment_rows());
            Ok::<_, Error>(Some(RowSink::New(Box::new(writer?))))
        };
        plan.cells = table("cells", &plan.schema())?;
        if self.has_by_gene() {
            plan.by_gene = table("by_gene", &by_gene_schema())?;
        }
        Ok(plan)
    }

    /// Writes the cells of the input.
    pub(crate) fn write_cells(&self, mut plan: CellsPlan<'_>, categories: &mut Categories) -> Result<CellsWritten> {
        let description = self.input.description();
        let packings = plan.matrices.iter().map(|(info, column)| self.packing(info, column.clone()));
        let mut packings = packings.collect::<Result<Vec<_>>>()?;
        packings.iter_mut().for_each(|p| p.rows.exact.begin_at(plan.first_cell));
        let schema = plan.schema();
        let mut by_gene = ByGene::new(&plan.counts_by_rank, plan.by_gene.take(), plan.first_row, self.options.memory)?;
        let mut writer = plan.cells.take().ok_or_else(|| Error::new(ErrorKind::Internal, "cells without a table"))?;
        let mut index = plan.names.take();
        let CellsPlan { obs, arrays, order, raw_order, .. } = plan;
        // Names the categories also of a data set without cells.
        frame_columns(&obs, &self.input.obs(0..0)?, categories, 0..0)?;
        let mut done = 0;
        while done < description.n_cells {
            self.tick("cells", done)?;
            // The first matrix sets the pace; the others and the annotations follow it.
            let first = match packings.first_mut() {
                Some(p) => Some(p.rows.next()?.ok_or_else(|| {
                    Error::malformed(format!("{done} rows, but obs has {}", description.n_cells)).at(&p.info.key)
                })?),
                None => None,
            };
            let left = (description.n_cells - done) as usize;
            let n = first.as_ref().map_or(left.min(config::batch_rows()), CsrChunk::n_rows);
            if n > left {
                return Err(Error::malformed(format!("more rows than the {} of obs", description.n_cells)).at("X"));
            }
            let rows = done..done + n as u64;
            let frame = self.input.obs(rows.clone())?;
            let (mut columns, mut packed) = (frame_columns(&obs, &frame, categories, rows.clone())?, Vec::new());
            let mut stats = [vec![0u32; n], vec![0u32; n]];
            let mut totals = vec![0f64; n];
            let mut first = first;
            for packing in &mut packings {
                let order = order_of(&packing.info.key, &order, raw_order.as_ref());
                let Some(chunk) = first.take() else {
                    packed.push(packing.next_column(n, order)?);
                    continue;
                };
                let is_x = packing.info.key == MatrixKey::X;
                with_values!(&chunk.values, v => {
                    let (column, parts) = packing.pack(&chunk, v, order)?;
                    packed.push(column);
                    if is_x {
                        row_stats(&parts, &mut stats, &mut totals)?;
                        by_gene.push(&parts)?;
                    }
                });
            }
            let [nnz, n_genes] = stats;
            if let Some(index) = &mut index {
                index.push(frame.index.iter().map(|name| &**name))?;
            }
            let names: ArrayRef = Arc::new(StringArray::from_iter_values(&frame.index));
            let system: [ArrayRef; 4] = [
                names,
                Arc::new(UInt32Array::from(nnz)),
                Arc::new(UInt32Array::from(n_genes)),
                Arc::new(Float64Array::from(totals)),
            ];
            let mut all = system.to_vec();
            all.append(&mut columns);
            all.extend(array_columns(self.input, &arrays, rows)?);
            all.append(&mut packed);
            writer.send(RecordBatch::try_new(schema.clone(), all).map_err(from_arrow)?)?;
            done += n as u64;
        }
        self.tick("cells", done)?;
        let mut duplicates = 0;
        for packing in &mut packings {
            if let Some(chunk) = packing.rows.next()?.filter(|c| c.n_rows() > 0) {
                let extra = format!("{} rows more than the {} of obs", chunk.n_rows(), description.n_cells);
                return Err(Error::malformed(extra).at(&packing.info.key));
            }
            duplicates += packing.rows.stream.duplicates();
        }
        by_gene.finish_stripe()?;
        Ok(CellsWritten {
            cells: writer,
            by_gene: by_gene.writer,
            names: index.map_or(Ok(Vec::new()), NamesWriter::finish)?,
            obs,
            order,
            by_gene_bytes: by_gene.bytes,
            stripes: by_gene.stripes,
            matrices: packings.iter().map(Packing::entry).collect(),
            arrays,
            sums: by_gene.sums,
            duplicates,
            rounded: packings.iter().map(|p| p.rows.exact.first().map(str::to_string)).collect(),
        })
    }
}

/// The arrays beside an axis, with Lance columns named `prefix` and a number.
pub(crate) fn array_entries(description: &Description, axis: Axis, prefix: &str) -> Vec<ArrayEntry> {
    let arrays = description.arrays.iter().filter(|a| a.key.axis == axis);
    arrays
        .enumerate()
        .map(|(i, a)| ArrayEntry {
            axis,
            name: a.key.name.clone(),
            column: (a.n_cols > 0).then(|| format!("{prefix}{i}")),
            dtype: a.dtype,
            width: a.n_cols,
        })
        .collect()
}

/// Rows of arrays as the tables hold them.
pub(crate) fn array_columns(input: &dyn Input, arrays: &[ArrayEntry], rows: Range<u64>) -> Result<Vec<ArrayRef>> {
    let held = arrays.iter().filter(|a| a.column.is_some());
    held.map(|a| to_lists(input.array(&a.key(), rows.clone())?, a.width)).collect()
}

/// The columns of a frame as the tables hold them; categories are put aside.
pub(crate) fn frame_columns(
    schema: &FrameSchema,
    frame: &Frame,
    categories: &mut Categories,
    rows: Range<u64>,
) -> Result<Vec<ArrayRef>> {
    let n = rows.end - rows.start;
    if frame.index.len() as u64 != n || frame.columns.len() != schema.columns.len() {
        return Err(Error::malformed(format!("{} names for rows {}..{}", frame.index.len(), rows.start, rows.end)));
    }
    let columns = schema.columns.iter().zip(&frame.columns);
    columns
        .map(|(column, given)| {
            if given.array.len() as u64 != n || ValueType::of(given.array.data_type()) != column.data_type {
                let what = format!("{} values of type {}", given.array.len(), given.array.data_type());
                return Err(Error::malformed(what).at(&column.name));
            }
            Ok(match split_dictionary(&given.array) {
                Some((codes, values)) => {
                    categories.entry(column.id.clone()).or_insert(values);
                    codes
                }
                None => given.array.clone(),
            })
        })
        .collect()
}

/// The renumbering of a matrix's columns.
fn order_of<'a>(key: &MatrixKey, genes: &'a GeneOrder, raw: Option<&'a GeneOrder>) -> Option<&'a [u32]> {
    match key {
        MatrixKey::X | MatrixKey::Layer(_) => Some(&genes.rank_of),
        MatrixKey::RawX => raw.map(|o| o.rank_of.as_slice()),
        MatrixKey::Obsp(_) | MatrixKey::Varp(_) => None,
    }
}

/// Stored values, nonzero values and the sum of each row.
fn row_stats<T: Value>(parts: &[Part<T>], counts: &mut [Vec<u32>; 2], totals: &mut [f64]) -> Result<()> {
    let of_part = |part: &Part<T>| -> Vec<(u32, f64)> {
        let rows = part.indptr.windows(2).map(|bounds| &part.values[bounds[0]..bounds[1]]);
        rows.map(|values| {
            let nonzero = values.iter().map(|v| u32::from(v.as_f64() != 0.0)).sum();
            (nonzero, values.iter().map(|v| v.as_f64()).sum())
        })
        .collect()
    };
    let found: Vec<_> = in_pool(|| Ok(parts.par_iter().map(of_part).collect()))?;
    for (part, stats) in parts.iter().zip(found) {
        for ((row, bounds), (nonzero, total)) in part.rows.clone().zip(part.indptr.windows(2)).zip(stats) {
            counts[0][row] = (bounds[1] - bounds[0]) as u32;
            counts[1][row] = nonzero;
            totals[row] = total;
        }
    }
    Ok(())
}
