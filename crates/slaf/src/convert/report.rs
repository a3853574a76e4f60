use crate::size::human_bytes;
use crate::store::manifest::{ArrayEntry, Manifest, MatrixEntry, Slot};
use serde::Serialize;
use slaf_ingest::Description;
use std::fmt;
use std::time::Duration;

/// What a conversion did. [`Display`](fmt::Display) prints it for people.
#[derive(Clone, Debug, Serialize)]
pub struct ConvertReport {
    /// What the input was, for example `h5ad (AnnData 0.8)`.
    pub format: String,
    /// Cells of the store.
    pub n_cells: u64,
    /// Genes of the store.
    pub n_genes: u64,
    /// Stored values of X.
    pub nnz: u64,
    /// numpy's name of X's value type; empty without X.
    pub dtype: String,
    /// Bits of the cell-major X for each stored value.
    pub bits_per_nonzero: f64,
    /// Bits of the gene-major X for each stored value; `None` without `by_gene`.
    pub bits_per_nonzero_by_gene: Option<f64>,
    /// Bytes of all files of the store.
    pub bytes: u64,
    /// The slots that the store holds, `layers/counts` for example.
    pub kept: Vec<String>,
    /// What the input has and the store does not, with the reason.
    pub lost: Vec<(String, String)>,
    /// What the reader decided.
    pub notes: Vec<String>,
    /// Values at duplicate positions that were added up.
    pub duplicates: u64,
    /// Wall-clock seconds from opening the input to the commit.
    pub seconds: f64,
}

impl ConvertReport {
    pub(super) fn new(
        manifest: &Manifest,
        description: &Description,
        by_gene_bytes: u64,
        duplicates: u64,
        elapsed: Duration,
    ) -> Self {
        let x = manifest.matrices.iter().find(|m| m.slot == Slot::X);
        let nnz = x.map_or(0, |m| m.nnz);
        let bits = |bytes: u64| bytes as f64 * 8.0 / nnz.max(1) as f64;
        let mut kept: Vec<String> = manifest.matrices.iter().map(MatrixEntry::shown).collect();
        kept.push(format!("obs ({} columns)", manifest.obs.columns.len()));
        kept.push(format!("var ({} columns)", manifest.var.columns.len()));
        kept.extend(manifest.arrays.iter().map(ArrayEntry::shown));
        kept.extend(manifest.extras.iter().flat_map(|e| e.elements.clone()));
        ConvertReport {
            format: description.format.clone(),
            n_cells: manifest.n_cells,
            n_genes: manifest.n_genes,
            nnz,
            dtype: x.map_or(String::new(), |m| m.dtype.name().to_string()),
            bits_per_nonzero: bits(x.map_or(0, |m| m.bytes)),
            bits_per_nonzero_by_gene: manifest.tables.by_gene.is_some().then(|| bits(by_gene_bytes)),
            bytes: manifest.files.iter().map(|f| f.length).sum(),
            kept,
            lost: description.losses.iter().map(|l| (l.path.clone(), l.reason.clone())).collect(),
            notes: description.notes.clone(),
            duplicates,
            seconds: elapsed.as_secs_f64(),
        }
    }
}

impl fmt::Display for ConvertReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "input        {}", self.format)?;
        writeln!(f, "shape        {} cells x {} genes", self.n_cells, self.n_genes)?;
        if !self.dtype.is_empty() {
            writeln!(f, "values       {} stored, {}", self.nnz, self.dtype)?;
            write!(f, "packed       {:.2} bits per value by cell", self.bits_per_nonzero)?;
            match self.bits_per_nonzero_by_gene {
                Some(bits) => writeln!(f, ", {bits:.2} by gene")?,
                None => writeln!(f, "; no gene-major copy")?,
            }
        }
        writeln!(f, "on disk      {}", human_bytes(self.bytes))?;
        writeln!(f, "kept         {}", self.kept.join(", "))?;
        for note in &self.notes {
            writeln!(f, "note         {note}")?;
        }
        if self.duplicates > 0 {
            writeln!(f, "note         {} values at duplicate positions were added up", self.duplicates)?;
        }
        for (path, reason) in &self.lost {
            writeln!(f, "LOST         {path}: {reason}")?;
        }
        write!(f, "time         {:.2} s", self.seconds)
    }
}
