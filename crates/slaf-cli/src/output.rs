use crate::failure::{Failure, Outcome, from_arrow};
use crate::format::Format;
use crate::{standard_output, table};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchReader, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::json::writer::JsonArray;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use slaf::{Error, ErrorKind};
use slaf_ingest::temporary;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::NamedTempFile;

/// A file that appears at its path only when it is complete.
#[derive(Debug)]
pub(crate) struct NewFile {
    temporary: NamedTempFile,
    path: PathBuf,
    overwrite: bool,
}

impl NewFile {
    pub(crate) fn create(path: PathBuf, overwrite: bool) -> Outcome<NewFile> {
        let path = slaf_ingest::output_path(&path, overwrite)?;
        Ok(NewFile { temporary: temporary::file_beside(&path)?, path, overwrite })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn writer(&self) -> Outcome<File> {
        let cloned = self.temporary.as_file().try_clone();
        Ok(cloned.map_err(|e| Error::from(e).at(self.path.display()))?)
    }

    pub(crate) fn keep(self) -> Outcome<PathBuf> {
        let NewFile { temporary, path, overwrite } = self;
        match temporary::persist(temporary, &path, overwrite) {
            Ok(()) => Ok(path),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(exists(&path).into()),
            Err(e) => Err(e.into()),
        }
    }
}

fn exists(path: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, "exists already; --overwrite replaces it").at(path.display())
}

/// Where a result is written. The writers of Arrow turn errors of the operating system into text;
/// here the first one is remembered as it was.
pub(crate) struct Sink {
    out: Box<dyn Write + Send>,
    to_file: bool,
    /// What errors name.
    place: String,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Sink {
    /// To a file, which will be at `path`.
    pub(crate) fn file(file: File, path: &Path) -> Sink {
        let place = path.display().to_string();
        Sink { out: Box::new(BufWriter::new(file)), to_file: true, place, failed: Arc::default() }
    }

    pub(crate) fn stdout() -> Sink {
        let place = standard_output::PLACE.to_string();
        Sink { out: Box::new(BufWriter::new(io::stdout())), to_file: false, place, failed: Arc::default() }
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| {
            let kind = e.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
            kind.into()
        })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)
    }
}

/// Writes a result, a batch at a time, and returns its number of rows. A table shows `rows` of
/// them.
pub(crate) fn write(
    result: Box<dyn RecordBatchReader + Send>,
    format: Format,
    rows: usize,
    sink: Sink,
) -> Outcome<u64> {
    let (failed, place) = (Arc::clone(&sink.failed), sink.place.clone());
    write_to(result, format, rows, sink).map_err(|failure| {
        match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(e) => Failure::from(e).at(&place),
            None => failure,
        }
    })
}

fn write_to(result: Box<dyn RecordBatchReader + Send>, format: Format, rows: usize, mut sink: Sink) -> Outcome<u64> {
    let schema = result.schema();
    let n;
    match format {
        Format::Table => n = table::write(result, rows, &mut sink)?,
        Format::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(sink);
            // The writer puts the header before its first batch: give it one.
            let flat = flat_schema(&schema);
            writer.write(&RecordBatch::new_empty(flat.clone())).map_err(from_arrow)?;
            n = each(result, |batch| writer.write(&flatten(batch, &flat)?))?;
            sink = writer.into_inner();
        }
        Format::Json => {
            let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
            let mut writer = builder.build::<_, JsonArray>(sink);
            n = each(result, |batch| writer.write(batch))?;
            writer.finish().map_err(from_arrow)?;
            sink = writer.into_inner();
            sink.write_all(b"\n")?;
        }
        Format::Parquet => {
            let compression = Compression::ZSTD(ZstdLevel::default());
            let properties = WriterProperties::builder().set_compression(compression).build();
            let mut writer = ArrowWriter::try_new(sink, schema, Some(properties)).map_err(from_parquet)?;
            n = each(result, |batch| Ok(writer.write(batch)?))?;
            sink = writer.into_inner().map_err(from_parquet)?;
        }
        // A file must not replace a dictionary, as batches of a query do; a stream may.
        Format::Arrow if sink.to_file => {
            let plain = plain_schema(&schema);
            let mut writer = FileWriter::try_new(sink, &plain).map_err(from_arrow)?;
            n = each(result, |batch| writer.write(&cast(batch, &plain)?))?;
            sink = writer.into_inner().map_err(from_arrow)?;
        }
        Format::Arrow => {
            let mut writer = StreamWriter::try_new(sink, &schema).map_err(from_arrow)?;
            n = each(result, |batch| writer.write(batch))?;
            sink = writer.into_inner().map_err(from_arrow)?;
        }
    }
    sink.flush()?;
    Ok(n)
}

