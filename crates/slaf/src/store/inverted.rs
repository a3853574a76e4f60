//! The files of an inverted file: an index of an array for the search by similarity. `SPEC.md`
//! describes the bytes.

use super::manifest::{ArrayEntry, IndexEntry};
use super::values::Coordinates;
use arrow::array::{Float32Array, Float64Array};
use slaf_core::{Dtype, Error, Result};
use slaf_kernels::neighbors::{Lists, Measure};
use std::ops::Range;
use std::sync::Arc;

/// The kind of an index that is an inverted file.
pub(crate) const KIND: &str = "ivf";

/// Bytes of what the head tells of a list, before its centre.
const OF_LIST: u64 = 4 + 4 + 4 + 4 + 8 + 8;
/// Bytes of the number of a row.
pub(crate) const NUMBER: usize = 4;

/// Bytes of a head; `None` for more than there can be.
pub(crate) fn head_length(n_lists: u64, width: u64) -> Option<u64> {
    width.checked_mul(8)?.checked_add(OF_LIST)?.checked_mul(n_lists)
}

/// Whether values are held as float32; otherwise they are float64.
pub(crate) fn is_narrow(dtype: Dtype) -> bool {
    dtype == Dtype::F32
}

/// Bytes of a row of a list.
pub(crate) fn row_length(array: &ArrayEntry) -> usize {
    NUMBER + array.width as usize * if is_narrow(array.dtype) { 4 } else { 8 }
}

/// Where a list is, and what its bytes sum up to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) part: u32,
    pub(crate) bytes: Range<u64>,
    pub(crate) checksum: u32,
}

/// An inverted file whose head was read.
#[derive(Debug)]
pub(crate) struct Inverted {
    /// It is about so many rows.
    pub(crate) n_rows: u64,
    pub(crate) lists: Lists,
    pub(super) places: Vec<Place>,
    /// The paths of its parts.
    pub(super) parts: Vec<Arc<str>>,
    is_narrow: bool,
}

/// The rows of a list.
#[derive(Debug)]
pub(crate) struct ListRows {
    pub(crate) numbers: Vec<u32>,
    pub(crate) values: Coordinates,
}

impl ListRows {
    pub(crate) fn bytes(&self) -> usize {
        let values = match &self.values {
            Coordinates::F32(values) => size_of_val(&values.values()[..]),
            Coordinates::F64(values) => size_of_val(&values.values()[..]),
        };
        size_of_val(&self.numbers[..]) + values
    }

    /// Those rows whose numbers are wanted.
    pub(crate) fn among(&self, wanted: &[bool]) -> ListRows {
        fn some<T: Copy>(values: &[T], width: usize, places: &[usize]) -> Vec<T> {
            places.iter().flat_map(|i| &values[i * width..(i + 1) * width]).copied().collect()
        }
        let places = self.numbers.iter().enumerate().filter(|(_, number)| wanted[**number as usize]);
        let places: Vec<usize> = places.map(|(i, _)| i).collect();
        let width = |n: usize| n / self.numbers.len().max(1);
        let values = match &self.values {
            Coordinates::F32(v) => Coordinates::F32(some(v.values(), width(v.len()), &places).into()),
            Coordinates::F64(v) => Coordinates::F64(some(v.values(), width(v.len()), &places).into()),
        };
        ListRows { numbers: places.iter().map(|i| self.numbers[*i]).collect(), values }
    }
}

impl Inverted {
    /// The bytes that the head takes in memory.
    pub(crate) fn head_bytes(&self) -> usize {
        (self.lists.centres.len() + 2 * self.lists.radii.len()) * 8 + self.places.len() * size_of::<Place>()
    }

    /// Bytes of a list.
    pub(crate) fn bytes_of(&self, list: usize) -> u64 {
        self.places[list].bytes.end - self.places[list].bytes.start
    }

    /// The rows of a list.
    pub(super) fn decode(&self, list: usize, bytes: &[u8]) -> Result<ListRows> {
        if crc32fast::hash(bytes) != self.places[list].checksum {
            return Err(Error::corrupt(format!("the content of list {list} has changed")));
        }
        let (numbers, values) = bytes.split_at(self.lists.sizes[list] as usize * NUMBER);
        let numbers: Vec<u32> = numbers.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(row) = numbers.iter().find(|row| u64::from(**row) >= self.n_rows) {
            return Err(Error::corrupt(format!("list {list} has row {row} of {}", self.n_rows)));
        }
        let values = match self.is_narrow {
            true => {
                let values = values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                Coordinates::F32(Float32Array::from_iter_values(values))
            }
            false => {
                let wide = |b: &[u8]| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
                Coordinates::F64(Float64Array::from_iter_values(values.chunks_exact(8).map(wide)))
            }
        };
        Ok(ListRows { numbers, values })
    }
}

