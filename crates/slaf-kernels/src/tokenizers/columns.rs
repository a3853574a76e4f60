//! The rows that a tokenizer gets, and how their columns are numbered.

use super::entries::Genes;
use super::matching::DROP;
use slaf_core::{Error, Result};

/// The nonzeros of a cell.
pub(super) struct Cell<'a, T> {
    pub(super) number: u64,
    pub(super) columns: &'a [u32],
    pub(super) values: &'a [T],
    pub(super) total: Option<f64>,
}

/// The gene of each column.
#[derive(Clone, Debug, Default)]
pub(super) enum Columns {
    /// Columns are genes.
    #[default]
    Genes,
    /// As a store has them, by popularity.
    Stored {
        gene_of: Vec<u32>,
        /// The same, and [`DROP`] for genes without a token.
        known: Vec<u32>,
    },
}

impl Columns {
    /// Columns that stand for these genes.
    ///
    /// # Errors
    /// `invalid-argument` if they are no permutation of the genes.
    pub(super) fn stored(gene_of: &[u32], genes: &Genes) -> Result<Columns> {
        let mut seen = vec![false; genes.tokens.len()];
        for &gene in gene_of {
            match seen.get_mut(gene as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(Error::invalid(format!("gene {gene} has no column of its own"))),
            }
        }
        if gene_of.len() != seen.len() {
            return Err(Error::invalid(format!("{} columns for {} genes", gene_of.len(), seen.len())));
        }
        let known = |&gene: &u32| if genes.tokens[gene as usize] == DROP { DROP } else { gene };
        Ok(Columns::Stored { known: gene_of.iter().map(known).collect(), gene_of: gene_of.to_vec() })
    }

    #[inline]
    pub(super) fn gene(&self, column: u32) -> u32 {
        match self {
            Columns::Genes => column,
            Columns::Stored { gene_of, .. } => gene_of[column as usize],
        }
    }
}
