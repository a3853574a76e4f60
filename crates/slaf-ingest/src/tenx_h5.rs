//! 10x Genomics' HDF5 matrices: version 2 (a group per genome) and version 3 (`matrix`).
//!
//! The frames are those of scanpy's `read_10x_h5`: gene symbols are the index of var, and the
//! Ensembl ids are the column `gene_ids`.

use crate::h5::{Dataset, Elem, Group, H5File, Node};
use crate::h5ad::{ColumnSource, FrameReader, Refusal, Sparse};
use crate::model::{
    ArrayKey, ColumnInfo, ColumnKind, Description, Frame, FrameInfo, Input, Loss, MatrixEncoding, MatrixInfo,
    MatrixKey, OpenOptions, RowStream, StreamOptions,
};
use crate::plain::filter_frame;
use arrow::array::BooleanArray;
use slaf_core::{CsrChunk, Error, Result, Value, Values, with_values};
use std::ops::Range;
use std::sync::Arc;

/// A 10x file of either version.
struct TenX {
    description: Description,
    obs: FrameReader,
    var: FrameReader,
    /// Cells are the compressed axis.
    counts: Sparse,
    /// The features to read, if not all.
    keep: Option<Vec<bool>>,
}

/// The groups of a version 2 file: one per genome.
fn genomes(root: &Group) -> Result<Vec<String>> {
    let mut genomes = Vec::new();
    for (name, node) in root.members()? {
        if let Node::Group(g) = node {
            let names = g.names()?;
            let needed = ["barcodes", "data", "gene_names", "genes", "indices", "indptr", "shape"];
            if needed.iter().all(|n| names.iter().any(|m| m == n)) {
                genomes.push(name);
            }
        }
    }
    Ok(genomes)
}

/// Opens the file if it is one of 10x.
pub(crate) fn open(file: &Arc<H5File>, options: &OpenOptions) -> Result<Option<Box<dyn Input>>> {
    let root = Group::root(file);
    if let Some(Node::Group(matrix)) = root.get("matrix")?
        && let Some(features) = matrix.group("features")?
    {
        return version_3(&root, &matrix, &features, options).map(Some);
    }
    let genomes = genomes(&root)?;
    let quoted = || genomes.iter().map(|g| format!("\"{g}\"")).collect::<Vec<_>>().join(", ");
    let genome = match (genomes.as_slice(), &options.genome) {
        ([], _) => return Ok(None),
        (all, Some(g)) if all.contains(g) => g,
        (_, Some(g)) => return Err(Error::invalid(format!("no genome \"{g}\"; there are {}", quoted()))),
        ([one], None) => one,
        (_, None) => {
            let message = format!("several genomes: choose one of {} with --genome NAME (genome=NAME)", quoted());
            return Err(Error::invalid(message));
        }
    };
    let group = root.group(genome)?.ok_or_else(|| Error::malformed("missing").at(genome))?;
    let mut losses = unknown(&root, &genomes);
    let known = ["barcodes", "data", "gene_names", "genes", "indices", "indptr", "shape"].map(String::from);
    losses.extend(unknown(&group, &known));
    let obs = frame(&group, "barcodes", vec![])?;
    let var = frame(&group, "gene_names", vec![("gene_ids".into(), group.dataset("genes")?)])?;
    finish("10x h5 v2", &group, obs, var, None, losses).map(Some)
}

