//! What the targets for input files share.

use slaf_ingest::{OpenOptions, StreamOptions};
use std::path::Path;

/// Reads everything that an input has, as far as it can be read, and checks every chunk.
pub fn read_all(path: &Path) {
    let Ok(input) = slaf_ingest::open(path, &OpenOptions { memory: 16 << 20, ..Default::default() }) else { return };
    let description = input.description();
    let some = 0..description.n_cells.min(10_000);
    let _ = input.obs(some.clone());
    let _ = input.var();
    let _ = input.raw_var();
    for array in &description.arrays {
        let _ = input.array(&array.key, 0..array.n_rows.min(some.end));
    }
    for matrix in &description.matrices {
        let _ = input.column_counts(&matrix.key);
        let Ok(stream) = input.matrix(&matrix.key, StreamOptions { max_rows: 100, max_nnz: 10_000 }) else { continue };
        let mut row = 0;
        for chunk in stream.map_while(Result::ok).take(1_000) {
            chunk.validate(matrix.n_cols, row).expect("a valid chunk");
            row += chunk.n_rows() as u64;
        }
    }
}
