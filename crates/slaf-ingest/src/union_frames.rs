//! The annotations of several inputs as those of one.

use crate::model::{Column, Frame, FrameInfo, Input, Loss};
use crate::union_columns::{Columns, United, all_missing, unite_columns};
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use slaf_core::order::DROP;
use slaf_core::{Context, Error, ErrorKind, Result};
use std::cell::OnceCell;

/// The var of the union: each column that means the same wherever a gene comes more than once.
pub(crate) fn unite_var(
    vars: &[Frame],
    maps: &[Vec<u32>],
    n: usize,
    names: &[String],
    losses: &mut Vec<Loss>,
    notes: &mut Vec<String>,
) -> Result<Frame> {
    // For each input the row of each gene of the union.
    let rows: Vec<Vec<Option<u32>>> = maps
        .iter()
        .map(|map| {
            let mut rows = vec![None; n];
            for (row, &gene) in map.iter().enumerate().filter(|(_, g)| **g != DROP) {
                rows[gene as usize] = Some(row as u32);
            }
            rows
        })
        .collect();
    let first: Vec<usize> = (0..n).map(|g| rows.iter().position(|r| r[g].is_some()).unwrap_or_default()).collect();
    let index = (0..n).map(|g| vars[first[g]].index[rows[first[g]][g].unwrap_or_default() as usize].clone()).collect();
    let mut columns = Vec::new();
    let infos: Vec<FrameInfo> = vars
        .iter()
        .map(|v| FrameInfo { index_name: None, columns: v.columns.iter().map(|c| c.info.clone()).collect() })
        .collect();
    for united in unite_columns(&infos.iter().collect::<Vec<_>>(), names, "var", &VarColumns(vars), losses, notes)? {
        let mut merged: Option<ArrayRef> = None;
        let mut same = true;
        for (i, var) in vars.iter().enumerate() {
            let Some(at) = united.places[i] else { continue };
            let here = united.convert(i, &var.columns[at].array).at("var").at(&names[i])?;
            let here = take(&here, &UInt32Array::from(rows[i].clone()), None).map_err(arrow_error)?;
            merged = Some(match merged {
                None => here,
                Some(before) => {
                    same &= agree(&before, &here)?;
                    fill(&before, &here)?
                }
            });
        }
        match merged {
            Some(array) if same => columns.push(Column { info: united.info_for(&array), array }),
            _ => losses.push(Loss {
                path: format!("var/{}", united.info.name),
                reason: "the inputs give the same gene different values".to_string(),
            }),
        }
    }
    Ok(Frame { index, columns })
}

pub(crate) fn arrow_error(e: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, e.to_string()).with_source(e)
}

/// Whether two columns have the same value wherever both have one.
fn agree(a: &ArrayRef, b: &ArrayRef) -> Result<bool> {
    let convert = |x: &ArrayRef| -> Result<ArrayRef> {
        match x.data_type() {
            arrow::datatypes::DataType::Dictionary(_, v) => arrow::compute::cast(x, v).map_err(arrow_error),
            _ => Ok(x.clone()),
        }
    };
    let (a, b) = (convert(a)?, convert(b)?);
    let equal = arrow::compute::kernels::cmp::eq(&a, &b).map_err(arrow_error)?;
    Ok(equal.iter().all(|e| e != Some(false)))
}

/// The first column with the gaps filled from the second.
fn fill(a: &ArrayRef, b: &ArrayRef) -> Result<ArrayRef> {
    let has = arrow::compute::is_not_null(a).map_err(arrow_error)?;
    arrow::compute::kernels::zip::zip(&has, a, b).map_err(arrow_error)
}

/// The columns of obs of the union.
pub(crate) fn unite_obs(
    inputs: &[(String, Box<dyn Input>)],
    infos: &[&FrameInfo],
    losses: &mut Vec<Loss>,
    notes: &mut Vec<String>,
) -> Result<Vec<United>> {
    let names: Vec<String> = inputs.iter().map(|(n, _)| n.clone()).collect();
    // The categories of an input are on each of its frames, also on one without rows.
    let mut empty = Vec::new();
    for (name, input) in inputs {
        empty.push(input.obs(0..0).at("obs").at(name)?);
    }
    let columns = ObsColumns { inputs, empty, missing: inputs.iter().map(|_| OnceCell::new()).collect() };
    unite_columns(infos, &names, "obs", &columns, losses, notes)
}

struct VarColumns<'a>(&'a [Frame]);

impl Columns for VarColumns<'_> {
    fn column(&self, i: usize, c: usize) -> Result<ArrayRef> {
        Ok(self.0[i].columns[c].array.clone())
    }

    fn is_empty(&self, i: usize, c: usize) -> Result<bool> {
        Ok(all_missing(&self.0[i].columns[c].array))
    }
}

struct ObsColumns<'a> {
    inputs: &'a [(String, Box<dyn Input>)],
    /// Frames without rows.
    empty: Vec<Frame>,
    /// For each input, which columns have no value: found by one pass, if it is asked for.
    missing: Vec<OnceCell<Vec<bool>>>,
}

impl ObsColumns<'_> {
    fn find_missing(&self, i: usize) -> Result<Vec<bool>> {
        const ROWS: u64 = 1 << 16;
        let (name, input) = &self.inputs[i];
        let n = input.description().n_cells;
        let mut missing = vec![true; self.empty[i].columns.len()];
        let mut begin = 0;
        while begin < n && missing.contains(&true) {
            let end = n.min(begin + ROWS);
            let frame = input.obs(begin..end).at("obs").at(name)?;
            missing.iter_mut().zip(&frame.columns).for_each(|(m, c)| *m = *m && all_missing(&c.array));
            begin = end;
        }
        Ok(missing)
    }
}

impl Columns for ObsColumns<'_> {
    fn column(&self, i: usize, c: usize) -> Result<ArrayRef> {
        Ok(self.empty[i].columns[c].array.clone())
    }

    fn is_empty(&self, i: usize, c: usize) -> Result<bool> {
        if let Some(missing) = self.missing[i].get() {
            return Ok(missing[c]);
        }
        let missing = self.find_missing(i)?;
        Ok(self.missing[i].get_or_init(|| missing)[c])
    }
}
