//! Real files.

use crate::{QUIET, shared_data};
use slaf::{ConvertOptions, Dataset, MatrixKey, Selection, Values};

#[test]
fn pbmc3k_is_small_and_lossless() {
    let Some(data) = shared_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("pbmc3k.slaf");
    let report =
        slaf::convert(&[&data.join("pbmc3k_raw.h5ad")], store.to_str().unwrap(), &ConvertOptions::default(), QUIET)
            .unwrap();
    assert_eq!((report.n_cells, report.n_genes, report.nnz), (2700, 32738, 2_286_884));
    assert_eq!(report.dtype, "float32");
    assert!(report.bits_per_nonzero <= 9.5, "{}", report.bits_per_nonzero);
    let dataset = Dataset::open(store.to_str().unwrap()).unwrap();
    let all = dataset.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap();
    let Values::F32(values) = &all.values else { panic!("{}", all.values.dtype()) };
    assert_eq!(values.iter().map(|v| f64::from(*v)).sum::<f64>(), 6_390_631.0);
    assert_eq!(values.iter().copied().fold(0.0, f32::max), 419.0);
    let genes: Vec<u64> = (0..dataset.n_genes()).step_by(331).collect();
    let few = dataset.read(&MatrixKey::X, &Selection::All, &Selection::Ids(genes)).unwrap();
    let by_cells: usize = all.indices.iter().filter(|i| *i % 331 == 0).count();
    assert_eq!(few.nnz(), by_cells);
}
