//! The plan of a conversion: all that needs the whole input, and the parts.

use super::super::job::Job;
use super::super::options::{ConvertOptions, Durability};
use super::super::sources::{Opened, Sources, expand};
use super::super::target::Target;
use super::cut::{self, Part, Size};
use super::fingerprint::Fingerprint;
use super::message::{self, Arrays, InputOfTask, Reading, Task, UnionOfTask};
use crate::progress::Progress;
use crate::store::manifest::{MatrixEntry, Slot};
use crate::trace::Address;
use arrow::datatypes::{Int32Type, UInt32Type, UInt64Type};
use slaf_core::order::GeneOrder;
use slaf_core::uri::plain_path;
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::{MatrixInfo, MatrixKey};
use slaf_lance::runtime::block_on;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A conversion whose parts are converted elsewhere; see [`convert_part`](super::convert_part).
///
/// It holds the target as a conversion does: dropped without [`finish`](Distributed::finish), it leaves
/// nothing there.
pub struct Distributed {
    pub(super) target: Target,
    pub(super) sources: Sources,
    /// The inputs, absolute, and what they were.
    pub(super) inputs: Vec<(PathBuf, Fingerprint)>,
    pub(super) parts: Vec<Part>,
    pub(super) order: GeneOrder,
    counts_by_rank: Vec<u64>,
    pub(super) raw_order: Option<GeneOrder>,
    pub(super) options: ConvertOptions,
    pub(super) notes: Vec<String>,
    pub(super) started: Instant,
    /// Whether the target is not ours any more: committed, given up, or not known.
    pub(super) ended: bool,
}

impl Distributed {
    /// Looks at the inputs, and begins a conversion. A part has at most `part_cells` cells, by default as
    /// many as suit the inputs; an input whose rows lie in no order (CSC, text, loom, gzip) is read whole
    /// and is one part, or is in one. `options.memory` is what a worker may hold.
    ///
    /// # Errors
    /// Those of [`convert`](crate::convert()) before it writes.
    pub fn plan(
        inputs: &[&Path],
        output: &str,
        options: &ConvertOptions,
        part_cells: Option<u64>,
        progress: Progress<'_>,
    ) -> Result<Distributed> {
        let _span = tracing::debug_span!("plan", inputs = inputs.len(), store = %Address(output)).entered();
        let started = Instant::now();
        if part_cells == Some(0) {
            return Err(Error::invalid("parts of 0 cells"));
        }
        let inputs = inputs.iter().map(|i| plain_path(i)).collect::<Result<Vec<_>>>()?;
        let inputs: &[&Path] = &inputs.iter().map(|i| &**i).collect::<Vec<_>>();
        let target = block_on(Target::prepare(inputs, output, options))?;
        let mut notes = Vec::new();
        // Before they are read: what is written meanwhile is noticed.
        let mut states = Vec::new();
        for path in expand(inputs, &mut Vec::new())? {
            let path = std::path::absolute(&path).at(path.display())?;
            let state = Fingerprint::of(&path, &options.input, target.storage.local().map(|t| &**t))?;
            states.push((path, state));
        }
        let sources = Sources::open(inputs, options, progress, &mut notes)?;
        sources.refuse_losses(options.allow_loss)?;
        let sizes: Vec<Size> = match &sources.opened {
            Opened::One(input) => vec![Size::of(&**input)],
            Opened::Several(union) => union.sources().map(|(_, input)| Size::of(input)).collect(),
        };
        if states.len() != sizes.len() {
            return Err(Error::new(ErrorKind::Conflict, "a folder of inputs has changed: convert again"));
        }
        let parts = cut::cut(&sizes, options.memory, part_cells.unwrap_or(crate::config::part_cells()));
        let mut this = Distributed {
            order: GeneOrder::default(),
            counts_by_rank: Vec::new(),
            raw_order: None,
            options: options.clone(),
            inputs: states,
            // Nothing is there before it begins.
            ended: true,
            target,
            sources,
            parts,
            notes,
            started,
        };
        let uri = this.target.storage.uri().to_string();
        let job = this.job(progress);
        job.tick("planning", 0)?;
        let found = job.gene_order(&[MatrixKey::X]).and_then(|found| Ok((found, job.raw_order()?)));
        let ((order, counts), raw_order) = found.map_err(|e| this.sources.name(e, &uri))?;
        (this.order, this.counts_by_rank, this.raw_order) = (order, counts, raw_order);
        this.ended = false;
        block_on(this.target.begin())?;
        Ok(this)
    }

    pub(super) fn job<'a>(&'a self, progress: Progress<'a>) -> Job<'a> {
        Job { input: self.sources.input(), options: &self.options, place: self.target.place(), progress }
    }

    /// How many parts there are; at least one.
    pub fn n_parts(&self) -> usize {
        self.parts.len()
    }

    /// The cells of a part, for people: `part 3 of 8, cells 0..500 of a.h5ad`.
    pub fn shown(&self, part: usize) -> String {
        let rows = |i: usize, rows: &std::ops::Range<u64>| {
            let name = self.sources.paths.get(i).map_or_else(String::new, |p| p.display().to_string());
            format!("cells {}..{} of {name}", rows.start, rows.end)
        };
        let shown = match self.parts.get(part).map_or(&[][..], Vec::as_slice) {
            [] => String::new(),
            [(i, r)] => rows(*i, r),
            [(i, r), .., (j, s)] => format!("{} to {}", rows(*i, r), rows(*j, s)),
        };
        format!("part {} of {}, {shown}", part + 1, self.parts.len())
    }

