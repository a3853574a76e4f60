//! How long operations tell how far they are.

/// How far a long operation has come.
#[derive(Clone, Copy, Debug)]
pub struct ProgressEvent {
    /// What is being done: `opening`, `cells`, `genes`, `committing`.
    pub phase: &'static str,
    /// Cells that are done in this phase.
    pub cells_done: u64,
    /// Cells in all; 0 while that is not known.
    pub cells_total: u64,
}

/// Is told of progress; `false` interrupts the operation.
pub type Progress<'a> = &'a (dyn Fn(ProgressEvent) -> bool + Sync);
