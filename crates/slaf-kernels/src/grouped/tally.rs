//! What is known of the values of groups so far.

use super::ordered::{self, Ordered, Test};
use super::places::Places;

/// Values whose sum does not have to be begun anew: enough for the processor to add several at once.
const SIDE_BY_SIDE: usize = 4;

/// What is wanted of the values that pass tests, beside their number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lane {
    /// All of them are passed.
    pub tests: Vec<Test>,
    /// The sum.
    pub sum: bool,
    /// The least and the greatest value.
    pub range: bool,
    /// The mean, and the sum of squared deviations from it.
    pub moments: bool,
}

/// Of some values of each group, by place: what a [`Lane`] wants, else empty.
#[derive(Clone, Debug)]
pub struct Tally {
    /// How many there are, where that is not all that have come to the place; see
    /// [`Tallies::count`].
    pub count: Vec<u64>,
    /// Their sum, of floats.
    pub sum: Vec<f64>,
    /// Their sum, of integers; the caller knows that it fits.
    pub whole: Vec<i64>,
    /// The [`Ordered::key`] of the least; of no values the greatest integer.
    pub min: Vec<i64>,
    /// The [`Ordered::key`] of the greatest; of no values the least integer.
    pub max: Vec<i64>,
    /// Their mean.
    pub mean: Vec<f64>,
    /// The sum of squared deviations from it.
    pub square: Vec<f64>,
}

/// A tally for each lane, and for all values.
#[derive(Clone, Debug)]
pub struct Tallies<T> {
    /// How many values have come to each place, whatever the lanes want.
    pub all: Vec<u64>,
    /// In the order of the lanes.
    pub lanes: Vec<Tally>,
    wanted: Vec<Lane>,
    conditions: Vec<Test>,
    picked: Picked<T>,
    of_lane: Picked<T>,
}

/// The values of a row that pass tests, and their places.
#[derive(Clone, Debug)]
struct Picked<T> {
    /// Longer than what is used.
    values: Vec<T>,
    places: Vec<u32>,
    n: usize,
}

impl<T: Ordered> Picked<T> {
    fn new() -> Picked<T> {
        Picked { values: Vec::new(), places: Vec::new(), n: 0 }
    }

    /// Takes what passes of `n` pairs. Where all have one place, that is left as it is.
    fn pick(&mut self, n: usize, read: impl Fn(usize) -> (T, u32), tests: &[Test], is_one: bool) {
        if self.values.len() < n {
            self.values.resize(n, T::default());
        }
        if self.places.len() < n {
            self.places.resize(n, 0);
        }
        let (values, places) = (&mut self.values[..], &mut self.places[..]);
        let (first, rest) = match tests.split_first() {
            Some((first, rest)) if !is_one => (first.copy(n, read, values, places), rest),
            None if !is_one => (ordered::copy(n, read, values, places, |_| true), tests),
            _ => {
                values[..n].iter_mut().enumerate().for_each(|(i, v)| *v = read(i).0);
                (n, tests)
            }
        };
        let places = if is_one { &mut places[..0] } else { places };
        self.n = rest.iter().fold(first, |n, test| {
            let some = n.min(places.len());
            test.keep(&mut values[..n], &mut places[..some])
        });
    }

    /// The values of a row that pass, and the place of each where they have not all one.
    fn of_row<'a>(
        &'a mut self,
        numbers: &'a [u32],
        values: &'a [T],
        places: Places<'_>,
        tests: &[Test],
    ) -> (&'a [T], Option<&'a [u32]>) {
        let n = values.len();
        let picks = !tests.is_empty();
        match places {
            Places::One if !picks => return (values, None),
            Places::Own if !picks => return (values, Some(numbers)),
            Places::Whole(table) if !picks => {
                self.places.clear();
                self.places.extend(numbers.iter().map(|&number| table[number as usize]));
                return (values, Some(&self.places));
            }
            Places::One => self.pick(n, |i| (values[i], 0), tests, true),
            Places::Own => self.pick(n, |i| (values[i], numbers[i]), tests, false),
            Places::Whole(table) | Places::Table(table) => {
                self.pick(n, |i| (values[i], table[numbers[i] as usize]), tests, false);
            }
        }
        let (values, at) = self.pairs();
        (values, (!matches!(places, Places::One)).then_some(at))
    }

    fn pairs(&self) -> (&[T], &[u32]) {
        (&self.values[..self.n], &self.places[..self.n])
    }
}

