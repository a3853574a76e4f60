//! SLAF's dialect of SQL: from a user's text to a logical plan of DataFusion.
//!
//! The dialect is DataFusion's, and:
//! - identifiers keep their case, as columns of obs and names of genes do;
//! - a double-quoted word that names no column and is compared with text is a string, as many
//!   users write it (`WHERE batch = "b1"`);
//! - `/` of whole numbers gives a fraction, `//` a whole number;
//! - a gene is a column of `cells` ([`Query::unknown_names`], [`Query::add_genes`]);
//! - `?`, `$1` and `$name` are parameters, also for lists ([`Parameters`]);
//! - [`functions`] has what analyses of counts need.
//!
//! [`Dialect::Standard`] is without the rules for words in double quotes and for `/`.
//!
//! Only queries pass: nothing writes, defines or sets something. This crate knows no store and no
//! files, so that it builds and is tested without them.

#![warn(missing_docs, unreachable_pub)]

mod aggregates;
mod aliases;
mod answers;
mod casts;
mod clauses;
mod columns;
mod comparisons;
mod condition;
mod depth;
mod division;
pub mod error;
mod extremes;
pub mod floats;
mod from_first;
pub mod functions;
mod genes;
mod guard;
mod integers;
mod kinds;
mod length;
pub mod limits;
mod lists;
mod moving;
mod names;
mod parameters;
mod protect;
mod query;
mod string_agg;
mod sums;
mod template;
mod unknown;
mod walk;
mod words;

pub use columns::Columns;
pub use condition::rows_where;
pub use depth::PLANNING_STACK;
pub use genes::CELLS;
pub use parameters::{Parameter, ParameterType, Parameters};
pub use protect::protect;
pub use query::{Dialect, Query};
pub use template::Template;
pub use unknown::NearGenes;
