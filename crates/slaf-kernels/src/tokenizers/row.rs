//! One cell becomes one row of tokens.

use super::binned::{Binned, Ordered};
use super::bins::Binner;
use super::by_key::ByKey;
use super::columns::{Cell, Columns};
use super::description::{Binning, Description, OfCell, SpecialValue, TotalOf, Transform, ValueMap};
use super::distinct::Distinct;
use super::entries::{Entries, Genes, KeyOf, sum};
use super::memory::RowOut;
use super::random::{Purpose, numpy_rand};
use super::select::{Selector, Streams};
use super::slots::Slots;
use rand_mt::Mt;
use slaf_core::{Dtype, Error, Result, Value};
use std::cell::LazyCell;

/// A description with the numbers of its tokens, for the genes of one data set.
pub(super) struct Plan {
    pub(super) d: Description,
    pub(super) genes: Genes,
    pub(super) columns: Columns,
    /// For rows that are the genes by falling key alone.
    pub(super) by_key: Option<ByKey>,
    /// For rows that are genes in order, and bins of their values.
    pub(super) binned: Option<Binned>,
    pub(super) first: Vec<(i64, SpecialValue)>,
    pub(super) last: Vec<(i64, SpecialValue)>,
    pub(super) pad: (i64, SpecialValue),
}

/// The memory of a thread, used again for each cell.
#[derive(Default)]
pub(super) struct Scratch {
    entries: Entries,
    slots: Slots,
    in_order: Ordered,
    selector: Selector,
    distinct: Distinct,
    binner: Binner,
    /// All nonzeros in the order of the genes.
    ordered: Entries,
    mapped: Vec<f64>,
    draws: Vec<f64>,
    /// Beside the chosen entries.
    values: Vec<f32>,
}

/// What is known of a cell when its genes are chosen.
struct Known {
    /// Entries after these fill up.
    expressed: usize,
    total: f64,
    dtype: Dtype,
    streams: Streams,
}

impl Plan {
    /// Writes the row of a cell; false if the cell has no token.
    ///
    /// # Errors
    /// `invalid-argument` for values that are no expression, and for a total that is not above 0.
    pub(super) fn row<T: Value>(
        &self,
        s: &mut Scratch,
        cell: &Cell<'_, T>,
        keys: (u64, u64),
        numpy: Option<&mut Mt>,
        out: &mut RowOut<'_>,
    ) -> Result<bool> {
        if let Some(by_key) = self.by_key.as_ref().filter(|by_key| by_key.sort(&mut s.slots, cell)) {
            return Ok(self.row_by_key(by_key, s, cell, out));
        }
        let streams = Streams { keys, cell: cell.number };
        if let Some(binned) = self.binned.as_ref().filter(|binned| binned.sort(&mut s.in_order, &mut s.distinct, cell))
        {
            self.row_of_bins(binned, s, T::DTYPE == Dtype::F32, streams, out);
            return Ok(true);
        }
        let is_valid = match &self.columns {
            Columns::Genes => s.entries.gather(&self.genes, cell.columns, cell.values),
            Columns::Stored { known, .. } => s.entries.gather_stored(&self.genes, known, cell.columns, cell.values),
        };
        if !is_valid {
            return Err(self.not_expression(cell));
        }
        let n = s.entries.n;
        if n == 0 {
            self.write_empty(out);
            return Ok(false);
        }
        let total = if self.d.needs_total() { self.total(s, cell)? } else { 0.0 };
        let scales = &self.genes.scales;
        let key = KeyOf { normalize: self.d.target_sum.map(|target| (total, target)), scales };
        s.selector.run(&self.d, &self.genes, &mut s.entries, &mut s.distinct, key, streams);
        if let Some(map) = self.d.values {
            let of = Known { expressed: n, total, dtype: T::DTYPE, streams };
            self.map_values(s, map, of, numpy);
        }
        self.write(s, total, out);
        Ok(true)
    }

