//! Versions that are written anew, on a store that fails.

use crate::damage::read_all;
use crate::place::{Place, VERSIONS, commit};
use crate::{Fixture, QUIET};
use slaf::grow::{self, AppendOptions, GrowOptions, RewriteOptions};
use slaf::{ConvertOptions, Dataset, ErrorKind, MatrixKey, Selection};
use slaf_core::CsrChunk;
use slaf_ingest::MatrixEncoding;
use slaf_lance::runtime::block_on;
use slaf_testing::{Fault, Rule, Sample};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

impl Place {
    /// A panel, if it has few cells.
    fn write(&self, n_cells: usize) -> PathBuf {
        let input = self.folder.path().join(format!("{n_cells}.h5ad"));
        Sample::new(1, n_cells, if n_cells < 10 { 9 } else { 12 }).write_h5ad(&input, MatrixEncoding::Csr).unwrap();
        input
    }

    fn with_appends() -> Place {
        let place = Place::empty();
        let options = ConvertOptions { source_column: None, few_names: 0, ..ConvertOptions::default() };
        slaf::convert(&[&place.write(12)], &place.address, &options, QUIET).unwrap();
        place.append();
        place
    }

    fn append(&self) {
        let input = self.write(5);
        let (options, grow) = (AppendOptions::default(), GrowOptions::default());
        grow::append(&self.address, &[input.to_str().unwrap()], &options, &grow, QUIET).unwrap();
    }

    fn optimize(&self) -> slaf::Result<u64> {
        let options = RewriteOptions::default();
        grow::optimize(&self.address, true, &options, &GrowOptions::default(), QUIET).map(|o| o.version)
    }

    fn delete(&self) -> slaf::Result<u64> {
        let options = RewriteOptions::default();
        let grow = GrowOptions::default();
        grow::delete_cells(&self.address, "cell_integer_id < 3", &options, &grow, QUIET).map(|r| r.version)
    }

    fn left(&self) -> BTreeSet<String> {
        let files = block_on(self.storage().list("")).unwrap().into_iter().map(|(file, _)| file);
        files.filter(|f| !f.starts_with(VERSIONS)).collect()
    }
}

fn x(dataset: &Dataset, rows: &Selection) -> CsrChunk {
    dataset.read(&MatrixKey::X, rows, &Selection::All).unwrap()
}

fn a_crash_at_any_request(change: impl Fn(&Place) -> slaf::Result<u64>, left_out: u64) {
    let mut outcomes = [0; 2];
    for n in (1..).step_by(2) {
        let place = Place::with_appends();
        let before = Dataset::open(&place.address).unwrap();
        let all = x(&before, &Selection::All);
        let kept = x(&before, &Selection::Range(left_out..17));
        place.faults.add(Rule::new(Fault::Crash).from(n));
        let outcome = change(&place);
        let crashed = place.faults.clear();
        let dataset = Dataset::open(&place.address).unwrap();
        assert_eq!(dataset.verify().unwrap(), [], "{n}");
        read_all(&dataset).unwrap();
        let is_new = dataset.version() == 3;
        outcomes[usize::from(is_new)] += 1;
        assert_eq!(x(&dataset, &Selection::All), if is_new { kept } else { all.clone() }, "{n}");
        // Who reads the version before reads it still.
        assert_eq!(x(&before, &Selection::All), all, "{n}");
        match outcome {
            Ok(version) => assert_eq!((version, is_new), (3, true), "{n}"),
            Err(e) => {
                let kinds = [ErrorKind::Io, ErrorKind::CommitOutcomeUnknown];
                assert!(crashed && kinds.contains(&e.kind()), "{n}: {e}");
            }
        }
        // What is left is in nobody's way.
        place.append();
        assert_eq!(Dataset::open(&place.address).unwrap().n_cells(), dataset.n_cells() + 5, "{n}");
        if !crashed {
            break;
        }
    }
    assert!(outcomes[0] > 5 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn a_crash_of_optimize_leaves_the_old_version_or_the_new_one() {
    a_crash_at_any_request(Place::optimize, 0);
}

#[test]
fn a_crash_of_deleting_leaves_the_old_version_or_the_new_one() {
    a_crash_at_any_request(Place::delete, 3);
}

#[test]
fn who_comes_second_goes_on_from_the_first() {
    // Cells that come while all is written anew are not lost, and neither is an append whose tables
    // were replaced meanwhile.
    for append_first in [true, false] {
        let place = Arc::new(Place::with_appends());
        let other = place.clone();
        let meanwhile = move || {
            if append_first { other.append() } else { other.optimize().map(|_| ()).unwrap() }
        };
        place.faults.add(commit(Fault::Meanwhile(Arc::new(meanwhile))));
        if append_first {
            place.optimize().map(|_| ()).unwrap()
        } else {
            place.append()
        }
        place.faults.clear();
        let dataset = Dataset::open(&place.address).unwrap();
        assert_eq!((dataset.version(), dataset.n_cells()), (4, 22));
        assert_eq!(dataset.verify().unwrap(), []);
        read_all(&dataset).unwrap();
        // What was written for the first try is gone.
        let versions = dataset.versions().unwrap();
        let named = versions.iter().flat_map(|v| {
            let options = slaf::DatasetOptions { version: Some(v.version), ..slaf::DatasetOptions::default() };
            Dataset::open_with(&place.address, &options).unwrap().manifest().files.clone()
        });
        assert_eq!(place.left(), named.map(|f| f.path).collect());
    }
}

#[test]
fn an_optimized_store_is_as_one_that_was_converted() {
    let fixture = Fixture::new(3, 40, 15);
    let store = fixture.store();
    let store = store.to_str().unwrap();
    let before = fixture.dataset();
    let options = RewriteOptions::default();
    let told = grow::optimize(store, true, &options, &GrowOptions::default(), QUIET).unwrap();
    assert!(told.rewritten);
    let after = fixture.dataset();
    assert_eq!(after.verify().unwrap(), []);
    read_all(&after).unwrap();
    for m in &before.manifest().matrices {
        let read = |d: &Dataset| d.read(&m.key(), &Selection::All, &Selection::All).unwrap();
        assert_eq!(read(&before), read(&after), "{}", m.key());
    }
    assert_eq!(before.obs(None, &Selection::All).unwrap(), after.obs(None, &Selection::All).unwrap());
    assert_eq!(before.var(None, &Selection::All).unwrap(), after.var(None, &Selection::All).unwrap());
    assert_eq!(before.extras().unwrap(), after.extras().unwrap());
}
