//! Data files of a table, which no version of it names yet.

use crate::error::from_lance;
use crate::runtime::block_on;
use crate::storage::Storage;
use arrow::array::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use lance::datatypes::Schema;
use lance::io::ObjectStore;
use lance::table::format::{DataFile, Fragment};
use lance_file::version::ConcreteFileVersion;
use lance_file::versions::create_writer;
use lance_file::writer::{FileWriter, FileWriterOptions};
use object_store::path::Path;
use slaf_core::{Context, Result};
use std::num::NonZero;
use std::sync::Arc;

/// The version of the Lance file format that tables are written in.
pub(crate) const FILE_VERSION: ConcreteFileVersion = ConcreteFileVersion::V2_2;

/// The folder of the data files of a table.
pub(crate) struct DataFiles {
    pub(crate) storage: Storage,
    pub(crate) store: Arc<ObjectStore>,
    pub(crate) folder: Path,
    /// The address of the table, for errors.
    pub(crate) uri: String,
}

pub(crate) struct OpenFile {
    name: String,
    writer: FileWriter,
}

impl DataFiles {
    pub(crate) fn create(&self, name: String, schema: Schema) -> Result<OpenFile> {
        let path = self.folder.clone().join(name.as_str());
        let create = async {
            let object = self.store.create(&path).boxed().await.map_err(from_lance)?;
            create_writer(FILE_VERSION, object, schema, FileWriterOptions::default()).map_err(from_lance)
        };
        let writer = block_on(self.storage.guard(create)).at(&self.uri)?;
        Ok(OpenFile { name, writer })
    }

    pub(crate) fn write(&self, file: &mut OpenFile, batch: &RecordBatch) -> Result<()> {
        let write: BoxFuture<'_, _> = file.writer.write_batch(batch).boxed();
        block_on(self.storage.guard(async { write.await.map_err(from_lance) })).at(&self.uri)
    }

    /// Ends a data file; gives its entry and its number of rows.
    pub(crate) fn close(&self, mut file: OpenFile) -> Result<(DataFile, usize)> {
        let columns = file.writer.field_id_to_column_indices().to_vec();
        let finish = file.writer.finish().boxed();
        let summary = block_on(self.storage.guard(async { finish.await.map_err(from_lance) })).at(&self.uri)?;
        let (fields, indices) = columns.into_iter().map(|(field, column)| (field as i32, column as i32)).unzip();
        let entry = DataFile::new(file.name, fields, indices, FILE_VERSION, NonZero::new(summary.size_bytes), None);
        Ok((entry, summary.num_rows as usize))
    }
}

/// Rows on their way into data files of at most so many rows.
pub(crate) struct RowFiles {
    schema: Schema,
    fragment_rows: usize,
    open: Option<(OpenFile, usize)>,
}

impl RowFiles {
    pub(crate) fn new(schema: Schema, fragment_rows: usize) -> RowFiles {
        RowFiles { schema, fragment_rows: fragment_rows.max(1), open: None }
    }

    /// Adds rows; `name` names the next file. Fragments that have all their rows go to `ended`.
    pub(crate) fn send(
        &mut self,
        files: &DataFiles,
        batch: &RecordBatch,
        name: impl Fn() -> String,
        ended: &mut Vec<Fragment>,
    ) -> Result<()> {
        let mut done = 0;
        while done < batch.num_rows() {
            let (mut file, rows) = match self.open.take() {
                Some(open) => open,
                None => (files.create(name(), self.schema.clone())?, 0),
            };
            let n = (batch.num_rows() - done).min(self.fragment_rows - rows);
            files.write(&mut file, &batch.slice(done, n))?;
            done += n;
            if rows + n == self.fragment_rows {
                ended.push(fragment(files.close(file)?));
            } else {
                self.open = Some((file, rows + n));
            }
        }
        Ok(())
    }

    /// The last fragment, if rows are left for one.
    pub(crate) fn finish(&mut self, files: &DataFiles) -> Result<Option<Fragment>> {
        self.open.take().map(|(file, _)| files.close(file).map(fragment)).transpose()
    }
}

/// A fragment of one data file.
pub(crate) fn fragment((file, rows): (DataFile, usize)) -> Fragment {
    // Lance numbers new fragments when it commits.
    Fragment { files: vec![file], physical_rows: Some(rows), ..Fragment::new(0) }
}
