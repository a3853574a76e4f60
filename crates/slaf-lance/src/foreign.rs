//! Reading a Lance table of which nothing is known.

use crate::error::from_lance_reading;
use crate::runtime::block_on;
use arrow::array::RecordBatch;
use arrow::datatypes::Field;
use futures::TryStreamExt;
use lance::dataset::ProjectionRequest;
use lance::dataset::builder::DatasetBuilder;
use slaf_core::{Context, Error, ErrorKind, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const BATCH_ROWS: usize = 1 << 16;
/// Bytes that a scan reads ahead; Lance's own default is 2 GiB.
const READ_AHEAD_BYTES: u64 = 128 << 20;

/// A Lance table in a local folder that this library did not write.
pub struct ForeignTable {
    dataset: lance::Dataset,
    name: String,
}

/// An error of reading the table: what is missing or senseless is the input's fault.
fn at_fault(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Internal => {
            Error::malformed(error.message().to_owned()).with_source(error)
        }
        _ => error,
    }
}

impl ForeignTable {
    /// Opens the newest version of the table `name` in `folder`.
    ///
    /// # Errors
    /// `malformed-input` for one that is missing or no Lance table, `invalid-argument` for a path that
    /// is not UTF-8.
    pub fn open(folder: &Path, name: &str) -> Result<ForeignTable> {
        let path = std::path::absolute(folder)?.join(name);
        if !path.is_dir() {
            return Err(Error::malformed("the table is missing").at(name));
        }
        let uri = path.to_str().ok_or_else(|| Error::invalid("a path that is not UTF-8").at(name))?;
        let dataset = block_on(async { DatasetBuilder::from_uri(uri).load().await.map_err(from_lance_reading) });
        Ok(ForeignTable { dataset: dataset.map_err(at_fault).at(name)?, name: name.to_owned() })
    }

    /// The name of its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its columns.
    pub fn fields(&self) -> Vec<Field> {
        self.dataset.schema().fields.iter().map(Field::from).collect()
    }

    /// How many rows it has.
    ///
    /// # Errors
    /// `malformed-input` for files that are missing or broken.
    pub fn rows(&self) -> Result<u64> {
        let rows = block_on(async { self.dataset.count_rows(None).await.map_err(from_lance_reading) });
        Ok(rows.map_err(at_fault).at(&self.name)? as u64)
    }

    /// Reads columns of all rows, or of some, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub fn scan(
        &self,
        columns: &[&str],
        rows: Option<Range<u64>>,
        mut each: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut run = || -> Result<()> {
            let mut scanner = self.dataset.scan();
            scanner.project(columns).map_err(from_lance_reading)?;
            scanner.batch_size(BATCH_ROWS).io_buffer_size(READ_AHEAD_BYTES).scan_in_order(true);
            if let Some(rows) = &rows {
                let n = rows.end.saturating_sub(rows.start) as i64;
                scanner.limit(Some(n), Some(rows.start as i64)).map_err(from_lance_reading)?;
            }
            let mut stream =
                block_on(async { scanner.try_into_stream().await.map_err(from_lance_reading) }).map_err(at_fault)?;
            while let Some(batch) =
                block_on(async { stream.try_next().await.map_err(from_lance_reading) }).map_err(at_fault)?
            {
                each(&batch)?;
            }
            Ok(())
        };
        run().at(&self.name)
    }

    /// Reads columns of single rows, in the order given.
    ///
    /// # Errors
    /// Those of the store.
    pub fn take(&self, columns: &[&str], rows: &[u64]) -> Result<RecordBatch> {
        let take = async {
            let schema = self.dataset.schema().project(columns).map_err(from_lance_reading)?;
            self.dataset.take(rows, ProjectionRequest::Schema(Arc::new(schema))).await.map_err(from_lance_reading)
        };
        block_on(take).map_err(at_fault).at(&self.name)
    }
}