/// The head of lists that lie at these places.
pub(crate) fn encode_head(lists: &Lists, places: &[Place]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (list, centre) in lists.centres.chunks_exact(lists.dims).enumerate() {
        for number in [lists.sizes[list], places[list].part, places[list].checksum, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [lists.radii[list], lists.slacks[list]].iter().chain(centre) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

/// What a head tells of the lists of parts that are so long.
pub(super) fn decode_head(bytes: &[u8], entry: &IndexEntry, array: &ArrayEntry, lengths: &[u64]) -> Result<Inverted> {
    let measure: Measure = entry.metric.parse()?;
    let dims = array.width as usize;
    let mut lists =
        Lists { dims, measure, centres: Vec::new(), radii: Vec::new(), slacks: Vec::new(), sizes: Vec::new() };
    let (mut places, mut ends, mut last): (Vec<Place>, _, u32) = (Vec::new(), vec![0; lengths.len()], 0);
    let (mut n_rows, row_length) = (0, row_length(array) as u64);
    for record in bytes.chunks_exact(OF_LIST as usize + 8 * dims) {
        let number = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
        let (size, part, checksum) = (number(0), number(4), number(8));
        let mut reals =
            record[16..].chunks_exact(8).map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
        let (radius, slack) = (reals.next().unwrap_or(f64::NAN), reals.next().unwrap_or(f64::NAN));
        lists.centres.extend(reals);
        if !(radius >= 0.0 && slack >= 0.0) || part < last || part as usize >= lengths.len() {
            return Err(Error::corrupt(format!("list {} is none", places.len())));
        }
        let start: u64 = ends[part as usize];
        let place = Place { part, bytes: start..start + u64::from(size) * row_length, checksum };
        (last, ends[part as usize]) = (part, place.bytes.end);
        n_rows += u64::from(size);
        places.push(place);
        lists.radii.push(radius);
        lists.slacks.push(slack);
        lists.sizes.push(size);
    }
    if ends != lengths || n_rows > entry.n_rows || lists.centres.iter().any(|x| !x.is_finite()) {
        return Err(Error::corrupt("its lists are not those of its files"));
    }
    Ok(Inverted {
        n_rows: entry.n_rows,
        lists,
        places,
        parts: entry.parts.iter().map(|path| path.as_str().into()).collect(),
        is_narrow: is_narrow(array.dtype),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use slaf_core::ErrorKind;
    use slaf_ingest::Axis;

    #[test]
    fn a_head_is_what_was_written() {
        let lists = Lists {
            dims: 2,
            measure: Measure::L2,
            centres: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            radii: vec![1.0, 0.0, 2.0],
            slacks: vec![0.0, 0.5, 1.0],
            sizes: vec![3, 0, 2],
        };
        let place = |part, bytes, checksum| Place { part, bytes, checksum };
        let places = [place(0, 0..36, 7), place(0, 36..36, 8), place(1, 0..24, 9)];
        let entry = IndexEntry {
            kind: KIND.into(),
            axis: Axis::Cells,
            table: "t".into(),
            column: "m0".into(),
            metric: "l2".into(),
            n_rows: 6,
            n_lists: 3,
            head: "h".into(),
            parts: vec!["a".into(), "b".into()],
        };
        let array =
            ArrayEntry { axis: Axis::Cells, name: "x".into(), column: Some("m0".into()), dtype: Dtype::F32, width: 2 };
        let bytes = encode_head(&lists, &places);
        assert_eq!(head_length(3, 2), Some(bytes.len() as u64));
        let read = decode_head(&bytes, &entry, &array, &[36, 24]).unwrap();
        assert_eq!((read.lists, &read.places[..]), (lists, &places[..]));
        let refused = |bytes: &[u8], entry: &IndexEntry, lengths: &[u64]| {
            decode_head(bytes, entry, &array, lengths).map(drop).map_err(|e| e.kind())
        };
        assert_eq!(refused(&bytes, &entry, &[36, 36]), Err(ErrorKind::Corrupt));
        assert_eq!(refused(&bytes, &entry, &[36]), Err(ErrorKind::Corrupt));
        assert_eq!(refused(&bytes, &IndexEntry { n_rows: 4, ..entry.clone() }, &[36, 24]), Err(ErrorKind::Corrupt));
        let mut negative = bytes.clone();
        negative[23] |= 0x80;
        assert_eq!(refused(&negative, &entry, &[36, 24]), Err(ErrorKind::Corrupt));
    }
}
