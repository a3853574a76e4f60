//! What must agree in a root manifest. Its checksum tells that it is as it was written, and not that
//! a sane writer wrote it: what does not agree would lead to other stores, to absurd allocations, or
//! to the values of other genes. `SPEC.md` has the rules.

use super::kinds::Named;
use super::manifest::{
    FileEntry, FrameSchema, IndexEntry, Kind, LINEAGE, MEASURED, Manifest, MatrixEntry, MeasuredEntry, NameSegment,
    SHORT_STRIPES, Slot, SourceEntry, Stripe, TableEntry,
};
use super::{inverted, name_index};
use slaf_core::{Context, Error, Result};
use slaf_ingest::Axis;
use std::collections::HashSet;
use std::fmt::Display;

/// The last second of the year 9999: what calendars can show.
const LAST_SECOND: u64 = 253_402_300_799;

/// Bytes of an empty packed row.
const EMPTY_ROW: u64 = 3;

/// The version in the name of a file of `_slaf/versions`; `None` for what is no version.
pub(crate) fn version_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    let is_number = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// The version that follows these.
///
/// # Errors
/// `corrupt` if there is none.
pub(crate) fn next_version(versions: &[u64]) -> Result<u64> {
    match versions.last() {
        None => Ok(1),
        Some(last) => last.checked_add(1).ok_or_else(no_next_version),
    }
}

fn no_next_version() -> Error {
    Error::corrupt(format!("version {} is none that a writer makes, since none could follow it", u64::MAX))
}

/// Checks what a root manifest tells without its tables.
///
/// # Errors
/// `corrupt` that names the field; `unsupported-feature` for types and slots of a later version.
pub(crate) fn check(m: &Manifest) -> Result<()> {
    if m.version == u64::MAX {
        return Err(no_next_version());
    }
    if m.format_version == 0 {
        return Err(Error::corrupt("versions of the format begin at 1").at("format_version"));
    }
    if m.created > LAST_SECOND {
        return Err(Error::corrupt(format!("{} is beyond the year 9999", m.created)).at("created"));
    }
    if m.lineage.len() > LINEAGE {
        return Err(Error::corrupt(format!("{} versions, more than the {LINEAGE} last", m.lineage.len())).at("lineage"));
    }
    if let Some((tag, version)) = m.tags.iter().find(|(_, v)| **v == 0 || **v > m.version) {
        return Err(Error::corrupt(format!("\"{tag}\" is version {version}, which is not there yet")).at("tags"));
    }
    if let Some(version) = m.expired.iter().find(|v| **v >= m.version) {
        return Err(Error::corrupt(format!("version {version} is not there yet")).at("expired"));
    }
    let tables = tables(m);
    paths(m, &tables)?;
    equal("n_cells", m.n_cells, "rows of the table cells", m.tables.cells.rows)?;
    equal("n_genes", m.n_genes, "rows of the table genes", m.tables.genes.rows)?;
    for (field, n) in [("n_genes", m.n_genes), ("tables.raw_genes.rows", raw_genes(m))] {
        if n >= u64::from(u32::MAX) {
            return Err(Error::corrupt(format!("{n} genes are more than ranks can number")).at(field));
        }
    }
    if m.raw_var.is_some() != m.tables.raw_genes.is_some() {
        return Err(Error::corrupt("raw_var and the table raw_genes come together").at("raw_var"));
    }
    for (field, table) in &tables {
        if table.version == 0 {
            return Err(Error::corrupt("versions of tables begin at 1").at(format!("{field}.version")));
        }
    }
    columns(m)?;
    matrices(m)?;
    arrays(m)?;
    cell_names(m)?;
    for (i, entry) in m.indexes.iter().enumerate() {
        index(m, entry).at(format!("indexes.{i}"))?;
    }
    if let Some(entry) = &m.measured {
        measured(m, entry).at("measured")?;
    }
    stripes(m)
}

fn tables(m: &Manifest) -> Vec<(&'static str, &TableEntry)> {
    let all = [
        ("tables.cells", Some(&m.tables.cells)),
        ("tables.genes", Some(&m.tables.genes)),
        ("tables.by_gene", m.tables.by_gene.as_ref()),
        ("tables.raw_genes", m.tables.raw_genes.as_ref()),
    ];
    all.into_iter().filter_map(|(field, table)| Some((field, table?))).collect()
}

