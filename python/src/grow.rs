//! Changes of a store, and its versions.

use crate::arguments::{Named, from_attributes};
use crate::dataset::PyMeasured;
use crate::output::to_json;
use crate::work;
use pyo3::prelude::*;
use slaf::grow::{self, Additions, GcOptions, GrowReport, IndexKind, IndexOptions};
use slaf::neighbors::Measure;
use slaf::{ArrayKey, Axis, DatasetOptions, Durability, Join};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

from_attributes! {
    /// `slaf._boundary.GrowOptions`.
    struct GrowOptions {
        durability: Named<Durability>,
        storage_options: HashMap<String, String>,
        version: u64,
        write_id: String,
    }
}

from_attributes! {
    /// `slaf._boundary.AddOptions`.
    struct AddOptions {
        overwrite: bool,
        drop: Vec<String>,
        keep_changes: bool,
    }
}

from_attributes! {
    /// `slaf._boundary.RewriteOptions`.
    struct RewriteOptions {
        allow_loss: bool,
        memory: Option<usize>,
    }
}

impl From<RewriteOptions> for grow::RewriteOptions {
    fn from(given: RewriteOptions) -> Self {
        let defaults = grow::RewriteOptions::default();
        grow::RewriteOptions { allow_loss: given.allow_loss, memory: given.memory.unwrap_or(defaults.memory) }
    }
}

from_attributes! {
    /// `slaf._boundary.AppendOptions`.
    struct AppendOptions {
        join: Named<Join>,
        source_name: Option<String>,
        shown: Option<String>,
        allow_loss: bool,
        fill_layers: bool,
        allow_disjoint: bool,
        measured: Option<PyMeasured>,
        stores: HashMap<usize, (u64, HashMap<String, String>)>,
    }
}

impl From<GrowOptions> for grow::GrowOptions {
    fn from(given: GrowOptions) -> Self {
        let base = grow::Base { version: given.version, write_id: given.write_id };
        grow::GrowOptions { durability: given.durability.0, storage_options: given.storage_options, base: Some(base) }
    }
}

/// The version that a change made, and its report as text and as JSON.
type Told = (u64, String, String);

fn told(py: Python<'_>, report: &GrowReport) -> PyResult<Told> {
    Ok((report.version, report.to_string(), to_json(py, report)?))
}

/// Adds what a file holds, by position.
#[pyfunction]
fn add(
    py: Python<'_>,
    store: String,
    file: PathBuf,
    options: AddOptions,
    grow: GrowOptions,
    progress: Option<Py<PyAny>>,
) -> PyResult<Told> {
    let AddOptions { overwrite, drop, keep_changes } = options;
    let defaults = grow::AddOptions::default();
    let options = grow::AddOptions { overwrite, drop, keep_changes, by_position: true, ..defaults };
    let report = work::run_with_progress(py, progress, move |progress| {
        grow::add(&store, &Additions::File(&file), &options, &grow.into(), progress)
    })?;
    told(py, &report)
}

/// Appends the cells of files and stores.
#[pyfunction]
fn append(
    py: Python<'_>,
    store: String,
    sources: Vec<String>,
    options: AppendOptions,
    grow: GrowOptions,
    progress: Option<Py<PyAny>>,
) -> PyResult<Told> {
    let AppendOptions { join, source_name, shown, allow_loss, fill_layers, allow_disjoint, .. } = options;
    let (join, defaults) = (join.0, grow::AppendOptions::default());
    let input = slaf::OpenOptions { measured: options.measured.map(|m| m.0), ..defaults.input.clone() };
    let opened = |(version, storage_options)| DatasetOptions {
        version: Some(version),
        storage_options,
        ..DatasetOptions::default()
    };
    let stores = options.stores.into_iter().map(|(i, store)| (i, opened(store))).collect();
    let options = grow::AppendOptions {
        join,
        source_name,
        shown,
        allow_loss,
        fill_layers,
        allow_disjoint,
        input,
        stores,
        ..defaults
    };
    let report = work::run_with_progress(py, progress, move |progress| {
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        grow::append(&store, &sources, &options, &grow.into(), progress)
    })?;
    told(py, &report)
}

/// Writes the cells anew for which a condition in SQL does not hold.
#[pyfunction]
fn delete_cells(
    py: Python<'_>,
    store: String,
    condition: String,
    options: RewriteOptions,
    grow: GrowOptions,
    progress: Option<Py<PyAny>>,
) -> PyResult<Told> {
    let report = work::run_with_progress(py, progress, move |progress| {
        grow::delete_cells(&store, &condition, &options.into(), &grow.into(), progress)
    })?;
    told(py, &report)
}

/// Writes a version anew where there is something to gain.
#[pyfunction]
fn optimize(
    py: Python<'_>,
    store: String,
    force: bool,
    options: RewriteOptions,
    grow: GrowOptions,
    progress: Option<Py<PyAny>>,
) -> PyResult<Told> {
    let report = work::run_with_progress(py, progress, move |progress| {
        grow::optimize(&store, force, &options.into(), &grow.into(), progress)
    })?;
    Ok((report.version, report.to_string(), to_json(py, &report)?))
}

