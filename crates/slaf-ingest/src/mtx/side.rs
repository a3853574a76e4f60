//! The files beside a matrix: names and annotations of cells and genes.

use super::layout::{Cells, Genes};
use crate::fields::read_rows;
use crate::model::{Column, Frame};
use crate::plain::name_of;
use crate::text_columns::{text_column, typed_column};
use arrow::datatypes::DataType;
use slaf_core::{Context, Error, Result};
use std::path::Path;

/// What alevin-fry appends to a gene's name for its columns of unspliced and ambiguous molecules.
const FRY_SUFFIXES: [&str; 2] = ["-U", "-A"];

/// The genes of a data set.
pub(super) struct GeneFrame {
    pub(super) frame: Frame,
    /// The name of the index.
    pub(super) index_name: Option<String>,
    /// The type of each feature.
    pub(super) types: Option<Vec<String>>,
    /// How many columns of the matrix a gene has: spliced, unspliced, ambiguous; or one.
    pub(super) blocks: usize,
}

impl GeneFrame {
    pub(super) fn read(genes: &Genes, notes: &mut Vec<String>) -> Result<GeneFrame> {
        let plain =
            |index, columns| GeneFrame { frame: Frame { index, columns }, index_name: None, types: None, blocks: 1 };
        Ok(match genes {
            Genes::Features(path) => features(path, notes)?,
            Genes::Lines { ids, names } => {
                let index = lines(ids)?;
                let mut columns = Vec::new();
                if let Some(path) = names {
                    let names = lines(path)?;
                    if names.len() != index.len() {
                        let message =
                            format!("{} names for the {} genes of {}", names.len(), index.len(), name_of(ids));
                        return Err(Error::malformed(message).at(name_of(path)));
                    }
                    columns.push(text_column("gene_name", &names));
                }
                plain(index, columns)
            }
            Genes::Table(path) => parse_genes(path, notes)?,
            Genes::Fry(path) => {
                let names = lines(path)?;
                let n = names.len() / 3;
                let of_genes = |block: usize, suffix: &str| {
                    (0..n).all(|i| names[block * n + i].strip_suffix(suffix) == Some(names[i].as_str()))
                };
                let split =
                    n > 0 && names.len() == 3 * n && of_genes(1, FRY_SUFFIXES[0]) && of_genes(2, FRY_SUFFIXES[1]);
                match split {
                    true => GeneFrame { blocks: 3, ..plain(names[..n].to_vec(), Vec::new()) },
                    false => plain(names, Vec::new()),
                }
            }
        })
    }
}

/// The cells of a data set, and the name of their index.
pub(super) fn read_cells(cells: &Cells, notes: &mut Vec<String>) -> Result<(Frame, Option<String>)> {
    match cells {
        Cells::Table(path) => {
            let (index_name, frame, _) = table(path)?;
            Ok((frame, Some(index_name)))
        }
        Cells::Barcodes(path) => {
            let rows = read_rows(path, b'\t')?;
            let columns = more_columns(path, "obs", &rows, 1, notes);
            Ok((Frame { index: column(&rows, 0), columns }, None))
        }
    }
}

/// 10x: id, name, feature type; Cell Ranger ARC adds chromosome, start and end.
fn features(path: &Path, notes: &mut Vec<String>) -> Result<GeneFrame> {
    let rows = read_rows(path, b'\t')?;
    let width = rows.first().map_or(2, Vec::len);
    let types = (width > 2).then(|| column(&rows, 2));
    let mut columns = Vec::new();
    if width > 1 {
        columns.push(text_column("gene_ids", &column(&rows, 0)));
    }
    columns.extend(types.as_ref().map(|t| text_column("feature_types", t)));
    let [start, end] = ["start", "end"].map(|name| {
        let at = if name == "start" { 4 } else { 5 };
        Some(typed_column(name, &column(&rows, at))).filter(|c| width == 6 && c.info.data_type == DataType::Int64)
    });
    match (start, end) {
        (Some(start), Some(end)) => columns.extend([text_column("chromosome", &column(&rows, 3)), start, end]),
        _ => columns.extend(more_columns(path, "var", &rows, 3, notes)),
    }
    let index = column(&rows, usize::from(width > 1));
    Ok(GeneFrame { frame: Frame { index, columns }, index_name: None, types, blocks: 1 })
}

/// Columns without a meaning that is known: they are kept, named by their numbers.
fn more_columns(path: &Path, frame: &str, rows: &[Vec<String>], from: usize, notes: &mut Vec<String>) -> Vec<Column> {
    let width = rows.first().map_or(0, Vec::len);
    let columns: Vec<_> = (from..width).map(|i| typed_column(&format!("column_{}", i + 1), &column(rows, i))).collect();
    if !columns.is_empty() {
        let names: Vec<_> = columns.iter().map(|c| format!("{frame}[\"{}\"]", c.info.name)).collect();
        notes.push(format!("{}: columns without a name are kept as {}", name_of(path), names.join(", ")));
    }
    columns
}

/// Parse: genes are named by `gene_name`, and where that is empty by the first column, the id.
fn parse_genes(path: &Path, notes: &mut Vec<String>) -> Result<GeneFrame> {
    let (id_name, mut frame, rows) = table(path)?;
    let Some(at) = frame.columns.iter().position(|c| c.info.name == "gene_name") else {
        return Ok(GeneFrame { frame, index_name: Some(id_name), types: None, blocks: 1 });
    };
    frame.columns.remove(at);
    let ids = std::mem::replace(&mut frame.index, column(&rows, at + 1));
    let mut unnamed = 0;
    for (name, id) in frame.index.iter_mut().zip(&ids).filter(|(name, _)| name.is_empty()) {
        name.clone_from(id);
        unnamed += 1;
    }
    if unnamed > 0 {
        notes.push(format!("{}: {unnamed} genes without a name are named by their ids", name_of(path)));
    }
    frame.columns.insert(0, text_column(&id_name, &ids));
    Ok(GeneFrame { frame, index_name: Some("gene_name".into()), types: None, blocks: 1 })
}

/// A csv file with a header: the name of its first column, which is the index, the others, and
/// the texts of all.
fn table(path: &Path) -> Result<(String, Frame, Vec<Vec<String>>)> {
    let mut rows = read_rows(path, b',')?;
    if rows.is_empty() {
        return Err(Error::malformed("no header")).at(name_of(path));
    }
    let header = rows.remove(0);
    let columns = (1..header.len()).map(|i| typed_column(&header[i], &column(&rows, i)));
    let frame = Frame { index: column(&rows, 0), columns: columns.collect() };
    Ok((header[0].clone(), frame, rows))
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let rows = read_rows(path, b'\t')?;
    if rows.first().is_some_and(|r| r.len() > 1) {
        return Err(Error::malformed("more than one column; expected a name in each line")).at(name_of(path));
    }
    Ok(column(&rows, 0))
}

fn column(rows: &[Vec<String>], i: usize) -> Vec<String> {
    rows.iter().filter_map(|r| r.get(i)).cloned().collect()
}
