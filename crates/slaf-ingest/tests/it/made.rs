//! HDF5 files that the tests make, and reading all of a file.

use hdf5_pure::{AttrValue, FileBuilder, FinishedGroup, GroupBuilder};
use slaf_core::{CsrChunk, Result, Value, with_values};
use slaf_ingest::{Input, MatrixKey, OpenOptions, StreamOptions};
use std::path::{Path, PathBuf};

pub(crate) fn open(path: &Path) -> Result<Box<dyn Input>> {
    slaf_ingest::open(path, &OpenOptions::default())
}

/// Rows, stored values, and the sum of a matrix; every chunk is checked.
pub(crate) fn totals(input: &dyn Input, key: &MatrixKey, options: StreamOptions) -> Result<(u64, usize, f64)> {
    let info = input.description().matrices.iter().find(|m| m.key == *key).unwrap().clone();
    let (mut rows, mut nnz, mut sum) = (0, 0, 0.0);
    for chunk in input.matrix(key, options)? {
        let chunk = chunk?;
        chunk.validate(info.n_cols, rows)?;
        assert!(chunk.n_rows() <= options.max_rows);
        assert!(chunk.nnz() <= options.max_nnz || chunk.n_rows() == 1);
        rows += chunk.n_rows() as u64;
        nnz += chunk.nnz();
        sum += with_values!(&chunk.values, v => v.iter().map(|x| x.as_f64()).sum::<f64>());
    }
    assert_eq!(rows, info.n_rows);
    Ok((rows, nnz, sum))
}

/// All rows of a matrix in one chunk.
pub(crate) fn whole(input: &dyn Input, key: &MatrixKey) -> Result<CsrChunk> {
    let all = StreamOptions { max_rows: usize::MAX, max_nnz: usize::MAX };
    let mut chunks = input.matrix(key, all)?.collect::<Result<Vec<_>>>()?;
    assert_eq!(chunks.len(), 1);
    Ok(chunks.remove(0))
}

/// Reads everything, for inputs whose only promise is an error.
pub(crate) fn read_all(path: &Path) -> Result<()> {
    let input = open(path)?;
    let d = input.description();
    input.obs(0..d.n_cells)?;
    input.var()?;
    input.raw_var()?;
    for m in &d.matrices {
        input.column_counts(&m.key)?;
        totals(input.as_ref(), &m.key, StreamOptions::default())?;
    }
    for a in &d.arrays {
        input.array(&a.key, 0..a.n_rows)?;
    }
    Ok(())
}

pub(crate) fn text(s: &str) -> AttrValue {
    AttrValue::VarLenString(s.into())
}

pub(crate) fn group(name: &str, encoding: &str) -> GroupBuilder {
    let mut g = FileBuilder::new().create_group(name);
    g.set_attr("encoding-type", text(encoding));
    g
}

/// A frame with the index `a0`, `a1`, ... and the columns that `fill` makes.
pub(crate) fn frame(
    name: &str,
    prefix: &str,
    n: usize,
    columns: &[&str],
    fill: impl FnOnce(&mut GroupBuilder),
) -> FinishedGroup {
    let mut g = group(name, "dataframe");
    g.set_attr("_index", text("_index"));
    let order = match columns {
        [] => AttrValue::F64Array(vec![]),
        c => AttrValue::VarLenStringArray(c.iter().map(ToString::to_string).collect()),
    };
    g.set_attr("column-order", order);
    let names: Vec<String> = (0..n).map(|i| format!("{prefix}{i}")).collect();
    g.create_dataset("_index").with_vlen_strings(&names.iter().map(String::as_str).collect::<Vec<_>>());
    fill(&mut g);
    g.finish()
}

/// The parts of a compressed matrix of f32.
pub(crate) struct Parts<'a> {
    pub encoding: &'a str,
    pub shape: [i64; 2],
    pub indptr: &'a [i64],
    pub indices: &'a [i32],
    pub data: &'a [f32],
}

/// Three cells and four genes, without anything wrong.
pub(crate) const GOOD: Parts = Parts {
    encoding: "csr_matrix",
    shape: [3, 4],
    indptr: &[0, 2, 2, 5],
    indices: &[0, 3, 0, 1, 2],
    data: &[1.0, 2.0, 3.0, 4.0, 5.0],
};

impl Parts<'_> {
    pub(crate) fn group(&self, name: &str) -> FinishedGroup {
        let mut g = group(name, self.encoding);
        g.set_attr("shape", AttrValue::I64Array(self.shape.to_vec()));
        g.create_dataset("indptr").with_i64_data(self.indptr);
        g.create_dataset("indices").with_i32_data(self.indices);
        g.create_dataset("data").with_f32_data(self.data);
        g.finish()
    }
}

/// Writes an h5ad of three cells and four genes, with what `fill` adds.
pub(crate) fn h5ad(folder: &Path, fill: impl FnOnce(&mut FileBuilder)) -> PathBuf {
    let path = folder.join("test.h5ad");
    let mut f = FileBuilder::new();
    f.set_attr("encoding-type", text("anndata"));
    fill(&mut f);
    f.write(&path).unwrap();
    path
}

/// As [`h5ad`], with plain frames and this X.
pub(crate) fn with_x(folder: &Path, x: &Parts) -> PathBuf {
    h5ad(folder, |f| {
        f.add_group(frame("obs", "c", 3, &[], |_| {}));
        f.add_group(frame("var", "g", 4, &[], |_| {}));
        f.add_group(x.group("X"));
    })
}
