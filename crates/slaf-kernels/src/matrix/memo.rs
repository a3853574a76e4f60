//! Counts repeat within a cell: each small one is computed once for the row, not once for every
//! gene that has it.

use super::step::{Function, Op, Place, Step, apply_all};
use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Value, Values, with_values};

/// Counts 1 to this many are remembered.
const KEPT: usize = 24;

/// Whether the steps cost more than looking results up.
pub(super) fn pays(steps: &[Step], chunk: &CsrChunk) -> bool {
    let costly = steps.iter().any(|step| match step {
        Step::Map(function) => matches!(function, Function::Log1p | Function::Expm1),
        Step::Combine { op, .. } => *op == Op::Power,
        _ => false,
    });
    costly && chunk.nnz() > 4 * KEPT * chunk.n_rows() && is_float(steps, chunk.values.dtype())
}

/// Whether all arithmetic is on floats: integers of counts that do not occur could overflow.
fn is_float(steps: &[Step], mut dtype: Dtype) -> bool {
    for step in steps {
        if !matches!(step, Step::Cast(_)) && !dtype.is_float() {
            return false;
        }
        dtype = step.dtype(dtype);
    }
    dtype.is_float()
}

/// Applies steps that give equal values of a row equal results, which are floats.
pub(super) fn apply(steps: &[Step], chunk: CsrChunk, place: &Place) -> Result<CsrChunk> {
    let CsrChunk { indptr, indices, values } = chunk;
    let (known, others) = with_values!(&values, v => split(v, &indptr));
    let known = apply_all(steps, known, place)?.values;
    let others = apply_all(steps, others, place)?.values;
    let values = with_values!(&values, v => match (&known, &others) {
        (Values::F32(known), Values::F32(others)) => Values::F32(join(v, &indptr, known, others)),
        (Values::F64(known), Values::F64(others)) => Values::F64(join(v, &indptr, known, others)),
        _ => return Err(Error::new(ErrorKind::Internal, "remembered values that are no floats")),
    });
    Ok(CsrChunk { indptr, indices, values })
}

/// The place of a value among the remembered ones of its row.
fn place_of<T: Value>(value: T) -> Option<usize> {
    value.as_count().map(|c| (c as usize).wrapping_sub(1)).filter(|&i| i < kept::<T>())
}

/// How many counts the type has, at most [`KEPT`].
fn kept<T: Value>() -> usize {
    KEPT.min(T::MAX_COUNT as usize)
}

/// The small counts, once for every row, and the values that are none.
fn split<T: Value>(values: &[T], indptr: &[u64]) -> (CsrChunk, CsrChunk) {
    let kept = kept::<T>();
    let of_row = || (1..=kept as u32).map(T::from_count_unchecked);
    let n = indptr.len() - 1;
    let known = CsrChunk {
        indptr: (0..=n).map(|i| (i * kept) as u64).collect(),
        indices: vec![0; n * kept],
        values: T::wrap((0..n).flat_map(|_| of_row()).collect()),
    };
    let (mut ends, mut others) = (vec![0], Vec::new());
    for w in indptr.windows(2) {
        let row = &values[w[0] as usize..w[1] as usize];
        others.extend(row.iter().copied().filter(|&v| place_of(v).is_none()));
        ends.push(others.len() as u64);
    }
    (known, CsrChunk { indptr: ends, indices: vec![0; others.len()], values: T::wrap(others) })
}

fn join<T: Value, U: Copy>(values: &[T], indptr: &[u64], known: &[U], others: &[U]) -> Vec<U> {
    let kept = kept::<T>();
    let mut others = others.iter();
    let mut out = Vec::with_capacity(values.len());
    for (i, w) in indptr.windows(2).enumerate() {
        let of_row = &known[i * kept..(i + 1) * kept];
        let row = &values[w[0] as usize..w[1] as usize];
        out.extend(row.iter().filter_map(|&v| match place_of(v) {
            Some(at) => Some(of_row[at]),
            None => others.next().copied(),
        }));
    }
    out
}
