use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn options(memory: usize) -> OpenOptions {
    OpenOptions { memory, ..OpenOptions::default() }
}

fn cut(max_rows: usize, max_nnz: usize) -> StreamOptions {
    StreamOptions { max_rows, max_nnz }
}

type Dense = BTreeMap<(u64, u32), i64>;

/// Reads a stream, checks every chunk, and gives the values by position.
fn collect(stream: Box<dyn RowStream>, n_rows: u64, n_cols: u64, limits: StreamOptions) -> (Dense, u64) {
    let (mut out, mut first) = (Dense::new(), 0);
    let mut stream = stream;
    for chunk in stream.by_ref() {
        let chunk = chunk.unwrap();
        chunk.validate(n_cols, first).unwrap();
        assert!(chunk.n_rows() >= 1 && chunk.n_rows() <= limits.max_rows);
        assert!(chunk.n_rows() == 1 || chunk.nnz() <= limits.max_nnz);
        let Values::I64(values) = chunk.values.cast(Dtype::I64) else { unreachable!() };
        for i in 0..chunk.n_rows() {
            chunk.row(i).for_each(|j| {
                out.insert((first + i as u64, chunk.indices[j]), values[j]);
            });
        }
        first += chunk.n_rows() as u64;
    }
    assert_eq!(first, n_rows);
    (out, stream.duplicates())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn sorts_and_adds_up_like_a_map(
        triplets in prop::collection::vec((0..50_u64, 0..20_u32, -100..100_i8), 0..4000),
        memory in prop::sample::select(vec![0, 1]),
        max_rows in 1..9_usize,
        max_nnz in 1..40_usize,
    ) {
        let limits = cut(max_rows, max_nnz);
        let mut sorter = RowSorter::new(50, 20, Dtype::I8, &options(memory)).unwrap();
        let mut expected = Dense::new();
        for part in triplets.chunks(97) {
            let rows: Vec<u64> = part.iter().map(|t| t.0).collect();
            let cols: Vec<u32> = part.iter().map(|t| t.1).collect();
            sorter.push(&rows, &cols, &Values::I8(part.iter().map(|t| t.2).collect())).unwrap();
            part.iter().for_each(|t| *expected.entry((t.0, t.1)).or_default() += i64::from(t.2));
        }
        let (found, duplicates) = collect(sorter.finish(limits).unwrap(), 50, 20, limits);
        prop_assert_eq!(duplicates as usize, triplets.len() - expected.len());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn canonical_chunks_equal_the_map(
        rows in prop::collection::vec(prop::collection::vec((0..9_u32, any::<u8>()), 0..12), 0..12),
    ) {
        let mut chunk = CsrChunk::empty(Dtype::U8);
        let mut expected = Dense::new();
        let mut values = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            for &(c, v) in row {
                chunk.indices.push(c);
                values.push(v);
                *expected.entry((i as u64, c)).or_default() += i64::from(v);
            }
            chunk.indptr.push(chunk.indices.len() as u64);
        }
        chunk.values = Values::U8(values);
        let n = chunk.nnz() - expected.len();
        let (chunk, duplicates) = canonicalize(chunk).unwrap();
        prop_assert_eq!(duplicates as usize, n);
        let stream = Box::new(Chunks(vec![chunk].into_iter()));
        let n_rows = rows.len() as u64;
        prop_assert_eq!(collect_or_empty(stream, n_rows, 9), expected);
    }
}

struct Chunks(std::vec::IntoIter<CsrChunk>);

impl Iterator for Chunks {
    type Item = Result<CsrChunk>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Ok)
    }
}

impl RowStream for Chunks {}

fn collect_or_empty(stream: Box<Chunks>, n_rows: u64, n_cols: u64) -> Dense {
    if n_rows == 0 { Dense::new() } else { collect(stream, n_rows, n_cols, cut(usize::MAX, usize::MAX)).0 }
}

#[test]
fn one_position_and_one_row_larger_than_the_memory() {
    let limits = StreamOptions::default();
    let mut sorter = RowSorter::new(1 << 40, 100_000, Dtype::U8, &options(1)).unwrap();
    // 20,000 times the same position, and a row of 50,000 values, last column first.
    for _ in 0..200 {
        sorter.push(&[3; 100], &[7; 100], &Values::U8(vec![255; 100])).unwrap();
    }
    for c in (0..50_000).rev() {
        sorter.push(&[2], &[c], &Values::U8(vec![1])).unwrap();
    }
    let mut stream = sorter.finish(limits).unwrap();
    let chunk = stream.next().unwrap().unwrap();
    chunk.validate(100_000, 0).unwrap();
    assert_eq!((chunk.n_rows(), chunk.nnz()), (limits.max_rows, 50_001));
    assert_eq!(chunk.values.dtype(), Dtype::U32);
    let Values::U32(values) = &chunk.values else { unreachable!() };
    assert_eq!(values[50_000], 20_000 * 255);
    assert_eq!(stream.duplicates(), 19_999);
    assert_eq!(stream.next().unwrap().unwrap().nnz(), 0);
}

