//! Files of one record batch, in Arrow's IPC format.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use slaf_core::{Error, Result};
use slaf_lance::error::from_arrow;
use std::io::Cursor;

/// The file of a batch.
pub(crate) fn to_ipc(batch: &RecordBatch) -> Result<Bytes> {
    let mut out = Vec::new();
    let mut writer = FileWriter::try_new(&mut out, &batch.schema()).map_err(from_arrow)?;
    writer.write(batch).and_then(|()| writer.finish()).map_err(from_arrow)?;
    drop(writer);
    Ok(out.into())
}

/// The batch of a file; `what` it holds is in the error.
///
/// # Errors
/// `corrupt`.
pub(crate) fn from_ipc(bytes: Bytes, what: &str) -> Result<RecordBatch> {
    let damaged = |e: ArrowError| Error::corrupt(format!("{what}: {e}"));
    let mut reader = FileReader::try_new(Cursor::new(bytes), None).map_err(damaged)?;
    reader.next().ok_or_else(|| Error::corrupt(format!("{what}: no record batch")))?.map_err(damaged)
}
