//! Converting a part: its cells become data files of tables that are made later.

use super::super::cell_names::NamesWriter;
use super::super::cells::{CellsPlan, RowSink};
use super::super::inputs::open_any;
use super::super::job::{Job, Place};
use super::super::options::{ConvertOptions, Durability};
use super::super::survey;
use super::super::target::remove_empty;
use super::message::{self, Arrays, Done, Task, broken};
use crate::config;
use crate::progress::{Progress, ProgressEvent};
use crate::store::frames::Categories;
use crate::store::manifest::FileEntry;
use crate::store::schema::by_gene_schema;
use arrow::datatypes::{Float64Type, Int32Type, SchemaRef, UInt32Type, UInt64Type};
use slaf_core::order::GeneOrder;
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::{ArrayInfo, Description, Input, MatrixInfo, OpenOptions, PartColumn, PartInput, Rows, UnionPart};
use slaf_lance::runtime::block_on;
use slaf_lance::{PartWriter, Storage, WrittenFile};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often an object store is asked whether the conversion goes on.
const ASK: Duration = Duration::from_secs(2);
/// Segments of names that one attempt may write.
const SEGMENTS: u64 = 1 << 12;

/// Converts a part, in any process on any machine that has its inputs and the target at the same places;
/// gives what [`Distributed::finish`](super::Distributed::finish) takes. `progress` is told of the cells
/// of the part.
///
/// Whoever repeats a part, or converts it twice, does no harm: what is written counts when it is named
/// by [`Distributed::finish`](super::Distributed::finish), and is removed otherwise.
///
/// # Errors
/// `unsupported-feature` for a part of another version of this program, `conflict` for an input that has
/// changed since the conversion began, and where the conversion has ended or was given up meanwhile;
/// those of reading and of writing, as those of [`convert`](crate::convert()).
pub fn convert_part(task: &[u8], progress: Progress<'_>) -> Result<Vec<u8>> {
    let (task, arrays): (Task, Arrays) = message::decode(task)?;
    let _span = tracing::debug_span!("part", number = task.part, cells = task.shown).entered();
    let storage = block_on(Storage::new(&task.target, &task.storage_options))?;
    let attempt = Attempt::new(&storage, &task, &arrays);
    attempt.require_mark()?;
    let done = attempt.run(progress);
    if done.is_err() {
        attempt.remove();
    }
    done
}

struct Attempt<'a> {
    storage: &'a Storage,
    task: &'a Task,
    arrays: &'a Arrays,
    options: ConvertOptions,
    /// What the names of its data files begin with.
    prefix: String,
    /// The number of its first segment of names.
    first_segment: usize,
}

impl<'a> Attempt<'a> {
    fn new(storage: &'a Storage, task: &'a Task, arrays: &'a Arrays) -> Attempt<'a> {
        let id = uuid::Uuid::new_v4();
        let reading = &task.reading;
        let options = ConvertOptions {
            allow_loss: task.allow_loss,
            by_gene: task.by_gene,
            memory: task.memory,
            input: OpenOptions {
                genome: reading.genome.clone(),
                feature_type: reading.feature_type.clone(),
                modality: reading.modality.clone(),
                genes_in_rows: reading.genes_in_rows,
                temp_dir: reading.temp_dir.clone(),
                memory: 0,
                // The plan has it.
                measured: None,
            },
            durability: if task.durable { Durability::Full } else { Durability::Os },
            ..ConvertOptions::default()
        };
        Attempt {
            prefix: survey::part(task.part, &id.simple().to_string()),
            // The rest of the range is for the segments that follow.
            first_segment: ((id.as_u64_pair().0 >> 2) / SEGMENTS * SEGMENTS) as usize,
            storage,
            task,
            arrays,
            options,
        }
    }

    fn place(&self) -> Place<'_> {
        Place { storage: self.storage, write_id: &self.task.write_id }
    }

    /// Refuses to go on when the conversion has ended: nobody would remove what is written.
    fn require_mark(&self) -> Result<()> {
        match block_on(survey::is_marked(self.storage, &self.task.write_id))? {
            true => Ok(()),
            false => Err(self.ended()),
        }
    }

    fn ended(&self) -> Error {
        let what = "the conversion that this is a part of has ended, or was given up; nothing was written";
        Error::new(ErrorKind::Conflict, what).at(self.storage.uri())
    }