#[test]
fn sums_widen() {
    let sum = |values: Values| {
        let n = values.len();
        let chunk = CsrChunk { indptr: vec![0, n as u64], indices: vec![5; n], values };
        canonicalize(chunk).unwrap().0.values
    };
    assert_eq!(sum(Values::I8(vec![100, 100, -100])), Values::I8(vec![100]));
    assert_eq!(sum(Values::I8(vec![-100, -28])), Values::I8(vec![-128]));
    assert_eq!(sum(Values::I8(vec![-100, -29])), Values::I16(vec![-129]));
    assert_eq!(sum(Values::U64(vec![u64::MAX - 1, 1])), Values::U64(vec![u64::MAX]));
    assert_eq!(sum(Values::Bool(vec![true, true])), Values::Bool(vec![true]));
    assert_eq!(sum(Values::F32(vec![3e38, 3e38])), Values::F64(vec![2.0 * f64::from(3e38_f32)]));
    assert_eq!(sum(Values::F32(vec![3e38, 3e38, -3e38])), Values::F32(vec![3e38]));
    assert_eq!(sum(Values::F32(vec![f32::INFINITY, 1.0])), Values::F32(vec![f32::INFINITY]));
    // Whole numbers are exact; other sums are rounded to the value type, as SciPy does.
    assert_eq!(sum(Values::F32(vec![16_777_216.0, 1.0, 1.0])), Values::F32(vec![16_777_218.0]));
    assert_eq!(sum(Values::F32(vec![16_777_216.0, 1.0])), Values::F64(vec![16_777_217.0]));
    assert_eq!(sum(Values::F32(vec![16_777_216.0, 0.5])), Values::F32(vec![16_777_216.0]));
}

#[test]
fn a_widened_sum_moves_with_its_row() {
    let mut sorter = RowSorter::new(2, 9, Dtype::U8, &options(0)).unwrap();
    sorter.push(&[0, 0, 1, 1, 1], &[1, 2, 3, 3, 4], &Values::U8(vec![1, 2, 200, 100, 4])).unwrap();
    let chunks: Vec<_> = sorter.finish(cut(9, 3)).unwrap().map(Result::unwrap).collect();
    assert_eq!(chunks[0].values, Values::U8(vec![1, 2]));
    assert_eq!(chunks[1].values, Values::U16(vec![300, 4]));
}

#[test]
fn refuses_positions_outside() {
    let mut sorter = RowSorter::new(2, 3, Dtype::F32, &options(0)).unwrap();
    for (row, col) in [(2, 0), (0, 3)] {
        let e = sorter.push(&[row], &[col], &Values::F32(vec![1.0])).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::MalformedInput);
    }
    let bad = CsrChunk { indptr: vec![0, 3, 2], indices: vec![0, 1], values: Values::U8(vec![1, 2]) };
    assert_eq!(canonicalize(bad).unwrap_err().kind(), ErrorKind::MalformedInput);
}

#[test]
fn no_rows_give_no_chunks_and_missing_folders_an_error() {
    let sorter = RowSorter::new(0, 3, Dtype::F32, &options(0)).unwrap();
    assert!(sorter.finish(StreamOptions::default()).unwrap().next().is_none());
    let lost = OpenOptions { temp_dir: Some("/nonexistent/folder".into()), memory: 1, ..OpenOptions::default() };
    let mut sorter = RowSorter::new(9, 3, Dtype::F32, &lost).unwrap();
    let e = sorter.push(&[1; 2000], &[1; 2000], &Values::F32(vec![1.0; 2000])).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[test]
fn sums_beyond_64_bits_are_refused() {
    for values in [Values::U64(vec![u64::MAX, 1]), Values::I64(vec![i64::MIN, -1]), Values::I64(vec![i64::MAX, 1])] {
        let chunk = CsrChunk { indptr: vec![0, 2], indices: vec![5; 2], values };
        assert_eq!(canonicalize(chunk).unwrap_err().kind(), slaf_core::ErrorKind::WouldLoseData);
    }
}
