//! Rows that are genes in order, chosen by their number, and bins of their values, as scGPT's.
//!
//! They are made of the nonzeros in any order of the columns: a nonzero is 32 bits, the number of its
//! gene and the code of its value, from the packed numbers to the row. Its place among the genes is
//! how many bits come before its own in a set of bits, as in [`slaf_core::order`].

use super::bins::Span;
use super::columns::{Cell, Columns};
use super::description::{Binning, Description, Fill, Order, Select, Transform, Weight};
use super::distinct::Distinct;
use super::entries::Genes;
use super::matching::DROP;
use super::memory::Places;
use crate::random::Stream;
use slaf_core::Value;

/// Words of a set of bits for all numbers of 16 bits.
const WORDS: usize = 1 << 10;
/// Behind the genes, numbers for the columns that are left out: many, since one alone would wait for
/// itself.
const LEFT_OUT: usize = 1 << 10;
/// Numbers that are drawn at once.
const DRAWS: usize = 64;

/// The columns of a matrix, for rows of bins.
pub(super) struct Binned {
    /// By column, the number of its gene among those that have a token; behind these, numbers of columns
    /// without one.
    numbers: Vec<u16>,
    /// By number.
    tokens: Vec<u32>,
    pub(super) n_bins: u32,
    /// Whether a value with several bins draws one of them.
    pub(super) draws: bool,
}

impl Binned {
    /// `None` if rows are another thing, if the columns are genes in order, or if these are too many.
    pub(super) fn new(d: &Description, genes: &Genes, columns: &Columns) -> Option<Binned> {
        let (Columns::Stored { known, .. }, Some(values)) = (columns, d.values) else { return None };
        let bins = values.bins.filter(|bins| bins.mode != Binning::Strict)?;
        let by_number = matches!(d.select, Select::Head | Select::Sample { weight: Weight::Uniform, replace: false });
        let has_more = d.fill != Fill::None || values.clip.is_some() || d.needs_total();
        let is_plain =
            d.order == Order::Column && values.transform == Transform::Raw && genes.first_of_token.is_empty();
        if !by_number || has_more || !is_plain {
            return None;
        }
        let tokens: Vec<u32> = genes.tokens.iter().copied().filter(|&t| t != DROP).collect();
        let end = tokens.len().next_multiple_of(64);
        u16::try_from(end + LEFT_OUT - 1).ok()?;
        let mut next = 0..;
        let number_of: Vec<usize> =
            genes.tokens.iter().map(|&t| if t == DROP { 0 } else { next.next().unwrap_or(0) }).collect();
        let number =
            |(i, &gene): (usize, &u32)| if gene == DROP { end + i % LEFT_OUT } else { number_of[gene as usize] };
        let numbers = known.iter().enumerate().map(|e| number(e) as u16).collect();
        Some(Binned { numbers, tokens, n_bins: bins.n_bins, draws: bins.mode == Binning::ScGpt })
    }

    /// Puts the nonzeros of a cell that have a token in order, and their codes into `distinct`. False if
    /// the row is none for this: it has none, odd values, or too many.
    pub(super) fn sort<T: Value>(&self, ordered: &mut Ordered, distinct: &mut Distinct, cell: &Cell<'_, T>) -> bool {
        #[cfg(target_arch = "x86_64")]
        if has_vectors() {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { sort_avx2(self, ordered, distinct, cell.columns, cell.values) };
        }
        sort(self, ordered, distinct, cell.columns, cell.values)
    }