fn raw_genes(m: &Manifest) -> u64 {
    m.tables.raw_genes.as_ref().map_or(0, |t| t.rows)
}

fn equal(field: &str, n: u64, what: impl Display, expected: u64) -> Result<()> {
    if n == expected { Ok(()) } else { Err(Error::corrupt(format!("{n}, but the {what} are {expected}")).at(field)) }
}

/// All paths stay below the root, and name files of this version.
fn paths(m: &Manifest, tables: &[(&str, &TableEntry)]) -> Result<()> {
    let mut files = HashSet::with_capacity(m.files.len());
    if m.files.iter().try_fold(0u64, |sum, f| sum.checked_add(f.length)).is_none() {
        return Err(Error::corrupt("more than 2^64 bytes").at("files"));
    }
    for FileEntry { path, blake3, .. } in &m.files {
        below_root(path).at("files")?;
        if blake3.len() != 64 || !blake3.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::corrupt(format!("the hash of {path} is none")).at("files"));
        }
        if !files.insert(path.as_str()) {
            return Err(Error::corrupt(format!("{path} comes twice")).at("files"));
        }
    }
    let mut folders = HashSet::new();
    for (field, table) in tables {
        let field = format!("{field}.path");
        below_root(&table.path).at(&field)?;
        if !folders.insert(table.path.as_str()) {
            return Err(Error::corrupt(format!("{:?} is another table, too", table.path)).at(field));
        }
        let folder = format!("{}/", table.path);
        if !m.files.iter().any(|f| f.path.starts_with(&folder)) {
            return Err(Error::corrupt(format!("no file of this version is in {:?}", table.path)).at(field));
        }
    }
    let single = [
        ("categories", m.categories.as_ref()),
        ("extras.path", m.extras.as_ref().map(|e| &e.path)),
        ("measured.path", m.measured.as_ref().map(|e| &e.path)),
        ("heads", m.heads.as_ref()),
    ];
    for (field, path) in single.into_iter().filter_map(|(field, path)| Some((field, path?))) {
        below_root(path).at(field)?;
        if !files.contains(path.as_str()) {
            return Err(Error::corrupt(format!("{path:?} is no file of this version")).at(field));
        }
    }
    Ok(())
}

fn below_root(path: &str) -> Result<()> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let is_name = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_plain);
    if path.split('/').all(is_name) {
        Ok(())
    } else {
        Err(Error::corrupt(format!("{path:?} is no path below the root")))
    }
}

/// The columns of the user in each table: each Lance column stands for one thing.
fn columns(m: &Manifest) -> Result<()> {
    let frames = [("obs", Some(&m.obs)), ("var", Some(&m.var)), ("raw_var", m.raw_var.as_ref())];
    for (field, frame) in frames.into_iter().filter_map(|(field, frame)| Some((field, frame?))) {
        if m.categories.is_none()
            && let Some(column) = frame.columns.iter().find(|c| c.kind == Kind::Categorical)
        {
            return Err(
                Error::corrupt(format!("none, but \"{}\" of {field} is categorical", column.name)).at("categories")
            );
        }
    }
    let ids = |frame: &FrameSchema| frame.columns.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
    let of_matrices = |in_genes: bool| m.matrices.iter().filter(move |x| (x.slot == Slot::Varp) == in_genes);
    let of_arrays = |axis: Axis| m.arrays.iter().filter(move |a| a.axis == axis).filter_map(|a| a.column.clone());
    let in_cells =
        ids(&m.obs).into_iter().chain(of_matrices(false).map(|x| x.column.clone())).chain(of_arrays(Axis::Cells));
    let in_genes =
        ids(&m.var).into_iter().chain(of_matrices(true).map(|x| x.column.clone())).chain(of_arrays(Axis::Genes));
    let in_raw = m.raw_var.iter().flat_map(ids);
    for (table, columns) in
        [("cells", in_cells.collect::<Vec<_>>()), ("genes", in_genes.collect()), ("raw_genes", in_raw.collect())]
    {
        let mut seen = HashSet::new();
        if let Some(twice) = columns.iter().find(|c| !seen.insert(c.as_str())) {
            return Err(Error::corrupt(format!("column {twice:?} stands for two things")).at(table));
        }
    }
    Ok(())
}