/// [`slaf::grow::create_index`].
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the arguments of Python's function")]
fn create_index(
    py: Python<'_>,
    store: String,
    of: Named<Axis>,
    key: String,
    metric: Named<Measure>,
    kind: Named<IndexKind>,
    grow: GrowOptions,
    progress: Option<Py<PyAny>>,
) -> PyResult<Told> {
    let report = work::run_with_progress(py, progress, move |progress| {
        let options = IndexOptions { measure: metric.0, kind: kind.0, ..IndexOptions::default() };
        grow::create_index(&store, &ArrayKey { axis: of.0, name: key }, &options, &grow.into(), progress)
    })?;
    told(py, &report)
}

/// [`slaf::grow::drop_index`].
#[pyfunction]
fn drop_index(
    py: Python<'_>,
    store: String,
    of: Named<Axis>,
    key: String,
    metric: Option<Named<Measure>>,
    grow: GrowOptions,
) -> PyResult<Told> {
    let report = work::run_with_progress(py, None, move |_| {
        grow::drop_index(&store, &ArrayKey { axis: of.0, name: key }, metric.map(|metric| metric.0), &grow.into())
    })?;
    told(py, &report)
}

#[pyfunction]
fn drop_slots(py: Python<'_>, store: String, names: Vec<String>, grow: GrowOptions) -> PyResult<Told> {
    let report = work::run_with_progress(py, None, move |_| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        grow::drop_slots(&store, &names, &grow.into())
    })?;
    told(py, &report)
}

#[pyfunction]
fn rename(py: Python<'_>, store: String, slot: String, new: String, grow: GrowOptions) -> PyResult<Told> {
    let report = work::run_with_progress(py, None, move |_| grow::rename(&store, &slot, &new, &grow.into()))?;
    told(py, &report)
}

#[pyfunction]
fn rollback(py: Python<'_>, store: String, to: u64, grow: GrowOptions) -> PyResult<Told> {
    let report = work::run_with_progress(py, None, move |_| grow::rollback(&store, to, &grow.into()))?;
    told(py, &report)
}

#[pyfunction]
fn tag(py: Python<'_>, store: String, name: String, version: Option<u64>, grow: GrowOptions) -> PyResult<u64> {
    work::run_with_progress(py, None, move |_| grow::tag(&store, &name, version, &grow.into()))
}

#[pyfunction]
fn untag(py: Python<'_>, store: String, name: String, grow: GrowOptions) -> PyResult<u64> {
    work::run_with_progress(py, None, move |_| grow::untag(&store, &name, &grow.into()))
}

/// The number of the version that has a tag, or was the newest at a time.
#[pyfunction]
fn find_version(
    py: Python<'_>,
    store: String,
    tag: Option<String>,
    time: Option<u64>,
    storage_options: HashMap<String, String>,
) -> PyResult<u64> {
    let options = DatasetOptions { tag, time, storage_options, ..DatasetOptions::default() };
    work::run(py, move || Ok(slaf::Dataset::open_with(&store, &options)?.version()))
}

/// The number of the newest version of the store that a version is of.
#[pyfunction]
fn newest_version(py: Python<'_>, store: String, grow: GrowOptions) -> PyResult<u64> {
    let base = grow::Base { version: grow.version, write_id: grow.write_id };
    work::run(py, move || grow::newest(&store, &base, &grow.storage_options))
}

/// What differs between two versions, as text and as JSON.
#[pyfunction]
fn diff(
    py: Python<'_>,
    store: String,
    versions: (u64, u64),
    storage_options: HashMap<String, String>,
) -> PyResult<(String, String)> {
    let difference = work::run(py, move || {
        let open = |version| {
            let storage_options = storage_options.clone();
            let options = DatasetOptions { version: Some(version), storage_options, ..DatasetOptions::default() };
            slaf::Dataset::open_with(&store, &options)
        };
        Ok(grow::diff(&open(versions.0)?, &open(versions.1)?))
    })?;
    Ok((difference.to_string(), to_json(py, &difference)?))
}

/// What was removed, or would be, as text and as JSON.
#[pyfunction]
fn gc(py: Python<'_>, store: String, older_than: f64, dry_run: bool, grow: GrowOptions) -> PyResult<(String, String)> {
    let older_than = Duration::try_from_secs_f64(older_than).unwrap_or(Duration::MAX);
    let options = GcOptions { older_than, dry_run };
    let collected = work::run_with_progress(py, None, move |_| grow::gc(&store, &options, &grow.into()))?;
    Ok((collected.to_string(), to_json(py, &collected)?))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(add, module)?)?;
    module.add_function(wrap_pyfunction!(append, module)?)?;
    module.add_function(wrap_pyfunction!(delete_cells, module)?)?;
    module.add_function(wrap_pyfunction!(optimize, module)?)?;
    module.add_function(wrap_pyfunction!(create_index, module)?)?;
    module.add_function(wrap_pyfunction!(drop_index, module)?)?;
    module.add_function(wrap_pyfunction!(drop_slots, module)?)?;
    module.add_function(wrap_pyfunction!(rename, module)?)?;
    module.add_function(wrap_pyfunction!(rollback, module)?)?;
    module.add_function(wrap_pyfunction!(tag, module)?)?;
    module.add_function(wrap_pyfunction!(untag, module)?)?;
    module.add_function(wrap_pyfunction!(find_version, module)?)?;
    module.add_function(wrap_pyfunction!(newest_version, module)?)?;
    module.add_function(wrap_pyfunction!(diff, module)?)?;
    module.add_function(wrap_pyfunction!(gc, module)?)
}