    fn run(&self, progress: Progress<'_>) -> Result<Vec<u8>> {
        let task = self.task;
        self.check_inputs()?;
        let input = self.open()?;
        let description = input.description();
        let gone = AtomicBool::new(false);
        let asked = Mutex::new(Instant::now());
        let watched = |event: ProgressEvent| {
            // On a local disk the question costs nothing.
            let now = Instant::now();
            let due = self.storage.local().is_some()
                || asked.try_lock().is_ok_and(|mut asked| {
                    let due = now.duration_since(*asked) >= ASK;
                    if due {
                        *asked = now;
                    }
                    due
                });
            if due && self.require_mark().is_err_and(|e| e.kind() == ErrorKind::Conflict) {
                gone.store(true, Ordering::Relaxed);
                return false;
            }
            progress(event)
        };
        let job = Job { input: &*input, options: &self.options, place: self.place(), progress: &watched };
        let written = job.write_cells(self.plan(description)?, &mut Categories::new());
        let written = match written {
            Err(_) if gone.load(Ordering::Relaxed) => return Err(self.ended()),
            written => written.map_err(|e| self.name(e))?,
        };
        let cells = written.cells.finish_part()?;
        let by_gene = written.by_gene.map(RowSink::finish_part).transpose()?.unwrap_or_default();
        let files = self.seal(&cells, &by_gene)?;
        // What was read is what the others read.
        self.check_inputs()?;
        self.require_mark()?;
        let mut sums = Arrays::default();
        sums.put_numbers::<UInt64Type>("n_cells", written.sums.n_cells);
        sums.put_numbers::<Float64Type>("total", written.sums.total);
        let done = Done {
            write_id: task.write_id.clone(),
            part: task.part,
            n_cells: description.n_cells,
            cells,
            by_gene,
            by_gene_bytes: written.by_gene_bytes,
            stripes: written.stripes,
            names: written.names,
            matrices: written.matrices,
            rounded: written.rounded,
            duplicates: written.duplicates,
            files,
        };
        message::encode(&done, &sums)
    }

    fn check_inputs(&self) -> Result<()> {
        let (options, target) = (&self.options.input, self.storage.local().map(|t| &**t));
        self.task.inputs.iter().try_for_each(|i| i.fingerprint.check(&i.path, options, target))
    }

    /// Names the input in an error of reading; see `Sources::name`.
    fn name(&self, e: Error) -> Error {
        let of_target = e.location().is_some_and(|l| l.starts_with(self.storage.uri()));
        match &self.task.inputs[..] {
            [input] if !of_target && self.task.union.is_none() && e.kind() != ErrorKind::Interrupted => {
                e.at(&input.name)
            }
            _ => e,
        }
    }

    /// The cells of the part, as the whole conversion has them.
    fn open(&self) -> Result<Box<dyn Input>> {
        let task = self.task;
        let mut inputs: Vec<Box<dyn Input>> = Vec::new();
        for input in &task.inputs {
            let opened = open_any(&input.path, &self.options.open_options())?;
            inputs.push(Box::new(Rows::new(opened, input.rows.0..input.rows.1).at(&input.name)?));
        }
        let Some(union) = &task.union else {
            return match inputs.pop() {
                Some(input) if inputs.is_empty() && input.description().n_genes == task.n_genes => Ok(input),
                _ => Err(broken("its inputs are not united")),
            };
        };
        let of_part = |(i, input): (usize, &super::message::InputOfTask)| -> Result<PartInput> {
            let genes = Arc::new(self.arrays.numbers::<UInt32Type>(&format!("genes/{i}"))?);
            Ok(PartInput { name: input.name.clone(), genes })
        };
        let column = |(c, places): (usize, &Vec<Option<usize>>)| -> Result<PartColumn> {
            let categories = match self.arrays.get(&format!("categories/{c}")) {
                Some(values) => {
                    let codes = |i| self.arrays.numbers::<Int32Type>(&format!("codes/{c}/{i}"));
                    Some((values.clone(), (0..inputs.len()).map(codes).collect::<Result<_>>()?))
                }
                None => None,
            };
            Ok(PartColumn { places: places.clone(), categories })
        };
        let part = UnionPart {
            inputs: task.inputs.iter().enumerate().map(of_part).collect::<Result<_>>()?,
            columns: union.places.iter().enumerate().map(column).collect::<Result<_>>()?,
            labels: union.labels.clone(),
        };
        let description = Description {
            n_genes: task.n_genes,
            obs: task.obs.info(),
            matrices: self.matrices().into_iter().map(|(info, _)| info).collect(),
            arrays: task
                .arrays
                .iter()
                .map(|a| ArrayInfo { key: a.key(), dtype: a.dtype, n_rows: 0, n_cols: a.width })
                .collect(),
            ..Description::default()
        };
        Ok(Box::new(part.open(inputs, description)?))
    }