fn version_3(root: &Group, matrix: &Group, features: &Group, options: &OpenOptions) -> Result<Box<dyn Input>> {
    let mut losses = unknown(root, &["matrix".into()]);
    let known = ["barcodes", "data", "features", "filtered_barcodes", "indices", "indptr", "shape"];
    losses.extend(unknown(matrix, &known.map(String::from)));
    let mut obs_columns = Vec::new();
    if let Some(Node::Dataset(d)) = matrix.get("filtered_barcodes")? {
        obs_columns.push(("filtered_barcodes".to_owned(), d));
    }
    let obs = frame(matrix, "barcodes", obs_columns)?;
    // Probe matrices have both the gene and the probe.
    let mut columns = match features.get("gene_id")? {
        Some(Node::Dataset(gene)) => {
            vec![("gene_ids".to_owned(), gene), ("probe_ids".to_owned(), features.dataset("id")?)]
        }
        _ => vec![("gene_ids".to_owned(), features.dataset("id")?)],
    };
    columns.push(("feature_types".to_owned(), features.dataset("feature_type")?));
    let done = ["name", "feature_type", "id", "gene_id", "_all_tag_keys"];
    let mut sets = Vec::new();
    for (name, node) in features.members()? {
        match node {
            Node::Dataset(d) if !done.contains(&name.as_str()) => columns.push((name, d)),
            Node::Group(g) if name == "target_sets" => sets = target_sets(&g, features.dataset("id")?.len()?)?,
            Node::Group(g) => losses.push(Loss {
                path: g.path().trim_start_matches('/').to_owned(),
                reason: "not a part of a 10x matrix".into(),
            }),
            Node::Dataset(_) => {}
        }
    }
    let mut var = frame(features, "name", columns)?;
    for (name, members) in sets {
        var.add_mask(name, members)?;
    }
    let mut keep: Option<Vec<bool>> = None;
    for (wanted, column) in [(&options.feature_type, "feature_type"), (&options.genome, "genome")] {
        let Some(wanted) = wanted else { continue };
        let values = features.dataset(column)?.read_strings()?;
        if !values.contains(wanted) {
            let mut all = values;
            all.sort_unstable();
            all.dedup();
            return Err(Error::invalid(format!(
                "no features with {column} \"{wanted}\"; there are \"{}\"",
                all.join("\", \"")
            )));
        }
        let hits = values.iter().map(|v| v == wanted);
        keep = Some(match keep {
            Some(k) => k.into_iter().zip(hits).map(|(a, b)| a && b).collect(),
            None => hits.collect(),
        });
    }
    finish("10x h5 v3", matrix, obs, var, keep, losses)
}

/// The features of each target set, of which the file has the numbers: a column of booleans.
fn target_sets(group: &Group, n: u64) -> Result<Vec<(String, BooleanArray)>> {
    let mut sets = Vec::new();
    for (name, node) in group.members()? {
        let Node::Dataset(d) = node else {
            return Err(Error::malformed("a group, not a dataset").at(node.path()));
        };
        let mut members = vec![false; n as usize];
        for i in d.reader()?.u64s(0..d.len()?)? {
            match usize::try_from(i).ok().and_then(|i| members.get_mut(i)) {
                Some(member) => *member = true,
                None => return Err(Error::malformed(format!("feature {i} of {n}")).at(d.path())),
            }
        }
        sets.push((format!("target_set_{name}"), members.into()));
    }
    Ok(sets)
}

fn unknown(group: &Group, known: &[String]) -> Vec<Loss> {
    let inside = group.path().trim_start_matches('/');
    let names = group.names().unwrap_or_default().into_iter().filter(|n| !known.contains(n));
    let path = |n: String| if inside.is_empty() { n } else { format!("{inside}/{n}") };
    names.map(|n| Loss { path: path(n), reason: "not a part of a 10x matrix".into() }).collect()
}

fn frame(group: &Group, index: &str, columns: Vec<(String, Dataset)>) -> Result<FrameReader> {
    let index = group.dataset(index)?;
    index.check_storage()?;
    let n_rows = index.len()?;
    let mut info = FrameInfo::default();
    let mut sources = Vec::new();
    for (name, dataset) in columns {
        let path = dataset.path().to_owned();
        let source = ColumnSource::open(group, Node::Dataset(dataset), n_rows).map_err(|e| match e {
            Refusal::Error(e) => e,
            Refusal::Loss(reason) => Error::malformed(reason).at(path),
        })?;
        info.columns.push(ColumnInfo { name, data_type: source.data_type(), kind: ColumnKind::Plain });
        sources.push(source);
    }
    Ok(FrameReader::from_parts(info, n_rows, group.path(), ColumnSource::Plain(index), sources))
}

