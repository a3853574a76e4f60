//! SUM of whole numbers: the exact sum, or an error where it has no place in 64 bits.

use crate::error::to_datafusion;
use crate::integers::beyond;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use datafusion::common::{Result as DfResult, ScalarValue, plan_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The accumulator of all rows, or of those of a window, for whole numbers.
pub(crate) fn accumulator(data_type: &DataType, distinct: bool) -> Option<Box<dyn Accumulator>> {
    let data_type = data_type.clone();
    matches!(data_type, DataType::Int64 | DataType::UInt64).then(|| match distinct {
        true => Box::new(Distinct { counts: HashMap::new(), sum: 0, data_type }) as Box<dyn Accumulator>,
        false => Box::new(Sum { sum: 0, count: 0, data_type }),
    })
}

/// The accumulator of groups, for whole numbers.
pub(crate) fn groups_accumulator(data_type: &DataType) -> Option<Box<dyn GroupsAccumulator>> {
    let overflow = Arc::new(AtomicBool::new(false));
    let seen = overflow.clone();
    let inner: Box<dyn GroupsAccumulator> = match data_type {
        DataType::Int64 => {
            let add = move |sum: &mut i64, x: i64| match sum.checked_add(x) {
                Some(next) => *sum = next,
                None => seen.store(true, Ordering::Relaxed),
            };
            Box::new(PrimitiveGroupsAccumulator::<Int64Type, _>::new(data_type, add))
        }
        DataType::UInt64 => {
            let add = move |sum: &mut u64, x: u64| match sum.checked_add(x) {
                Some(next) => *sum = next,
                None => seen.store(true, Ordering::Relaxed),
            };
            Box::new(PrimitiveGroupsAccumulator::<UInt64Type, _>::new(data_type, add))
        }
        _ => return None,
    };
    Some(Box::new(Groups { inner, overflow }))
}

fn for_each(values: &ArrayRef, mut each: impl FnMut(i128)) -> DfResult<()> {
    if let Some(numbers) = values.as_primitive_opt::<Int64Type>() {
        match numbers.null_count() {
            0 => numbers.values().iter().for_each(|&x| each(x.into())),
            _ => numbers.iter().flatten().for_each(|x| each(x.into())),
        }
    } else if let Some(numbers) = values.as_primitive_opt::<UInt64Type>() {
        match numbers.null_count() {
            0 => numbers.values().iter().for_each(|&x| each(x.into())),
            _ => numbers.iter().flatten().for_each(|x| each(x.into())),
        }
    } else {
        return plan_err!("a sum of another type: {}", values.data_type());
    }
    Ok(())
}

fn scalar(number: Option<i128>, data_type: &DataType) -> DfResult<ScalarValue> {
    let too_large = |_| to_datafusion(beyond("SUM"));
    Ok(match data_type {
        DataType::UInt64 => ScalarValue::UInt64(number.map(u64::try_from).transpose().map_err(too_large)?),
        _ => ScalarValue::Int64(number.map(i64::try_from).transpose().map_err(too_large)?),
    })
}

#[derive(Debug)]
struct Sum {
    sum: i128,
    /// How many values there are.
    count: u64,
    data_type: DataType,
}

impl Accumulator for Sum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.count += (values[0].len() - values[0].null_count()) as u64;
        for_each(&values[0], |x| self.sum += x)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.count -= (values[0].len() - values[0].null_count()) as u64;
        for_each(&values[0], |x| self.sum -= x)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        scalar((self.count > 0).then_some(self.sum), &self.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.update_batch(states)
    }
}

