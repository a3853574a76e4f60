//! Quantile bins of a cell's nonzeros, as numpy computes quantiles, bit for bit.

use super::distinct::Distinct;
use super::rank::Ranker;

/// The memory of binning, used again for each cell.
#[derive(Default)]
pub(super) struct Binner {
    ranker: Ranker,
    order: Vec<u32>,
    /// By code of a distinct value, or by entry.
    spans: Vec<Span>,
    edges: Vec<f64>,
}

/// The bins of a value: as numbers that draws are computed with.
#[derive(Clone, Copy, Default)]
pub(super) struct Span {
    /// The number of edges up to the value, which is its last bin.
    upto: f64,
    /// The number of edges below the value, less `upto`.
    down: f64,
}

impl Span {
    /// numpy's `ceil(u * (R - L) + L)`, with its roundings; `u` is 0..1.
    #[inline(always)]
    pub(super) fn pick(self, u: f64) -> f32 {
        // Adding 2^52 rounds to a whole number. `f64::ceil` would be a call, since the least
        // instruction set has no rounding.
        const WHOLE: f64 = 4_503_599_627_370_496.0;
        let x = u * self.down + self.upto;
        let whole = (x + WHOLE) - WHOLE;
        (if whole < x { whole + 1.0 } else { whole }) as f32
    }

    /// The last bin.
    #[inline(always)]
    pub(super) fn last(self) -> f32 {
        self.upto as f32
    }
}

impl Binner {
    /// The spans of a cell's values by code; `n` are all its values, for `n_bins` and `single` see
    /// [`Binner::bin`].
    pub(super) fn spans_of_distinct(&mut self, distinct: &Distinct, n: usize, n_bins: u32, single: bool) -> &[Span] {
        self.spans.clear();
        self.spans.resize(distinct.code_end(), Span::default());
        let mut rest = distinct.iter().map(|(value, _, count)| (value, count as usize)).peekable();
        // Ranks come in rising order, so that one walk over the values finds all of them. The
        // values before the next one to come end before the rank `upto`.
        let (mut value, mut upto) = (0.0, 0);
        edges(&mut self.edges, n, n_bins, single, |rank| {
            while upto <= rank
                && let Some((next, count)) = rest.next()
            {
                (value, upto) = (next, upto + count);
            }
            let is_last_of_value = upto == rank + 1;
            (value, rest.peek().filter(|_| is_last_of_value).map_or(value, |next| next.0))
        });
        let mut walk = Walk::new(&self.edges);
        for (value, code, _) in distinct.iter() {
            self.spans[usize::from(code)] = walk.span(value);
        }
        &self.spans
    }

    /// The bins of the entries `wanted` of a cell, between quantiles of all its `values`, which are
    /// above 0. Entries beyond them are not expressed, and in bin 0.
    ///
    /// `draw` gives an entry's random number; without it the last bin is taken. `single` says that
    /// the values are of numpy's `float32`, whose differences numpy rounds.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn bin(
        &mut self,
        distinct: &mut Distinct,
        values: &[f64],
        wanted: &[u32],
        n_bins: u32,
        single: bool,
        draw: Option<impl Fn(u32) -> f64>,
        bins: &mut Vec<f32>,
    ) {
        if distinct.find(values) {
            let (spans, codes) = (self.spans_of_distinct(distinct, values.len(), n_bins, single), distinct.codes());
            write(bins, wanted, draw, |i| codes.get(i).map(|&code| spans[usize::from(code)]));
        } else {
            self.spans_of_all(values, n_bins, single);
            write(bins, wanted, draw, |i| self.spans.get(i).copied());
        }
    }

    fn spans_of_all(&mut self, values: &[f64], n_bins: u32, single: bool) {
        let n = values.len();
        self.spans.clear();
        self.spans.resize(n, Span::default());
        self.ranker.rank_exact(values, n, &mut self.order);
        let order = &self.order;
        let smallest = |rank: usize| values[order[n - 1 - rank] as usize];
        edges(&mut self.edges, n, n_bins, single, |rank| (smallest(rank), smallest((rank + 1).min(n - 1))));
        let mut walk = Walk::new(&self.edges);
        for &i in order.iter().rev() {
            self.spans[i as usize] = walk.span(values[i as usize]);
        }
    }
}

fn write(bins: &mut Vec<f32>, wanted: &[u32], draw: Option<impl Fn(u32) -> f64>, span: impl Fn(usize) -> Option<Span>) {
    bins.clear();
    match draw {
        Some(draw) => bins.extend(wanted.iter().map(|&i| span(i as usize).map_or(0.0, |span| span.pick(draw(i))))),
        None => bins.extend(wanted.iter().map(|&i| span(i as usize).map_or(0.0, Span::last))),
    }
}