fn finish(
    format: &str,
    group: &Group,
    obs: FrameReader,
    var: FrameReader,
    keep: Option<Vec<bool>>,
    losses: Vec<Loss>,
) -> Result<Box<dyn Input>> {
    let shape = group.dataset("shape")?;
    shape.expect_len(2)?;
    if !matches!(shape.elem(), Elem::Number { .. }) || shape.reader()?.u64s(0..2)? != [var.n_rows, obs.n_rows] {
        return Err(Error::malformed(format!("not {} features x {} barcodes", var.n_rows, obs.n_rows)).at(shape.path()));
    }
    let part = |name| group.dataset(name);
    let counts = Sparse::new(part("indptr")?, part("indices")?, part("data")?, obs.n_rows, var.n_rows)?;
    let n_genes = keep.as_ref().map_or(var.n_rows, |k| k.iter().filter(|k| **k).count() as u64);
    let matrix = MatrixInfo {
        key: MatrixKey::X,
        encoding: MatrixEncoding::Csr,
        dtype: counts.dtype(),
        n_rows: obs.n_rows,
        n_cols: n_genes,
        nnz: keep.is_none().then(|| counts.nnz()),
    };
    let description = Description {
        format: format.to_owned(),
        n_cells: obs.n_rows,
        n_genes,
        obs: obs.info.clone(),
        var: var.info.clone(),
        matrices: vec![matrix],
        losses,
        ..Description::default()
    };
    Ok(Box::new(TenX { description, obs, var, counts, keep }))
}

fn only_x(key: &MatrixKey) -> Result<()> {
    match key {
        MatrixKey::X => Ok(()),
        other => Err(Error::invalid(format!("no matrix \"{other}\" in the input"))),
    }
}

impl Input for TenX {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        self.obs.read(rows)
    }

    fn var(&self) -> Result<Frame> {
        let frame = self.var.read(0..self.var.n_rows)?;
        let Some(keep) = &self.keep else { return Ok(frame) };
        filter_frame(frame, keep)
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        Ok(None)
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        self.matrix_rows(key, 0..self.description.n_cells, options)
    }

    fn matrix_rows(&self, key: &MatrixKey, rows: Range<u64>, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        only_x(key)?;
        let rows = self.counts.stream_rows(rows, options)?;
        let Some(keep) = &self.keep else { return Ok(rows) };
        let mut next = 0;
        let numbers = keep.iter().map(|&k| {
            let number = next;
            next += u32::from(k);
            k.then_some(number)
        });
        Ok(Box::new(Kept { rows, numbers: numbers.collect() }))
    }

    fn has_cheap_rows(&self) -> bool {
        true
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        only_x(key)?;
        let counts = self.counts.minor_counts()?;
        let Some(keep) = &self.keep else { return Ok(counts) };
        Ok(counts.into_iter().zip(keep).filter(|(_, k)| **k).map(|(n, _)| n).collect())
    }

    fn array(&self, key: &ArrayKey, _rows: Range<u64>) -> Result<Values> {
        Err(Error::invalid(format!("no array \"{}\" in the input", key.name)))
    }
}

/// Rows with only some of the columns, renumbered.
struct Kept {
    rows: Box<dyn RowStream>,
    numbers: Vec<Option<u32>>,
}

impl Kept {
    fn cut(&self, chunk: &CsrChunk) -> CsrChunk {
        fn values<T: Value>(values: &[T], kept: &[bool]) -> Values {
            T::wrap(values.iter().zip(kept).filter(|(_, k)| **k).map(|(v, _)| *v).collect())
        }
        let numbers: Vec<_> = chunk.indices.iter().map(|&c| self.numbers[c as usize]).collect();
        let kept: Vec<bool> = numbers.iter().map(Option::is_some).collect();
        let mut indptr = vec![0];
        let mut n = 0;
        for i in 0..chunk.n_rows() {
            n += kept[chunk.row(i)].iter().filter(|k| **k).count() as u64;
            indptr.push(n);
        }
        CsrChunk {
            indptr,
            indices: numbers.into_iter().flatten().collect(),
            values: with_values!(&chunk.values, v => values(v, &kept)),
        }
    }
}

impl Iterator for Kept {
    type Item = Result<CsrChunk>;

    fn next(&mut self) -> Option<Result<CsrChunk>> {
        Some(self.rows.next()?.map(|chunk| self.cut(&chunk)))
    }
}

impl RowStream for Kept {
    fn duplicates(&self) -> u64 {
        self.rows.duplicates()
    }
}
