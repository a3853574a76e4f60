//! Readers over whole files: made here, or real ones where they are at hand.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod folders;
mod h5ad;
mod hostile;
mod loom;
mod made;
mod mtx;
mod support;
mod tenx_h5;
mod text;
mod writer;
