//! Numbers of text files, read exactly, and the value type that all of a file need.

use crate::chunk_builder::Entry;
use slaf_core::Dtype;

/// The words that stand for a missing value.
const MISSING: [&str; 8] = ["", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null"];

/// Up to this, every integer is a float64; up to 2^24, a float32.
const EXACT_F64: u64 = 1 << 53;
const EXACT_F32: u64 = 1 << 24;

/// A number as the text has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TextNumber {
    Int(i64),
    /// An integer of 2^63 to 2^64 - 1.
    Big(u64),
    Float(f64),
    /// An integer that no value type holds, and the nearest float.
    Rounded(f64),
}

use TextNumber::{Big, Float, Int, Rounded};

impl TextNumber {
    /// The number, if the text is one.
    pub(crate) fn parse(text: &str) -> Option<TextNumber> {
        if let Ok(int) = text.parse() {
            return Some(Int(int));
        }
        if let Ok(int) = text.parse() {
            return Some(Big(int));
        }
        let float: f64 = text.parse().ok()?;
        let digits = text.trim_start_matches(['+', '-']).trim_start_matches('0');
        let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        Some(if whole && format!("{:.0}", float.abs()) != digits { Rounded(float) } else { Float(float) })
    }

    /// As [`TextNumber::parse`]; the words for a missing value are NaN.
    pub(crate) fn parse_or_missing(text: &str) -> Option<TextNumber> {
        if is_missing(text) { Some(Float(f64::NAN)) } else { TextNumber::parse(text) }
    }

    /// Whether a sparse matrix stores it: zeros are left out, -0.0 is not.
    pub(crate) fn is_stored(self) -> bool {
        match self {
            Int(i) => i != 0,
            Big(_) => true,
            Float(f) | Rounded(f) => f.to_bits() != 0,
        }
    }

    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Int(i) => i as f64,
            Big(u) => u as f64,
            Float(f) | Rounded(f) => f,
        }
    }

    fn is_exact_f64(self) -> bool {
        match self {
            Int(i) => i.unsigned_abs() <= EXACT_F64 || (i as f64) as i128 == i128::from(i),
            Big(u) => (u as f64) as u128 == u128::from(u),
            Float(_) => true,
            Rounded(_) => false,
        }
    }

    fn is_exact_f32(self) -> bool {
        match self {
            Int(i) => i.unsigned_abs() <= EXACT_F32 || (i as f32) as i128 == i128::from(i),
            Big(u) => (u as f32) as u128 == u128::from(u),
            Float(f) => f64::from(f as f32) == f || f.is_nan(),
            Rounded(_) => false,
        }
    }
}

/// Whether the text stands for a missing value.
pub(crate) fn is_missing(text: &str) -> bool {
    MISSING.contains(&text)
}

/// The value types that text files need.
pub(crate) trait Number: Entry {
    /// The number in this type: floats take the nearest, integers only their own.
    fn of(number: TextNumber) -> Option<Self>;
}

impl Number for i64 {
    fn of(number: TextNumber) -> Option<i64> {
        if let Int(i) = number { Some(i) } else { None }
    }
}

impl Number for u64 {
    fn of(number: TextNumber) -> Option<u64> {
        match number {
            Int(i) => u64::try_from(i).ok(),
            Big(u) => Some(u),
            Float(_) | Rounded(_) => None,
        }
    }
}

impl Number for f64 {
    fn of(number: TextNumber) -> Option<f64> {
        Some(number.to_f64())
    }
}

impl Number for f32 {
    fn of(number: TextNumber) -> Option<f32> {
        Some(number.to_f64() as f32)
    }
}

/// What the numbers of a file have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    float: bool,
    negative: bool,
    big: bool,
    beyond_f32: bool,
    /// The first integer that float64 rounds: where it is.
    rounded: Option<String>,
}

impl Extent {
    /// Adds a number; `place` names it.
    pub(crate) fn add(&mut self, number: TextNumber, place: impl FnOnce() -> String) {
        match number {
            Int(i) => self.negative |= i < 0,
            Big(_) => self.big = true,
            Float(_) | Rounded(_) => self.float = true,
        }
        self.beyond_f32 = self.beyond_f32 || !number.is_exact_f32();
        if self.rounded.is_none() && !number.is_exact_f64() {
            self.rounded = Some(place());
        }
    }

