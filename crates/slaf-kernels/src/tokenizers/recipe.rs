//! A tokenizer as a file: a description with its tables.

use super::by_key::ByKey;
use super::columns::Columns;
use super::description::{Description, Fill, IdStyle, Order, Special};
use super::entries::Genes;
use super::matching::{DROP, GeneColumn, GeneMatch, find};
use super::row::Plan;
use super::table::{GeneTable, write_json};
use super::tokenizer::Tokenizer;
use super::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Everything that makes a tokenizer, apart from the data set: what is saved and loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The parts of the tokenizer.
    pub description: Description,
    /// Tokens by gene and by name.
    pub vocabulary: Vocabulary,
    /// What keys are divided by, 1e-30 to 1e30: Geneformer's medians.
    #[serde(default)]
    pub scales: Option<GeneTable>,
    /// The order of genes for [`Order::Position`].
    #[serde(default)]
    pub positions: Option<GeneTable>,
}

impl Recipe {
    /// A recipe without tables.
    pub fn new(description: Description, vocabulary: Vocabulary) -> Self {
        Recipe { description, vocabulary, scales: None, positions: None }
    }

    /// Divides keys by these; see [`Recipe::scales`].
    #[must_use]
    pub fn with_scales(mut self, scales: GeneTable) -> Self {
        self.scales = Some(scales);
        self
    }

    /// Orders genes by these; see [`Recipe::positions`].
    #[must_use]
    pub fn with_positions(mut self, positions: GeneTable) -> Self {
        self.positions = Some(positions);
        self
    }

