//! Growth: a change of a store becomes its next version, in one commit.
//!
//! Nothing that is there is rewritten, but by `rewrite`, which writes all anew. What is new goes into files that carry the id of their
//! writer, and a root manifest names them together with the files of the version before. Who loses
//! the race for the next version looks at the newer one, checks that the change still applies, and
//! tries again.

mod add;
mod append;
mod append_columns;
mod edit;
mod history;
mod index;
mod labelled;
mod optimize;
mod options;
mod rewrite;
mod slots;
mod store_input;
mod table;
mod turn;
mod writer;

pub use add::{AddOptions, Additions, add};
pub use append::append;
pub use edit::{drop_slots, rename};
pub use history::{Collected, Difference, GcOptions, diff, gc, newest, rollback, tag, untag};
pub use index::{IndexKind, IndexOptions, create_index, drop_index};
pub use optimize::{Optimized, optimize};
pub use options::{AppendOptions, AppendedSource, Base, GrowOptions, GrowReport};
pub use rewrite::{RewriteOptions, delete_cells, filter};
pub use table::AnnotationTable;