    /// The row of a cell whose genes were sorted by falling key; false if it has no token.
    fn row_by_key<T: Value>(&self, by_key: &ByKey, s: &mut Scratch, cell: &Cell<'_, T>, out: &mut RowOut<'_>) -> bool {
        if s.slots.n() == 0 {
            self.write_empty(out);
            return false;
        }
        let (slots, ordered) = (&mut s.slots, &mut s.ordered);
        // Few rows have keys that are so near that their total matters.
        let total = LazyCell::new(|| cell.total.unwrap_or_else(|| self.sum(ordered, cell)));
        let key = || KeyOf { normalize: self.d.target_sum.map(|target| (*total, target)), scales: &self.genes.scales };
        self.begin(0.0, out);
        let n = by_key.write(slots, cell, key, &self.columns, &mut out.ids, self.d.body());
        self.end(n, 0.0, out);
        true
    }

    /// The row of a cell whose genes were put in order.
    fn row_of_bins(&self, binned: &Binned, s: &mut Scratch, single: bool, streams: Streams, out: &mut RowOut<'_>) {
        let n = s.in_order.n();
        s.selector.choose(&self.d, n, streams);
        let picked = &s.selector.picked;
        self.begin(0.0, out);
        out.ids.extend(binned.tokens(&s.in_order, picked));
        let spans = s.binner.spans_of_distinct(&s.distinct, n, binned.n_bins, single);
        let stream = binned.draws.then(|| streams.of(Purpose::Bins));
        binned.bins(&s.in_order, picked, spans, stream, &mut out.values);
        self.end(picked.len(), 0.0, out);
    }

    /// The special tokens at the front.
    fn begin(&self, total: f64, out: &mut RowOut<'_>) {
        out.ids.extend(self.first.iter().map(|first| first.0));
        if self.d.values.is_some() {
            out.values.extend(self.first.iter().map(|first| value(first.1, total)));
        }
    }

    /// All that is behind `n` tokens of genes, and the mask.
    fn end(&self, n: usize, total: f64, out: &mut RowOut<'_>) {
        out.ids.extend(self.last.iter().map(|last| last.0));
        out.ids.finish(self.pad.0);
        if self.d.values.is_some() {
            out.values.extend(self.last.iter().map(|last| value(last.1, total)));
            out.values.finish(value(self.pad.1, total));
        }
        out.mask.repeat(true, self.first.len() + n + self.last.len());
        out.mask.finish(false);
    }

    fn total<T: Value>(&self, s: &mut Scratch, cell: &Cell<'_, T>) -> Result<f64> {
        let total = match (self.d.total, cell.total) {
            (TotalOf::Vocabulary, _) => sum(&s.entries.x[..s.entries.n], |x| x),
            (TotalOf::All, Some(total)) => total,
            (TotalOf::All, None) => self.sum(&mut s.ordered, cell),
        };
        if total.is_finite() && total > 0.0 {
            return Ok(total);
        }
        Err(Error::invalid(format!("the total of cell {} is {total}, but the cell has counts", cell.number)))
    }

    /// The sum of a cell's values in the order of the genes, whatever that of the columns.
    fn sum<T: Value>(&self, ordered: &mut Entries, cell: &Cell<'_, T>) -> f64 {
        let total = sum(cell.values, T::as_f64);
        match &self.columns {
            Columns::Stored { gene_of, .. } if !(total < WHOLE && are_whole(cell.values)) => {
                let n = ordered.renumber(gene_of, cell.columns, cell.values);
                sum(&ordered.x[..n], |x| x)
            }
            // Sums of whole numbers are exact in any order.
            _ => total,
        }
    }

