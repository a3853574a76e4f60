//! Computations over streams of [CSR chunks](slaf_core::CsrChunk) that need no storage engine.
//!
//! [`tokenizers`] turns the counts of cells into the inputs of foundation models; [`sampling`]
//! says which cells a model sees, and in which order.

mod random;
pub mod sampling;
pub mod tokenizers;
