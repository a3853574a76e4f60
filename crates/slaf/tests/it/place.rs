//! A store in memory, behind faults.

use slaf_lance::runtime::block_on;
use slaf_lance::{LayerGuard, Operation, Storage};
use slaf_testing::{Fault, Faults, Rule, memory_store};
use std::collections::HashMap;
use std::sync::Arc;
use tempfile::TempDir;

/// Where root manifests are.
pub const VERSIONS: &str = "_slaf/versions";

/// The address of a store in memory, the faults of its requests, and a folder for inputs.
pub struct Place {
    pub folder: TempDir,
    pub address: String,
    pub faults: Arc<Faults>,
    _guard: LayerGuard,
}

impl Place {
    pub fn empty() -> Place {
        let (folder, address) = (tempfile::tempdir().unwrap(), memory_store());
        let (faults, guard) = Faults::over(&address);
        Place { folder, address, faults, _guard: guard }
    }

    pub fn storage(&self) -> Storage {
        block_on(Storage::new(&self.address, &HashMap::new())).unwrap()
    }
}

/// A fault of the request that commits.
pub fn commit(fault: Fault) -> Rule {
    Rule::new(fault).operation(Operation::Put).path(VERSIONS).times(1)
}