    /// The tokens of chosen nonzeros.
    pub(super) fn tokens<'a>(&'a self, ordered: &'a Ordered, picked: &'a [u32]) -> impl ExactSizeIterator<Item = i64> {
        let entries = &ordered.entries[..ordered.n];
        picked.iter().map(|&i| i64::from(self.tokens[usize::from(entries[i as usize] as u16)]))
    }

    /// The bins of chosen nonzeros.
    pub(super) fn bins(
        &self,
        ordered: &Ordered,
        picked: &[u32],
        spans: &[Span],
        draw: Option<Stream>,
        out: &mut Places<'_, f32>,
    ) {
        let entries = &ordered.entries[..ordered.n];
        let span = |i: u32| spans[(entries[i as usize] >> 16) as usize];
        let Some(stream) = draw else { return out.extend(picked.iter().map(|&i| span(i).last())) };
        #[cfg(target_arch = "x86_64")]
        if has_vectors() {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { draw_avx2(picked, stream, span, out) };
        }
        draw_bins(picked, stream, span, out);
    }
}

/// The memory of an order, used again for each cell.
pub(super) struct Ordered {
    present: Box<[u64; WORDS]>,
    /// By word, the bits before it.
    before: Box<[u16; WORDS]>,
    /// By column of the row, its number.
    numbers: Vec<u16>,
    /// In the order of the genes: the code of the value above the number of the gene.
    entries: Vec<u32>,
    n: usize,
}

impl Default for Ordered {
    fn default() -> Self {
        Ordered {
            present: Box::new([0; WORDS]),
            before: Box::new([0; WORDS]),
            numbers: Vec::new(),
            entries: Vec::new(),
            n: 0,
        }
    }
}

impl Ordered {
    /// How many nonzeros have a token.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// Puts nonzeros in order; returns how many of them have numbers below `end`.
    ///
    /// One thing after the other: a loop that looks up and marks takes longer than two.
    #[inline(always)]
    fn order(&mut self, map: &[u16], end: usize, columns: &[u32], codes: &[u16]) -> usize {
        let (present, before) = (&mut *self.present, &mut *self.before);
        assert!(columns.iter().fold(true, |all, &c| all & ((c as usize) < map.len())), "columns beyond the genes");
        self.numbers.clear();
        // SAFETY: all columns were compared with the number of them.
        self.numbers.extend(columns.iter().map(|&c| unsafe { *map.get_unchecked(c as usize) }));
        for &number in &self.numbers {
            present[usize::from(number / 64)] |= 1 << (number % 64);
        }
        let words = (end.next_multiple_of(64) + LEFT_OUT) / 64;
        let mut n = 0;
        for (word, before) in present[..words].iter().zip(before.iter_mut()) {
            *before = n;
            n += word.count_ones() as u16;
        }
        if self.entries.len() < columns.len() {
            self.entries.resize(columns.len(), 0);
        }
        let entries = &mut self.entries[..columns.len()];
        for (&number, &code) in self.numbers.iter().zip(codes) {
            let at = usize::from(number / 64);
            let lower = present[at] & ((1 << (number % 64)) - 1);
            let place = before[at] + lower.count_ones() as u16;
            // SAFETY: so many bits come before that of this entry, each of another one.
            unsafe { *entries.get_unchecked_mut(usize::from(place)) = u32::from(code) << 16 | u32::from(number) };
        }
        present[..words].fill(0);
        usize::from(before[end.div_ceil(64)])
    }
}

/// Whether the processor has the instructions that `*_avx2` are compiled for.
#[cfg(target_arch = "x86_64")]
fn has_vectors() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt")
}

/// [`draw_bins`] with instructions that not every processor has: they draw several numbers at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn draw_avx2(picked: &[u32], stream: Stream, span: impl Fn(u32) -> Span, out: &mut Places<'_, f32>) {
    draw_bins(picked, stream, span, out);
}

#[inline(always)]
fn draw_bins(picked: &[u32], stream: Stream, span: impl Fn(u32) -> Span, out: &mut Places<'_, f32>) {
    for picked in picked.chunks(DRAWS) {
        let mut draws = [0.0; DRAWS];
        stream.units(picked, &mut draws);
        out.extend(picked.iter().zip(&draws).map(|(&i, &draw)| span(i).pick(draw)));
    }
}

