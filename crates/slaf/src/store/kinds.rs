//! What a root manifest names in one word: slots, kinds, types. Each word stands here or in the
//! crate that owns its type, once.

use arrow::datatypes::DataType;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use slaf_core::{Dtype, Error, ErrorKind};
use slaf_ingest::{Axis, MatrixEncoding, MatrixKey};

/// Which slot of AnnData a matrix is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Slot {
    /// `X`: cells x genes.
    X,
    /// `layers`: cells x genes.
    Layers,
    /// `obsp`: cells x cells.
    Obsp,
    /// `varp`: genes x genes.
    Varp,
    /// `raw`: cells x genes of raw.
    Raw,
}

/// How pandas held a column of obs or var.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `plain`: a numpy array.
    Plain,
    /// `categorical`: codes, with the categories in a file of their own.
    Categorical,
    /// `nullable`: values with a mask.
    Nullable,
    /// `nullable-nan`: texts whose missing values are NaN.
    NullableNan,
}

/// The type of the values of a column, of the categories for a categorical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is what its name says")]
pub enum ValueType {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float16,
    Float32,
    Float64,
    String,
}

slaf_core::names!(Slot, "slot", {
    X => "X", Layers => "layers", Obsp => "obsp", Varp => "varp", Raw => "raw",
});
slaf_core::names!(Kind, "kind of column", {
    Plain => "plain", Categorical => "categorical", Nullable => "nullable", NullableNan => "nullable-nan",
});
slaf_core::names!(ValueType, "type of column", {
    Bool => "bool", Int8 => "int8", Int16 => "int16", Int32 => "int32", Int64 => "int64",
    UInt8 => "uint8", UInt16 => "uint16", UInt32 => "uint32", UInt64 => "uint64",
    Float16 => "float16", Float32 => "float32", Float64 => "float64", String => "string",
});

/// Something that a root manifest names.
pub(crate) trait Named: Copy + 'static {
    /// What it is, for messages.
    const WHAT: &'static str;

    /// The word for it in root manifests.
    fn word(self) -> &'static str;
    fn of_word(word: &str) -> Option<Self>;
}

/// Implements [`Named`] by the names that a type has of its own.
macro_rules! named {
    ($type:ty, $what:literal) => {
        impl Named for $type {
            const WHAT: &'static str = $what;

            fn word(self) -> &'static str {
                self.name()
            }

            fn of_word(word: &str) -> Option<Self> {
                word.parse().ok()
            }
        }
    };
}

named!(Slot, "slot");
named!(Kind, "kind of column");
named!(ValueType, "type of column");
named!(MatrixEncoding, "encoding");

impl Named for Dtype {
    const WHAT: &'static str = "value type";

    fn word(self) -> &'static str {
        self.name()
    }

    fn of_word(word: &str) -> Option<Dtype> {
        Dtype::from_name(word).ok()
    }
}

/// Root manifests say what the axes are, and not which frame describes them.
impl Named for Axis {
    const WHAT: &'static str = "axis";

    fn word(self) -> &'static str {
        if self == Axis::Cells { "cells" } else { "genes" }
    }

    fn of_word(word: &str) -> Option<Axis> {
        [Axis::Cells, Axis::Genes].into_iter().find(|axis| axis.word() == word)
    }
}

/// For serde: what is named is written as its name.
pub(crate) fn serialize<T: Named, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.word().serialize(serializer)
}

/// For serde: see [`unknown`] for names that are not known here.
pub(crate) fn deserialize<'de, T: Named, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let name = String::deserialize(deserializer)?;
    T::of_word(&name).ok_or_else(|| D::Error::custom(format!("unknown {} \"{name}\"", T::WHAT)))
}

/// A name that a later version may know.
pub(crate) fn unknown(what: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::UnsupportedFeature,
        format!("unknown {what} \"{name}\": written by a later version of SLAF? please upgrade"),
    )
}

impl Slot {
    /// The slot and, in a slot of several matrices, the user's name.
    pub(crate) fn of(key: &MatrixKey) -> (Slot, &str) {
        match key {
            MatrixKey::X => (Slot::X, ""),
            MatrixKey::Layer(name) => (Slot::Layers, name),
            MatrixKey::Obsp(name) => (Slot::Obsp, name),
            MatrixKey::Varp(name) => (Slot::Varp, name),
            MatrixKey::RawX => (Slot::Raw, ""),
        }
    }
}

impl ValueType {
    /// The type in Arrow.
    pub(crate) fn arrow(self) -> DataType {
        match self {
            ValueType::Bool => DataType::Boolean,
            ValueType::Int8 => DataType::Int8,
            ValueType::Int16 => DataType::Int16,
            ValueType::Int32 => DataType::Int32,
            ValueType::Int64 => DataType::Int64,
            ValueType::UInt8 => DataType::UInt8,
            ValueType::UInt16 => DataType::UInt16,
            ValueType::UInt32 => DataType::UInt32,
            ValueType::UInt64 => DataType::UInt64,
            ValueType::Float16 => DataType::Float16,
            ValueType::Float32 => DataType::Float32,
            ValueType::Float64 => DataType::Float64,
            ValueType::String => DataType::Utf8,
        }
    }

    /// The type of an array, of its values for a dictionary. Readers of files give no other types
    /// than these, and text.
    pub(crate) fn of(data_type: &DataType) -> ValueType {
        match data_type {
            DataType::Dictionary(_, value) => ValueType::of(value),
            DataType::Boolean => ValueType::Bool,
            DataType::Int8 => ValueType::Int8,
            DataType::Int16 => ValueType::Int16,
            DataType::Int32 => ValueType::Int32,
            DataType::Int64 => ValueType::Int64,
            DataType::UInt8 => ValueType::UInt8,
            DataType::UInt16 => ValueType::UInt16,
            DataType::UInt32 => ValueType::UInt32,
            DataType::UInt64 => ValueType::UInt64,
            DataType::Float16 => ValueType::Float16,
            DataType::Float32 => ValueType::Float32,
            DataType::Float64 => ValueType::Float64,
            _ => ValueType::String,
        }
    }
}
