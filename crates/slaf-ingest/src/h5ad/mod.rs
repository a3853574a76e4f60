//! AnnData's files of every version: h5ad, Zarr, and those inside of a MuData file.

mod columns;
mod extras;
mod frame;
mod matrix;
mod sparse;

pub(crate) use columns::{ColumnSource, Refusal};
pub use extras::kind_of_extra;
pub(crate) use frame::FrameReader;
pub(crate) use sparse::Sparse;

use crate::h5::{Dataset, Group, Node, unsupported};
use crate::h5ad_writer::{H5adWriter, WriteOptions};
use crate::model::{
    ArrayInfo, ArrayKey, Axis, Description, Frame, Input, Loss, MatrixKey, OpenOptions, RowStream, StreamOptions,
};
use extras::{Exceptions, find_exceptions};
use matrix::MatrixSource;
use slaf_core::{Error, ErrorKind, Result, Values};
use std::ops::Range;
use std::path::Path;

/// An AnnData file.
struct H5ad {
    root: Group,
    options: OpenOptions,
    description: Description,
    obs: FrameReader,
    var: FrameReader,
    raw_var: Option<FrameReader>,
    matrices: Vec<MatrixSource>,
    arrays: Vec<(ArrayInfo, Dataset)>,
    /// Paths in extras that are not copied: lost, or read as something else, which older
    /// versions kept there.
    moved: Vec<String>,
    /// Frames in extras that are not copied but written anew.
    old_frames: Vec<(String, FrameReader)>,
}

/// Opens the AnnData in a group, which is a whole file or store; `form` says of what kind.
pub(crate) fn open(root: Group, form: &str, options: &OpenOptions) -> Result<Box<dyn Input>> {
    let uns = root.group("uns")?;
    let (mut losses, mut moved) = (Vec::new(), Vec::new());
    let obs = frame(&root, "obs", uns.as_ref(), &mut losses, &mut moved)?;
    let var = frame(&root, "var", uns.as_ref(), &mut losses, &mut moved)?;
    let mut reader = Builder {
        n_cells: obs.n_rows,
        n_genes: var.n_rows,
        matrices: Vec::new(),
        arrays: Vec::new(),
        extras: Vec::new(),
        losses,
        notes: Vec::new(),
        moved,
        old_frames: Vec::new(),
    };
    reader.x(&root)?;
    for (name, n) in [("layers", None), ("obsp", Some(obs.n_rows)), ("varp", Some(var.n_rows))] {
        reader.mapping_of_matrices(&root, name, n)?;
    }
    reader.mapping_of_arrays(&root, "obsm", Axis::Cells)?;
    reader.mapping_of_arrays(&root, "varm", Axis::Genes)?;
    reader.neighbors(uns.as_ref())?;
    let raw_var = reader.raw(&root, uns.as_ref())?;
    if let Some(uns) = uns.filter(|g| !g.names().is_ok_and(|n| n.is_empty())) {
        reader.extra("uns".into(), Node::Group(uns))?;
    }
    const KNOWN: [&str; 13] =
        ["X", "obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns", "raw", "raw.X", "raw.var", "raw.varm"];
    for name in root.names()?.into_iter().filter(|n| !KNOWN.contains(&n.as_str())) {
        reader.lose(name, "not a part of AnnData");
    }
    let description = Description {
        format: format!("{form} ({})", version(&root)?),
        n_cells: obs.n_rows,
        n_genes: var.n_rows,
        obs: obs.info.clone(),
        var: var.info.clone(),
        raw_var: raw_var.as_ref().map(|f| f.info.clone()),
        matrices: reader.matrices.iter().map(|m| m.info.clone()).collect(),
        arrays: reader.arrays.iter().map(|a| a.0.clone()).collect(),
        extras: reader.extras,
        losses: reader.losses,
        notes: reader.notes,
        measured: None,
    };
    Ok(Box::new(H5ad {
        root,
        options: options.clone(),
        description,
        obs,
        var,
        raw_var,
        matrices: reader.matrices,
        arrays: reader.arrays,
        moved: reader.moved,
        old_frames: reader.old_frames,
    }))
}

/// A frame in either form; `moved` gets the paths of what it takes from `uns`.
fn frame(
    parent: &Group,
    name: &str,
    uns: Option<&Group>,
    losses: &mut Vec<Loss>,
    moved: &mut Vec<String>,
) -> Result<FrameReader> {
    match parent.get(name)? {
        Some(Node::Group(g)) => FrameReader::open(&g, losses),
        Some(Node::Dataset(table)) => FrameReader::open_table(&table, uns, losses, moved),
        None => Err(Error::malformed("missing").at(format!("{}/{name}", parent.path().trim_end_matches('/')))),
    }
}