/// [`sort`] with instructions that not every processor has: they find several codes at once, and count
/// bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn sort_avx2<T: Value>(
    binned: &Binned,
    ordered: &mut Ordered,
    distinct: &mut Distinct,
    columns: &[u32],
    values: &[T],
) -> bool {
    sort(binned, ordered, distinct, columns, values)
}

#[inline(always)]
fn sort<T: Value>(
    binned: &Binned,
    ordered: &mut Ordered,
    distinct: &mut Distinct,
    columns: &[u32],
    values: &[T],
) -> bool {
    // Places have 16 bits. Where few values are counts, codes take longer than the general way.
    if columns.len() > usize::from(u16::MAX) || !distinct.code(values, values.len() / 4) {
        return false;
    }
    ordered.n = ordered.order(&binned.numbers, binned.tokens.len(), columns, distinct.codes());
    distinct.replace(ordered.entries[..ordered.n].iter().map(|entry| (entry >> 16) as u16));
    ordered.n > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns in reverse order of six genes, of which the second and the last have no token.
    fn binned() -> Binned {
        let tokens = vec![10, DROP, 12, 13, 14, DROP];
        let columns = Columns::Stored { gene_of: vec![5, 4, 3, 2, 1, 0], known: vec![DROP, 4, 3, 2, DROP, 0] };
        let genes = Genes {
            known: Genes::known(&tokens),
            all_known: false,
            tokens,
            scales: Vec::new(),
            factors: Vec::new(),
            first_of_token: Vec::new(),
            positions: Vec::new(),
            fillers: Vec::new(),
        };
        let d = Description::scgpt(4, 5, Binning::ScGpt, -2.0);
        assert!(Binned::new(&d, &genes, &Columns::Genes).is_none());
        assert!(Binned::new(&Description::scgpt(4, 5, Binning::Strict, -2.0), &genes, &columns).is_none());
        Binned::new(&d, &genes, &columns).unwrap()
    }

    #[test]
    fn nonzeros_are_put_in_order_without_those_that_have_no_token() {
        let (binned, mut ordered, mut distinct) = (binned(), Ordered::default(), Distinct::default());
        for is_baseline in [true, false, true] {
            let (columns, values) = (&[0, 1, 2, 4, 5][..], &[9.0_f32, 2.0, 300.0, 8.0, 2.0][..]);
            let cell = Cell { number: 0, columns, values, total: None };
            let found = match is_baseline {
                true => sort(&binned, &mut ordered, &mut distinct, columns, values),
                false => binned.sort(&mut ordered, &mut distinct, &cell),
            };
            assert!(found && ordered.n() == 3);
            assert!(binned.tokens(&ordered, &[0, 1, 2]).eq([10, 13, 14]));
            // What has no token is not counted.
            assert!(distinct.iter().map(|(value, _, n)| (value, n)).eq([(2.0, 2), (300.0, 1)]));
        }
    }

    #[test]
    fn other_rows_go_the_general_way() {
        let (binned, mut ordered, mut distinct) = (binned(), Ordered::default(), Distinct::default());
        let mut sort = |columns: &[u32], values: &[f64]| {
            binned.sort(&mut ordered, &mut distinct, &Cell { number: 0, columns, values, total: None })
        };
        assert!(!sort(&[1, 2, 3, 5], &[1.0, 2.0, 0.5, 1e9]));
        assert!(sort(&[1, 2, 3, 5], &[1.0, 2.0, 0.5, 1.0]));
        for odd in [0.0, -2.0, f64::NAN, f64::INFINITY, 1e-40] {
            assert!(!sort(&[1, 2, 3, 5], &[1.0, 2.0, odd, 1.0]), "{odd}");
        }
        // None is left, or none is there.
        assert!(!sort(&[0, 4], &[1.0, 2.0]) && !sort(&[], &[]));
    }
}
