//! The ranks of one gene.

use super::comparison::{Against, Comparison};
use super::keys::{Item, Narrow, Wide, sort_narrow, sort_wide};
use slaf_core::{Value, Values};

/// What is found of the genes of a part: genes x groups, but of ties.
#[derive(Default)]
pub(super) struct Found {
    /// Twice the rank sums, which are halves.
    pub(super) doubled: Vec<u64>,
    pub(super) sums: Vec<f64>,
    pub(super) nonzero: Vec<u32>,
    /// One for each gene, or genes x groups against a group; empty unless asked for.
    pub(super) ties: Vec<f64>,
    /// The first gene that has NaN.
    pub(super) nan: Option<usize>,
    /// Whether there is a value that is no count.
    pub(super) has_others: bool,
}

/// Ranks genes one by one, in memory that it keeps.
pub(super) struct Ranker<'a> {
    comparison: &'a Comparison,
    sizes: &'a [u64],
    narrow: Vec<Narrow>,
    spare: Vec<Narrow>,
    wide: Vec<Wide>,
    /// Cells of each group that have the value of a tie.
    in_tie: Vec<u32>,
    /// For each group what its cells add to the ties of the reference.
    added: Vec<u128>,
}

/// Values of one gene as they are collected.
struct Collected {
    below: usize,
    is_nan: bool,
}

