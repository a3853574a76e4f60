//! Renumbering of the columns of sparse rows.

use slaf_core::Value;

/// In a map of columns: this column is left out.
pub(crate) const DROP: u32 = u32::MAX;

/// The genes by popularity: rank 0 is the gene that most cells express.
#[derive(Clone, Debug, Default)]
pub(crate) struct GeneOrder {
    /// The rank of each gene.
    pub(crate) rank_of: Vec<u32>,
    /// The gene of each rank.
    pub(crate) gene_of: Vec<u32>,
}

impl GeneOrder {
    /// Ranks genes by in how many cells they occur; ties stay in the genes' order.
    pub(crate) fn by_popularity(counts: &[u64]) -> GeneOrder {
        let mut gene_of: Vec<u32> = (0..counts.len() as u32).collect();
        gene_of.sort_by_key(|&g| std::cmp::Reverse(counts[g as usize]));
        let mut rank_of = vec![0; gene_of.len()];
        for (rank, &gene) in gene_of.iter().enumerate() {
            rank_of[gene as usize] = rank as u32;
        }
        GeneOrder { rank_of, gene_of }
    }

    /// The order with these ranks; `None` if they are no permutation.
    pub(crate) fn from_ranks(rank_of: Vec<u32>) -> Option<GeneOrder> {
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
pub(crate) struct Renumber<T> {
    /// One bit for each new column of the row at hand, and the values in their places: cheaper
    /// than sorting unless the row is very sparse.
    present: Vec<u64>,
    scattered: Vec<T>,
    pairs: Vec<(u32, T)>,
}

impl<T: Value> Renumber<T> {
    /// For maps into `0..n_columns`.
    pub(crate) fn new(n_columns: usize) -> Self {
        Renumber {
            present: vec![0; n_columns.div_ceil(64)],
            scattered: vec![T::default(); n_columns],
            pairs: Vec::new(),
        }
    }

    /// Renumbers one row; `out` receives columns and values in order. Returns how many are left.
    pub(crate) fn row(&mut self, map: &[u32], columns: &[u32], values: &[T], mut out: impl FnMut(u32, T)) -> usize {
        if columns.len() * 16 < self.present.len() {
            self.pairs.clear();
            let kept = columns.iter().zip(values).map(|(&c, &v)| (map[c as usize], v));
            self.pairs.extend(kept.filter(|p| p.0 != DROP));
            self.pairs.sort_unstable_by_key(|p| p.0);
            self.pairs.iter().for_each(|&(c, v)| out(c, v));
            return self.pairs.len();
        }
        let mut kept = 0;
        for (&c, &v) in columns.iter().zip(values) {
            let new = map[c as usize];
            if new != DROP {
                self.present[new as usize / 64] |= 1 << (new % 64);
                self.scattered[new as usize] = v;
                kept += 1;
            }
        }
        for (i, word) in self.present.iter_mut().enumerate() {
            let mut bits = std::mem::take(word);
            while bits != 0 {
                let c = i * 64 + bits.trailing_zeros() as usize;
                out(c as u32, self.scattered[c]);
                bits &= bits - 1;
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let mut out = Vec::new();
            let kept = renumber.row(&map, &[0, 1, 2, 7], &[5, 6, 7, 8], |c, v| out.push((c, v)));
            let last = n as u32 - 1;
            assert_eq!((kept, out), (3, vec![(last - 7, 8), (last - 2, 7), (last - 1, 6)]));
        }
    }
}
