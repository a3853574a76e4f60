//! Small annotated matrices with known content.

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int32Type};
use slaf_core::{CsrChunk, Dtype, Result, Value, Values, with_values};
use slaf_ingest::{Column, ColumnInfo, ColumnKind, Frame, FrameInfo, H5adWriter, MatrixEncoding, WriteOptions};
use std::path::Path;
use std::sync::Arc;

/// A small random number generator (SplitMix64: Steele et al., OOPSLA 2014): the same numbers on
/// every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n
    }
}

/// Cells `c0`, `c1`, ... and genes `g0`, `g1`, ... with skewed counts; obs has `cell_type` (a
/// categorical with an unused category), `batch` (strings), `n` (integers) and `score` (floats).
#[derive(Clone, Debug)]
pub struct Sample {
    /// Counts of cells x genes.
    pub x: CsrChunk,
    /// Columns of `x`.
    pub n_genes: u64,
    /// One row for each cell.
    pub obs: Frame,
    /// One row for each gene.
    pub var: Frame,
}

impl Sample {
    /// A sample of these sizes. Every 11th cell and the last gene are empty.
    pub fn new(seed: u64, n_cells: usize, n_genes: u64) -> Sample {
        let mut random = Random(seed);
        let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
        for cell in 0..n_cells {
            for gene in 0..n_genes.saturating_sub(1) {
                // Gene g is in about one of g % 7 + 2 cells.
                if cell % 11 != 10 && random.below(gene % 7 + 2) == 0 {
                    indices.push(gene as u32);
                    let high = random.below(40) == 0;
                    values.push(if high { random.below(500) as f32 + 1.0 } else { random.below(3) as f32 + 1.0 });
                }
            }
            indptr.push(indices.len() as u64);
        }
        let x = CsrChunk { indptr, indices, values: Values::F32(values) };
        let names = |prefix: &str, n: usize| (0..n).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
        let plain = |name: &str, data_type: DataType, array: ArrayRef| Column {
            info: ColumnInfo { name: name.to_string(), data_type, kind: ColumnKind::Plain },
            array,
        };
        let codes: Vec<Option<i32>> = (0..n_cells).map(|i| (i % 5 != 4).then_some((i % 3) as i32)).collect();
        let types = StringArray::from(vec!["T cells", "B cells", "NK", "never seen"]);
        let types = DictionaryArray::<Int32Type>::new(codes.into(), Arc::new(types));
        let obs = vec![
            Column {
                info: ColumnInfo {
                    name: "cell_type".to_string(),
                    data_type: DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
                    kind: ColumnKind::Categorical { ordered: false },
                },
                array: Arc::new(types),
            },
            plain(
                "batch",
                DataType::Utf8,
                Arc::new(StringArray::from_iter_values((0..n_cells).map(|i| format!("b{}", i % 4)))),
            ),
            plain("n", DataType::Int64, Arc::new(Int64Array::from_iter_values(0..n_cells as i64))),
            plain(
                "score",
                DataType::Float64,
                Arc::new(Float64Array::from_iter_values((0..n_cells).map(|i| i as f64 / 8.0))),
            ),
        ];
        let lengths = Int64Array::from_iter_values((0..n_genes as i64).map(|g| g * 100));
        Sample {
            x,
            n_genes,
            obs: Frame { index: names("c", n_cells), columns: obs },
            var: Frame {
                index: names("g", n_genes as usize),
                columns: vec![plain("length", DataType::Int64, Arc::new(lengths))],
            },
        }
    }

    /// The number of cells.
    pub fn n_cells(&self) -> usize {
        self.x.n_rows()
    }

    /// Writes the sample as an h5ad, with X in the given encoding.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_h5ad(&self, path: &Path, encoding: MatrixEncoding) -> Result<()> {
        let info =
            |f: &Frame| FrameInfo { index_name: None, columns: f.columns.iter().map(|c| c.info.clone()).collect() };
        let mut writer = H5adWriter::create(path, WriteOptions::default())?;
        writer.write_frame("obs", None, &info(&self.obs), [Ok(self.obs.clone())])?;
        writer.write_frame("var", None, &info(&self.var), [Ok(self.var.clone())])?;
        let (rows, nnz) = (self.n_cells() as u64, self.x.nnz() as u64);
        writer.write_matrix("X", encoding, Dtype::F32, rows, self.n_genes, Some(nnz), [Ok(self.x.clone())])?;
        writer.finish()
    }
}

/// A chunk as rows of f64, zeros included.
pub fn dense(chunk: &CsrChunk, n_cols: usize) -> Vec<Vec<f64>> {
    fn of<T: Value>(values: &[T], chunk: &CsrChunk, n_cols: usize) -> Vec<Vec<f64>> {
        let mut rows = vec![vec![0.0; n_cols]; chunk.n_rows()];
        for (i, row) in rows.iter_mut().enumerate() {
            for at in chunk.row(i) {
                row[chunk.indices[at] as usize] += values[at].as_f64();
            }
        }
        rows
    }
    with_values!(&chunk.values, v => of(v, chunk, n_cols))
}