    /// How many cells a part has.
    pub fn n_cells(&self, part: usize) -> u64 {
        self.parts.get(part).into_iter().flatten().map(|(_, rows)| rows.end - rows.start).sum()
    }

    /// How many cells all have.
    pub fn n_cells_of_all(&self) -> u64 {
        self.sources.input().description().n_cells
    }

    /// What [`convert_part`](super::convert_part) takes. It holds the options of the object store, also secrets
    /// that were given in them.
    ///
    /// # Errors
    /// `out-of-range` for a part that there is not; `invalid-argument` for a path that is not UTF-8.
    pub fn task(&self, part: usize) -> Result<Vec<u8>> {
        let rows = self.parts.get(part).filter(|p| !p.is_empty());
        let rows =
            rows.ok_or_else(|| Error::new(ErrorKind::OutOfRange, format!("part {part} of {}", self.parts.len())))?;
        let job = self.job(&|_| true);
        let layout = job.layout(self.order.clone(), Vec::new(), None);
        let description = self.sources.input().description();
        let mut arrays = Arrays::default();
        arrays.put_numbers::<UInt32Type>("order", self.order.rank_of.iter().copied());
        arrays.put_numbers::<UInt64Type>("counts", self.counts_by_rank.iter().copied());
        if let Some(raw) = &self.raw_order {
            arrays.put_numbers::<UInt32Type>("raw_order", raw.rank_of.iter().copied());
        }
        let inputs = rows.iter().map(|(i, rows)| {
            let (path, fingerprint) = self.inputs[*i].clone();
            let name = self.sources.paths[*i].display().to_string();
            InputOfTask { path, name, rows: (rows.start, rows.end), fingerprint }
        });
        let reading = &self.options.input;
        let task = Task {
            write_id: self.target.write_id.clone(),
            target: self.target.storage.uri().to_string(),
            storage_options: self.options.storage_options.clone(),
            part,
            shown: self.shown(part),
            first_cell: (0..part).map(|p| self.n_cells(p)).sum(),
            inputs: inputs.collect(),
            reading: Reading {
                genome: reading.genome.clone(),
                feature_type: reading.feature_type.clone(),
                modality: reading.modality.clone(),
                genes_in_rows: reading.genes_in_rows,
                temp_dir: reading.temp_dir.clone(),
            },
            memory: self.options.memory,
            allow_loss: self.options.allow_loss,
            by_gene: job.has_by_gene(),
            index_names: description.n_cells > self.options.few_names,
            durable: self.options.durability == Durability::Full,
            n_genes: description.n_genes,
            obs: layout.obs,
            arrays: layout.arrays,
            matrices: layout.matrices.iter().map(|(info, column)| entry(info, column)).collect(),
            union: self.union_of(rows, &mut arrays),
        };
        message::encode(&task, &arrays)
    }

    /// What the inputs of a part need to know of the others.
    fn union_of(&self, rows: &Part, arrays: &mut Arrays) -> Option<UnionOfTask> {
        let Opened::Several(union) = &self.sources.opened else { return None };
        let (first, last) = (rows.first()?.0, rows.last()?.0);
        let part = union.part(first..last + 1);
        // An input without cells lies in no part.
        let kept: Vec<usize> = rows.iter().map(|(i, _)| i - first).collect();
        for (at, &i) in kept.iter().enumerate() {
            arrays.put_numbers::<UInt32Type>(format!("genes/{at}"), part.inputs[i].genes.iter().copied());
        }
        let mut places = Vec::new();
        for (c, column) in part.columns.iter().enumerate() {
            places.push(kept.iter().map(|&i| column.places[i]).collect());
            if let Some((values, codes)) = &column.categories {
                arrays.put(format!("categories/{c}"), values.clone());
                for (at, &i) in kept.iter().enumerate() {
                    arrays.put_numbers::<Int32Type>(format!("codes/{c}/{at}"), codes[i].iter().copied());
                }
            }
        }
        let labels = part.labels.map(|(names, codes)| (names, kept.iter().map(|&i| codes[i]).collect()));
        Some(UnionOfTask { places, labels })
    }

    /// Gives the conversion up: nothing is left of it. A worker that still converts a part finds that out,
    /// and removes what it wrote.
    pub fn abandon(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.target.abandon();
        }
    }
}

impl Drop for Distributed {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl std::fmt::Debug for Distributed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let target = Address(self.target.storage.uri()).to_string();
        f.debug_struct("Distributed").field("target", &target).field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

fn entry(info: &MatrixInfo, column: &str) -> MatrixEntry {
    let (slot, name) = Slot::of(&info.key);
    MatrixEntry {
        slot,
        name: name.to_string(),
        column: column.to_string(),
        encoding: info.encoding,
        dtype: info.dtype,
        n_rows: info.n_rows,
        n_cols: info.n_cols,
        nnz: 0,
        bytes: 0,
    }
}
