//! What the tests share.

use slaf_core::{Dtype, Values};
use slaf_ingest::{Input, MatrixInfo, MatrixKey, RowStream, StreamOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file or folder of the shared real data; prints that the test is skipped if it is absent.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("SLAF_SHARED_DATA").map_or_else(|| PathBuf::from("../../../shared/data"), PathBuf::from);
    let path = folder.join(name);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// The values of a matrix by position, and its rows.
pub(crate) struct Matrix {
    pub(crate) values: BTreeMap<(u64, u32), f64>,
    pub(crate) n_rows: u64,
    pub(crate) duplicates: u64,
}

impl Matrix {
    pub(crate) fn sum(&self) -> f64 {
        self.values.values().sum()
    }
}

/// Reads a matrix in small chunks, and checks each of them; also in parts, where that is possible.
pub(crate) fn read(input: &dyn Input, key: &MatrixKey) -> slaf_core::Result<Matrix> {
    let info = input.description().matrices.iter().find(|m| m.key == *key).unwrap().clone();
    let matrix = read_stream(input.matrix(key, LIMITS)?, &info)?;
    assert_eq!(matrix.n_rows, info.n_rows);
    let nnz = matrix.values.len() as u64;
    assert!(info.nnz.is_none_or(|n| n == nnz + matrix.duplicates), "nnz {:?}, found {nnz}", info.nnz);
    if input.has_cheap_rows() && !matches!(key, MatrixKey::Varp(_)) {
        let (mut all, mut duplicates, n) = (BTreeMap::new(), 0, info.n_rows);
        for rows in [0..n / 3, n / 3..n / 2, n / 2..n] {
            let part = read_stream(input.matrix_rows(key, rows.clone(), LIMITS)?, &info)?;
            assert_eq!(part.n_rows, rows.end - rows.start);
            all.extend(part.values.into_iter().map(|((row, column), value)| ((rows.start + row, column), value)));
            duplicates += part.duplicates;
        }
        let bits = |values: &BTreeMap<(u64, u32), f64>| -> Vec<_> {
            values.iter().map(|(place, value)| (*place, value.to_bits())).collect()
        };
        assert_eq!((bits(&all), duplicates), (bits(&matrix.values), matrix.duplicates), "{key} in parts");
    }
    Ok(matrix)
}

const LIMITS: StreamOptions = StreamOptions { max_rows: 100, max_nnz: 10_000 };

fn read_stream(mut stream: Box<dyn RowStream>, info: &MatrixInfo) -> slaf_core::Result<Matrix> {
    let mut matrix = Matrix { values: BTreeMap::new(), n_rows: 0, duplicates: 0 };
    for chunk in stream.by_ref() {
        let chunk = chunk?;
        chunk.validate(info.n_cols, matrix.n_rows)?;
        assert!(chunk.n_rows() <= LIMITS.max_rows && (chunk.n_rows() == 1 || chunk.nnz() <= LIMITS.max_nnz));
        assert_eq!(chunk.values.dtype(), info.dtype);
        let Values::F64(values) = chunk.values.cast(Dtype::F64) else { unreachable!() };
        for i in 0..chunk.n_rows() {
            for j in chunk.row(i) {
                matrix.values.insert((matrix.n_rows + i as u64, chunk.indices[j]), values[j]);
            }
        }
        matrix.n_rows += chunk.n_rows() as u64;
    }
    matrix.duplicates = stream.duplicates();
    Ok(matrix)
}

/// Writes a file into a folder.
pub(crate) fn put(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

pub(crate) fn gzip(content: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}
