//! Tokenizers: the counts of cells become rows of tokens for foundation models.
//!
//! A [`Description`] says what a tokenizer is composed of; Geneformer and scGPT are two of them.
//! A [`Recipe`] adds the tables (a [`Vocabulary`], medians), and is what users save and load.
//! [`Recipe::prepare`] finds the genes of a data set in the vocabulary and makes a [`Tokenizer`],
//! which writes rows into the caller's buffers:
//!
//! ```
//! use slaf_core::{CsrChunk, Values};
//! use slaf_kernels::tokenizers::{
//!     Batch, Description, GeneColumn, GeneTable, Geneformer, Output, Random, Recipe, Vocabulary,
//! };
//!
//! // Published models come with files: `Vocabulary::from_file`, `GeneTable::from_file`.
//! let tokens = [("<pad>", 0), ("<mask>", 1), ("ENSG01", 2), ("ENSG02", 3), ("ENSG03", 4)];
//! let vocabulary = Vocabulary::new(tokens.map(|(name, token)| (name.to_string(), token)))?;
//! let medians = GeneTable::new([("ENSG01", 1.0), ("ENSG02", 2.0), ("ENSG03", 8.0)].map(|(g, m)| (g.to_string(), m)))?;
//! let recipe = Recipe::new(Description::geneformer(Geneformer::V1, 4), vocabulary).with_scales(medians);
//!
//! let ids = ["ENSG01.7", "ENSG03.2", "ensg02", "ENSG99"].map(String::from).to_vec();
//! let tokenizer = recipe.prepare(&[GeneColumn { name: "gene_id".into(), ids }])?;
//! assert_eq!(tokenizer.gene_match().n_matched, 3);
//!
//! let chunk = CsrChunk { indptr: vec![0, 3], indices: vec![0, 1, 2], values: Values::U16(vec![2, 8, 9]) };
//! let (mut input_ids, mut attention_mask) = ([0; 4], [false; 4]);
//! let out = Output { input_ids: &mut input_ids, attention_mask: &mut attention_mask, values: &mut [] };
//! tokenizer.tokenize(&Batch { chunk: &chunk, cells: &[0], totals: None }, &mut Random::new(0, 0), out)?;
//! // 9/2, 2/1 and 8/8, then padding.
//! assert_eq!(input_ids, [3, 2, 4, 0]);
//! assert_eq!(attention_mask, [true, true, true, false]);
//! # Ok::<(), slaf_core::Error>(())
//! ```
//!
//! **Contract of the order.** Keys are computed in double precision with the operations of
//! Geneformer's own tokenizer in their order, sorted exactly, largest first, and equal keys are in
//! the order of the genes, whatever that of the columns. The reference's sort is not stable: tokens of equal keys may be in another
//! order there.

mod binned;
mod bins;
mod by_key;
mod columns;
mod description;
mod distinct;
mod entries;
mod matching;
mod medians;
mod memory;
mod models;
mod pickle;
mod random;
mod rank;
mod recipe;
mod row;
mod select;
mod slots;
mod table;
mod tokenizer;
mod vocabulary;

pub use description::{
    Binning, Bins, Description, Empty, Fill, IdStyle, OfCell, Order, Select, Special, SpecialValue, Ties, TotalOf,
    Transform, ValueMap, Weight,
};
pub use matching::{GeneColumn, GeneMatch};
pub use medians::MedianBuilder;
pub use models::Geneformer;
pub use random::Random;
pub use recipe::Recipe;
pub use table::GeneTable;
pub use tokenizer::{Batch, Output, Packed, Rows, Tokenized, Tokenizer, VocabInfo};
pub use vocabulary::Vocabulary;
