use crate::size::human_bytes;
use crate::store::manifest::{FrameSchema, Kind, Manifest};
use serde::Serialize;
use std::fmt;

/// A summary of a store. [`Display`](fmt::Display) prints it for people.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// Where the store lies.
    pub uri: String,
    /// The version that is described.
    pub version: u64,
    /// Cells, the length of obs.
    pub n_cells: u64,
    /// Genes, the length of var.
    pub n_genes: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of each table.
    pub tables: Vec<(String, u64)>,
    /// X, layers, raw, obsp and varp.
    pub matrices: Vec<MatrixSummary>,
    /// The columns of obs, in order.
    pub obs: Vec<ColumnSummary>,
    /// The columns of var, in order.
    pub var: Vec<ColumnSummary>,
    /// `obsm/X_pca (50 x float32, indexed by l2)`.
    pub arrays: Vec<String>,
    /// Elements that are kept as they came: `uns`.
    pub extras: Vec<String>,
    /// `2 sets of genes in 3 sources`, where not all genes were measured in all cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
    /// The program that wrote the version, `slaf 0.1.0` for example.
    pub created_by: String,
}

/// A matrix of a store.
#[derive(Clone, Debug, Serialize)]
pub struct MatrixSummary {
    /// `X`, `layers/counts`.
    pub name: String,
    /// numpy's name of the value type.
    pub dtype: String,
    /// What the input was: `csr`, `csc` or `dense`.
    pub encoding: String,
    /// Stored values, explicit zeros included.
    pub nnz: u64,
    /// Bits of the packed rows for each stored value.
    pub bits_per_nonzero: f64,
}

/// A column of obs or var.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnSummary {
    /// The user's name.
    pub name: String,
    /// `int64`, `categorical of string`.
    pub data_type: String,
}

impl Info {
    pub(crate) fn new(uri: &str, manifest: &Manifest) -> Info {
        let columns = |frame: &FrameSchema| {
            let summary = frame.columns.iter().map(|c| ColumnSummary {
                name: c.name.clone(),
                data_type: match (c.kind, c.data_type.name()) {
                    (Kind::Plain, value) => value.to_string(),
                    (Kind::Categorical, value) => format!("categorical of {value}"),
                    (kind, value) => format!("{} {value}", kind.name()),
                },
            });
            summary.collect()
        };
        let tables = &manifest.tables;
        let all = [
            ("cells", Some(&tables.cells)),
            ("genes", Some(&tables.genes)),
            ("by_gene", tables.by_gene.as_ref()),
            ("raw_genes", tables.raw_genes.as_ref()),
        ];
        let size = |path: &str| {
            let inside =
                manifest.files.iter().filter(|f| f.path.strip_prefix(path).is_some_and(|r| r.starts_with('/')));
            inside.map(|f| f.length).sum()
        };
        Info {
            uri: uri.to_string(),
            version: manifest.version,
            n_cells: manifest.n_cells,
            n_genes: manifest.n_genes,
            bytes: manifest.files.iter().map(|f| f.length).sum(),
            tables: all.into_iter().filter_map(|(name, t)| Some((name.to_string(), size(&t?.path)))).collect(),
            matrices: manifest
                .matrices
                .iter()
                .map(|m| MatrixSummary {
                    name: m.shown(),
                    dtype: m.dtype.name().to_string(),
                    encoding: m.encoding.name().to_string(),
                    nnz: m.nnz,
                    bits_per_nonzero: m.bytes as f64 * 8.0 / m.nnz.max(1) as f64,
                })
                .collect(),
            obs: columns(&manifest.obs),
            var: columns(&manifest.var),
            arrays: manifest
                .arrays
                .iter()
                .map(|a| {
                    let own = manifest.indexes.iter().filter(|index| index.array(manifest) == Some(a));
                    let metrics: Vec<&str> = own.map(|index| index.metric.as_str()).collect();
                    let indexed =
                        if metrics.is_empty() { String::new() } else { format!(", indexed by {}", metrics.join(", ")) };
                    format!("{} ({} x {}{indexed})", a.shown(), a.width, a.dtype.name())
                })
                .collect(),
            extras: manifest.extras.iter().flat_map(|e| e.elements.clone()).collect(),
            measured: manifest.measured.as_ref().map(|m| {
                let (sets, sources) = (m.n_sets, m.sources.len());
                let plural = |n: u64| if n == 1 { "" } else { "s" };
                format!("{sets} set{} of genes in {sources} source{}", plural(sets), plural(sources as u64))
            }),
            created_by: manifest.created_by.clone(),
        }
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (version {}, written by {})", self.uri, self.version, self.created_by)?;
        writeln!(f, "{} cells x {} genes, {} on disk", self.n_cells, self.n_genes, human_bytes(self.bytes))?;
        for m in &self.matrices {
            writeln!(
                f,
                "  {:<20} {} stored values, {}, {}, {:.2} bits per value",
                m.name, m.nnz, m.dtype, m.encoding, m.bits_per_nonzero
            )?;
        }
        for (what, columns) in [("obs", &self.obs), ("var", &self.var)] {
            if !columns.is_empty() {
                let list: Vec<_> = columns.iter().map(|c| format!("{} ({})", c.name, c.data_type)).collect();
                writeln!(f, "  {what:<20} {}", list.join(", "))?;
            }
        }
        for array in &self.arrays {
            writeln!(f, "  {array}")?;
        }
        if !self.extras.is_empty() {
            writeln!(f, "  also                 {}", self.extras.join(", "))?;
        }
        if let Some(measured) = &self.measured {
            writeln!(f, "  measured             {measured}")?;
        }
        let tables: Vec<_> = self.tables.iter().map(|(t, b)| format!("{t} {}", human_bytes(*b))).collect();
        write!(f, "  tables               {}", tables.join(", "))
    }
}
