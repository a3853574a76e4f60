//! The medians of a data set's genes, in one pass.

use super::entries::sum;
use super::table::GeneTable;
use slaf_core::{CsrChunk, Error, Result, Value, with_values};

/// Median of the normalised nonzeros (`x / total * target_sum`) of each gene, from a stream of
/// chunks in any order.
///
/// The method: of a gene that is expressed in at most 1,024 cells, all values are kept and the
/// median is exact (the mean of the two middle values of an even number, as numpy's). For other
/// genes values are counted in intervals, 256 to each power of two, and the median is
/// interpolated inside of an interval: its relative error is below 1/256 (0.4 %), and far less
/// where values lie evenly in the interval. The result does not depend on the order of cells.
///
/// Memory: at most 8 kB for a gene that is kept exactly, otherwise 1 kB for each power of two
/// that its values reach (usually 6 to 10).
#[derive(Clone, Debug)]
pub struct MedianBuilder {
    target_sum: f64,
    genes: Vec<Sketch>,
}

const EXACT: usize = 1_024;
/// Bits of the mantissa that tell intervals apart.
const BITS: u32 = 8;

#[derive(Clone, Debug)]
enum Sketch {
    Exact(Vec<f64>),
    /// For each exponent that occurs, in rising order, the counts of its intervals.
    Counts(Vec<(u16, Box<[u32; 1 << BITS]>)>),
}

impl MedianBuilder {
    /// For `n_genes` columns; Geneformer's `target_sum` is 10,000.
    pub fn new(n_genes: usize, target_sum: f64) -> Self {
        MedianBuilder { target_sum, genes: vec![Sketch::Exact(Vec::new()); n_genes] }
    }

    /// Takes the cells of a chunk, whose columns are genes. `totals` are the cells' totals over all genes;
    /// without them the rows are summed.
    ///
    /// # Errors
    /// `malformed-input` for a chunk that breaks the rules of its type, `invalid-argument` for
    /// values that are negative or not finite and totals that are not above 0. The cells before
    /// the one at fault have been taken.
    pub fn push(&mut self, chunk: &CsrChunk, totals: Option<&[f64]>) -> Result<()> {
        chunk.validate(self.genes.len() as u64, 0)?;
        if totals.is_some_and(|t| t.len() != chunk.n_rows()) {
            return Err(Error::invalid(format!("{} rows, but not as many totals", chunk.n_rows())));
        }
        with_values!(&chunk.values, v => self.push_values(chunk, v, totals))
    }

    fn push_values<T: Value>(&mut self, chunk: &CsrChunk, values: &[T], totals: Option<&[f64]>) -> Result<()> {
        for i in 0..chunk.n_rows() {
            let row = chunk.row(i);
            let (columns, values) = (&chunk.indices[row.clone()], &values[row]);
            if !values.iter().all(|v| (0.0..=f64::MAX).contains(&v.as_f64())) {
                return Err(Error::invalid(format!("row {i} of the chunk has values that are negative or not finite")));
            }
            let total = totals.map_or_else(|| sum(values, T::as_f64), |t| t[i]);
            for (&column, x) in columns.iter().zip(values.iter().map(|v| v.as_f64())).filter(|(_, x)| *x != 0.0) {
                if !(total.is_finite() && total > 0.0) {
                    return Err(Error::invalid(format!("the total of row {i} of the chunk is {total}")));
                }
                self.genes[column as usize].add(x / total * self.target_sum);
            }
        }
        Ok(())
    }

    /// Takes all that another builder took, so that threads can have one each.
    ///
    /// # Errors
    /// `invalid-argument` for a builder of other genes or of another `target_sum`.
    pub fn merge(&mut self, other: MedianBuilder) -> Result<()> {
        if other.genes.len() != self.genes.len() || other.target_sum != self.target_sum {
            return Err(Error::invalid("medians of other genes, or of another target_sum"));
        }
        self.genes.iter_mut().zip(other.genes).for_each(|(gene, other)| gene.merge(other));
        Ok(())
    }

    /// The median of each gene, `None` for one that no cell expresses.
    pub fn finish(self) -> Vec<Option<f64>> {
        self.genes.into_iter().map(Sketch::median).collect()
    }

    /// The medians by name, without the genes that no cell expresses.
    ///
    /// # Errors
    /// `invalid-argument` for another number of names than of genes, `ambiguous-name` for a name
    /// that comes twice.
    pub fn into_table<S: AsRef<str>>(self, names: &[S]) -> Result<GeneTable> {
        if names.len() != self.genes.len() {
            return Err(Error::invalid(format!("{} names for {} genes", names.len(), self.genes.len())));
        }
        let names = names.iter().map(|n| n.as_ref().to_string());
        GeneTable::new(names.zip(self.finish()).filter_map(|(name, m)| Some((name, m?))))
    }
}

impl Sketch {
    fn add(&mut self, x: f64) {
        match self {
            Sketch::Exact(values) if values.len() < EXACT => values.push(x),
            Sketch::Exact(_) => {
                self.count_values();
                self.add(x);
            }
            Sketch::Counts(counts) => add_count(counts, interval(x), 1),
        }
    }

    fn count_values(&mut self) {
        if let Sketch::Exact(values) = self {
            let mut counts = Vec::new();
            values.iter().for_each(|&x| add_count(&mut counts, interval(x), 1));
            *self = Sketch::Counts(counts);
        }
    }

    fn merge(&mut self, other: Sketch) {
        match other {
            Sketch::Exact(values) => values.into_iter().for_each(|x| self.add(x)),
            Sketch::Counts(other) => {
                self.count_values();
                if let Sketch::Counts(counts) = self {
                    for (exponent, page) in other {
                        for (i, &n) in page.iter().enumerate().filter(|(_, n)| **n > 0) {
                            add_count(counts, (exponent, i), n);
                        }
                    }
                }
            }
        }
    }