impl<'a> Ranker<'a> {
    /// `sizes` has the number of cells of each group, and of those in none.
    pub(super) fn new(comparison: &'a Comparison, sizes: &'a [u64]) -> Ranker<'a> {
        let n = comparison.groups.n;
        Ranker {
            comparison,
            sizes,
            narrow: Vec::new(),
            spare: Vec::new(),
            wide: Vec::new(),
            in_tie: vec![0; n],
            added: vec![0; n],
        }
    }

    /// Adds a gene to `found`: the cells that have a value, and the values.
    pub(super) fn gene(&mut self, cells: &[u32], values: &Values, at: std::ops::Range<usize>, found: &mut Found) {
        let n = self.comparison.groups.n;
        let (mut sums, mut nonzero) = (vec![0.0; n + 1], vec![0u32; n + 1]);
        let mut counts = (sums.as_mut_slice(), nonzero.as_mut_slice());
        let cells = &cells[at.clone()];
        let (mut doubled, mut ties) = (vec![0; n + 1], Vec::new());
        macro_rules! ranked {
            ($items:ident, $v:expr, $new:expr, $sort:expr) => {{
                let mut items = std::mem::take(&mut self.$items);
                let collected = self.collect(cells, &$v[at], &mut items, &mut counts, $new, found);
                if !collected.is_nan {
                    $sort(&mut items);
                    let ranked = (&items[..collected.below], &items[collected.below..]);
                    ties = self.rank(ranked, counts.1, &mut doubled);
                }
                self.$items = items;
                collected.is_nan
            }};
        }
        let is_nan = match values {
            Values::F32(v) => {
                let mut spare = std::mem::take(&mut self.spare);
                let is_nan = ranked!(narrow, v, Narrow::new, |items| sort_narrow(items, &mut spare));
                self.spare = spare;
                is_nan
            }
            other => {
                slaf_core::with_values!(other, v => ranked!(wide, v, Wide::new, |items: &mut Vec<Wide>| sort_wide(items)))
            }
        };
        if is_nan && found.nan.is_none() {
            found.nan = Some(found.doubled.len() / n.max(1));
        }
        if ties.is_empty() && self.comparison.ties {
            ties = vec![f64::NAN; if self.comparison.against == Against::Rest { 1 } else { n }];
        }
        found.doubled.extend_from_slice(&doubled[..n]);
        found.sums.extend_from_slice(&sums[..n]);
        found.nonzero.extend_from_slice(&nonzero[..n]);
        found.ties.extend_from_slice(&ties);
    }

    /// Makes items of the values that are not zero, and counts them by group.
    fn collect<T: Value, I>(
        &self,
        cells: &[u32],
        values: &[T],
        items: &mut Vec<I>,
        (sums, nonzero): &mut (&mut [f64], &mut [u32]),
        new: impl Fn(T, u32) -> I,
        found: &mut Found,
    ) -> Collected {
        let groups = &self.comparison.groups;
        let takes_all = self.comparison.against == Against::Rest;
        let (mut below, mut is_nan, zero) = (0, false, T::default());
        items.clear();
        for (&cell, &value) in cells.iter().zip(values) {
            if value == zero {
                continue;
            }
            let group = groups.labels[cell as usize].min(groups.n as u32);
            sums[group as usize] += value.as_f64();
            nonzero[group as usize] += 1;
            is_nan |= value.partial_cmp(&value).is_none();
            found.has_others |= value.as_count().is_none();
            if takes_all || (group as usize) < groups.n {
                below += usize::from(value < zero);
                items.push(new(value, group));
            }
        }
        Collected { below, is_nan }
    }

    /// Adds up ranks, given the values below zero and above it; the tie coefficients, if asked for.
    fn rank<I: Item>(&mut self, (below, above): (&[I], &[I]), nonzero: &[u32], doubled: &mut [u64]) -> Vec<f64> {
        match self.comparison.against {
            Against::Rest => self.rank_all(below, above, nonzero, doubled),
            Against::Group(reference) => self.rank_pairs(reference, below, above, nonzero, doubled),
        }
    }

    /// Ranks of all cells. Cells that have zero are one tie, which is not in the items.
    fn rank_all<I: Item>(&self, below: &[I], above: &[I], nonzero: &[u32], doubled: &mut [u64]) -> Vec<f64> {
        let n: u64 = self.sizes.iter().sum();
        let zeros = n - (below.len() + above.len()) as u64;
        let (mut before, mut tied) = (0, cubed(zeros));
        let mut add = |items: &[I], before: &mut u64| {
            for tie in ties(items) {
                let t = tie.len() as u64;
                let rank = 2 * *before + t + 1;
                tie.iter().for_each(|item| doubled[item.group() as usize] += rank);
                *before += t;
                tied += cubed(t);
            }
        };
        add(below, &mut before);
        let of_zero = 2 * before + zeros + 1;
        before += zeros;
        add(above, &mut before);
        for ((doubled, size), nonzero) in doubled.iter_mut().zip(self.sizes).zip(nonzero) {
            *doubled += (size - u64::from(*nonzero)) * of_zero;
        }
        if self.comparison.ties { vec![coefficient(tied, n)] } else { Vec::new() }
    }

    /// Ranks of each group among its cells and those of the reference: a cell has the rank that it
    /// has in its group, and one more for each cell of the reference below it (a half for an
    /// equal one). So the groups are ranked in one sweep, whatever their number.
    fn rank_pairs<I: Item>(
        &mut self,
        reference: usize,
        below: &[I],
        above: &[I],
        nonzero: &[u32],
        doubled: &mut [u64],
    ) -> Vec<f64> {
        let n = self.comparison.groups.n;
        let mut zeros = Vec::with_capacity(n);
        zeros.extend(self.sizes.iter().zip(nonzero).take(n).map(|(size, nonzero)| size - u64::from(*nonzero)));
        self.added.fill(0);
        let (mut before, mut tied) = (0, 0);
        self.sweep(reference, below, doubled, &mut before, &mut tied);
        let of_reference = zeros[reference];
        for (group, &zeros) in zeros.iter().enumerate() {
            doubled[group] += zeros * (2 * before + of_reference);
            self.added[group] += cubed(zeros + of_reference) - cubed(of_reference);
        }
        before += of_reference;
        tied += cubed(of_reference);
        self.sweep(reference, above, doubled, &mut before, &mut tied);
        for (doubled, size) in doubled.iter_mut().zip(self.sizes).take(n) {
            *doubled += size * (size + 1);
        }
        doubled[reference] = 0;
        if !self.comparison.ties {
            return Vec::new();
        }
        let size = |group: usize| self.sizes[group] + self.sizes[reference];
        (0..n).map(|group| coefficient(tied + self.added[group], size(group))).collect()
    }

    fn sweep<I: Item>(
        &mut self,
        reference: usize,
        items: &[I],
        doubled: &mut [u64],
        before: &mut u64,
        tied: &mut u128,
    ) {
        let is_reference = |item: &&I| item.group() as usize == reference;
        for tie in ties(items) {
            let of_reference = tie.iter().filter(is_reference).count() as u64;
            let rank = 2 * *before + of_reference;
            tie.iter().for_each(|item| doubled[item.group() as usize] += rank);
            *before += of_reference;
            if self.comparison.ties && tie.len() > 1 {
                *tied += cubed(of_reference);
                tie.iter().for_each(|item| self.in_tie[item.group() as usize] += 1);
                for item in tie {
                    let group = item.group() as usize;
                    let t = u64::from(std::mem::take(&mut self.in_tie[group]));
                    if t > 0 {
                        self.added[group] += cubed(t + of_reference) - cubed(of_reference);
                    }
                }
            }
        }
    }
}

/// Runs of items of one key.
fn ties<I: Item>(items: &[I]) -> impl Iterator<Item = &[I]> {
    items.chunk_by(|a, b| a.key() == b.key())
}

/// `t^3 - t`, exactly.
fn cubed(t: u64) -> u128 {
    let t = u128::from(t);
    t * t * t - t
}

/// The factor that ties put on the variance of a rank sum of `n` cells:
/// `1 - sum(t^3 - t) / (n^3 - n)`, from integers, so that nothing cancels.
fn coefficient(tied: u128, n: u64) -> f64 {
    let all = cubed(n);
    if all == 0 { 1.0 } else { (all - tied) as f64 / all as f64 }
}
