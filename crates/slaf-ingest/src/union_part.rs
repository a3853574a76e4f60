//! Some inputs of a union, read without the others.

use crate::measured::Measured;
use crate::model::{Description, Frame, Input};
use crate::union::{Labels, Source, Union};
use crate::union_columns::United;
use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int32Type;
use slaf_core::order::DROP;
use slaf_core::{Context, Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// What a union knows of some of its inputs, which follow each other: enough to read their cells as the
/// union does, by someone who has these inputs only.
#[derive(Clone, Debug)]
pub struct UnionPart {
    /// The inputs.
    pub inputs: Vec<PartInput>,
    /// The columns of obs, without the one that names the input of a cell.
    pub columns: Vec<PartColumn>,
    /// Where there is a column that names the input of a cell: its categories, and the number of that
    /// of each of these inputs.
    pub labels: Option<(Vec<String>, Vec<i32>)>,
}

/// What a union knows of an input.
#[derive(Clone, Debug)]
pub struct PartInput {
    /// Its name, for errors.
    pub name: String,
    /// The union's number of each of its genes, or `u32::MAX` for one that is left out.
    pub genes: Arc<Vec<u32>>,
}

/// What a union knows of a column.
#[derive(Clone, Debug)]
pub struct PartColumn {
    /// The number of the column in each of the inputs.
    pub places: Vec<Option<usize>>,
    /// For a categorical: the categories of the union, and for each of the inputs the new code of each
    /// code.
    pub categories: Option<(ArrayRef, Vec<Vec<i32>>)>,
}

impl Union {
    /// What is known of some of the inputs.
    pub fn part(&self, inputs: Range<usize>) -> UnionPart {
        let range = self.hidden + inputs.start..self.hidden + inputs.end;
        let known = |s: &Source| PartInput { name: s.name.clone(), genes: s.genes.clone() };
        let columns = self.obs.iter().map(|united| PartColumn {
            places: united.places[range.clone()].to_vec(),
            categories: united.categories.as_ref().map(|(values, maps)| (values.clone(), maps[range.clone()].to_vec())),
        });
        let labels = self.labels.as_ref().map(|labels| {
            let names = labels.categories.iter().flatten().map(str::to_string);
            (names.collect(), labels.codes[range.clone()].to_vec())
        });
        UnionPart { columns: columns.collect(), labels, inputs: self.sources[range].iter().map(known).collect() }
    }
}

impl UnionPart {
    /// The cells of the inputs, one after the other, as the union gives them. `description` is that of the
    /// union; its lengths become those of these cells. The union's var and `uns` are not to be had here.
    ///
    /// # Errors
    /// `malformed-input` for inputs that are not those of the union.
    pub fn open(self, inputs: Vec<Box<dyn Input>>, description: Description) -> Result<Union> {
        let UnionPart { inputs: known, columns, labels } = self;
        let other = || Error::malformed("not the input that the conversion began with");
        let labelled = labels.as_ref().is_none_or(|(names, codes)| {
            codes.len() == known.len() && codes.iter().all(|&c| usize::try_from(c).is_ok_and(|c| c < names.len()))
        });
        let n_columns = columns.len() + usize::from(labels.is_some());
        if inputs.len() != known.len() || description.obs.columns.len() != n_columns || !labelled {
            return Err(other());
        }
        let (mut sources, mut first_cell) = (Vec::new(), 0);
        for (i, (PartInput { name, genes }, input)) in known.into_iter().zip(inputs).enumerate() {
            if !fits(&*input, &genes, description.n_genes, &columns, i).at(&name)? {
                return Err(other().at(name));
            }
            let n_cells = input.description().n_cells;
            sources.push(Source { name, first_cell, genes, input });
            first_cell += n_cells;
        }
        let obs = description.obs.columns.iter().cloned().zip(columns);
        let obs = obs.map(|(info, c)| United { info, places: c.places, categories: c.categories }).collect();
        let labels = labels.map(|(names, codes)| {
            let categories = Arc::new(StringArray::from_iter_values(names));
            Labels { categories, codes }
        });
        let mut description = Description { n_cells: first_cell, extras: Vec::new(), ..description };
        description.matrices.iter_mut().for_each(|m| m.n_rows = first_cell);
        description.arrays.iter_mut().for_each(|a| a.n_rows = first_cell);
        let var = Frame { index: Vec::new(), columns: Vec::new() };
        Ok(Union {
            sources,
            description,
            var,
            obs,
            labels,
            uns: false,
            hidden: 0,
            measured: Measured::default(),
            matches: Vec::new(),
        })
    }
}

/// Whether an input, the `i`th, has the genes and the columns that are known of it.
fn fits(input: &dyn Input, genes: &[u32], n_genes: u64, columns: &[PartColumn], i: usize) -> Result<bool> {
    let numbered = genes.iter().all(|&g| g == DROP || u64::from(g) < n_genes);
    if genes.len() as u64 != input.description().n_genes || !numbered {
        return Ok(false);
    }
    // Categories are on each frame, also on one without rows.
    let frame = input.obs(0..0).at("obs")?;
    Ok(columns.iter().all(|column| {
        let Some(Some(place)) = column.places.get(i) else { return column.places.len() > i };
        let Some(found) = frame.columns.get(*place) else { return false };
        let codes = column.categories.as_ref().map(|(_, maps)| maps.get(i).map_or(0, Vec::len));
        let categories = found.array.as_dictionary_opt::<Int32Type>().map(|d| d.values().len());
        codes.is_none() || codes == categories
    }))
}