fn matrices(m: &Manifest) -> Result<()> {
    let mut seen = HashSet::new();
    for entry in &m.matrices {
        let field = format!("matrices.{}", entry.shown());
        matrix(m, entry).at(&field)?;
        if !seen.insert((entry.slot, &entry.name)) {
            return Err(Error::corrupt("comes twice").at(field));
        }
    }
    Ok(())
}

fn matrix(m: &Manifest, entry: &MatrixEntry) -> Result<()> {
    let (n_rows, n_cols) = match entry.slot {
        Slot::X | Slot::Layers => (m.n_cells, m.n_genes),
        Slot::Obsp => (m.n_cells, m.n_cells),
        Slot::Varp => (m.n_genes, m.n_genes),
        Slot::Raw if m.tables.raw_genes.is_none() => {
            return Err(Error::corrupt("a matrix of raw, but no table raw_genes"));
        }
        Slot::Raw => (m.n_cells, raw_genes(m)),
    };
    equal("n_rows", entry.n_rows, "rows of its slot", n_rows)?;
    equal("n_cols", entry.n_cols, "columns of its slot", n_cols)?;
    if u128::from(entry.nnz) > u128::from(n_rows) * u128::from(n_cols) {
        return Err(Error::corrupt(format!("{} values in {n_rows} x {n_cols}", entry.nnz)).at("nnz"));
    }
    if entry.bytes / EMPTY_ROW < n_rows {
        return Err(Error::corrupt(format!("{} bytes are too few for {n_rows} packed rows", entry.bytes)).at("bytes"));
    }
    Ok(())
}

fn arrays(m: &Manifest) -> Result<()> {
    let mut seen = HashSet::new();
    for entry in &m.arrays {
        let field = format!("arrays.{}/{}", entry.axis.word(), entry.name);
        if (entry.width > 0) != entry.column.is_some() || i32::try_from(entry.width).is_err() {
            let column = entry.column.as_deref().unwrap_or("none");
            return Err(Error::corrupt(format!("width {} with the column {column:?}", entry.width)).at(field));
        }
        if !seen.insert((entry.axis, &entry.name)) {
            return Err(Error::corrupt("comes twice").at(field));
        }
    }
    Ok(())
}

/// The segments of the index of names follow each other and cover all cells, and their files are as
/// long as that takes.
fn cell_names(m: &Manifest) -> Result<()> {
    let (mut row, mut seen) = (0, HashSet::new());
    for (i, NameSegment { path, first_row, n_rows }) in m.cell_names.iter().enumerate() {
        let field = |name: &str| format!("cell_names.{i}.{name}");
        let Some(file) = m.file(path) else {
            return Err(Error::corrupt(format!("{path:?} is no file of this version")).at(field("path")));
        };
        if !seen.insert(path) {
            return Err(Error::corrupt(format!("{path:?} is another segment, too")).at(field("path")));
        }
        equal(&field("first_row"), *first_row, "cells before it", row)?;
        if *n_rows == 0 || *n_rows > m.n_cells - row || u32::try_from(*n_rows).is_err() {
            return Err(
                Error::corrupt(format!("{n_rows} cells, of {} that are left", m.n_cells - row)).at(field("n_rows"))
            );
        }
        let length = name_index::length(*n_rows).unwrap_or(u64::MAX);
        equal(&field("n_rows"), length, "bytes of its file", file.length)?;
        row += n_rows;
    }
    if m.cell_names.is_empty() { Ok(()) } else { equal("cell_names", row, "cells", m.n_cells) }
}

/// An index is of an array of this version, and tells of its lists as long as that takes.
fn index(m: &Manifest, entry: &IndexEntry) -> Result<()> {
    let Some(array) = entry.array(m) else {
        return Err(Error::corrupt(format!("no array is {:?} of {:?} with its rows", entry.column, entry.table)));
    };
    let mut seen = HashSet::new();
    for path in entry.files() {
        if !seen.insert(path) || m.file(path).is_none() {
            return Err(Error::corrupt(format!("{path:?} is no file of this version, or comes twice")));
        }
    }
    if entry.kind == inverted::KIND {
        let expected = inverted::head_length(entry.n_lists, array.width).unwrap_or(u64::MAX);
        equal("n_lists", expected, "bytes of its file", m.length_of(&entry.head))?;
    }
    Ok(())
}

