//! The popularity order of genes, and renumbering of the columns of sparse rows.

use crate::Value;

/// In a map of columns: this column is left out.
pub const DROP: u32 = u32::MAX;

/// The genes by popularity: rank 0 is the gene that most cells express.
#[derive(Clone, Debug, Default)]
pub struct GeneOrder {
    /// The rank of each gene.
    pub rank_of: Vec<u32>,
    /// The gene of each rank.
    pub gene_of: Vec<u32>,
}

impl GeneOrder {
    /// Ranks genes by in how many cells they occur; ties stay in the genes' order.
    pub fn by_popularity(counts: &[u64]) -> GeneOrder {
        let mut gene_of: Vec<u32> = (0..counts.len() as u32).collect();
        gene_of.sort_by_key(|&g| std::cmp::Reverse(counts[g as usize]));
        let mut rank_of = vec![0; gene_of.len()];
        for (rank, &gene) in gene_of.iter().enumerate() {
            rank_of[gene as usize] = rank as u32;
        }
        GeneOrder { rank_of, gene_of }
    }

    /// The order with these ranks; `None` if they are no permutation.
    pub fn from_ranks(rank_of: Vec<u32>) -> Option<GeneOrder> {
        let mut gene_of = vec![DROP; rank_of.len()];
        for (gene, &rank) in rank_of.iter().enumerate() {
            let slot = gene_of.get_mut(rank as usize).filter(|g| **g == DROP)?;
            *slot = gene as u32;
        }
        Some(GeneOrder { rank_of, gene_of })
    }
}

/// Working memory to renumber rows through a map (old column to new column, or [`DROP`]) and
/// put them in rising order of the new columns. The map must not send two columns to one.
#[derive(Debug)]
pub struct Renumber<T> {
    /// One bit for each new column of the row at hand, and the values in their places: cheaper
    /// than sorting unless the row is very sparse.
    present: Vec<u64>,
    scattered: Vec<T>,
    /// The new columns in order, with room for a step beyond them.
    sorted: Vec<u32>,
    pairs: Vec<(u32, T)>,
}

/// Columns that are written at a time, whether they are there or not: fewer branches.
const STEP: usize = 8;

impl<T: Value> Renumber<T> {
    /// For maps into `0..n_columns`.
    pub fn new(n_columns: usize) -> Self {
        Renumber {
            present: vec![0; n_columns.div_ceil(64)],
            scattered: vec![T::default(); n_columns],
            sorted: vec![0; n_columns + STEP],
            pairs: Vec::new(),
        }
    }

    /// Renumbers one row into the fronts of the slices, which are as long as the row at least.
    /// Returns how many columns are left.
    pub fn row(
        &mut self,
        map: &[u32],
        columns: &[u32],
        values: &[T],
        columns_out: &mut [u32],
        values_out: &mut [T],
    ) -> usize {
        let out = columns_out.iter_mut().zip(values_out);
        if columns.len() * 16 < self.present.len() {
            self.pairs.clear();
            let kept = columns.iter().zip(values).map(|(&c, &v)| (map[c as usize], v));
            self.pairs.extend(kept.filter(|p| p.0 != DROP));
            self.pairs.sort_unstable_by_key(|p| p.0);
            out.zip(&self.pairs).for_each(|((column, value), &(c, v))| (*column, *value) = (c, v));
            return self.pairs.len();
        }
        for (&c, &v) in columns.iter().zip(values) {
            let new = map[c as usize];
            if new != DROP {
                self.present[new as usize / 64] |= 1 << (new % 64);
                self.scattered[new as usize] = v;
            }
        }
        let mut n = 0;
        for (i, word) in self.present.iter_mut().enumerate() {
            let mut bits = std::mem::take(word);
            let base = (i * 64) as u32;
            let count = bits.count_ones() as usize;
            let mut at = n;
            n += count;
            while at < n {
                for slot in &mut self.sorted[at..at + STEP] {
                    *slot = base + bits.trailing_zeros();
                    bits &= bits.wrapping_sub(1);
                }
                at += STEP;
            }
        }
        for ((column, value), &c) in out.zip(&self.sorted[..n]) {
            (*column, *value) = (c, self.scattered[c as usize]);
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn popular_genes_come_first() {
        let order = GeneOrder::by_popularity(&[3, 9, 3, 0]);
        assert_eq!((order.rank_of, order.gene_of), (vec![1, 0, 2, 3], vec![1, 0, 2, 3]));
    }

    #[test]
    fn only_permutations_are_ranks() {
        assert!(GeneOrder::from_ranks(vec![1, 0, 2]).is_some());
        assert!(GeneOrder::from_ranks(vec![1, 1, 2]).is_none());
        assert!(GeneOrder::from_ranks(vec![0, 3]).is_none());
    }

    #[test]
    fn both_ways_of_renumbering_agree() {
        for n in [10usize, 5000] {
            let map: Vec<u32> = (0..n as u32).map(|c| if c % 3 == 0 { DROP } else { n as u32 - 1 - c }).collect();
            let mut renumber = Renumber::<u16>::new(n);
            let (mut columns, mut values) = ([0; 4], [0; 4]);
            let kept = renumber.row(&map, &[0, 1, 2, 7], &[5, 6, 7, 8], &mut columns, &mut values);
            let last = n as u32 - 1;
            assert_eq!((kept, &columns[..3], &values[..3]), (3, &[last - 7, last - 2, last - 1][..], &[8, 7, 6][..]));
        }
    }

    proptest! {
        /// Against sorting, from empty rows to full ones.
        #[test]
        fn rows_come_sorted(n in 1usize..700, seed in any::<u64>(), keep in 0u32..=100) {
            let order = GeneOrder::by_popularity(&(0..n as u64).map(|g| g.wrapping_mul(seed) % 1009).collect::<Vec<_>>());
            let columns: Vec<u32> = (0..n as u32).filter(|c| (c * 37 + n as u32) % 100 < keep).collect();
            let values: Vec<i64> = columns.iter().map(|&c| i64::from(c) - 5).collect();
            let mut expected: Vec<(u32, i64)> =
                columns.iter().zip(&values).map(|(&c, &v)| (order.gene_of[c as usize], v)).collect();
            expected.sort_unstable();
            let mut renumber = Renumber::new(n);
            let (mut c, mut v) = (vec![0; columns.len()], vec![0; columns.len()]);
            // Twice: nothing of a row may stay behind.
            for _ in 0..2 {
                prop_assert_eq!(renumber.row(&order.gene_of, &columns, &values, &mut c, &mut v), columns.len());
                prop_assert_eq!(c.iter().copied().zip(v.iter().copied()).collect::<Vec<_>>(), expected.clone());
            }
        }
    }
}
