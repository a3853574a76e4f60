//! Rows that are the genes of a cell by falling key and nothing else, as Geneformer's with medians.
//!
//! They are made of the nonzeros in any order of the genes, in one go from the packed numbers to
//! the row: the columns of a store need not be renumbered before.

use super::columns::{Cell, Columns};
use super::description::{Description, Fill, Order, Select, Ties, TotalOf};
use super::entries::{Genes, KeyOf};
use super::matching::DROP;
use super::memory::Places;
use super::slots::{Slots, Top};
use slaf_core::Value;
use std::cmp::Ordering;

/// Values that are neither taken for zero nor so large that a key or a total could be without all
/// of its digits.
const SOUND: std::ops::RangeInclusive<f64> = f32::MIN_POSITIVE as f64..=1e30;
/// The same, for totals and target sums.
const SOUND_TOTAL: std::ops::RangeInclusive<f64> = 1e-40..=1e40;

/// Rough keys of two nonzeros that are farther apart than this are in the order of the exact ones.
const APART: f64 = 1e-14;

/// The columns of a matrix, for rows by key.
pub(super) struct ByKey {
    /// By column, 1 over the scale; below 0 where there is no token. Apart from the tokens, so that they
    /// stay in a near cache.
    factors: Vec<f64>,
    /// By column.
    tokens: Vec<u32>,
    top: Top,
}

impl ByKey {
    /// `None` if rows are more than the genes by falling key, or if many genes have the same key.
    pub(super) fn new(d: &Description, genes: &Genes, columns: &Columns) -> Option<ByKey> {
        let is_by_key = matches!(d.select, Select::Top { ties: Ties::Column }) && d.order == Order::Key;
        let has_more = d.fill != Fill::None || d.values.is_some() || d.total != TotalOf::All;
        let is_sound = d.target_sum.is_none_or(|target| SOUND_TOTAL.contains(&target));
        if !is_by_key || has_more || !is_sound || genes.scales.is_empty() || !genes.first_of_token.is_empty() {
            return None;
        }
        let of_genes = (0..genes.tokens.len() as u32).map(|column| columns.gene(column) as usize);
        let tokens: Vec<u32> = of_genes.clone().map(|gene| genes.tokens[gene]).collect();
        let signs = tokens.iter().map(|&token| if token == DROP { -1.0 } else { 1.0 });
        let factors: Vec<f64> = of_genes.zip(signs).map(|(gene, sign)| sign / genes.scales[gene]).collect();
        let mut known: Vec<f64> = factors.iter().copied().filter(|f| *f > 0.0).collect();
        known.sort_unstable_by(f64::total_cmp);
        let top = Top::around(*known.get(known.len() / 2)?);
        let taken = known.windows(2).filter(|w| top.slot_of(w[0]) == top.slot_of(w[1])).count();
        let is_crowded = known.len() > 1_000 && taken > known.len() * 3 / 4;
        (!is_crowded).then_some(ByKey { factors, tokens, top })
    }

    /// Sorts the nonzeros of a cell that have a token. False if the row is none for this, which is rare
    /// or because of odd values.
    pub(super) fn sort<T: Value>(&self, slots: &mut Slots, cell: &Cell<'_, T>) -> bool {
        if cell.total.is_some_and(|total| !SOUND_TOTAL.contains(&total)) {
            return false;
        }
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt") {
                // SAFETY: the processor has what the function is compiled for.
                return unsafe { sort_avx2(&self.factors, self.top, slots, cell.columns, cell.values) };
            }
        }
        sort(&self.factors, self.top, slots, cell.columns, cell.values)
    }

    /// The tokens of the `most` largest keys of the sorted nonzeros into `ids`; returns how many.
    pub(super) fn write<'a, T: Value>(
        &self,
        slots: &mut Slots,
        cell: &Cell<'_, T>,
        key: impl Fn() -> KeyOf<'a>,
        genes: &Columns,
        ids: &mut Places<'_, i64>,
        most: usize,
    ) -> usize {
        let column = |i: u16| cell.columns[usize::from(i)];
        let rough = |i: u16| cell.values[usize::from(i)].as_f64() * self.factors[column(i) as usize];
        let exact = |i: u16| (cell.values[usize::from(i)].as_f64(), genes.gene(column(i)));
        let order = |a: u16, b: u16| -> Ordering {
            let (rough_a, rough_b) = (rough(a), rough(b));
            if (rough_a - rough_b).abs() > APART * rough_a {
                return rough_b.total_cmp(&rough_a);
            }
            let (a, b) = (exact(a), exact(b));
            key().compare(a, b).then(a.1.cmp(&b.1))
        };
        let token = |&i: &u16| i64::from(self.tokens[column(i) as usize]);
        slots.write(most, order, |run| ids.extend(run.iter().map(token)))
    }
}

/// [`sort`] with instructions that not every processor has: they compute several keys at once, and
/// count bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn sort_avx2<T: Value>(factors: &[f64], top: Top, slots: &mut Slots, columns: &[u32], values: &[T]) -> bool {
    sort(factors, top, slots, columns, values)
}

/// Sorts nonzeros. The slices are arguments of their own: so the compiler knows that nothing is
/// written to them, without which it makes no vectors of keys.
#[inline(always)]
fn sort<T: Value>(factors: &[f64], top: Top, slots: &mut Slots, columns: &[u32], values: &[T]) -> bool {
    let (n, end) = (columns.len().min(values.len()), factors.len());
    let (columns, values) = (&columns[..n], &values[..n]);
    let is_sound = |all: bool, v: &T| all & (v.as_f64() >= *SOUND.start()) & (v.as_f64() <= *SOUND.end());
    let is_inside = |all: bool, &c: &u32| all & ((c as usize) < end);
    let key = |i: usize| {
        // SAFETY: all columns were compared with the number of them.
        values[i].as_f64() * unsafe { factors.get_unchecked(columns[i] as usize) }
    };
    values.iter().fold(true, is_sound) && columns.iter().fold(true, is_inside) && slots.sort(top, n, key)
}