/// The sources follow each other and cover all cells, and each has one of the sets of genes. A writer
/// that does not know them must not go on.
fn measured(m: &Manifest, MeasuredEntry { n_sets, sources, .. }: &MeasuredEntry) -> Result<()> {
    if !m.writer_features.iter().any(|f| f == MEASURED) {
        return Err(Error::corrupt(format!("without the writer feature \"{MEASURED}\"")));
    }
    let mut cell = 0;
    for (i, SourceEntry { name, first_cell, n_cells, set }) in sources.iter().enumerate() {
        let field = |field: &str| format!("sources.{i}.{field}");
        equal(&field("first_cell"), *first_cell, "cells before it", cell)?;
        if *n_cells == 0 || *n_cells > m.n_cells - cell {
            let left = m.n_cells - cell;
            return Err(Error::corrupt(format!("{n_cells} cells, of {left} that are left")).at(field("n_cells")));
        }
        if set >= n_sets {
            return Err(Error::corrupt(format!("{set} of {n_sets} sets")).at(field("set")));
        }
        if i > 0 && sources[i - 1].name == *name && sources[i - 1].set == *set {
            return Err(Error::corrupt("it is one with the source before").at(format!("sources.{i}")));
        }
        cell += n_cells;
    }
    equal("sources", cell, "cells", m.n_cells)?;
    // Each has a source.
    if *n_sets > sources.len() as u64 {
        return Err(Error::corrupt(format!("{n_sets}, of {} sources", sources.len())).at("n_sets"));
    }
    Ok(())
}

/// The stripes follow each other and cover all cells and all rows of `by_gene`, as reading relies on.
fn stripes(m: &Manifest) -> Result<()> {
    let (mut cell, mut row, mut genes) = (0, 0, 0);
    for (i, &Stripe { first_cell, n_cells, first_row, n_genes }) in m.stripes.iter().enumerate() {
        let field = |name: &str| format!("stripes.{i}.{name}");
        equal(&field("first_cell"), first_cell, "cells before it", cell)?;
        equal(&field("first_row"), first_row, "rows before it", row)?;
        // Genes that came later have no values in older stripes.
        let has_short = m.reader_features.iter().any(|f| f == SHORT_STRIPES);
        if !has_short || n_genes < genes || n_genes > m.n_genes {
            equal(&field("n_genes"), n_genes, "genes", m.n_genes)?;
        }
        genes = n_genes;
        // Neither sum can overflow: the first is at most n_cells, and there are as many stripes.
        if n_cells == 0 || n_cells > m.n_cells - cell || u32::try_from(n_cells).is_err() {
            let left = m.n_cells - cell;
            return Err(Error::corrupt(format!("{n_cells} cells, of {left} that are left")).at(field("n_cells")));
        }
        cell += n_cells;
        row = row.checked_add(n_genes).ok_or_else(|| Error::corrupt("too many rows").at(field("n_genes")))?;
    }
    if let Some(table) = &m.tables.by_gene {
        equal("stripes", cell, "cells", m.n_cells)?;
        equal("tables.by_gene.rows", table.rows, "rows of the stripes", row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_twenty_digits() {
        assert_eq!(version_of("00000000000000000012.json"), Some(12));
        assert_eq!(version_of("18446744073709551615.json"), Some(u64::MAX));
        for other in [
            "12.json",
            "0000000000000000012.json",
            "000000000000000000012.json",
            "+0000000000000000012.json",
            "00000000000000000012.json.tmp",
            "00000000000000000012",
            "99999999999999999999.json",
            ".json",
            "0000000000000000001a.json",
            "a/00000000000000000012.json",
        ] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }

    #[test]
    fn no_version_follows_the_last_one() {
        assert_eq!(next_version(&[]).unwrap(), 1);
        assert_eq!(next_version(&[1, 7]).unwrap(), 8);
        assert!(next_version(&[1, u64::MAX]).is_err());
    }

    #[test]
    fn paths_stay_below_the_root() {
        for path in ["cells.lance", "_slaf/extras/0f.h5", "a-1/_versions/12.manifest", "..a/b.."] {
            below_root(path).unwrap();
        }
        for path in [
            "", "..", ".", "/etc/passwd", "a/../b", "../a", "a//b", "a/", "file:///a", "s3://b/c", "C:/a", "a\\..\\b",
            "%2e%2e/a", "a/.", "a\0b", "ä",
        ] {
            assert!(below_root(path).is_err(), "{path:?}");
        }
    }
}
