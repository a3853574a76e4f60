//! Which entries of a cell become tokens, and in which order.

use super::description::{Description, Fill, Order, Select, Ties, Weight};
use super::distinct::Distinct;
use super::entries::{Entries, Genes, KeyOf};
use super::random::Purpose;
use super::rank::Ranker;
use crate::random::Stream;
use std::hint::select_unpredictable;

/// The memory of a selection, used again for each cell.
#[derive(Default)]
pub(super) struct Selector {
    /// The chosen entries, in order.
    pub(super) picked: Vec<u32>,
    ranker: Ranker,
    ranked: Vec<u32>,
    keys: Vec<f64>,
    rough: Vec<f32>,
    marks: Vec<bool>,
    columns: Vec<u32>,
}

/// The streams of a cell.
#[derive(Clone, Copy)]
pub(super) struct Streams {
    pub(super) keys: (u64, u64),
    pub(super) cell: u64,
}

impl Streams {
    pub(super) fn of(self, purpose: Purpose) -> Stream {
        let (seed, epoch) = self.keys;
        Stream::keyed(seed, &[epoch, self.cell, purpose as u64])
    }
}

impl Selector {
    /// Chooses of `n` entries by their number alone, rising: for descriptions without a key, a weight,
    /// and fillers.
    pub(super) fn choose(&mut self, d: &Description, n: usize, streams: Streams) {
        let body = d.body();
        match d.select {
            Select::Head => self.head(n.min(body)),
            _ => self.uniform(n, body, streams.of(Purpose::Sample)),
        }
    }

    /// Chooses and orders entries; those that fill up are appended to `entries`.
    pub(super) fn run(
        &mut self,
        d: &Description,
        genes: &Genes,
        entries: &mut Entries,
        distinct: &mut Distinct,
        key: KeyOf<'_>,
        streams: Streams,
    ) {
        let body = d.body();
        match d.select {
            Select::Head => self.head(entries.n.min(body)),
            Select::Top { ties } => self.top(genes, entries, distinct, body, key, ties, streams),
            Select::Sample { weight, replace: false } => self.sample(entries, body, weight, streams),
            Select::Sample { weight, replace: true } => self.draw(entries, body, weight, streams),
        }
        let is_ranked = matches!(d.select, Select::Top { ties: Ties::Column });
        let filled = self.fill(d.fill, genes, entries, body, streams);
        match d.order {
            Order::Key if is_ranked && !filled => {}
            Order::Key => self.by_key(genes, entries, key),
            Order::Column if d.select == Select::Head && !filled => {}
            Order::Column => self.by_column(entries),
            Order::Position => self.by_position(entries, &genes.positions),
            Order::Random => self.shuffle(streams),
        }
    }

    fn head(&mut self, n: usize) {
        self.picked.clear();
        self.picked.extend(0..n as u32);
    }

    #[allow(clippy::too_many_arguments)]
    fn top(
        &mut self,
        genes: &Genes,
        entries: &Entries,
        distinct: &mut Distinct,
        body: usize,
        key: KeyOf<'_>,
        ties: Ties,
        streams: Streams,
    ) {
        if ties == Ties::Column && key.scales.is_empty() && self.top_of_distinct(entries, distinct, body, key) {
            return;
        }
        genes.rough(entries.all(), &mut self.rough);
        let rough = &self.rough;
        match ties {
            Ties::Column => self.ranker.rank(rough, body, |a, b| entries.compare(key, a, b), &mut self.picked),
            Ties::Random => {
                let stream = streams.of(Purpose::Ties);
                let tie = |i: u32| stream.bits(u64::from(i));
                let order = |a, b| entries.compare(key, a, b).then_with(|| tie(a).cmp(&tie(b)));
                self.ranker.rank(rough, body, order, &mut self.picked);
            }
        }
    }

    /// Where keys depend on values alone; false if the values are too many, or so close that
    /// different ones have the same key.
    fn top_of_distinct(&mut self, entries: &Entries, distinct: &mut Distinct, body: usize, key: KeyOf<'_>) -> bool {
        let differ = distinct.find(&entries.x[..entries.n])
            && distinct.iter().map(|(x, ..)| key.key(x, 0)).is_sorted_by(|a, b| a < b);
        if differ {
            distinct.rank(body, &mut self.picked);
        }
        differ
    }

    /// A sample without replacement, in column order if it is uniform.
    fn sample(&mut self, entries: &Entries, body: usize, weight: Weight, streams: Streams) {
        let n = entries.n;
        let stream = streams.of(Purpose::Sample);
        if n <= body || weight == Weight::Uniform {
            return self.uniform(n, body, stream);
        }
        // Efraimidis and Spirakis: the largest u^(1/w) are a weighted sample.
        self.keys.clear();
        self.keys.extend(entries.x[..n].iter().enumerate().map(|(i, &x)| {
            let key = weigh(weight, x) / -stream.unit(i as u64).ln();
            key.min(f64::MAX)
        }));
        self.ranker.rank_exact(&self.keys, body, &mut self.picked);
    }