/// The sum of values that differ.
#[derive(Debug)]
struct Distinct {
    /// How often each comes.
    counts: HashMap<i128, u64>,
    sum: i128,
    data_type: DataType,
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        for_each(&values[0], |x| {
            let count = self.counts.entry(x).or_insert(0);
            if *count == 0 {
                self.sum += x;
            }
            *count += 1;
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        for_each(&values[0], |x| {
            if let Some(count) = self.counts.get_mut(&x) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&x);
                    self.sum -= x;
                }
            }
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        scalar((!self.counts.is_empty()).then_some(self.sum), &self.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * (size_of::<(i128, u64)>() + 1)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let values = self.counts.keys().map(|&x| scalar(Some(x), &self.data_type)).collect::<DfResult<Vec<_>>>()?;
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &self.data_type))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.update_batch(&[values]))
    }
}

/// Sums of groups that fail where one has become too large.
struct Groups {
    inner: Box<dyn GroupsAccumulator>,
    overflow: Arc<AtomicBool>,
}

impl Groups {
    fn check(&self) -> DfResult<()> {
        match self.overflow.load(Ordering::Relaxed) {
            true => Err(to_datafusion(beyond("SUM"))),
            false => Ok(()),
        }
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        n_groups: usize,
    ) -> DfResult<()> {
        self.inner.update_batch(values, groups, filter, n_groups)?;
        self.check()
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        self.inner.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        n_groups: usize,
    ) -> DfResult<()> {
        self.inner.merge_batch(values, groups, filter, n_groups)?;
        self.check()
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, filter)
    }

    fn supports_convert_to_state(&self) -> bool {
        self.inner.supports_convert_to_state()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::from_datafusion;
    use arrow::array::{Int64Array, UInt64Array};

    fn of(data_type: &DataType, distinct: bool, batches: &[ArrayRef]) -> DfResult<ScalarValue> {
        let mut accumulator = accumulator(data_type, distinct).unwrap();
        batches.iter().try_for_each(|batch| accumulator.update_batch(std::slice::from_ref(batch)))?;
        accumulator.evaluate()
    }

    #[test]
    fn sums_are_exact_or_an_error() {
        let numbers = |numbers: Vec<Option<i64>>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
        let (most, least) = (Some(i64::MAX), Some(i64::MIN));
        let int = DataType::Int64;
        // Parts may be beyond.
        let parts = [numbers(vec![most, most, None]), numbers(vec![least, Some(1)])];
        assert_eq!(of(&int, false, &parts).unwrap(), ScalarValue::Int64(most));
        assert_eq!(of(&int, false, &[numbers(vec![None])]).unwrap(), ScalarValue::Int64(None));
        assert_eq!(of(&int, true, &[numbers(vec![most, most])]).unwrap(), ScalarValue::Int64(most));
        let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1]));
        for (data_type, distinct, batch) in [
            (&int, false, numbers(vec![most, Some(1)])),
            (&int, true, numbers(vec![least, Some(-1)])),
            (&DataType::UInt64, false, unsigned.clone()),
        ] {
            let error = from_datafusion(of(data_type, distinct, std::slice::from_ref(&batch)).unwrap_err());
            assert_eq!(error.kind(), slaf_core::ErrorKind::InvalidQuery);
            let mut groups = groups_accumulator(data_type).unwrap();
            assert!(groups.update_batch(&[batch], &[0, 0], None, 1).is_err());
        }
    }

    #[test]
    fn windows_forget_what_leaves_them() {
        let batch = |numbers: Vec<Option<i64>>| [Arc::new(Int64Array::from(numbers)) as ArrayRef];
        for distinct in [false, true] {
            let mut sum = accumulator(&DataType::Int64, distinct).unwrap();
            sum.update_batch(&batch(vec![Some(i64::MAX), Some(5), None])).unwrap();
            sum.retract_batch(&batch(vec![Some(i64::MAX)])).unwrap();
            assert_eq!(sum.evaluate().unwrap(), ScalarValue::Int64(Some(5)));
            sum.retract_batch(&batch(vec![Some(5), None])).unwrap();
            assert_eq!(sum.evaluate().unwrap(), ScalarValue::Int64(None));
        }
    }
}
