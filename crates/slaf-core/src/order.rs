//! The popularity order of genes, and renumbering of the columns of sparse rows.

/// In a map of columns: this column is left out.
pub const DROP: u32 = u32::MAX;

/// Whether columns rise strictly. All are compared, which lets the processor compare many at once.
pub fn rises(columns: &[u32]) -> bool {
    columns.iter().zip(columns.iter().skip(1)).fold(true, |all, (a, b)| all & (a < b))
}

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
///
/// The new columns of a row are marked in a set of bits; how many bits come before a column is
/// its place. That is cheaper than sorting, unless the row is very sparse.
#[derive(Debug)]
pub struct Renumber<T> {
    n_columns: u32,
    /// A word more than the columns need: its first bit stands for all that are left out.
    words: Vec<Word>,
    /// The new column of each entry of a row.
    new: Vec<u32>,
    pairs: Vec<(u32, T)>,
}

/// 64 columns: which of them a row has, and how many it has before them.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    present: u64,
    before: u32,
}

impl<T: Copy> Renumber<T> {
    /// For maps into `0..n_columns`.
    pub fn new(n_columns: usize) -> Self {
        let words = vec![Word::default(); n_columns.div_ceil(64) + 1];
        Renumber { n_columns: n_columns as u32, words, new: Vec::new(), pairs: Vec::new() }
    }

    /// Renumbers one row into the fronts of the slices, which are as long as the row at least;
    /// what they hold behind the columns that are left is unspecified. Returns how many are left.
    ///
    /// # Panics
    /// For a column that the map does not have, and for slices that are too short.
    pub fn row(
        &mut self,
        map: &[u32],
        columns: &[u32],
        values: &[T],
        columns_out: &mut [u32],
        values_out: &mut [T],
    ) -> usize {
        self.row_as(map, columns, values, columns_out, values_out, |value| value)
    }

    /// [`Renumber::row`], whose values become others on the way.
    ///
    /// # Panics
    /// As [`Renumber::row`].
    pub fn row_as<S: Copy>(
        &mut self,
        map: &[u32],
        columns: &[u32],
        values: &[S],
        columns_out: &mut [u32],
        values_out: &mut [T],
        convert: impl Fn(S) -> T,
    ) -> usize {
        if columns.len() * 16 < self.words.len() {
            self.pairs.clear();
            let kept = columns.iter().zip(values).map(|(&c, &v)| (map[c as usize], convert(v)));
            self.pairs.extend(kept.filter(|p| p.0 < self.n_columns));
            self.pairs.sort_unstable_by_key(|p| p.0);
            let out = columns_out.iter_mut().zip(values_out);
            out.zip(&self.pairs).for_each(|((column, value), &(c, v))| (*column, *value) = (c, v));
            return self.pairs.len();
        }
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("popcnt") && std::arch::is_x86_feature_detected!("bmi2") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.place_x86(map, columns, values, columns_out, values_out, convert) };
        }
        self.place(map, columns, values, columns_out, values_out, convert)
    }

    /// [`Renumber::place`] with instructions that count and shift bits, which not every processor
    /// has.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "popcnt,bmi2")]
    fn place_x86<S: Copy>(
        &mut self,
        map: &[u32],
        columns: &[u32],
        values: &[S],
        columns_out: &mut [u32],
        values_out: &mut [T],
        convert: impl Fn(S) -> T,
    ) -> usize {
        self.place(map, columns, values, columns_out, values_out, convert)
    }

    /// Puts the columns of a row into the places that the bits before them give.
    ///
    /// No step depends on what is left out: in a vocabulary that lacks every sixth gene, a branch
    /// would be mispredicted for many of them.
    #[inline(always)]
    fn place<S: Copy>(
        &mut self,
        map: &[u32],
        columns: &[u32],
        values: &[S],
        columns_out: &mut [u32],
        values_out: &mut [T],
        convert: impl Fn(S) -> T,
    ) -> usize {
        let n = columns.len();
        assert!(values.len() == n && columns_out.len() >= n && values_out.len() >= n, "slices of other lengths");
        if self.new.len() < n {
            self.new.resize(n, 0);
        }
        let left_out = u32::try_from((self.words.len() - 1) * 64).unwrap_or(u32::MAX);
        let words = self.words.as_mut_slice();
        for (&column, new) in columns.iter().zip(&mut self.new) {
            *new = map[column as usize].min(left_out);
            // SAFETY: `left_out` and all columns before it have a word.
            unsafe { words.get_unchecked_mut(*new as usize / 64) }.present |= 1 << (*new % 64);
        }
        let mut before = 0;
        for word in words.iter_mut() {
            word.before = before;
            before += word.present.count_ones();
        }
        for (&new, &value) in self.new[..n].iter().zip(values) {
            // SAFETY: as above.
            let word = unsafe { words.get_unchecked(new as usize / 64) };
            let lower = word.present & ((1 << (new % 64)) - 1);
            let at = (word.before + lower.count_ones()) as usize;
            // SAFETY: `at` bits come before that of this entry, each of another entry: there are
            // more entries than that, and the slices have room for all.
            unsafe {
                *columns_out.get_unchecked_mut(at) = new;
                *values_out.get_unchecked_mut(at) = convert(value);
            }
        }
        let kept = words[words.len() - 1].before;
        words.iter_mut().for_each(|word| word.present = 0);
        kept as usize
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
        /// Of every row, also of one that nothing is left of.
        #[test]
        fn columns_are_left_out(n in 1usize..700, keep in 0u32..=4, seed in any::<u32>()) {
            let is_left = |c: u32| c.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 30 < keep;
            let mut left = 0..;
            let reversed: Vec<u32> =
                (0..n as u32).map(|c| if is_left(c) { left.next().unwrap_or(DROP) } else { DROP }).collect();
            let n_left = left.next().unwrap_or(DROP);
            let map: Vec<u32> = reversed.iter().map(|&c| if c == DROP { DROP } else { n_left - 1 - c }).collect();
            let columns: Vec<u32> = (0..n as u32).filter(|c| c % 3 != seed % 3).collect();
            let values: Vec<u16> = columns.iter().map(|&c| c as u16).collect();
            let mut expected: Vec<(u32, f64)> =
                columns.iter().map(|&c| (map[c as usize], f64::from(c) / 2.0)).filter(|p| p.0 != DROP).collect();
            expected.sort_by_key(|p| p.0);
            let mut renumber = Renumber::new(n_left as usize);
            let (mut c, mut v) = (vec![0; columns.len()], vec![0.0; columns.len()]);
            for is_baseline in [false, true, false] {
                let convert = |v: u16| f64::from(v) / 2.0;
                let kept = match is_baseline {
                    true => renumber.place(&map, &columns, &values, &mut c, &mut v, convert),
                    false => renumber.row_as(&map, &columns, &values, &mut c, &mut v, convert),
                };
                prop_assert_eq!(c[..kept].iter().copied().zip(v[..kept].iter().copied()).collect::<Vec<_>>(), expected.clone());
            }
        }

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
            for _ in 0..2 {
                c.fill(0);
                v.fill(0);
                let kept = renumber.place(&order.gene_of, &columns, &values, &mut c, &mut v, |v| v);
                prop_assert_eq!(kept, columns.len());
                prop_assert_eq!(c.iter().copied().zip(v.iter().copied()).collect::<Vec<_>>(), expected.clone());
            }
        }
    }
}
