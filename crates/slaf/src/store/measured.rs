//! The table of which genes were measured in which cells: its sources are in the root manifest, the
//! genes of each set in a file.

use super::ipc;
use super::manifest::{Manifest, MeasuredEntry, SourceEntry};
use super::snapshot::Snapshot;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use slaf_core::{Context, Error, Result};
use slaf_ingest::Measured;
use slaf_lance::error::from_arrow;
use std::borrow::Cow;
use std::sync::Arc;

/// The file of sets: a row for each gene, a column for each set.
pub(crate) fn sets_to_ipc(measured: &Measured) -> Result<Bytes> {
    let fields = (0..measured.sets().len()).map(|set| Field::new(set.to_string(), DataType::Boolean, false));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let column = |set: &BooleanBuffer| Arc::new(BooleanArray::new(set.clone(), None)) as ArrayRef;
    let columns = measured.sets().iter().map(column).collect();
    let batch = RecordBatch::try_new(schema, columns).map_err(from_arrow)?;
    ipc::to_ipc(&batch)
}

/// What a root manifest and its file of sets say together.
fn from_ipc(entry: &MeasuredEntry, n_genes: u64, bytes: Bytes) -> Result<Measured> {
    let batch = ipc::from_ipc(bytes, "sets of genes")?;
    let (n_rows, n_sets) = (batch.num_rows() as u64, batch.num_columns() as u64);
    if (n_rows, n_sets) != (n_genes, entry.n_sets) {
        let what = format!("{n_sets} sets of {n_rows} genes, but the root manifest says {} of {n_genes}", entry.n_sets);
        return Err(Error::corrupt(what));
    }
    let mut sets = Vec::new();
    for column in batch.columns() {
        match column.as_boolean_opt().filter(|c| c.null_count() == 0) {
            Some(column) => sets.push(column.values().clone()),
            None => return Err(Error::corrupt("sets of genes: a column that is not of truth values")),
        }
    }
    let mut measured = Measured::new(n_genes);
    for SourceEntry { name, n_cells, set, .. } in &entry.sources {
        let genes = sets.get(*set as usize).ok_or_else(|| Error::corrupt(format!("{set} of {n_sets} sets")))?;
        measured.push(name.as_deref(), *n_cells, genes);
    }
    Ok(measured)
}

/// The place of the source of a cell; none for a cell that there is not.
pub(crate) fn place_of(manifest: &Manifest, cell: i64) -> Option<i64> {
    let cell = u64::try_from(cell).ok().filter(|cell| *cell < manifest.n_cells)?;
    let sources = manifest.measured.as_ref().map_or(&[][..], |m| &m.sources);
    // Without a table, all cells are of one source.
    Some(sources.partition_point(|s| s.first_cell + s.n_cells <= cell) as i64)
}

/// What the root manifest says of it, where there is anything to say.
pub(crate) fn entry_of(measured: &Measured, path: String) -> MeasuredEntry {
    let source = |s: &slaf_ingest::MeasuredSource| SourceEntry {
        name: s.name.clone(),
        first_cell: s.first_cell,
        n_cells: s.n_cells,
        set: s.set as u64,
    };
    MeasuredEntry {
        path,
        n_sets: measured.sets().len() as u64,
        sources: measured.sources().iter().map(source).collect(),
    }
}

impl Snapshot {
    /// Which genes were measured in which cells; `None` where all were in all.
    pub(crate) async fn measured(&self) -> Result<Option<&Measured>> {
        let Some(entry) = &self.manifest.measured else { return Ok(None) };
        let load = || async {
            self.heads().await?;
            let bytes = self.read_file(&entry.path).await?;
            from_ipc(entry, self.manifest.n_genes, bytes).at(self.storage.full(&entry.path))
        };
        self.storage.guard(self.measured.get_or_try_init(load)).await.map(Some)
    }

    /// As [`Snapshot::measured`]; where it says nothing, all cells are of one source with all genes.
    pub(crate) async fn sources(&self) -> Result<Cow<'_, Measured>> {
        let Manifest { n_cells, n_genes, .. } = self.manifest;
        Ok(match self.measured().await? {
            Some(measured) => Cow::Borrowed(measured),
            None => {
                let mut all = Measured::new(n_genes);
                all.push(None, n_cells, &BooleanBuffer::new_set(n_genes as usize));
                Cow::Owned(all)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slaf_core::ErrorKind;

    fn measured() -> Measured {
        let mut measured = Measured::new(11);
        measured.push(None, 5, &(0..11).map(|g| g % 2 == 0).collect());
        measured.push(Some("ä"), 7, &(0..11).map(|g| g > 8).collect());
        measured.push(None, 2, &(0..11).map(|g| g % 2 == 0).collect());
        measured
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let measured = measured();
        let bytes = sets_to_ipc(&measured).unwrap();
        let entry = entry_of(&measured, "a".into());
        assert_eq!((entry.n_sets, entry.sources.len()), (2, 3));
        assert_eq!(from_ipc(&entry, 11, bytes).unwrap(), measured);
    }

    #[test]
    fn another_file_is_refused() {
        let measured = measured();
        let (bytes, entry) = (sets_to_ipc(&measured).unwrap(), entry_of(&measured, "a".into()));
        let kind = |entry: &MeasuredEntry, n_genes, bytes: &Bytes| {
            from_ipc(entry, n_genes, bytes.clone()).map(drop).map_err(|e| e.kind())
        };
        assert_eq!(kind(&entry, 12, &bytes), Err(ErrorKind::Corrupt));
        let more = MeasuredEntry { n_sets: 3, ..entry.clone() };
        assert_eq!(kind(&more, 11, &bytes), Err(ErrorKind::Corrupt));
        for n in (0..bytes.len()).step_by(7) {
            assert_eq!(kind(&entry, 11, &bytes.slice(..n)), Err(ErrorKind::Corrupt), "{n}");
        }
        let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["a"; 11]));
        let batch = RecordBatch::try_from_iter([("0", texts.clone()), ("1", texts)]).unwrap();
        assert_eq!(kind(&entry, 11, &ipc::to_ipc(&batch).unwrap()), Err(ErrorKind::Corrupt));
    }
}
