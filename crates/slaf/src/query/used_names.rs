//! Names in answers. While a query runs they are numbers in the names of all cells or genes, which
//! costs nothing; who takes an answer over looks at each of these.

use super::options::QueryResult;
use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::Int32Type;
use slaf_core::Result;
use slaf_lance::error::from_arrow;
use std::sync::Arc;

impl QueryResult {
    /// The same rows, of whose dictionaries those that are longer than their column have the values
    /// that occur, in their order.
    ///
    /// # Errors
    /// None but defects.
    pub fn with_used_names(mut self) -> Result<QueryResult> {
        for batch in &mut self.batches {
            let columns = batch.columns().iter().map(used).collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            *batch = RecordBatch::try_new_with_options(batch.schema(), columns, &options).map_err(from_arrow)?;
        }
        Ok(self)
    }
}

fn used(column: &ArrayRef) -> Result<ArrayRef> {
    let Some(dictionary) = column.as_dictionary_opt::<Int32Type>() else { return Ok(column.clone()) };
    let values = dictionary.values();
    if values.len() <= dictionary.len() {
        return Ok(column.clone());
    }
    // The place of each value that occurs, from 1; zeros are memory that is not touched.
    let mut places = vec![0u32; values.len()];
    let mut occurring: Vec<u32> = Vec::new();
    for key in dictionary.keys().iter().flatten() {
        if std::mem::replace(&mut places[key as usize], 1) == 0 {
            occurring.push(key as u32);
        }
    }
    occurring.sort_unstable();
    (1..).zip(&occurring).for_each(|(place, &key)| places[key as usize] = place);
    let keys: Int32Array = dictionary.keys().iter().map(|key| key.map(|key| places[key as usize] as i32 - 1)).collect();
    let values = take(values, &UInt32Array::from(occurring), None).map_err(from_arrow)?;
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values).map_err(from_arrow)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use arrow::compute::cast;
    use arrow::datatypes::DataType;

    fn dictionary(keys: Vec<Option<i32>>, n: usize) -> ArrayRef {
        let values = StringArray::from_iter_values((0..n).map(|i| format!("n{i}")));
        Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), Arc::new(values)).unwrap())
    }

    #[test]
    fn values_that_occur_stay_in_order() {
        let all = dictionary(vec![Some(7), None, Some(2), Some(7), Some(900)], 1000);
        let some = used(&all).unwrap();
        assert_eq!(some.data_type(), all.data_type());
        let text = |array: &ArrayRef| cast(array, &DataType::Utf8).unwrap();
        assert_eq!(&text(&some), &text(&all));
        let names = some.as_dictionary::<Int32Type>().values().clone();
        assert_eq!(names.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["n2", "n7", "n900"]);
        // Of a part of an array.
        let part = used(&all.slice(1, 2)).unwrap();
        assert_eq!(&text(&part), &text(&all.slice(1, 2)));
        assert_eq!(part.as_dictionary::<Int32Type>().values().len(), 1);
    }

    #[test]
    fn short_and_other_columns_stay() {
        let short = dictionary(vec![Some(1), Some(1), Some(0)], 3);
        assert_eq!(used(&short).unwrap().as_dictionary::<Int32Type>().values().len(), 3);
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![3, 4]));
        assert!(Arc::ptr_eq(&used(&numbers).unwrap(), &numbers));
        assert_eq!(used(&dictionary(vec![], 5)).unwrap().len(), 0);
    }
}
