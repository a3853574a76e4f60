//! How to convert.

use crate::config;
use slaf_ingest::{Join, OpenOptions};
use std::collections::HashMap;

/// The least budget of memory that is heeded, in bytes: what is held of a matrix at a time, and what is
/// sorted, has no smaller parts. Python and the command line refuse less.
pub const LEAST_MEMORY: usize = 1 << 20;

/// How to convert.
#[derive(Clone, Debug)]
pub struct ConvertOptions {
    /// Replace an existing store. The old one stays readable until the new one is committed.
    pub overwrite: bool,
    /// Leave out what the store cannot hold instead of failing.
    pub allow_loss: bool,
    /// Also write the gene-major copy of X.
    pub by_gene: bool,
    /// Bytes that the conversion may hold, about, beside what the program takes itself; less than
    /// [`LEAST_MEMORY`] makes it hold no less.
    pub memory: usize,
    /// An index of their names is written for more cells than these: it spares one who asks for a
    /// cell by name to read all names.
    pub few_names: u64,
    /// Several inputs: keep all genes, or those that every input has.
    pub join: Join,
    /// Several inputs: the obs column that names each cell's input.
    pub source_column: Option<String>,
    /// Several inputs: take a layer that some of them lack as zeros in their cells.
    pub fill_layers: bool,
    /// How to read the inputs.
    pub input: OpenOptions,
    /// Credentials and settings of an object store.
    pub storage_options: HashMap<String, String>,
    /// When a write counts as done.
    pub durability: Durability,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        ConvertOptions {
            overwrite: false,
            allow_loss: false,
            by_gene: true,
            memory: 1 << 30,
            few_names: config::few_names(),
            join: Join::Outer,
            source_column: Some("source".to_string()),
            fill_layers: false,
            input: OpenOptions::default(),
            storage_options: HashMap::new(),
            durability: Durability::Full,
        }
    }
}

impl ConvertOptions {
    /// How inputs are opened: readers get a share of the memory.
    pub(crate) fn open_options(&self) -> OpenOptions {
        OpenOptions { memory: self.memory / 4, ..self.input.clone() }
    }
}

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// A committed version survives a power loss: files and folders are synced before and after
    /// the commit.
    #[default]
    Full,
    /// The operating system writes when it likes: a committed version survives a crash of the
    /// process, not of the machine.
    Os,
}

slaf_core::names!(Durability, "durability", { Full => "full", Os => "os" });
