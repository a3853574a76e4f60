//! Rows that are the genes of a cell by falling key and nothing else, as Geneformer's with medians.
//!
//! They are made of the nonzeros in any order of the genes, in one go from the packed numbers to
//! the row: the columns of a store need not be renumbered before.

use super::columns::Columns;
use super::description::{Description, Fill, Order, Select, Ties, TotalOf};
use super::entries::{Genes, KeyOf};
use super::matching::DROP;
use super::row::Cell;
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

/// What is needed of a column for the key of a nonzero.
#[derive(Clone, Copy)]
struct Column {
    /// 1 over the scale; below 0 where there is no token.
    factor: f64,
    token: u32,
}

/// The columns of a matrix, for rows by key.
pub(super) struct ByKey {
    columns: Vec<Column>,
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
        let column = |c: u32| {
            let gene = columns.gene(c) as usize;
            let (factor, token) = (1.0 / genes.scales[gene], genes.tokens[gene]);
            Column { factor: if token == DROP { -factor } else { factor }, token }
        };
        let columns: Vec<Column> = (0..genes.tokens.len() as u32).map(column).collect();
        let mut factors: Vec<f64> = columns.iter().map(|c| c.factor).filter(|f| *f > 0.0).collect();
        factors.sort_unstable_by(f64::total_cmp);
        let top = Top::around(*factors.get(factors.len() / 2)?);
        let taken = factors.windows(2).filter(|w| top.slot_of(w[0]) == top.slot_of(w[1])).count();
        let is_crowded = factors.len() > 1_000 && taken > factors.len() * 3 / 4;
        (!is_crowded).then_some(ByKey { columns, top })
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
                return unsafe { sort_avx2(&self.columns, self.top, slots, cell.columns, cell.values) };
            }
        }
        sort(&self.columns, self.top, slots, cell.columns, cell.values)
    }

    /// The tokens of the largest keys of the sorted nonzeros into `ids`; returns how many.
    pub(super) fn write<'a, T: Value>(
        &self,
        slots: &mut Slots,
        cell: &Cell<'_, T>,
        key: impl Fn() -> KeyOf<'a>,
        genes: &Columns,
        ids: &mut [i64],
    ) -> usize {
        let column = |i: u16| cell.columns[usize::from(i)];
        let rough = |i: u16| cell.values[usize::from(i)].as_f64() * self.columns[column(i) as usize].factor;
        let exact = |i: u16| (cell.values[usize::from(i)].as_f64(), genes.gene(column(i)));
        let order = |a: u16, b: u16| -> Ordering {
            let (rough_a, rough_b) = (rough(a), rough(b));
            if (rough_a - rough_b).abs() > APART * rough_a {
                return rough_b.total_cmp(&rough_a);
            }
            let (a, b) = (exact(a), exact(b));
            key().compare(a, b).then(a.1.cmp(&b.1))
        };
        slots.write(ids, order, |i| i64::from(self.columns[column(i) as usize].token))
    }
}

/// [`sort`] with instructions that not every processor has: they compute several keys at once, and
/// count bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn sort_avx2<T: Value>(of_column: &[Column], top: Top, slots: &mut Slots, columns: &[u32], values: &[T]) -> bool {
    sort(of_column, top, slots, columns, values)
}

/// Sorts nonzeros. The slices are arguments of their own: so the compiler knows that nothing is
/// written to them, without which it makes no vectors of keys.
#[inline(always)]
fn sort<T: Value>(of_column: &[Column], top: Top, slots: &mut Slots, columns: &[u32], values: &[T]) -> bool {
    let (n, end) = (columns.len().min(values.len()), of_column.len());
    let (columns, values) = (&columns[..n], &values[..n]);
    let is_sound = |all: bool, v: &T| all & (v.as_f64() >= *SOUND.start()) & (v.as_f64() <= *SOUND.end());
    let is_inside = |all: bool, &c: &u32| all & ((c as usize) < end);
    let key = |i: usize| {
        // SAFETY: all columns were compared with the number of them.
        values[i].as_f64() * unsafe { of_column.get_unchecked(columns[i] as usize) }.factor
    };
    values.iter().fold(true, is_sound) && columns.iter().fold(true, is_inside) && slots.sort(top, n, key)
}
