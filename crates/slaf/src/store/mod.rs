//! A store at one version: what is committed, and how it is held.
//!
//! [`Snapshot`] is what everything else reads through: it opens the tables of a root manifest and
//! keeps, within a budget, what was read of names and annotations.

pub(crate) mod fields;
pub(crate) mod frames;
pub(crate) mod heads;
pub(crate) mod inverted;
mod ipc;
mod kept;
pub(crate) mod kinds;
mod lists;
mod lookup;
pub mod manifest;
pub(crate) mod manifest_check;
pub(crate) mod measured;
pub(crate) mod name_index;
pub(crate) mod names;
mod pinned;
pub(crate) mod schema;
mod snapshot;
pub(crate) mod sums;
mod table_check;
pub(crate) mod table_columns;
mod table_name;
pub(crate) mod values;
pub(crate) mod versions;

pub(crate) use snapshot::Snapshot;
pub(crate) use table_name::TableName;
