//! The index of the names of cells, as its segments are written.

use super::job::Place;
use super::survey;
use crate::store::manifest::NameSegment;
use crate::store::name_index::{Entries, LONGEST};
use bytes::Bytes;
use slaf_core::Result;
use slaf_lance::runtime::block_on;

/// Takes the names of cells in their order, and writes a segment whenever there are enough.
pub(crate) struct NamesWriter<'a> {
    place: Place<'a>,
    entries: Entries,
    first_row: u64,
    first_number: usize,
    segments: Vec<NameSegment>,
}

impl<'a> NamesWriter<'a> {
    /// For the cells from `first_row` on.
    pub(crate) fn new(place: Place<'a>, first_row: u64) -> NamesWriter<'a> {
        NamesWriter { place, entries: Entries::default(), first_row, first_number: 0, segments: Vec::new() }
    }

    /// With segments that are numbered from `first_number` on.
    pub(crate) fn numbered(self, first_number: usize) -> NamesWriter<'a> {
        NamesWriter { first_number, ..self }
    }

    /// Adds what a segment has of the next cells.
    pub(crate) fn extend(&mut self, entries: Entries) {
        self.entries.extend(entries);
    }

    /// Adds a segment of the next cells that somebody else wrote.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn push_segment(&mut self, entries: Entries) -> Result<()> {
        if self.entries.len() + entries.len() > LONGEST {
            self.write()?;
        }
        self.entries.extend(entries);
        Ok(())
    }

    /// Adds the names of the next cells.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn push<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) -> Result<()> {
        for name in names {
            self.entries.push(name);
            if self.entries.len() == LONGEST {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Writes what is left; gives all segments.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn finish(mut self) -> Result<Vec<NameSegment>> {
        self.write()?;
        Ok(self.segments)
    }

    fn write(&mut self) -> Result<()> {
        let entries = std::mem::take(&mut self.entries);
        let n_rows = entries.len();
        if n_rows == 0 {
            return Ok(());
        }
        let path = survey::names(self.place.write_id, self.first_number + self.segments.len());
        block_on(self.place.storage.write(&path, Bytes::from(entries.into_bytes(&path)?)))?;
        self.segments.push(NameSegment { path, first_row: self.first_row, n_rows });
        self.first_row += n_rows;
        Ok(())
    }
}
