//! An input whose cells say where they come from.

use arrow::array::{DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Int32Type};
use slaf_core::{Result, Values};
use slaf_ingest::{
    ArrayKey, Column, ColumnInfo, ColumnKind, Description, Frame, Input, MatrixKey, RowStream, StreamOptions,
};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// An input with one more column of obs, which has the same value in all cells.
pub(super) struct Labelled {
    input: Box<dyn Input>,
    description: Description,
    info: ColumnInfo,
    value: String,
}

impl Labelled {
    pub(super) fn new(input: Box<dyn Input>, column: &str, value: &str) -> Labelled {
        let info = ColumnInfo {
            name: column.to_string(),
            data_type: DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            kind: ColumnKind::Categorical { ordered: false },
        };
        let mut description = input.description().clone();
        description.obs.columns.push(info.clone());
        Labelled { input, description, info, value: value.to_string() }
    }
}

impl Input for Labelled {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        let mut frame = self.input.obs(rows)?;
        let codes = Int32Array::from(vec![0; frame.index.len()]);
        let names = Arc::new(StringArray::from(vec![self.value.as_str()]));
        let array = DictionaryArray::<Int32Type>::try_new(codes, names).map_err(slaf_lance::error::from_arrow)?;
        frame.columns.push(Column { info: self.info.clone(), array: Arc::new(array) });
        Ok(frame)
    }

    fn var(&self) -> Result<Frame> {
        self.input.var()
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        self.input.raw_var()
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        self.input.matrix(key, options)
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        self.input.column_counts(key)
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        self.input.array(key, rows)
    }

    fn write_extras(&self, target: &Path) -> Result<()> {
        self.input.write_extras(target)
    }
}