/// The AnnData version that wrote the file, as far as its encoding tells.
fn version(root: &Group) -> Result<&'static str> {
    Ok(match (root.attrs()?.str("encoding-type"), root.get("obs")?) {
        (Some("anndata"), _) => "AnnData 0.8 or later",
        (_, Some(Node::Dataset(_))) => "AnnData before 0.7",
        _ => "AnnData 0.7",
    })
}

/// Collects the elements of a file.
struct Builder {
    n_cells: u64,
    n_genes: u64,
    matrices: Vec<MatrixSource>,
    arrays: Vec<(ArrayInfo, Dataset)>,
    extras: Vec<String>,
    losses: Vec<Loss>,
    notes: Vec<String>,
    moved: Vec<String>,
    old_frames: Vec<(String, FrameReader)>,
}

impl Builder {
    fn lose(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.losses.push(Loss { path: path.into(), reason: reason.into() });
    }

    fn keep(&mut self, matrix: MatrixSource) {
        if matrix.is_half() {
            self.notes.push(format!("{}: float16 is kept as float32, with the same values", matrix.info.key));
        }
        self.matrices.push(matrix);
    }

    fn x(&mut self, root: &Group) -> Result<()> {
        let Some(node) = root.get("X")? else { return Ok(()) };
        if node.attrs()?.str("encoding-type") == Some("null") {
            return Ok(());
        }
        match MatrixSource::open(node, MatrixKey::X, (self.n_cells, self.n_genes)) {
            Ok(m) => self.keep(m),
            Err(Refusal::Error(e)) => return Err(e),
            Err(Refusal::Loss(reason)) => return Err(unsupported(reason).at("/X")),
        }
        Ok(())
    }

    fn matrix(&mut self, node: Node, key: MatrixKey, shape: (u64, u64)) -> Result<()> {
        let path = key.to_string();
        match MatrixSource::open(node, key, shape) {
            Ok(m) => self.keep(m),
            Err(Refusal::Error(e)) => return Err(e),
            Err(Refusal::Loss(reason)) => self.lose(path, reason),
        }
        Ok(())
    }

    /// layers, or (with `square`) obsp and varp.
    fn mapping_of_matrices(&mut self, root: &Group, name: &str, square: Option<u64>) -> Result<()> {
        let Some(group) = root.group(name)? else { return Ok(()) };
        let shape = square.map_or((self.n_cells, self.n_genes), |n| (n, n));
        for (key, node) in group.members()? {
            let key = match name {
                "layers" => MatrixKey::Layer(key),
                "obsp" => MatrixKey::Obsp(key),
                _ => MatrixKey::Varp(key),
            };
            self.matrix(node, key, shape)?;
        }
        Ok(())
    }

    /// obsm and varm: arrays, and whatever else as extras.
    fn mapping_of_arrays(&mut self, root: &Group, slot: &str, axis: Axis) -> Result<()> {
        let members = match root.get(slot)? {
            None => return Ok(()),
            Some(Node::Group(g)) => g.members()?,
            Some(Node::Dataset(table)) => {
                table.fields()?.into_iter().map(|(name, field)| (name, Node::Dataset(field))).collect()
            }
        };
        let n = if axis == Axis::Cells { self.n_cells } else { self.n_genes };
        for (name, node) in members {
            match node {
                Node::Dataset(d) => match (d.elem().dtype(), d.shape()) {
                    (Some(dtype), &[n_rows, n_cols]) => {
                        if n_rows != n {
                            return Err(Error::malformed(format!("{n_rows} rows instead of {n}")).at(d.path()));
                        }
                        let key = ArrayKey { axis, name };
                        self.arrays.push((ArrayInfo { key, dtype, n_rows, n_cols }, d));
                    }
                    _ => self.extra(format!("{slot}/{name}"), Node::Dataset(d))?,
                },
                group => self.extra(format!("{slot}/{name}"), group)?,
            }
        }
        Ok(())
    }

    fn extra(&mut self, path: String, node: Node) -> Result<()> {
        let mut found = Exceptions::default();
        find_exceptions(&node, &mut found)?;
        self.moved.extend(found.losses.iter().map(|l| l.path.clone()));
        self.moved.extend(found.old_frames.iter().map(|f| f.0.clone()));
        if !found.losses.iter().any(|l| l.path == path) {
            self.extras.push(path);
        }
        self.losses.append(&mut found.losses);
        self.old_frames.append(&mut found.old_frames);
        Ok(())
    }

