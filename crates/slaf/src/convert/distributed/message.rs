//! What a conversion tells who converts a part of it, and what comes back, as bytes.
//!
//! A message is a mark, the length of a text of JSON, the text, and an Arrow file with the arrays.

use super::super::write::software;
use super::fingerprint::Fingerprint;
use crate::store::frames::{Categories, categories_from_ipc, categories_to_ipc};
use crate::store::manifest::{ArrayEntry, FileEntry, FrameSchema, MatrixEntry, NameSegment, Stripe};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use slaf_core::{Error, ErrorKind, Result};
use slaf_lance::WrittenFile;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The layout of messages.
const LAYOUT: u32 = 1;
const MARK: &[u8; 8] = b"slafpart";

/// Which program a message is of.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    layout: u32,
    software: String,
}

/// A part of a conversion.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// The id of the writer of the conversion.
    pub(super) write_id: String,
    pub(super) target: String,
    pub(super) storage_options: HashMap<String, String>,
    pub(super) part: usize,
    /// How people are told of it.
    pub(super) shown: String,
    pub(super) first_cell: u64,
    pub(super) inputs: Vec<InputOfTask>,
    pub(super) reading: Reading,
    /// Bytes that may be held.
    pub(super) memory: usize,
    pub(super) allow_loss: bool,
    pub(super) by_gene: bool,
    pub(super) index_names: bool,
    pub(super) durable: bool,
    pub(super) n_genes: u64,
    pub(super) obs: FrameSchema,
    pub(super) arrays: Vec<ArrayEntry>,
    pub(super) matrices: Vec<MatrixEntry>,
    pub(super) union: Option<UnionOfTask>,
}

/// Some rows of an input.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InputOfTask {
    pub(super) path: PathBuf,
    /// What the user calls it.
    pub(super) name: String,
    pub(super) rows: (u64, u64),
    pub(super) fingerprint: Fingerprint,
}

/// How inputs are opened.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reading {
    pub(super) genome: Option<String>,
    pub(super) feature_type: Option<String>,
    pub(super) modality: Option<String>,
    pub(super) genes_in_rows: Option<bool>,
    pub(super) temp_dir: Option<PathBuf>,
}

/// What there is to know of a union, beside arrays.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnionOfTask {
    /// For each column where each input has it.
    pub(super) places: Vec<Vec<Option<usize>>>,
    /// The categories of the column that names the input, and the number of that of each input.
    pub(super) labels: Option<(Vec<String>, Vec<i32>)>,
}

/// What converting a part has written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) write_id: String,
    pub(super) part: usize,
    pub(super) n_cells: u64,
    pub(super) cells: Vec<WrittenFile>,
    pub(super) by_gene: Vec<WrittenFile>,
    pub(super) by_gene_bytes: u64,
    pub(super) stripes: Vec<Stripe>,
    pub(super) names: Vec<NameSegment>,
    pub(super) matrices: Vec<MatrixEntry>,
    /// For each matrix the first integer that float64 rounds.
    pub(super) rounded: Vec<Option<String>>,
    pub(super) duplicates: u64,
    /// The data files, hashed.
    pub(super) files: Vec<FileEntry>,
}

/// Arrays by their names.
#[derive(Default)]
pub(super) struct Arrays(Categories);

impl Arrays {
    pub(super) fn put(&mut self, name: impl Into<String>, array: ArrayRef) {
        self.0.insert(name.into(), array);
    }

    pub(super) fn put_numbers<T: ArrowPrimitiveType>(
        &mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = T::Native>,
    ) {
        self.put(name, Arc::new(PrimitiveArray::<T>::from_iter_values(values)));
    }

    pub(super) fn get(&self, name: &str) -> Option<&ArrayRef> {
        self.0.get(name)
    }

    /// Numbers without gaps.
    pub(super) fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<Vec<T::Native>> {
        let array = self.get(name).and_then(|a| a.as_primitive_opt::<T>()).filter(|a| a.null_count() == 0);
        array.map(|a| a.values().to_vec()).ok_or_else(|| broken(&format!("no array \"{name}\"")))
    }
}

/// The bytes of a message.
pub(super) fn encode(content: &impl Serialize, arrays: &Arrays) -> Result<Vec<u8>> {
    let head = Head { layout: LAYOUT, software: software() };
    let text = serde_json::to_vec(&(head, content)).map_err(|e| Error::invalid(format!("a part: {e}")))?;
    let arrays = categories_to_ipc(&arrays.0)?;
    let mut bytes = Vec::with_capacity(MARK.len() + 8 + text.len() + arrays.len());
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&text);
    bytes.extend_from_slice(&arrays);
    Ok(bytes)
}

/// What [`encode`] made.
///
/// # Errors
/// `unsupported-feature` for a message of another version of this program, `invalid-argument` for what
/// is no message.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Arrays)> {
    let rest = bytes.strip_prefix(MARK).ok_or_else(|| broken("its mark is missing"))?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| broken("it ends too early"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|&l| l <= rest.len());
    let (text, arrays) = rest.split_at(length.ok_or_else(|| broken("it ends too early"))?);
    // The head comes first: what another version means by the rest is unknown.
    let (head, _): (Head, serde::de::IgnoredAny) = serde_json::from_slice(text).map_err(|e| broken(&e.to_string()))?;
    let ours = software();
    if head.layout != LAYOUT || head.software != ours {
        let what = format!(
            "a part of a conversion by {} (layout {}), but this is {ours} (layout {LAYOUT}): install one version for \
             all workers",
            head.software, head.layout
        );
        return Err(Error::new(ErrorKind::UnsupportedFeature, what));
    }
    let (_, content): (serde::de::IgnoredAny, T) = serde_json::from_slice(text).map_err(|e| broken(&e.to_string()))?;
    let arrays = categories_from_ipc(Bytes::copy_from_slice(arrays)).map_err(|e| broken(e.message()))?;
    Ok((content, Arrays(arrays)))
}

pub(super) fn broken(what: &str) -> Error {
    Error::invalid(format!("not a part of a conversion: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::UInt32Type;

    fn message() -> Vec<u8> {
        let mut arrays = Arrays::default();
        arrays.put_numbers::<UInt32Type>("order", [2, 0, 1]);
        encode(&vec![1u64, 2], &arrays).unwrap()
    }

    #[test]
    fn messages_come_back() {
        let (content, arrays): (Vec<u64>, Arrays) = decode(&message()).unwrap();
        assert_eq!(content, [1, 2]);
        assert_eq!(arrays.numbers::<UInt32Type>("order").unwrap(), [2, 0, 1]);
        assert_eq!(arrays.numbers::<UInt32Type>("others").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn messages_of_other_versions_are_refused() {
        for (old, new) in [("\"layout\":1", "\"layout\":2"), ("\"software\":\"slaf ", "\"software\":\"slab ")] {
            let bytes = message();
            let at = bytes.windows(old.len()).position(|w| w == old.as_bytes()).unwrap();
            let other = [&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat();
            let Err(e) = decode::<Vec<u64>>(&other) else { panic!("it was taken") };
            assert_eq!(e.kind(), ErrorKind::UnsupportedFeature, "{e}");
            assert!(e.message().contains("install one version for all workers"), "{e}");
        }
    }

    #[test]
    fn damaged_messages_are_refused() {
        let bytes = message();
        for end in 0..bytes.len() {
            if let Err(e) = decode::<Vec<u64>>(&bytes[..end]) {
                assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{end}: {e}");
            }
        }
        assert!(decode::<Vec<String>>(&bytes).is_err());
    }
}
