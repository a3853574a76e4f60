//! Memory of rows, which need not be set before it is written.

use std::mem::MaybeUninit;

/// Memory that is filled from the front to the end.
pub(super) struct Places<'a, T> {
    rest: &'a mut [MaybeUninit<T>],
}

impl<'a, T: Copy> Places<'a, T> {
    fn take(&mut self, n: usize) -> &'a mut [MaybeUninit<T>] {
        let (now, later) = std::mem::take(&mut self.rest).split_at_mut(n);
        self.rest = later;
        now
    }

    /// Fills the next places, one for each of the values.
    ///
    /// # Panics
    /// If there are fewer places than values.
    #[inline(always)]
    pub(super) fn extend(&mut self, values: impl ExactSizeIterator<Item = T>) {
        let n = values.len();
        let places = self.take(n);
        let mut written = 0;
        for (place, value) in places.iter_mut().zip(values) {
            place.write(value);
            written += 1;
        }
        assert_eq!(written, n, "values that end too early");
    }

    /// Fills the next `n` places with a value.
    pub(super) fn repeat(&mut self, value: T, n: usize) {
        self.take(n).fill(MaybeUninit::new(value));
    }

    /// Fills all places that are left.
    pub(super) fn finish(&mut self, value: T) {
        self.repeat(value, self.rest.len());
    }
}

/// Memory that is set already, and is overwritten.
fn again<T: Copy>(memory: &mut [T]) -> &mut [MaybeUninit<T>] {
    let n = memory.len();
    // SAFETY: the layout is the same, and only `Places` write here, which write nothing but a `T`.
    unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), n) }
}

/// Memory of rows of tokens.
pub(super) struct Memory<'a> {
    ids: &'a mut [MaybeUninit<i64>],
    mask: &'a mut [MaybeUninit<bool>],
    /// Empty for a tokenizer without values.
    values: &'a mut [MaybeUninit<f32>],
}

impl<'a> Memory<'a> {
    /// That of these slices.
    pub(super) fn of(ids: &'a mut [i64], mask: &'a mut [bool], values: &'a mut [f32]) -> Self {
        Memory { ids: again(ids), mask: again(mask), values: again(values) }
    }

    /// That behind the ends of vectors: of `n` tokens, and of as many values or none.
    pub(super) fn behind(
        ids: &'a mut Vec<i64>,
        mask: &'a mut Vec<bool>,
        values: &'a mut Vec<f32>,
        n: usize,
        n_values: usize,
    ) -> Self {
        ids.reserve(n);
        mask.reserve(n);
        values.reserve(n_values);
        let (ids, mask) = (&mut ids.spare_capacity_mut()[..n], &mut mask.spare_capacity_mut()[..n]);
        Memory { ids, mask, values: &mut values.spare_capacity_mut()[..n_values] }
    }

    /// The first `n` tokens, and the others.
    pub(super) fn split(self, n: usize) -> (Memory<'a>, Memory<'a>) {
        let (ids, later_ids) = self.ids.split_at_mut(n);
        let (mask, later_mask) = self.mask.split_at_mut(n);
        let (values, later_values) = self.values.split_at_mut(n.min(self.values.len()));
        (Memory { ids, mask, values }, Memory { ids: later_ids, mask: later_mask, values: later_values })
    }
}

/// Where a row of tokens goes; `values` has no place if the tokenizer has none.
pub(super) struct RowOut<'a> {
    pub(super) ids: Places<'a, i64>,
    pub(super) mask: Places<'a, bool>,
    pub(super) values: Places<'a, f32>,
}

impl<'a> RowOut<'a> {
    pub(super) fn new(Memory { ids, mask, values }: Memory<'a>) -> Self {
        RowOut { ids: Places { rest: ids }, mask: Places { rest: mask }, values: Places { rest: values } }
    }

    pub(super) fn is_full(&self) -> bool {
        self.ids.rest.is_empty() && self.mask.rest.is_empty() && self.values.rest.is_empty()
    }
}
