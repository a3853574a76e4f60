//! Tables that several processes write: each writes data files, and one of them makes the table of
//! these.

use crate::data_files::{DataFiles, FILE_VERSION, RowFiles, fragment};
use crate::error::from_lance;
use crate::runtime::block_on;
use crate::storage::Storage;
use crate::table::TableEntry;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use futures::FutureExt;
use lance::dataset::CommitBuilder;
use lance::dataset::transaction::{Operation, TransactionBuilder};
use lance::datatypes::Schema;
use lance::table::format::{DataFile, Fragment};
use lance_file::version::LanceFileVersion;
use serde::{Deserialize, Serialize};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::cell::Cell;
use std::num::NonZero;

/// A data file of a table that is not there yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Its name in the folder `data` of the table.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// The columns that it has, by the numbers that the table gives them.
    fields: Vec<i32>,
    /// Where each of them is in the file; several for one of nested type.
    columns: Vec<i32>,
}

impl WrittenFile {
    fn of(fragment: &Fragment) -> Result<WrittenFile> {
        let lost = || Error::new(ErrorKind::Internal, "a fragment without a data file");
        let (file, rows) = fragment.files.first().zip(fragment.physical_rows).ok_or_else(lost)?;
        Ok(WrittenFile {
            name: file.path.clone(),
            rows: rows as u64,
            bytes: file.file_size_bytes.get().map_or(0, NonZero::get),
            fields: file.fields.to_vec(),
            columns: file.column_indices.to_vec(),
        })
    }

    fn fragment(&self) -> Fragment {
        let WrittenFile { name, rows, bytes, fields, columns } = self.clone();
        let file = DataFile::new(name, fields, columns, FILE_VERSION, NonZero::new(bytes), None);
        fragment((file, rows as usize))
    }

    /// Its path below the root, in a table.
    pub fn path(&self, table: &str) -> String {
        format!("{table}/data/{}", self.name)
    }
}

/// Writes some rows of a table that is not there yet.
pub struct PartWriter {
    files: DataFiles,
    rows: RowFiles,
    prefix: String,
    next: Cell<u64>,
    ended: Vec<Fragment>,
}

impl PartWriter {
    /// Begins with rows of these columns for the table in the folder `table` below the root, with at most
    /// `fragment_rows` rows in a data file. Names of files begin with `prefix`.
    ///
    /// # Errors
    /// `internal` for columns that Lance does not hold.
    pub fn create(
        storage: &Storage,
        table: &str,
        columns: &SchemaRef,
        fragment_rows: usize,
        prefix: &str,
    ) -> Result<PartWriter> {
        let uri = storage.full(table);
        let schema = schema_of(columns).at(&uri)?;
        Ok(PartWriter {
            files: DataFiles {
                store: storage.object_store().clone(),
                folder: storage.path(&format!("{table}/data")),
                storage: storage.clone(),
                uri,
            },
            rows: RowFiles::new(schema, fragment_rows),
            prefix: prefix.to_string(),
            next: Cell::new(0),
            ended: Vec::new(),
        })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Those of writing.
    pub fn send(&mut self, batch: &RecordBatch) -> Result<()> {
        let (prefix, next) = (&self.prefix, &self.next);
        let name = || format!("{prefix}-{}.lance", next.replace(next.get() + 1));
        self.rows.send(&self.files, batch, name, &mut self.ended)
    }

    /// Ends the last file; gives all in the order of their rows.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> Result<Vec<WrittenFile>> {
        self.ended.extend(self.rows.finish(&self.files)?);
        self.ended.iter().map(WrittenFile::of).collect()
    }
}

/// The columns as every writer of a part numbers them.
fn schema_of(columns: &ArrowSchema) -> Result<Schema> {
    Schema::try_from(columns).map_err(from_lance)
}

/// Makes a table of data files, whose rows follow each other as the files do.
///
/// # Errors
/// Those of writing; `internal` if there is such a table.
pub fn assemble(storage: &Storage, table: &str, columns: &SchemaRef, files: &[WrittenFile]) -> Result<TableEntry> {
    let uri = storage.full(table);
    let schema = schema_of(columns).at(&uri)?;
    let fragments = files.iter().map(WrittenFile::fragment).collect();
    let operation = Operation::Overwrite { fragments, schema, config_upsert_values: None, initial_bases: None };
    let commit = async {
        CommitBuilder::new(uri.as_str())
            .with_store_params(storage.object_store_params())
            .with_storage_format(LanceFileVersion::V2_2)
            .execute(TransactionBuilder::new(0, operation).build())
            .boxed()
            .await
            .map_err(from_lance)
    };
    let dataset = block_on(storage.guard(commit)).at(&uri)?;
    let version = dataset.version().version;
    if version != 1 {
        return Err(Error::new(ErrorKind::Internal, "a table was there already").at(uri));
    }
    Ok(TableEntry { path: table.to_string(), version, rows: files.iter().map(|f| f.rows).sum() })
}