fn each(
    result: Box<dyn RecordBatchReader + Send>,
    mut write: impl FnMut(&RecordBatch) -> Result<(), ArrowError>,
) -> Outcome<u64> {
    let mut n = 0;
    for batch in result {
        let batch = batch.map_err(from_arrow)?;
        n += batch.num_rows() as u64;
        write(&batch).map_err(from_arrow)?;
    }
    Ok(n)
}

fn with_types(schema: &Schema, new_type: impl Fn(&DataType) -> Option<DataType>) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| match new_type(f.data_type()) {
        Some(t) => Arc::new(f.as_ref().clone().with_data_type(t)),
        None => Arc::clone(f),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<Arc<Field>>>(), schema.metadata().clone()))
}

/// The schema with texts in place of lists and other nested types, which CSV does not have.
fn flat_schema(schema: &Schema) -> SchemaRef {
    with_types(schema, |t| t.is_nested().then_some(DataType::Utf8))
}

/// The schema with values in place of dictionaries.
fn plain_schema(schema: &Schema) -> SchemaRef {
    with_types(schema, |t| match t {
        DataType::Dictionary(_, value) => Some(value.as_ref().clone()),
        _ => None,
    })
}

fn flatten(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter().map(|column| -> Result<ArrayRef, ArrowError> {
        if !column.data_type().is_nested() {
            return Ok(Arc::clone(column));
        }
        let texts = ArrayFormatter::try_new(column, &options)?;
        let text = |i: usize| (!column.is_null(i)).then(|| texts.value(i).to_string());
        Ok(Arc::new((0..column.len()).map(text).collect::<StringArray>()))
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

fn cast(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

fn from_parquet(e: ParquetError) -> Failure {
    Failure::Failed(Error::new(ErrorKind::Io, format!("parquet: {e}")).with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int32Array, ListArray, RecordBatchIterator};
    use arrow::datatypes::{Int32Type, Int64Type};

    fn result() -> Box<dyn RecordBatchReader + Send> {
        let batch = |names: [Option<&str>; 2]| {
            let names: DictionaryArray<Int32Type> = names.into_iter().collect();
            let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), Some(2)]), None]);
            let columns: [(&str, ArrayRef); 3] =
                [("name", Arc::new(names)), ("n", Arc::new(Int32Array::from(vec![1, 2]))), ("xs", Arc::new(lists))];
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
        };
        let batches = [batch([Some("a"), None]), batch([Some("c,d"), Some("a")])];
        let schema = batches[0].schema();
        Box::new(RecordBatchIterator::new(batches.map(Ok), schema))
    }

    fn written(format: Format, to_file: bool) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let file = NewFile::create(folder.path().join("result"), false).unwrap();
        let mut sink = Sink::file(file.writer().unwrap(), file.path());
        sink.to_file = to_file;
        assert_eq!(write(result(), format, 20, sink).unwrap(), 4);
        std::fs::read(file.keep().unwrap()).unwrap()
    }

    #[test]
    fn csv_and_json_hold_every_type() {
        let csv = String::from_utf8(written(Format::Csv, true)).unwrap();
        assert_eq!(csv, "name,n,xs\na,1,\"[1, 2]\"\n,2,\n\"c,d\",1,\"[1, 2]\"\na,2,\n");
        let json: serde_json::Value = serde_json::from_slice(&written(Format::Json, true)).unwrap();
        assert_eq!(json[1], serde_json::json!({"name": null, "n": 2, "xs": null}));
        assert_eq!(json[2], serde_json::json!({"name": "c,d", "n": 1, "xs": [1, 2]}));
    }

    #[test]
    fn dictionaries_that_differ_between_batches_are_written() {
        let file = io::Cursor::new(written(Format::Arrow, true));
        let reader = arrow::ipc::reader::FileReader::try_new(file, None).unwrap();
        assert_eq!(reader.map(|b| b.unwrap().num_rows()).sum::<usize>(), 4);
        let stream = io::Cursor::new(written(Format::Arrow, false));
        let reader = arrow::ipc::reader::StreamReader::try_new(stream, None).unwrap();
        assert_eq!(reader.map(|b| b.unwrap().num_rows()).sum::<usize>(), 4);
        assert_eq!(&written(Format::Parquet, true)[..4], b"PAR1");
    }

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let file = NewFile::create(path.clone(), false).unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        NewFile::create(path.clone(), false).unwrap().keep().unwrap();
        let refused = NewFile::create(path.clone(), false).unwrap_err();
        assert!(matches!(refused, Failure::Failed(e) if e.kind() == ErrorKind::AlreadyExists));
        NewFile::create(path, true).unwrap().keep().unwrap();
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for format in [Format::Table, Format::Csv, Format::Json, Format::Parquet, Format::Arrow] {
            let place = String::new();
            let sink = Sink { out: Box::new(Gone), to_file: false, place, failed: Arc::default() };
            assert!(matches!(write(result(), format, 20, sink), Err(Failure::ReaderGone)), "{format:?}");
        }
    }
}
