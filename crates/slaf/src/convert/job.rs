//! A conversion under way.

use super::options::ConvertOptions;
use super::survey;
use crate::progress::{Progress, ProgressEvent};
use crate::store::frames::{Categories, categories_to_ipc};
use crate::store::manifest::{Extras, MeasuredEntry};
use crate::store::measured::{entry_of, sets_to_ipc};
use bytes::Bytes;
use slaf_core::order::GeneOrder;
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::temporary::TemporaryFolder;
use slaf_ingest::{Input, MatrixKey, Measured};
use slaf_lance::Storage;
use slaf_lance::runtime::block_on;
use std::path::Path;

/// Reports progress; `interrupted` if that is the answer.
pub(crate) fn tick(progress: Progress<'_>, phase: &'static str, cells_done: u64, cells_total: u64) -> Result<()> {
    match progress(ProgressEvent { phase, cells_done, cells_total }) {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was written")),
    }
}

/// Where a writer puts its files, and its id.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) write_id: &'a str,
}

impl Place<'_> {
    /// The folder of a table of this write.
    pub(crate) fn table(&self, name: &str) -> String {
        survey::table(self.write_id, name)
    }

    /// Writes the categories of categoricals, if there are any; gives the path.
    pub(crate) fn write_categories(&self, categories: &Categories) -> Result<Option<String>> {
        if categories.is_empty() {
            return Ok(None);
        }
        let path = survey::categories(self.write_id);
        block_on(self.storage.write(&path, categories_to_ipc(categories)?))?;
        Ok(Some(path))
    }

    /// Writes which genes were measured in which cells, unless that is all in all.
    pub(crate) fn write_measured(&self, measured: Option<&Measured>) -> Result<Option<MeasuredEntry>> {
        let Some(measured) = measured.filter(|m| !m.is_all()) else { return Ok(None) };
        let path = survey::measured(self.write_id);
        block_on(self.storage.write(&path, sets_to_ipc(measured)?))?;
        Ok(Some(entry_of(measured, path)))
    }

    /// Writes an HDF5 file with elements that no table holds.
    pub(crate) fn write_extras(&self, elements: Vec<String>, file: &Path) -> Result<Extras> {
        let bytes = Bytes::from(std::fs::read(file).at(file.display())?);
        let path = survey::extras(self.write_id);
        block_on(self.storage.write(&path, bytes))?;
        Ok(Extras { path, elements })
    }
}

/// One pass over an input under way.
pub(crate) struct Job<'a> {
    pub(crate) input: &'a dyn Input,
    pub(crate) options: &'a ConvertOptions,
    pub(crate) place: Place<'a>,
    pub(crate) progress: Progress<'a>,
}

impl Job<'_> {
    /// The order in which packed rows number the genes, from the first of these matrices that
    /// the input has, and the numbers of values in that order.
    pub(crate) fn gene_order(&self, keys: &[MatrixKey]) -> Result<(GeneOrder, Vec<u64>)> {
        let description = self.input.description();
        let n = match keys.first() {
            Some(MatrixKey::RawX) => {
                description.matrices.iter().find(|m| m.key == MatrixKey::RawX).map_or(0, |m| m.n_cols)
            }
            _ => description.n_genes,
        };
        let like_x = |k: &MatrixKey| matches!(k, MatrixKey::X | MatrixKey::Layer(_));
        let found = description
            .matrices
            .iter()
            .find(|m| keys.contains(&m.key) || (keys.contains(&MatrixKey::X) && like_x(&m.key)));
        let counts = match found {
            Some(m) => self.input.column_counts(&m.key)?,
            None => vec![0; n as usize],
        };
        let order = GeneOrder::by_popularity(&counts);
        let counts_by_rank = order.gene_of.iter().map(|&g| counts[g as usize]).collect();
        Ok((order, counts_by_rank))
    }

    /// The order of the genes of raw, if there is a raw.
    pub(crate) fn raw_order(&self) -> Result<Option<GeneOrder>> {
        match &self.input.description().raw_var {
            Some(_) => Ok(Some(self.gene_order(&[MatrixKey::RawX])?.0)),
            None => Ok(None),
        }
    }

    pub(crate) fn tick(&self, phase: &'static str, cells_done: u64) -> Result<()> {
        tick(self.progress, phase, cells_done, self.input.description().n_cells)
    }

    /// Copies the elements that no table holds into one HDF5 file.
    pub(crate) fn write_extras(&self) -> Result<Option<Extras>> {
        let elements = self.input.description().extras.clone();
        if elements.is_empty() {
            return Ok(None);
        }
        let folder = TemporaryFolder::new_in(&std::env::temp_dir())?;
        let scratch = folder.path().join("extras.h5");
        self.input.write_extras(&scratch)?;
        self.place.write_extras(elements, &scratch).map(Some)
    }
}