    /// A sample of `body` of `n` entries, or all.
    fn uniform(&mut self, n: usize, body: usize, stream: Stream) {
        if n <= body {
            return self.head(n);
        }
        // Floyd's algorithm marks exactly m of n; whichever of taken and left is fewer.
        let leave = n - body < body;
        self.marks.clear();
        self.marks.resize(n, leave);
        let m = if leave { n - body } else { body };
        let marks = self.marks.as_mut_slice();
        for j in n - m..n {
            let at = stream.below(j as u64, j + 1);
            let at = select_unpredictable(marks[at] == leave, at, j);
            marks[at] = !leave;
        }
        self.picked.resize(body + 1, 0);
        let (picked, mut k) = (self.picked.as_mut_slice(), 0);
        for (i, &mark) in (0..).zip(&*marks) {
            picked[k] = i;
            k += usize::from(mark);
        }
        self.picked.truncate(body);
    }

    /// A sample with replacement.
    fn draw(&mut self, entries: &Entries, body: usize, weight: Weight, streams: Streams) {
        let stream = streams.of(Purpose::Sample);
        let mut sum = 0.0;
        self.keys.clear();
        self.keys.extend(entries.x[..entries.n].iter().map(|&x| {
            sum += weigh(weight, x);
            sum
        }));
        let last = entries.n - 1;
        self.picked.clear();
        self.picked.extend((0..body as u64).map(|i| {
            let u = stream.unit(i) * sum;
            self.keys.partition_point(|&upto| upto <= u).min(last) as u32
        }));
    }

    fn fill(&mut self, fill: Fill, genes: &Genes, e: &mut Entries, body: usize, streams: Streams) -> bool {
        let missing = body - self.picked.len();
        if fill == Fill::None || missing == 0 {
            return false;
        }
        let mut expressed = e.columns[..e.n].iter().peekable();
        let silent = genes.fillers.iter().filter(|&&c| {
            while expressed.next_if(|&&x| x < c).is_some() {}
            expressed.peek() != Some(&&c)
        });
        self.columns.clear();
        match fill {
            Fill::Random => {
                self.columns.extend(silent);
                let stream = streams.of(Purpose::Fill);
                let n = self.columns.len();
                for i in 0..missing.min(n) {
                    self.columns.swap(i, i + stream.below(i as u64, n - i));
                }
                self.columns.truncate(missing);
            }
            Fill::Column | Fill::None => self.columns.extend(silent.take(missing)),
        }
        let n = e.n;
        e.grow(n + self.columns.len());
        for (i, &column) in (n..).zip(&self.columns) {
            (e.columns[i], e.x[i]) = (column, 0.0);
            self.picked.push(i as u32);
        }
        true
    }

    fn by_column(&mut self, entries: &Entries) {
        if !self.picked.is_sorted_by_key(|&i| entries.columns[i as usize]) {
            self.picked.sort_unstable_by_key(|&i| entries.columns[i as usize]);
        }
    }

    fn by_key(&mut self, genes: &Genes, entries: &Entries, key: KeyOf<'_>) {
        self.by_column(entries);
        genes.rough(self.picked.iter().map(|&i| entries.at(i)), &mut self.rough);
        let picked = &self.picked;
        let order = |a: u32, b: u32| entries.compare(key, picked[a as usize], picked[b as usize]);
        self.ranker.rank(&self.rough, picked.len(), order, &mut self.ranked);
        self.ranked.iter_mut().for_each(|i| *i = picked[*i as usize]);
        std::mem::swap(&mut self.picked, &mut self.ranked);
    }

    fn by_position(&mut self, entries: &Entries, positions: &[f64]) {
        let at = |i: u32| {
            let column = entries.columns[i as usize];
            (positions[column as usize], column)
        };
        self.picked.sort_unstable_by(|&a, &b| {
            let (a, b) = (at(a), at(b));
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
        });
    }

    fn shuffle(&mut self, streams: Streams) {
        let stream = streams.of(Purpose::Order);
        for i in (1..self.picked.len()).rev() {
            self.picked.swap(i, stream.below(i as u64, i + 1));
        }
    }
}

fn weigh(weight: Weight, x: f64) -> f64 {
    match weight {
        Weight::Uniform => 1.0,
        Weight::Value => x,
        Weight::Log1p => x.ln_1p(),
    }
}
