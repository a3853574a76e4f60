//! Which content a file has, without reading it.

use std::time::SystemTime;

/// What tells one content of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its whole address.
    pub file: String,
    pub length: u64,
    pub modified: SystemTime,
    pub tag: Option<String>,
}
