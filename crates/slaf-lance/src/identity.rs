//! Which content a file has, without reading it.

use std::time::SystemTime;

/// What tells one content of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its whole address.
    pub file: String,
    /// Bytes.
    pub length: u64,
    /// When it was written last.
    pub modified: SystemTime,
    /// The entity tag of an object store.
    pub tag: Option<String>,
}
