//! SLAF's dialect of SQL: from a user's text to a logical plan of DataFusion.
//!
//! The dialect is DataFusion's, and:
//! - identifiers keep their case, as columns of obs and names of genes do;
//! - a double-quoted word that names no column is a string, as many users write it
//!   (`WHERE batch = "b1"`);
//! - a gene is a column of `cells` ([`Query::unknown_names`], [`Query::add_genes`]);
//! - `?`, `$1` and `$name` are parameters ([`Parameters`]);
//! - [`functions`] has what analyses of counts need.
//!
//! Only queries pass: nothing writes, defines or sets something. This crate knows no store and no
//! files, so that it builds and is tested without them.

mod depth;
pub mod error;
pub mod functions;
mod genes;
mod guard;
pub mod limits;
mod names;
mod parameters;
mod query;

pub use depth::PLANNING_STACK;
pub use genes::{gene_table, genes_of_table};
pub use parameters::{Parameter, Parameters};
pub use query::{Query, UnknownName};