    /// Writes the recipe as JSON.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_json(path.as_ref(), self)
    }

    /// Reads what [`Recipe::save`] wrote.
    ///
    /// # Errors
    /// `not-found`, `malformed-input`, and `invalid-argument` for what [`Description::check`]
    /// refuses.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).at(path.display())?;
        let recipe: Recipe = serde_json::from_slice(&bytes)
            .map_err(|e| Error::malformed(format!("not a saved tokenizer: {e}")).with_source(e))
            .at(path.display())?;
        recipe.description.check().at(path.display())?;
        Ok(recipe)
    }

    /// Makes the tokenizer ready for the genes of a data set.
    ///
    /// `columns` are the columns that may hold the ids of the vocabulary, usually the gene names
    /// and the text columns of var; the one with the most genes of the vocabulary is taken, and
    /// [`GeneMatch::column`] says which. A data set's own vocabulary is matched by gene number if
    /// one column has exactly its names, and by exact name otherwise.
    ///
    /// Rows are then tokenized in the order of the genes of `columns`.
    ///
    /// # Errors
    /// `unknown-gene` if the vocabulary has no gene of the data set, or none with a scale;
    /// `invalid-argument` for a missing table, a special token that the vocabulary lacks, a scale
    /// that is not 1e-30 to 1e30, and parts that do not go together; `ambiguous-name` for tables in
    /// which one gene comes twice.
    pub fn prepare(&self, columns: &[GeneColumn]) -> Result<Tokenizer> {
        let d = &self.description;
        d.check()?;
        let found = find(&self.vocabulary, self.style(), columns)?;
        let (mut tokens, ids, mut report) = (found.tokens, found.ids, found.found);
        let scales = if d.scale { self.scale(&mut tokens, &ids, &mut report)? } else { Vec::new() };
        let first_of_token = first_of_token(&tokens, &mut report);
        let positions = if d.order == Order::Position { self.position(&ids)? } else { Vec::new() };
        let is_first =
            |c: &u32| tokens[*c as usize] != DROP && first_of_token.get(*c as usize).is_none_or(|first| first == c);
        let all = 0..tokens.len() as u32;
        let fillers = if d.fill == Fill::None { Vec::new() } else { all.filter(is_first).collect() };
        let special = |s: &Special| Ok((i64::from(self.vocabulary.special(&s.token)?), s.value));
        let factors = scales.iter().map(|scale| (1.0 / scale) as f32).collect();
        let genes = Genes {
            all_known: !tokens.contains(&DROP),
            known: Genes::known(&tokens),
            tokens,
            scales,
            factors,
            first_of_token,
            positions,
            fillers,
        };
        let plan = Plan {
            first: d.first.iter().map(special).collect::<Result<_>>()?,
            last: d.last.iter().map(special).collect::<Result<_>>()?,
            pad: special(&d.pad)?,
            by_key: ByKey::new(d, &genes, &Columns::Genes),
            // The columns are genes in order already.
            binned: None,
            columns: Columns::Genes,
            genes,
            d: d.clone(),
        };
        Ok(Tokenizer {
            plan,
            vocabulary: Arc::new(self.vocabulary.clone()),
            found: report,
            scratches: Mutex::default(),
        })
    }

    /// Names of a data set are compared as they are.
    fn style(&self) -> IdStyle {
        if self.vocabulary.is_from_data_set() { IdStyle::Symbol } else { self.description.genes }
    }

    /// The ids of a table as they compare.
    fn table(&self, table: Option<&GeneTable>, name: &str) -> Result<HashMap<String, f64>> {
        let table = table.ok_or_else(|| {
            Error::invalid(format!("the description needs a table of {name}, and the tokenizer was given none"))
        })?;
        let style = self.style();
        let mut numbers = HashMap::with_capacity(table.len());
        for (id, x) in table.iter() {
            if numbers.insert(style.comparable(id), x).is_some() {
                let message = format!("the table of {name} has \"{id}\" twice, in different spellings");
                return Err(Error::new(ErrorKind::AmbiguousName, message));
            }
        }
        Ok(numbers)
    }

    /// The scale of each column; columns without one lose their token.
    fn scale(&self, tokens: &mut [u32], ids: &[String], report: &mut GeneMatch) -> Result<Vec<f64>> {
        let table = self.table(self.scales.as_ref(), "scales")?;
        // Rough keys are in single precision.
        if let Some((id, x)) = table.iter().find(|(_, x)| !(1e-30..=1e30).contains(*x)) {
            return Err(Error::invalid(format!("the scale of \"{id}\" is {x}, not 1e-30 to 1e30")));
        }
        let mut scales = vec![1.0; tokens.len()];
        for ((token, id), scale) in tokens.iter_mut().zip(ids).zip(&mut scales).filter(|((t, _), _)| **t != DROP) {
            match table.get(id) {
                Some(&x) => *scale = x,
                None => {
                    *token = DROP;
                    report.n_without_scale += 1;
                }
            }
        }
        if report.n_without_scale == report.n_matched {
            return Err(Error::new(ErrorKind::UnknownGene, "no gene of the data set has a scale (a median)"));
        }
        let kept = report.n_matched - report.n_without_scale;
        if report.warning.is_none() && 2 * kept < report.n_matched {
            report.warning = Some(format!(
                "only {kept} of the {} genes in the vocabulary have a scale (a median); the others are dropped",
                report.n_matched
            ));
        }
        Ok(scales)
    }

    fn position(&self, ids: &[String]) -> Result<Vec<f64>> {
        let table = self.table(self.positions.as_ref(), "positions")?;
        Ok(ids.iter().map(|id| table.get(id).copied().unwrap_or(f64::INFINITY)).collect())
    }
}

/// By column, the first column of its token; empty if all tokens differ.
fn first_of_token(tokens: &[u32], report: &mut GeneMatch) -> Vec<u32> {
    let mut first = HashMap::with_capacity(tokens.len());
    let columns: Vec<u32> =
        (0..).zip(tokens).map(|(c, &t)| if t == DROP { c } else { *first.entry(t).or_insert(c) }).collect();
    report.n_merged = (0..).zip(&columns).filter(|(c, first)| c != *first).count();
    if report.n_merged == 0 { Vec::new() } else { columns }
}
