//! Computations over streams of [CSR chunks](slaf_core::CsrChunk) that need no storage engine.
//!
//! [`tokenizers`] turns the counts of cells into the inputs of foundation models.

pub mod tokenizers;