    fn matrices(&self) -> Vec<(MatrixInfo, String)> {
        let info = |m: &crate::store::manifest::MatrixEntry| MatrixInfo {
            key: m.key(),
            encoding: m.encoding,
            dtype: m.dtype,
            n_rows: m.n_rows,
            n_cols: m.n_cols,
            nnz: None,
        };
        self.task.matrices.iter().map(|m| (info(m), m.column.clone())).collect()
    }

    fn order(&self, name: &str) -> Result<Option<GeneOrder>> {
        if self.arrays.get(name).is_none() {
            return Ok(None);
        }
        let ranks = self.arrays.numbers::<UInt32Type>(name)?;
        GeneOrder::from_ranks(ranks).map(Some).ok_or_else(|| broken("ranks that are no order"))
    }

    fn plan(&self, description: &Description) -> Result<CellsPlan<'_>> {
        let task = self.task;
        let order = self.order("order")?.ok_or_else(|| broken("no order of genes"))?;
        let counts_by_rank = self.arrays.numbers::<UInt64Type>("counts")?;
        let n = task.n_genes as usize;
        if order.rank_of.len() != n
            || counts_by_rank.len() != n
            || description.obs.columns.len() != task.obs.columns.len()
        {
            return Err(broken("lengths that do not agree"));
        }
        let names = NamesWriter::new(self.place(), 0).numbered(self.first_segment);
        let mut plan = CellsPlan {
            obs: task.obs.clone(),
            arrays: task.arrays.clone(),
            matrices: self.matrices(),
            order,
            counts_by_rank,
            raw_order: self.order("raw_order")?,
            cells: None,
            by_gene: None,
            names: task.index_names.then_some(names),
            first_row: 0,
            first_cell: task.first_cell,
        };
        let part = |table: &str, schema: &SchemaRef| -> Result<Option<RowSink>> {
            let table = self.place().table(table);
            let writer = PartWriter::create(self.storage, &table, schema, config::fragment_rows(), &self.prefix)?;
            Ok(Some(RowSink::Part(Box::new(writer))))
        };
        plan.cells = part("cells", &plan.schema())?;
        if task.by_gene {
            plan.by_gene = part("by_gene", &by_gene_schema())?;
        }
        Ok(plan)
    }

    /// Hashes the data files, and makes them durable.
    fn seal(&self, cells: &[WrittenFile], by_gene: &[WrittenFile]) -> Result<Vec<FileEntry>> {
        let mut files = Vec::new();
        for (table, written) in [("cells", cells), ("by_gene", by_gene)] {
            for file in written {
                let path = file.path(&self.place().table(table));
                let blake3 = block_on(self.storage.hash(&path))?;
                files.push(FileEntry { path, length: file.bytes, blake3 });
            }
        }
        if self.task.durable {
            self.storage.sync(&files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>())?;
        }
        Ok(files)
    }

    /// Removes what was written. What cannot be removed is only left over.
    fn remove(&self) {
        let id = &self.task.write_id;
        let mine = |file: &str| file.rsplit('/').next().is_some_and(|name| name.starts_with(&self.prefix));
        let _ = block_on(survey::remove_parts(self.storage, id, mine));
        let _ = block_on(async {
            let mut number = self.first_segment;
            while self.storage.exists(&survey::names(id, number)).await? {
                self.storage.delete(&survey::names(id, number)).await?;
                number += 1;
            }
            Ok(())
        });
        // The conversion that has ended removed the folders, too.
        if let Some(root) = self.storage.local()
            && self.require_mark().is_err()
        {
            ["cells", "by_gene"].iter().for_each(|table| remove_empty(&root.join(self.place().table(table))));
        }
    }
}
