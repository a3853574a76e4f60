//! Rows that are read where they lie in the files: what was written comes back, and what is
//! damaged is named.

use arrow::array::{AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::FutureExt;
use futures::future::BoxFuture;
use slaf::{Error, ErrorKind};
use slaf_lance::runtime::block_on;
use slaf_lance::{Explain, Storage, Table, TableEntry, TableWriter};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

#[derive(Debug)]
struct AsItIs;

impl Explain for AsItIs {
    fn explain(&self, error: Error) -> BoxFuture<'_, Error> {
        async move { error }.boxed()
    }
}

/// The field of packed rows, as `SPEC.md` has it.
fn packed() -> Field {
    let metadata = [("compression", "none"), ("structural-encoding", "fullzip")];
    let metadata = metadata.map(|(k, v)| (format!("lance-encoding:{k}"), v.to_string()));
    Field::new("rows", DataType::Binary, false).with_metadata(HashMap::from(metadata))
}

/// Bytes of rows that no two share; some are empty, some are long.
fn rows(n: usize, longest: usize) -> Vec<Vec<u8>> {
    let length = |i: usize| match i % 7 {
        0 => 0,
        1 => longest,
        k => (i * 31 + k) % 300,
    };
    (0..n).map(|i| (0..length(i)).map(|j| (i * 7 + j * 13) as u8).collect()).collect()
}

fn write(folder: &Path, field: Field, rows: &[Vec<u8>], fragment_rows: usize) -> (Storage, TableEntry) {
    let storage = block_on(Storage::new(folder.to_str().unwrap(), &HashMap::new())).unwrap();
    let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
    let mut writer = TableWriter::create(&storage, "t.lance", &schema, fragment_rows).unwrap();
    for part in rows.chunks(100) {
        let array = BinaryArray::from_iter_values(part);
        writer.send(RecordBatch::try_new(schema.clone(), vec![Arc::new(array)]).unwrap()).unwrap();
    }
    let entry = writer.finish().unwrap();
    (storage, entry)
}

fn open(storage: &Storage, entry: &TableEntry) -> Table {
    block_on(Table::open(storage, entry, Arc::new(AsItIs))).unwrap()
}

fn read(table: &Table, ranges: &[Range<u64>]) -> slaf::Result<Option<Vec<Vec<u8>>>> {
    let read = block_on(table.read_bytes("rows", ranges))?;
    Ok(read.map(|rows| (0..rows.len()).map(|i| rows.value(i).to_vec()).collect()))
}

#[test]
fn rows_come_as_they_were_written() {
    // One page; many fragments; many pages in a fragment.
    for (n, longest, fragment_rows) in [(500, 400, 1 << 20), (500, 400, 37), (700, 300_000, 1 << 20)] {
        let (folder, expected) = (TempDir::new().unwrap(), rows(n, longest));
        let (storage, entry) = write(folder.path(), packed(), &expected, fragment_rows);
        let table = open(&storage, &entry);
        let all: Vec<Range<u64>> = vec![0..n as u64];
        let single = (0..n as u64).map(|i| i..i + 1).collect();
        let some = vec![3..3, 5..40, 40..41, 44..100, 101..102, n as u64 - 1..n as u64];
        for ranges in [all, single, some, vec![]] {
            let wanted: Vec<_> = ranges.iter().cloned().flatten().map(|i| expected[i as usize].clone()).collect();
            let found = read(&table, &ranges).unwrap().expect("the layout of packed rows is read here");
            assert!(found == wanted, "{n} rows, fragments of {fragment_rows}: {ranges:?}");
            // Lance, which wrote them, reads the same.
            let batches = block_on(table.read(&["rows"], &ranges, 64)).unwrap();
            let of_lance = batches.iter().flat_map(|b| b.column(0).as_binary::<i32>().iter().flatten());
            assert!(of_lance.eq(wanted.iter().map(Vec::as_slice)));
        }
        assert_eq!(read(&table, &[0..n as u64 + 1]).unwrap_err().kind(), ErrorKind::OutOfRange);
    }
}

#[test]
fn other_layouts_are_left_to_lance() {
    let compressed = HashMap::from([("lance-encoding:compression".to_string(), "zstd".to_string())]);
    let some = |rows: &[Vec<u8>]| rows.iter().cloned().map(Some).collect::<Vec<_>>();
    let with_null = [some(&rows(100, 50)), vec![None], some(&rows(100, 50))].concat();
    let cases = [
        ("short values share chunks", Field::new("rows", DataType::Binary, false), some(&vec![b"abc".to_vec(); 200])),
        ("nulls have levels", packed().with_nullable(true), with_null),
        ("compressed values", packed().with_metadata(compressed), some(&vec![vec![7; 5000]; 200])),
    ];
    for (what, field, values) in cases {
        let folder = TempDir::new().unwrap();
        let storage = block_on(Storage::new(folder.path().to_str().unwrap(), &HashMap::new())).unwrap();
        let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
        let mut writer = TableWriter::create(&storage, "t.lance", &schema, 1 << 20).unwrap();
        let array: BinaryArray = values.iter().map(|v| v.as_deref()).collect();
        writer.send(RecordBatch::try_new(schema.clone(), vec![Arc::new(array)]).unwrap()).unwrap();
        let entry = writer.finish().unwrap();
        assert!(read(&open(&storage, &entry), &[0..values.len() as u64]).unwrap().is_none(), "{what}");
    }
}

#[test]
fn damage_is_named_and_never_a_panic() {
    let (folder, expected) = (TempDir::new().unwrap(), rows(60, 80));
    let (storage, entry) = write(folder.path(), packed(), &expected, 1 << 20);
    let data = std::fs::read_dir(folder.path().join("t.lance/data")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&data).unwrap();
    let ranges = [0..60];
    let mut named = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&data, &bytes).unwrap();
        match block_on(Table::open(&storage, &entry, Arc::new(AsItIs))).and_then(|table| read(&table, &ranges)) {
            // A flip within a row's bytes: packed rows have checksums of their own.
            Ok(Some(found)) => assert!(found.len() == 60, "byte {at}"),
            // Not the layout that is read here any more.
            Ok(None) => {}
            Err(e) => {
                assert!(matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::UnsupportedFeature), "byte {at}: {e}");
                named += 1;
            }
        }
    }
    assert!(named > 4 * 60, "flips in the lengths and places of rows: {named}");
    for n in (0..whole.len()).step_by(97) {
        std::fs::write(&data, &whole[..n]).unwrap();
        let read = block_on(Table::open(&storage, &entry, Arc::new(AsItIs))).and_then(|table| read(&table, &ranges));
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt, "{n} bytes");
    }
}
