//! Computations over streams of [CSR chunks](slaf_core::CsrChunk) that need no storage engine.
//!
//! [`matrix`] computes on matrices that are read in parts; [`linear`] finds products of their columns
//! and eigenvalues; [`neighbors`] finds what is nearest to what; [`grouped`] finds statistics of groups of
//! their values; [`rank_sums`] ranks cells by them, gene by gene; [`tokenizers`] turns the counts of cells
//! into the inputs of foundation models; [`sampling`] says which cells a model sees, and in which
//! order.

#![warn(missing_docs, unreachable_pub)]

pub mod grouped;
pub mod linear;
pub mod matrix;
pub mod neighbors;
mod parallel;
mod random;
pub mod rank_sums;
pub mod sampling;
pub mod tokenizers;
mod wire;