impl<T: Ordered> Tallies<T> {
    /// Of no values, with so many places. Values that do not pass the conditions are left out.
    pub fn new(lanes: &[Lane], conditions: &[Test], n_places: usize) -> Tallies<T> {
        Tallies {
            all: vec![0; n_places],
            lanes: lanes.iter().map(|lane| Tally::new::<T>(lane, n_places)).collect(),
            wanted: lanes.to_vec(),
            conditions: conditions.to_vec(),
            picked: Picked::new(),
            of_lane: Picked::new(),
        }
    }

    /// Adds the values of a row, whose places are counted from `first`. Where all have one place, their
    /// numbers are not looked at.
    pub fn add(&mut self, first: usize, numbers: &[u32], values: &[T], places: Places<'_>) {
        let is_one = matches!(places, Places::One);
        let (values, at) = self.picked.of_row(numbers, values, places, &self.conditions);
        // The usual question, an average: one pass for the number and the sum.
        let together = !is_one && T::DTYPE.is_float() && self.wanted.first().is_some_and(Lane::is_sum);
        match (at, self.lanes.first_mut()) {
            (Some(at), Some(tally)) if together => {
                count_and_sum(&mut self.all[first..], &mut tally.sum[first..], at, values);
            }
            _ => count(&mut self.all[first..], at, values.len()),
        }
        for (tally, lane) in self.lanes.iter_mut().zip(&self.wanted).skip(usize::from(together)) {
            if lane.tests.is_empty() {
                tally.add(lane, first, at, values);
                continue;
            }
            match at {
                None => self.of_lane.pick(values.len(), |i| (values[i], 0), &lane.tests, true),
                Some(at) => self.of_lane.pick(values.len(), |i| (values[i], at[i]), &lane.tests, false),
            }
            let (values, numbers) = self.of_lane.pairs();
            tally.add(lane, first, at.map(|_| numbers), values);
        }
    }

    /// How many values each place has in a lane.
    pub fn count(&self, lane: usize) -> &[u64] {
        match &self.lanes[lane].count[..] {
            [] => &self.all,
            counts => counts,
        }
    }

    /// With the values that come next, at the same places.
    pub fn merge(&mut self, next: &Tallies<T>) {
        self.all.iter_mut().zip(&next.all).for_each(|(a, b)| *a += b);
        self.lanes.iter_mut().zip(&next.lanes).for_each(|(a, b)| a.merge(b));
    }
}

#[inline]
fn count(counts: &mut [u64], at: Option<&[u32]>, n: usize) {
    match at {
        None => counts[0] += n as u64,
        Some(at) => at.iter().for_each(|&p| counts[p as usize] += 1),
    }
}

#[inline]
fn count_and_sum<T: Ordered>(counts: &mut [u64], sums: &mut [f64], at: &[u32], values: &[T]) {
    for (&p, v) in at.iter().zip(values) {
        counts[p as usize] += 1;
        sums[p as usize] += v.as_f64();
    }
}

impl Lane {
    /// All that it wants is the sum of all values.
    fn is_sum(&self) -> bool {
        self.sum && !self.range && !self.moments && self.tests.is_empty()
    }
}

impl Tally {
    fn new<T: Ordered>(lane: &Lane, n: usize) -> Tally {
        let of = |wanted: bool| if wanted { n } else { 0 };
        let is_float = T::DTYPE.is_float();
        Tally {
            count: vec![0; of(lane.moments || !lane.tests.is_empty())],
            sum: vec![0.0; of(lane.sum && is_float)],
            whole: vec![0; of(lane.sum && !is_float)],
            min: vec![i64::MAX; of(lane.range)],
            max: vec![i64::MIN; of(lane.range)],
            mean: vec![0.0; of(lane.moments)],
            square: vec![0.0; of(lane.moments)],
        }
    }