    /// `raw`, or before AnnData 0.7 `raw.X` and `raw.var`.
    fn raw(&mut self, root: &Group, uns: Option<&Group>) -> Result<Option<FrameReader>> {
        let (parent, prefix) = match root.get("raw")? {
            Some(node @ Node::Dataset(_)) if node.attrs()?.str("encoding-type") == Some("null") => return Ok(None),
            Some(Node::Dataset(d)) => return Err(Error::malformed("a dataset, not a group").at(d.path())),
            Some(Node::Group(raw)) => (raw, ""),
            None if root.get("raw.X")?.is_some() => (root.clone(), "raw."),
            None => return Ok(None),
        };
        let var = frame(&parent, &format!("{prefix}var"), uns, &mut self.losses, &mut self.moved)?;
        let x = parent.get(&format!("{prefix}X"))?;
        let x = x.ok_or_else(|| Error::malformed("missing").at("/raw/X"))?;
        self.matrix(x, MatrixKey::RawX, (self.n_cells, var.n_rows))?;
        if !prefix.is_empty() {
            if let Some(varm) = root.get("raw.varm")? {
                self.extra("raw.varm".into(), varm)?;
            }
            return Ok(Some(var));
        }
        for (name, node) in parent.members()? {
            match (name.as_str(), node) {
                ("X" | "var", _) => {}
                ("varm", Node::Group(g)) if g.names()?.is_empty() => {}
                ("varm", node) => self.extra("raw/varm".into(), node)?,
                _ => self.lose(format!("raw/{name}"), "not a part of AnnData"),
            }
        }
        Ok(Some(var))
    }

    /// The neighbour graphs, which AnnData before 0.7 kept in `uns`.
    fn neighbors(&mut self, uns: Option<&Group>) -> Result<()> {
        let Some(Node::Group(neighbors)) = uns.map(|u| u.get("neighbors")).transpose()?.flatten() else {
            return Ok(());
        };
        for name in ["connectivities", "distances"] {
            let key = MatrixKey::Obsp(name.to_owned());
            if self.matrices.iter().any(|m| m.info.key == key) {
                continue;
            }
            // Newer versions have the name of the graph here.
            if let Some(node @ Node::Group(_)) = neighbors.get(name)? {
                let path = node.path().trim_start_matches('/').to_owned();
                if let Ok(m) = MatrixSource::open(node, key, (self.n_cells, self.n_cells)) {
                    self.keep(m);
                    self.moved.push(path);
                }
            }
        }
        Ok(())
    }
}

impl Input for H5ad {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        self.obs.read(rows)
    }

    fn var(&self) -> Result<Frame> {
        self.var.read(0..self.var.n_rows)
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        self.raw_var.as_ref().map(|f| f.read(0..f.n_rows)).transpose()
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        find_matrix(&self.matrices, key)?.stream(options, &self.options)
    }

    fn matrix_rows(&self, key: &MatrixKey, rows: Range<u64>, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        find_matrix(&self.matrices, key)?.stream_some(rows, options)
    }

    fn has_cheap_rows(&self) -> bool {
        let of_cells = |m: &&MatrixSource| !matches!(m.info.key, MatrixKey::Varp(_));
        self.matrices.iter().filter(of_cells).all(MatrixSource::has_cheap_rows)
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        find_matrix(&self.matrices, key)?.column_counts()
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        let (_, dataset) = self
            .arrays
            .iter()
            .find(|a| a.0.key == *key)
            .ok_or_else(|| Error::invalid(format!("no array \"{}\" in the input", key.name)))?;
        dataset.reader()?.values(rows)
    }

    fn write_extras(&self, target: &Path) -> Result<()> {
        if target.exists() {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a file already").at(target.display()));
        }
        let mut writer = H5adWriter::create(target, WriteOptions::default())?;
        let is_old = |path: &String| self.old_frames.iter().any(|f| f.0 == *path);
        for path in self.description.extras.iter().filter(|e| !is_old(e)) {
            writer.copy_element(&self.root, path, &self.moved)?;
        }
        for (path, frame) in &self.old_frames {
            writer.write_inner_frame(path, &frame.info, frame.blocks())?;
        }
        writer.finish_part()
    }
}

fn find_matrix<'a>(matrices: &'a [MatrixSource], key: &MatrixKey) -> Result<&'a MatrixSource> {
    let found = matrices.iter().find(|m| m.info.key == *key);
    found.ok_or_else(|| Error::invalid(format!("no matrix \"{key}\" in the input")))
}