    fn median(self) -> Option<f64> {
        match self {
            Sketch::Exact(mut values) => {
                values.sort_unstable_by(f64::total_cmp);
                let n = values.len();
                (n > 0).then(|| (values[(n - 1) / 2] + values[n / 2]) / 2.0)
            }
            Sketch::Counts(counts) => {
                let n: u64 = counts.iter().flat_map(|(_, page)| page.iter()).map(|&n| u64::from(n)).sum();
                Some((value_at(&counts, (n - 1) / 2)? + value_at(&counts, n / 2)?) / 2.0)
            }
        }
    }
}

/// The exponent of a value and the number of its interval.
fn interval(x: f64) -> (u16, usize) {
    let top = x.to_bits() >> (f64::MANTISSA_DIGITS - 1 - BITS);
    ((top >> BITS) as u16, (top & ((1 << BITS) - 1)) as usize)
}

fn add_count(counts: &mut Vec<(u16, Box<[u32; 1 << BITS]>)>, (exponent, i): (u16, usize), n: u32) {
    let at = match counts.binary_search_by_key(&exponent, |c| c.0) {
        Ok(at) => at,
        Err(at) => {
            counts.insert(at, (exponent, Box::new([0; 1 << BITS])));
            at
        }
    };
    counts[at].1[i] = counts[at].1[i].saturating_add(n);
}

/// The value of a rank, as if values lay evenly in their interval.
fn value_at(counts: &[(u16, Box<[u32; 1 << BITS]>)], rank: u64) -> Option<f64> {
    let mut before = 0;
    for (exponent, page) in counts {
        for (i, &n) in page.iter().enumerate() {
            if before + u64::from(n) > rank {
                let low = (u64::from(*exponent) << BITS | i as u64) << (f64::MANTISSA_DIGITS - 1 - BITS);
                let within = (rank - before) as f64 + 0.5;
                let (low, width) = (f64::from_bits(low), f64::from_bits(u64::from(*exponent) << 52) / 256.0);
                return Some(low + width * within / f64::from(n));
            }
            before += u64::from(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use slaf_core::Values;

    fn chunk(rows: &[Vec<(u32, f64)>]) -> CsrChunk {
        let mut chunk = CsrChunk { indptr: vec![0], indices: Vec::new(), values: Values::F64(Vec::new()) };
        let mut values = Vec::new();
        for row in rows {
            chunk.indices.extend(row.iter().map(|e| e.0));
            values.extend(row.iter().map(|e| e.1));
            chunk.indptr.push(values.len() as u64);
        }
        chunk.values = Values::F64(values);
        chunk
    }

    fn exact(mut x: Vec<f64>) -> f64 {
        x.sort_by(f64::total_cmp);
        (x[(x.len() - 1) / 2] + x[x.len() / 2]) / 2.0
    }

    proptest! {
        #[test]
        fn few_values_have_an_exact_median(x in proptest::collection::vec(0.1_f64..1e4, 1..40)) {
            let mut b = MedianBuilder::new(2, 10_000.0);
            // The total is given, so that a value is its own normalised value.
            for x in &x {
                b.push(&chunk(&[vec![(1, *x)]]), Some(&[10_000.0])).unwrap();
            }
            let medians = b.finish();
            prop_assert_eq!(medians[0], None);
            let (m, e) = (medians[1].unwrap(), exact(x.iter().map(|x| x / 1e4 * 1e4).collect()));
            prop_assert_eq!(m, e);
        }

        #[test]
        fn many_values_have_a_median_within_the_bound(seed in 1_u64..1_000, n in 1_025_usize..5_000, spread in 0.1_f64..12.0) {
            let mut state = seed;
            let mut unit = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 11) as f64 / (1_u64 << 53) as f64
            };
            let x: Vec<f64> = (0..n).map(|_| (spread * (unit() - 0.5)).exp2()).collect();
            let rows: Vec<_> = x.iter().map(|&x| vec![(0, x)]).collect();
            let mut whole = MedianBuilder::new(1, 1.0);
            whole.push(&chunk(&rows), Some(&vec![1.0; n])).unwrap();
            let (mut a, mut b) = (MedianBuilder::new(1, 1.0), MedianBuilder::new(1, 1.0));
            let cut = n / 3;
            a.push(&chunk(&rows[cut..]), Some(&vec![1.0; n - cut])).unwrap();
            b.push(&chunk(&rows[..cut]), Some(&vec![1.0; cut])).unwrap();
            a.merge(b).unwrap();
            let (whole, parts) = (whole.finish()[0].unwrap(), a.finish()[0].unwrap());
            prop_assert_eq!(whole, parts);
            prop_assert!((whole / exact(x) - 1.0).abs() < 1.0 / 256.0);
        }
    }

    #[test]
    fn wrong_input_is_refused() {
        let mut b = MedianBuilder::new(2, 10_000.0);
        assert!(b.push(&chunk(&[vec![(2, 1.0)]]), None).is_err());
        assert!(b.push(&chunk(&[vec![(0, -1.0)]]), None).is_err());
        assert!(b.push(&chunk(&[vec![(0, 1.0)]]), Some(&[0.0])).is_err());
        assert!(b.push(&chunk(&[vec![(0, 1.0)]]), Some(&[])).is_err());
        // Explicit zeros are no expression, and cells without counts need no total.
        b.push(&chunk(&[vec![(0, 0.0)], vec![]]), None).unwrap();
        assert_eq!(b.clone().finish(), [None, None]);
        assert!(b.clone().merge(MedianBuilder::new(3, 10_000.0)).is_err());
        assert!(b.into_table(&["a"]).is_err());
    }
}
