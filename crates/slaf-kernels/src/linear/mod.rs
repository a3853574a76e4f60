//! Linear algebra of matrices that are read in parts: what principal components are made of.
//!
//! [`gram()`] finds `X.T @ X` of the columns of a matrix in one pass, in float64 and in memory that
//! depends on the columns alone; [`largest`] its largest eigenvalues and their vectors. Of many
//! columns [`leading()`] finds these without the products, in a pass for every 32 vectors of a Krylov
//! space. None depends on the number of threads, bit by bit: every product is added by one thread, in
//! the order of the rows. Sums of stretches of rows are added in their order, so that these can be
//! worked on apart ([`gram_of_rows`], [`images_of_rows`]).

mod block;
mod eigen;
mod gram;
mod images;
mod leading;
mod panel;
mod product;

pub use eigen::{Eigen, largest};
pub use gram::{Gram, gram, gram_of_rows};
pub use images::{Images, Vectors, images_of_rows};
pub use leading::{Lanczos, Leading, Wanted, leading};