    fn integers(&self) -> Option<Dtype> {
        match (self.float || (self.big && self.negative), self.big) {
            (true, _) => None,
            (false, true) => Some(Dtype::U64),
            (false, false) => Some(Dtype::I64),
        }
    }

    /// An integer type if every number is an integer, else float64.
    pub(crate) fn integer_or_float(&self) -> Dtype {
        self.integers().unwrap_or(Dtype::F64)
    }

    /// The first of float32, float64 and the 64-bit integers that holds every number; float64 if
    /// none does.
    pub(crate) fn smallest_float(&self) -> Dtype {
        match (self.beyond_f32, &self.rounded) {
            (false, _) => Dtype::F32,
            (true, None) => Dtype::F64,
            (true, Some(_)) => self.integer_or_float(),
        }
    }

    /// Where the first number is that this type rounds, if there is one.
    pub(crate) fn rounded_by(&self, dtype: Dtype) -> Option<&str> {
        self.rounded.as_deref().filter(|_| dtype.is_float())
    }
}

/// Why a number cannot be kept: the reason of a [`Loss`](crate::Loss).
pub(crate) const ROUNDED: &str = "an integer beyond 2^53 in a matrix that needs float64, which would round it";

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(texts: &[&str]) -> Extent {
        let mut extent = Extent::default();
        for (i, text) in texts.iter().enumerate() {
            extent.add(TextNumber::parse(text).unwrap(), || i.to_string());
        }
        extent
    }

    #[test]
    fn integers_are_exact() {
        for (text, number) in [
            ("0", Int(0)),
            ("+7", Int(7)),
            ("-9223372036854775808", Int(i64::MIN)),
            ("9223372036854775808", Big(1 << 63)),
            ("18446744073709551615", Big(u64::MAX)),
            ("18446744073709551616", Float(18_446_744_073_709_551_616.0)),
            ("-18446744073709551616", Float(-18_446_744_073_709_551_616.0)),
            ("0018446744073709551617", Rounded(18_446_744_073_709_551_616.0)),
            ("99999999999999999999999", Rounded(1e23)),
            ("1e23", Float(1e23)),
            ("1.5", Float(1.5)),
        ] {
            assert_eq!(TextNumber::parse(text), Some(number), "{text}");
        }
        assert_eq!(TextNumber::parse(""), None);
        assert_eq!(TextNumber::parse("0x10"), None);
        assert!(matches!(TextNumber::parse_or_missing("NA"), Some(Float(f)) if f.is_nan()));
        assert!(matches!(TextNumber::parse(&"9".repeat(400)), Some(Rounded(f)) if f.is_infinite()));
    }

    #[test]
    fn the_type_holds_every_number_or_names_one() {
        let big = "9007199254740993";
        for (texts, table, matrix, rounded) in [
            (&["1", "-2"][..], Dtype::I64, Dtype::F32, None),
            (&["16777217"], Dtype::I64, Dtype::F64, None),
            (&["1", big], Dtype::I64, Dtype::I64, None),
            (&["1", "18446744073709551615"], Dtype::U64, Dtype::U64, None),
            (&["9223372036854775808"], Dtype::U64, Dtype::F32, None),
            (&["-1", "9223372036854775808"], Dtype::F64, Dtype::F32, None),
            (&["-1", "18446744073709551615"], Dtype::F64, Dtype::F64, Some("1")),
            (&["0.5", "3", big, "4"], Dtype::F64, Dtype::F64, Some("2")),
            (&["99999999999999999999999"], Dtype::F64, Dtype::F64, Some("0")),
            (&["0.1"], Dtype::F64, Dtype::F64, None),
        ] {
            let extent = extent(texts);
            assert_eq!(extent.integer_or_float(), table, "{texts:?}");
            assert_eq!(extent.smallest_float(), matrix, "{texts:?}");
            assert_eq!(extent.rounded_by(extent.integer_or_float()), rounded, "{texts:?}");
            assert_eq!(extent.rounded_by(extent.smallest_float()), rounded, "{texts:?}");
        }
    }
}
