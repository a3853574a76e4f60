//! Rows that are read where they lie in the files: what was written comes back, and what is
//! damaged is named.

use arrow::array::{AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::FutureExt;
use futures::future::BoxFuture;
use slaf::{Error, ErrorKind};
use slaf_lance::runtime::block_on;
use slaf_lance::{ByteRows, Explain, Operation, Storage, Table, TableEntry, TableWriter};
use slaf_testing::{Counts, Fault, Faults, Rule, memory_store};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
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

fn write(place: &str, field: Field, rows: &[Vec<u8>], fragment_rows: usize) -> (Storage, TableEntry) {
    let storage = block_on(Storage::new(place, &HashMap::new())).unwrap();
    let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
    let mut writer = TableWriter::create(&storage, "t.lance", &schema, fragment_rows).unwrap();
    for part in rows.chunks(100) {
        let array = BinaryArray::from_iter_values(part);
        writer.send(RecordBatch::try_new(schema.clone(), vec![Arc::new(array)]).unwrap()).unwrap();
    }
    let entry = writer.finish().unwrap();
    (storage, entry)
}

/// What a writer has asked of the disk is done when it is dropped: whoever removes its folder then removes all.
#[test]
fn a_writer_that_is_dropped_makes_no_folder_afterwards() {
    let folder = TempDir::new().unwrap();
    let storage = block_on(Storage::new(folder.path().to_str().unwrap(), &HashMap::new())).unwrap();
    let schema: SchemaRef = Arc::new(Schema::new(vec![packed()]));
    let array = Arc::new(BinaryArray::from_iter_values(rows(100, 400)));
    let batch = RecordBatch::try_new(schema.clone(), vec![array]).unwrap();
    // Some are dropped before their first file, some after it.
    for microseconds in (0..3000).step_by(10) {
        let name = format!("{microseconds}.lance");
        let mut writer = TableWriter::create(&storage, &name, &schema, 10).unwrap();
        writer.send(batch.clone()).unwrap();
        std::thread::sleep(Duration::from_micros(microseconds));
        drop(writer);
        block_on(storage.remove(&name)).unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn open(storage: &Storage, entry: &TableEntry) -> Table {
    block_on(Table::open(storage, entry, Arc::new(AsItIs))).unwrap()
}

fn read(table: &Table, ranges: &[Range<u64>]) -> slaf::Result<Option<Vec<Vec<u8>>>> {
    let read = block_on(table.read_bytes("rows", ranges))?;
    let values = |rows: ByteRows| (0..rows.len()).map(move |i| rows.value(i).to_vec()).collect::<Vec<_>>();
    Ok(read.map(|parts| parts.into_iter().flat_map(values).collect()))
}

#[test]
fn rows_come_as_they_were_written() {
    // One page; many fragments; many pages in a fragment.
    let folder = TempDir::new().unwrap();
    let local = |i: usize| folder.path().join(i.to_string()).to_str().unwrap().to_string();
    let cases = [(500, 400, 1 << 20), (500, 400, 37), (700, 300_000, 1 << 20), (40_000, 20, 1 << 20)];
    let places = (0..).map(local).zip(cases).chain(std::iter::repeat_with(memory_store).zip(cases));
    for (place, (n, longest, fragment_rows)) in places.take(2 * cases.len()) {
        let expected = rows(n, longest);
        let (storage, entry) = write(&place, packed(), &expected, fragment_rows);
        let table = open(&storage, &entry);
        let all: Vec<Range<u64>> = vec![0..n as u64];
        let single: Vec<Range<u64>> = (0..n as u64).map(|i| i..i + 1).collect();
        let some = vec![3..3, 5..40, 40..41, 44..100, 101..102, n as u64 - 1..n as u64];
        let single = if n > 1000 { (0..n as u64).step_by(997).map(|i| i..i + 1).collect() } else { single };
        for ranges in [all, single, some, vec![]] {
            let wanted: Vec<_> = ranges.iter().cloned().flatten().map(|i| expected[i as usize].clone()).collect();
            let found = read(&table, &ranges).unwrap().expect("the layout of packed rows is read here");
            assert!(found == wanted, "{place}: {n} rows, fragments of {fragment_rows}: {ranges:?}");
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
    let (storage, entry) = write(folder.path().to_str().unwrap(), packed(), &expected, 1 << 20);
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

#[test]
fn rows_in_object_stores_take_few_requests() {
    let (place, expected) = (memory_store(), rows(30_000, 400));
    let (_, entry) = write(&place, packed(), &expected, 10_000);
    let (counts, _guard) = Counts::over(&place);
    let storage = block_on(Storage::new(&place, &HashMap::new())).unwrap();
    let scattered: Vec<Range<u64>> = (0..1000).map(|i| i * 29 + i % 7).map(|i| i..i + 1).collect();
    let questions = [("a row", vec![7..8]), ("the next", vec![5007..5008]), ("a run", vec![100..1100])];
    let (ours, lances) = (open(&storage, &entry), open(&storage, &entry));
    for (what, ranges) in questions.into_iter().chain([("scattered", scattered.clone()), ("again", scattered)]) {
        let mut requests = [0, 0];
        for (i, count) in requests.iter_mut().enumerate() {
            counts.take();
            match i {
                0 => drop(read(&ours, &ranges).unwrap().unwrap()),
                _ => drop(block_on(lances.read(&["rows"], &ranges, 4096)).unwrap()),
            }
            *count = counts.take().values().sum::<usize>();
        }
        let [ours, lances] = requests;
        println!("{what}: {ours} requests, Lance {lances}");
        assert!(ours <= lances, "{what}: {ours} {lances}");
        if what == "the next" || what == "a run" {
            assert_eq!(ours, 1, "{what}: the places are kept");
        }
    }
}

#[test]
fn trouble_with_object_stores_is_named() {
    let (place, expected) = (memory_store(), rows(3000, 100));
    let (_, entry) = write(&place, packed(), &expected, 1000);
    let (faults, _guard) = Faults::over(&place);
    let storage = block_on(Storage::new(&place, &HashMap::new())).unwrap();
    let get = |fault| Rule::new(fault).operation(Operation::Get).path("/data/");
    let one_range = [10..20, 1500..1510];
    let wanted: Vec<_> = one_range.iter().cloned().flatten().map(|i: u64| expected[i as usize].clone()).collect();
    for (fault, kind) in [
        (Fault::Error, ErrorKind::Io),
        (Fault::Denied, ErrorKind::PermissionDenied),
        (Fault::Truncate(3), ErrorKind::Corrupt),
    ] {
        let table = open(&storage, &entry);
        faults.add(get(fault.clone()));
        let error = read(&table, &one_range).unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        faults.clear();
        // The same handle goes on once the trouble is over, and after some of it.
        assert_eq!(read(&table, &one_range).unwrap().unwrap(), wanted, "{fault:?}");
    }
    let mut named = 0;
    for at in 0..48 {
        let table = open(&storage, &entry);
        assert!(read(&table, &[0..1]).is_ok());
        faults.add(get(Fault::Corrupt(at)));
        match read(&table, &[100..104]) {
            // A flip within a row's bytes: packed rows have checksums of their own.
            Ok(found) => assert_eq!(found.unwrap().len(), 4),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "byte {at}: {e}");
                named += 1;
            }
        }
        faults.clear();
    }
    assert!(named >= 4, "{named}");
}
