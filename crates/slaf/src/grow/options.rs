//! How to change a store, and what was done.

use crate::convert::Durability;
use crate::dataset::DatasetOptions;
use crate::store::manifest::Manifest;
use serde::Serialize;
use slaf_ingest::{Join, OpenOptions};
use std::collections::HashMap;
use std::fmt;

/// How to change a store.
#[derive(Clone, Debug, Default)]
pub struct GrowOptions {
    /// Credentials and settings of an object store.
    pub storage_options: HashMap<String, String>,
    /// Whether a commit waits for the disk.
    pub durability: Durability,
    /// The version that the change was made for: a store that does not go on from it is refused, and
    /// so are rows by position where cells or genes are others by now. By default any store is right.
    pub base: Option<Base>,
}

/// A version, told from others of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its number.
    pub version: u64,
    /// The id of its write.
    pub write_id: String,
}

/// How to append.
#[derive(Clone, Debug)]
pub struct AppendOptions {
    /// Which genes the next version has.
    pub join: Join,
    /// What the obs column `source` says of the new cells; by default the name of their input, where
    /// the store has that column.
    pub source_name: Option<String>,
    /// What a single source is called in place of its path: in `source`, in `uns`, and where the version
    /// tells what made it.
    pub shown: Option<String>,
    /// Leave out what the next version cannot hold instead of failing.
    pub allow_loss: bool,
    /// Take a layer that the source or the store lacks as zeros in their cells.
    pub fill_layers: bool,
    /// Append a source that has no gene in common with the store.
    pub allow_disjoint: bool,
    /// Bytes that may be held, about.
    pub memory: usize,
    /// How to read the inputs.
    pub input: OpenOptions,
    /// How to open sources that are stores, by their places among the sources; by default in their newest
    /// version, with the options of the object store of the one that grows.
    pub stores: HashMap<usize, DatasetOptions>,
}

impl Default for AppendOptions {
    fn default() -> Self {
        AppendOptions {
            join: Join::Outer,
            source_name: None,
            shown: None,
            allow_loss: false,
            fill_layers: false,
            allow_disjoint: false,
            memory: 1 << 30,
            input: OpenOptions::default(),
            stores: HashMap::new(),
        }
    }
}

/// What a change did. [`Display`](fmt::Display) prints it for people.
#[derive(Clone, Debug, Serialize)]
pub struct GrowReport {
    /// The version that the change made.
    pub version: u64,
    /// Its number of cells.
    pub n_cells: u64,
    /// Its number of genes.
    pub n_genes: u64,
    /// What was written, `obs/cell_type` for example.
    pub written: Vec<String>,
    /// What is no longer in this version.
    pub removed: Vec<String>,
    /// What was appended, in the order of the cells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<AppendedSource>,
    /// What was decided.
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// How the genes of an appended source go with those that the store had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppendedSource {
    /// Its path, or what it was called.
    pub name: String,
    /// Its cells.
    pub n_cells: u64,
    /// Its genes that the store had.
    pub genes_matched: u64,
    /// Its genes that the store had not, and has now.
    pub genes_new: u64,
    /// Its genes that the store had not, and has not.
    pub genes_left_out: u64,
    /// Genes that the store had and the source does not have: in its cells they were not measured.
    pub genes_lacking: u64,
}

impl fmt::Display for AppendedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AppendedSource { name, genes_matched, genes_new, genes_left_out, genes_lacking, .. } = self;
        let all = genes_matched + genes_new + genes_left_out;
        write!(f, "{name}: {genes_matched} of its {all} match")?;
        for (n, what) in [(genes_new, "are new"), (genes_left_out, "are left out")] {
            if *n > 0 {
                write!(f, ", {n} {what}")?;
            }
        }
        if *genes_lacking > 0 {
            write!(f, "; {genes_lacking} of the store's were not measured in its cells")?;
        }
        Ok(())
    }
}

impl GrowReport {
    pub(super) fn new(manifest: &Manifest, written: Vec<String>, removed: Vec<String>) -> GrowReport {
        GrowReport {
            version: manifest.version,
            n_cells: manifest.n_cells,
            n_genes: manifest.n_genes,
            written,
            removed,
            sources: Vec::new(),
            notes: Vec::new(),
            seconds: 0.0,
        }
    }
}

impl fmt::Display for GrowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version      {}", self.version)?;
        writeln!(f, "shape        {} cells x {} genes", self.n_cells, self.n_genes)?;
        if !self.written.is_empty() {
            writeln!(f, "wrote        {}", self.written.join(", "))?;
        }
        if !self.removed.is_empty() {
            writeln!(f, "removed      {}", self.removed.join(", "))?;
        }
        for source in &self.sources {
            writeln!(f, "genes        {source}")?;
        }
        for note in &self.notes {
            writeln!(f, "note         {note}")?;
        }
        write!(f, "time         {:.2} s", self.seconds)
    }
}