    /// Adds values at places, or all at the first.
    fn add<T: Ordered>(&mut self, lane: &Lane, first: usize, at: Option<&[u32]>, values: &[T]) {
        if lane.moments {
            self.count_with_moments(first, at, values);
        } else if !lane.tests.is_empty() {
            count(&mut self.count[first..], at, values.len());
        }
        if lane.sum && T::DTYPE.is_float() {
            let sums = &mut self.sum[first..];
            match at {
                None => sums[0] += sum(values),
                Some(at) => at.iter().zip(values).for_each(|(&p, v)| sums[p as usize] += v.as_f64()),
            }
        } else if lane.sum {
            let sums = &mut self.whole[first..];
            match at {
                None => sums[0] += values.iter().map(|v| v.key()).sum::<i64>(),
                Some(at) => at.iter().zip(values).for_each(|(&p, v)| sums[p as usize] += v.key()),
            }
        }
        if lane.range {
            let (min, max) = (&mut self.min[first..], &mut self.max[first..]);
            match at {
                None => (min[0], max[0]) = range(values, (min[0], max[0])),
                Some(at) => {
                    for (&p, v) in at.iter().zip(values) {
                        let (p, key) = (p as usize, v.key());
                        min[p] = min[p].min(key);
                        max[p] = max[p].max(key);
                    }
                }
            }
        }
    }

    fn count_with_moments<T: Ordered>(&mut self, first: usize, at: Option<&[u32]>, values: &[T]) {
        let (counts, means, squares) = (&mut self.count[first..], &mut self.mean[first..], &mut self.square[first..]);
        let Some(at) = at else {
            let n = values.len() as u64;
            let mean = sum(values) / n as f64;
            let square = values.iter().map(|v| (v.as_f64() - mean) * (v.as_f64() - mean)).sum();
            (means[0], squares[0]) = together((counts[0], means[0], squares[0]), (n, mean, square));
            counts[0] += n;
            return;
        };
        for (&p, v) in at.iter().zip(values) {
            let (p, value) = (p as usize, v.as_f64());
            counts[p] += 1;
            let distance = value - means[p];
            means[p] += distance / counts[p] as f64;
            squares[p] += distance * (value - means[p]);
        }
    }

    fn merge(&mut self, next: &Tally) {
        for (i, (mean, square)) in self.mean.iter_mut().zip(&mut self.square).enumerate() {
            let ours = (self.count[i], *mean, *square);
            (*mean, *square) = together(ours, (next.count[i], next.mean[i], next.square[i]));
        }
        self.count.iter_mut().zip(&next.count).for_each(|(a, b)| *a += b);
        self.sum.iter_mut().zip(&next.sum).for_each(|(a, b)| *a += b);
        self.whole.iter_mut().zip(&next.whole).for_each(|(a, b)| *a += b);
        self.min.iter_mut().zip(&next.min).for_each(|(a, b)| *a = (*a).min(*b));
        self.max.iter_mut().zip(&next.max).for_each(|(a, b)| *a = (*a).max(*b));
    }
}

/// The mean and the squared deviations of two sets of values (Chan 1979).
fn together(a: (u64, f64, f64), b: (u64, f64, f64)) -> (f64, f64) {
    if b.0 == 0 {
        return (a.1, a.2);
    }
    if a.0 == 0 {
        return (b.1, b.2);
    }
    let (n_a, n_b) = (a.0 as f64, b.0 as f64);
    let distance = b.1 - a.1;
    let mean = a.1 + distance * (n_b / (n_a + n_b));
    (mean, a.2 + b.2 + distance * distance * (n_a * n_b / (n_a + n_b)))
}

/// The least and the greatest key, of values and what they were before.
fn range<T: Ordered>(values: &[T], (least, greatest): (i64, i64)) -> (i64, i64) {
    let Some(first) = values.first() else { return (least, greatest) };
    let first = first.narrow_key();
    let (min, max) = values.iter().fold((first, first), |(min, max), value| {
        let key = value.narrow_key();
        (min.min(key), max.max(key))
    });
    (least.min(min.into()), greatest.max(max.into()))
}

/// Of values that cannot overflow, several partial sums, which are added in a fixed order.
fn sum<T: Ordered>(values: &[T]) -> f64 {
    if T::DTYPE.size() > 4 {
        return values.iter().map(|v| v.as_f64()).sum();
    }
    let mut sums = [0.0; SIDE_BY_SIDE];
    let chunks = values.chunks_exact(SIDE_BY_SIDE);
    let rest: f64 = chunks.remainder().iter().map(|v| v.as_f64()).sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(s, v)| *s += v.as_f64());
    }
    sums.iter().sum::<f64>() + rest
}
