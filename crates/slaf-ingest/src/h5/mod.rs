//! The tree of groups and arrays that an AnnData file is: HDF5 files, and Zarr stores.
//!
//! Of HDF5, `hdf5-pure` parses the structure; raw data is read here, after every size has been
//! checked against the file.

mod attrs;
mod checksum;
mod chunks;
mod codec;
mod data;
mod elem;
mod file;
mod limits;
mod links;
mod raw;
mod same;
mod strings;
mod tree;
mod zarr;

pub(crate) use attrs::Attrs;
pub(crate) use checksum::checksum;
pub(crate) use data::{Dataset, Reader};
pub(crate) use elem::{Elem, decode_halves, decode_u32};
pub(crate) use file::H5File;
pub(crate) use limits::{MAX_DEPTH, unsupported};
pub(crate) use same::same;
pub(crate) use strings::{Heap, fixed_string};
pub(crate) use tree::{Group, Node};
pub(crate) use zarr::string_type;
