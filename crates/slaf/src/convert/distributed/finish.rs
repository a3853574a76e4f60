//! The end of a distributed conversion: what the parts wrote becomes tables, and a version.

use super::super::cell_names::NamesWriter;
use super::super::cells::frame_columns;
use super::super::exact::refuse_rounding;
use super::super::report::ConvertReport;
use super::super::stripe::GeneSums;
use super::super::survey;
use super::super::write::CellsDone;
use super::message::{self, Arrays, Done, broken};
use super::plan::Distributed;
use crate::progress::Progress;
use crate::store::frames::Categories;
use crate::store::manifest::{FileEntry, MatrixEntry, NameSegment, Stripe};
use crate::store::name_index::Entries;
use crate::store::schema::by_gene_schema;
use arrow::datatypes::{Float64Type, UInt64Type};
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_lance::runtime::block_on;
use slaf_lance::{WrittenFile, assemble};
use std::collections::HashSet;

/// What all parts wrote, in their order.
struct Parts {
    cells: Vec<WrittenFile>,
    by_gene: Vec<WrittenFile>,
    by_gene_bytes: u64,
    stripes: Vec<Stripe>,
    names: Vec<NameSegment>,
    matrices: Vec<MatrixEntry>,
    /// For each matrix the first integer that float64 rounds.
    rounded: Vec<Option<String>>,
    sums: GeneSums,
    duplicates: u64,
    files: Vec<FileEntry>,
}

impl Distributed {
    /// Makes the store of what [`convert_part`](super::convert_part) gave for all parts, in any order; of
    /// a part that was converted more than once, one counts.
    ///
    /// # Errors
    /// `invalid-argument` for results that are missing, or of another conversion; those of
    /// [`convert`](crate::convert()). After an error nothing is left, unless it is
    /// `commit-outcome-unknown`.
    pub fn finish(&mut self, results: &[impl AsRef<[u8]>], progress: Progress<'_>) -> Result<ConvertReport> {
        if self.ended {
            return Err(Error::invalid("the conversion has ended, or was given up"));
        }
        let finished = self.put_together(results, progress);
        match &finished {
            Ok(_) => {
                self.ended = true;
                self.target.committed();
            }
            // A version may name what was written.
            Err(e) if e.kind() == ErrorKind::CommitOutcomeUnknown => self.ended = true,
            Err(_) => self.abandon(),
        }
        finished
    }

    fn put_together(&self, results: &[impl AsRef<[u8]>], progress: Progress<'_>) -> Result<ConvertReport> {
        let parts = self.collect(results)?;
        for (matrix, first) in parts.matrices.iter().zip(&parts.rounded) {
            if let Some(first) = first.as_ref().filter(|_| !self.options.allow_loss) {
                refuse_rounding(&matrix.key(), matrix.dtype, first)?;
            }
        }
        for (path, fingerprint) in &self.inputs {
            fingerprint.check(path, &self.options.input, self.target.storage.local().map(|t| &**t))?;
        }
        let job = self.job(progress);
        job.tick("cells", self.n_cells_of_all())?;
        let (place, storage) = (job.place, job.place.storage);
        self.remove_losers(&parts.files)?;
        let layout = job.layout(self.order.clone(), Vec::new(), None);
        let table = assemble(storage, &place.table("cells"), &layout.schema(), &parts.cells)?;
        let by_gene = match job.has_by_gene() {
            true => Some(assemble(storage, &place.table("by_gene"), &by_gene_schema(), &parts.by_gene)?),
            false => None,
        };
        let named = |e| self.sources.name(e, storage.uri());
        let mut categories = Categories::new();
        let empty = job.input.obs(0..0).map_err(named)?;
        frame_columns(&layout.obs, &empty, &mut categories, 0..0).map_err(named)?;
        let cells = CellsDone {
            table,
            by_gene,
            names: self.index_names(&parts.names)?,
            obs: layout.obs,
            order: self.order.clone(),
            by_gene_bytes: parts.by_gene_bytes,
            stripes: parts.stripes,
            matrices: parts.matrices,
            arrays: layout.arrays,
            sums: parts.sums,
            duplicates: parts.duplicates,
        };
        let written = job.write_rest(cells, self.raw_order.clone(), categories).map_err(named)?;
        let mut report = job.commit(&self.target, written, parts.files, self.started)?;
        report.notes.extend(self.notes.iter().cloned());
        report.notes.push(match self.parts.len() {
            1 => "converted in one part".to_string(),
            n => format!("converted in {n} parts"),
        });
        Ok(report)
    }