    /// The values of the chosen entries.
    fn map_values(&self, s: &mut Scratch, map: ValueMap, of: Known, numpy: Option<&mut Mt>) {
        let Known { expressed: n, total, dtype, streams } = of;
        let (x, picked) = (&s.entries.x, &s.selector.picked);
        let Some(bins) = map.bins else {
            let value = |&i: &u32| self.value_of(map, total, x[i as usize]) as f32;
            s.values.clear();
            return s.values.extend(picked.iter().map(value));
        };
        let mapped = if map.transform == Transform::Raw && map.clip.is_none() {
            &x[..n]
        } else {
            s.mapped.clear();
            s.mapped.extend(x[..n].iter().map(|&x| self.value_of(map, total, x)));
            &s.mapped
        };
        let single = dtype == Dtype::F32 || map.transform != Transform::Raw;
        let (n_bins, distinct, out) = (bins.n_bins, &mut s.distinct, &mut s.values);
        match (bins.mode, numpy) {
            (Binning::Strict, Some(numpy)) => {
                s.draws.clear();
                s.draws.extend((0..n).map(|_| numpy_rand(numpy)));
                s.binner.bin(distinct, mapped, picked, n_bins, single, Some(|i| s.draws[i as usize]), out);
            }
            (Binning::ScGpt, _) => {
                let stream = streams.of(Purpose::Bins);
                s.binner.bin(distinct, mapped, picked, n_bins, single, Some(|i| stream.unit(u64::from(i))), out);
            }
            _ => s.binner.bin(distinct, mapped, picked, n_bins, single, None::<fn(u32) -> f64>, out),
        }
    }

    /// What the transform and the clip make of a stored value, in single precision if it is
    /// transformed, as it is once it leaves.
    fn value_of(&self, map: ValueMap, total: f64, x: f64) -> f64 {
        let normalized = || self.d.target_sum.map_or(x, |target| x / total * target);
        let clipped = |x: f64| map.clip.map_or(x, |clip| x.min(clip));
        match map.transform {
            Transform::Raw => clipped(x),
            Transform::Normalized => f64::from(clipped(normalized()) as f32),
            Transform::Log1p => f64::from(clipped(normalized().ln_1p()) as f32),
        }
    }

    fn write(&self, s: &Scratch, total: f64, out: &mut RowOut<'_>) {
        let (e, tokens, picked) = (&s.entries, &self.genes.tokens, &s.selector.picked);
        self.begin(total, out);
        out.ids.extend(picked.iter().map(|&i| i64::from(tokens[e.columns[i as usize] as usize])));
        if self.d.values.is_some() {
            out.values.extend(s.values.iter().copied());
        }
        self.end(picked.len(), total, out);
    }

    /// The row of a cell without tokens: padding alone.
    fn write_empty(&self, out: &mut RowOut<'_>) {
        out.ids.finish(self.pad.0);
        out.mask.finish(false);
        if self.d.values.is_some() {
            out.values.finish(value(self.pad.1, 0.0));
        }
    }
}

fn value(value: SpecialValue, total: f64) -> f32 {
    match value {
        SpecialValue::Number(x) => x,
        SpecialValue::OfCell(OfCell::Log10Total) => total.log10() as f32,
    }
}

/// Below this, doubles hold all whole numbers and halves.
const WHOLE: f64 = 4_503_599_627_370_496.0;

/// Whether values up to [`WHOLE`] are whole numbers. Adding it rounds to one; unlike a conversion,
/// processors do it with several values at once.
fn are_whole<T: Value>(values: &[T]) -> bool {
    let is_whole = |x: f64| (x + WHOLE) - WHOLE == x;
    !T::DTYPE.is_float() || values.iter().fold(true, |all, v| all & is_whole(v.as_f64()))
}

impl Plan {
    fn not_expression<T: Value>(&self, cell: &Cell<'_, T>) -> Error {
        let values = cell.columns.iter().map(|&c| self.columns.gene(c)).zip(cell.values.iter().map(|v| v.as_f64()));
        let bad = values.filter(|(_, x)| !(0.0..=f64::MAX).contains(x)).min_by_key(|b| b.0);
        let (gene, value) = bad.unwrap_or((0, f64::NAN));
        Error::invalid(format!(
            "the value of gene {gene} in cell {} is {value}: tokenizers take counts, or other values that are not \
             negative, no scaled data",
            cell.number
        ))
    }
}