/// `np.quantile(values, np.linspace(0, 1, n_bins - 1))` of `n` values; `sorted` gives the values of
/// a rank and of the next one.
fn edges(edges: &mut Vec<f64>, n: usize, n_bins: u32, single: bool, mut sorted: impl FnMut(usize) -> (f64, f64)) {
    edges.clear();
    let n_edges = n_bins as usize - 1;
    let step = 1.0 / (n_edges - 1) as f64;
    for i in 0..n_edges {
        let q = if i == n_edges - 1 { 1.0 } else { i as f64 * step };
        let at = (n - 1) as f64 * q;
        let rank = (at as usize).min(n - 1);
        let t = at - rank as f64;
        let (a, b) = sorted(rank);
        let d = if single { f64::from(b as f32 - a as f32) } else { b - a };
        edges.push(if t < 0.5 { a + d * t } else { b - d * (1.0 - t) });
    }
}

/// Where rising values lie between the edges.
struct Walk<'a> {
    edges: &'a [f64],
    below: usize,
    upto: usize,
}

impl<'a> Walk<'a> {
    fn new(edges: &'a [f64]) -> Self {
        Walk { edges, below: 0, upto: 0 }
    }

    fn span(&mut self, value: f64) -> Span {
        while self.edges.get(self.below).is_some_and(|&q| q < value) {
            self.below += 1;
        }
        self.upto = self.upto.max(self.below);
        while self.edges.get(self.upto).is_some_and(|&q| q <= value) {
            self.upto += 1;
        }
        let upto = self.upto as f64;
        Span { upto, down: self.below as f64 - upto }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bins(values: &[f64], n_bins: u32, single: bool, u: Option<f64>) -> Vec<f32> {
        let all: Vec<u32> = (0..values.len() as u32).collect();
        let mut bins = vec![9.0];
        Binner::default().bin(&mut Distinct::default(), values, &all, n_bins, single, u.map(|u| move |_| u), &mut bins);
        bins
    }

    /// The definition, one value at a time.
    fn oracle(values: &[f64], n_bins: u32, u: Option<f64>) -> Vec<f32> {
        let mut s = values.to_vec();
        s.sort_by(f64::total_cmp);
        let n_edges = n_bins - 1;
        let quantile = |i: u32| {
            let q = if i + 1 == n_edges { 1.0 } else { f64::from(i) * (1.0 / f64::from(n_edges - 1)) };
            let at = (s.len() - 1) as f64 * q;
            let (low, high) = (s[at.floor() as usize], s[(at.floor() as usize + 1).min(s.len() - 1)]);
            let t = at.fract();
            if t < 0.5 { low + (high - low) * t } else { high - (high - low) * (1.0 - t) }
        };
        let edges: Vec<f64> = (0..n_edges).map(quantile).collect();
        let bin = |v: &f64| {
            let (l, r) =
                (edges.iter().filter(|q| *q <= v).count() as f64, edges.iter().filter(|q| *q < v).count() as f64);
            u.map_or(l, |u| (u * (r - l) + l).ceil()) as f32
        };
        values.iter().map(bin).collect()
    }

    proptest! {
        #[test]
        fn counts_are_binned_as_defined(
            values in proptest::collection::vec(1_u32..40, 1..200),
            u in proptest::option::of(0.0_f64..1.0),
            n_bins in 3_u32..60,
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            prop_assert_eq!(bins(&values, n_bins, false, u), oracle(&values, n_bins, u));
        }

        #[test]
        fn any_values_are_binned_as_defined(
            values in proptest::collection::vec(prop_oneof![0.001_f64..9.0, Just(1.5), Just(1e7)], 1..2_500),
            u in proptest::option::of(0.0_f64..1.0),
        ) {
            prop_assert_eq!(bins(&values, 51, false, u), oracle(&values, 51, u));
        }
    }

    #[test]
    fn bins_of_some_entries_lie_between_quantiles_of_all() {
        let mut bins = Vec::new();
        let u = |i: u32| f64::from(i) / 8.0;
        Binner::default().bin(
            &mut Distinct::default(),
            &[1.0, 5.0, 2.0, 9.0],
            &[2, 7, 1],
            5,
            false,
            Some(u),
            &mut bins,
        );
        let all = [0, 1, 2].map(|i| oracle(&[1.0, 5.0, 2.0, 9.0], 5, Some(u(i)))[i as usize]);
        assert_eq!(bins, [all[2], 0.0, all[1]]);
    }

    #[test]
    fn a_single_value_spans_all_bins() {
        assert_eq!(bins(&[3.0], 51, false, None), [50.0]);
        assert_eq!(bins(&[3.0], 51, false, Some(0.0)), [50.0]);
        assert_eq!(bins(&[0.3], 51, true, Some(0.999)), [1.0]);
    }
}
