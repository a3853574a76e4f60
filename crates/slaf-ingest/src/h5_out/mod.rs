//! Streaming writing of HDF5 files.
//!
//! `hdf5-pure` appends to one-dimensional datasets of fixed-size elements only. What an h5ad
//! needs beyond that (blocks of a 2-D array, variable-length strings, several datasets in turn)
//! is written here: data goes to the end of the file as it comes, and the metadata follows.
//! The format is the HDF5 File Format Specification 3.0: superblock 2, version 2 object headers,
//! compact groups, version 1 B-trees for chunks.

mod attr;
mod copy;
mod dataset;
mod file;
mod heap;
mod message;
mod tail;

pub(crate) use attr::Attr;
pub(crate) use copy::copy_tree;
pub(crate) use dataset::{DatasetWriter, Filter, write_small};
pub(crate) use file::H5Out;
pub(crate) use message::{Space, Type, dtype_type};