    /// Puts results into the order of the parts, and adds them up.
    fn collect(&self, results: &[impl AsRef<[u8]>]) -> Result<Parts> {
        let mut found: Vec<Option<(Done, Arrays)>> = Vec::new();
        found.resize_with(self.parts.len(), || None);
        for result in results {
            let (done, arrays): (Done, Arrays) = message::decode(result.as_ref())?;
            let slot = found.get_mut(done.part).filter(|_| done.write_id == self.target.write_id);
            let slot = slot.ok_or_else(|| Error::invalid("a part of another conversion"))?;
            slot.get_or_insert((done, arrays));
        }
        let n_genes = self.sources.input().description().n_genes;
        let mut all = Parts {
            cells: Vec::new(),
            by_gene: Vec::new(),
            by_gene_bytes: 0,
            stripes: Vec::new(),
            names: Vec::new(),
            matrices: Vec::new(),
            rounded: Vec::new(),
            sums: GeneSums { n_cells: vec![0; n_genes as usize], total: vec![0.0; n_genes as usize] },
            duplicates: 0,
            files: Vec::new(),
        };
        let mut first_cell = 0;
        for (part, found) in found.into_iter().enumerate() {
            let shown = self.shown(part);
            let Some((done, arrays)) = found else {
                return Err(Error::invalid(format!("the result of {shown} is missing")));
            };
            let n_cells = self.n_cells(part);
            let rows = |files: &[WrittenFile]| files.iter().map(|f| f.rows).sum::<u64>();
            let named: u64 = done.names.iter().map(|s| s.n_rows).sum();
            let whole = done.n_cells == n_cells
                && rows(&done.cells) == n_cells
                && (done.by_gene.is_empty() || rows(&done.by_gene) == done.stripes.len() as u64 * n_genes)
                && (named == 0 || named == n_cells);
            if !whole {
                return Err(broken("lengths that do not agree").at(shown));
            }
            all.add(done, &arrays, first_cell, n_genes).at(shown)?;
            first_cell += n_cells;
        }
        Ok(all)
    }

    /// Removes what attempts wrote that do not count.
    fn remove_losers(&self, winners: &[FileEntry]) -> Result<()> {
        let named: HashSet<&str> = winners.iter().map(|f| f.path.as_str()).collect();
        block_on(survey::remove_parts(&self.target.storage, &self.target.write_id, |file| !named.contains(file)))
    }

    /// Makes one index of those of the parts.
    fn index_names(&self, parts: &[NameSegment]) -> Result<Vec<NameSegment>> {
        let (place, storage) = (self.target.place(), &self.target.storage);
        let mut writer = NamesWriter::new(place, 0);
        for segment in parts {
            let bytes = block_on(storage.read(&segment.path))?;
            writer.push_segment(Entries::from_bytes(&bytes, segment).at(storage.full(&segment.path))?)?;
        }
        let segments = writer.finish()?;
        let unwanted = |file: &str| segments.iter().all(|s| s.path != file);
        block_on(survey::remove_indexes(storage, place.write_id, unwanted))?;
        Ok(segments)
    }
}

impl Parts {
    /// Adds the next part.
    fn add(&mut self, done: Done, arrays: &Arrays, first_cell: u64, n_genes: u64) -> Result<()> {
        let first_row = self.stripes.len() as u64 * n_genes;
        self.stripes.extend(done.stripes.into_iter().map(|s| Stripe {
            first_cell: first_cell + s.first_cell,
            first_row: first_row + s.first_row,
            ..s
        }));
        let (n_cells, total) = (arrays.numbers::<UInt64Type>("n_cells")?, arrays.numbers::<Float64Type>("total")?);
        if n_cells.len() != self.sums.n_cells.len() || total.len() != self.sums.total.len() {
            return Err(broken("lengths that do not agree"));
        }
        self.sums.n_cells.iter_mut().zip(n_cells).for_each(|(sum, n)| *sum += n);
        self.sums.total.iter_mut().zip(total).for_each(|(sum, t)| *sum += t);
        if self.matrices.is_empty() {
            self.matrices = done.matrices;
            self.rounded = done.rounded;
        } else if done.matrices.len() != self.matrices.len() || done.rounded.len() != self.rounded.len() {
            return Err(broken("other matrices than the first part"));
        } else {
            for (matrix, of_part) in self.matrices.iter_mut().zip(done.matrices) {
                matrix.dtype = matrix.dtype.promote(of_part.dtype);
                matrix.nnz += of_part.nnz;
                matrix.bytes += of_part.bytes;
            }
            for (first, of_part) in self.rounded.iter_mut().zip(done.rounded) {
                *first = first.take().or(of_part);
            }
        }
        self.cells.extend(done.cells);
        self.by_gene.extend(done.by_gene);
        self.by_gene_bytes += done.by_gene_bytes;
        self.names.extend(done.names);
        self.duplicates += done.duplicates;
        self.files.extend(done.files);
        Ok(())
    }
}
