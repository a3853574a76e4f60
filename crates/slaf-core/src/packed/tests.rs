use super::layout::*;
use super::*;
use crate::{Dtype, ErrorKind};
use proptest::prelude::*;

fn bits<T: Value>(values: &[T]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits64()).collect()
}

/// Packs with both encoders and checks every way to read the row.
fn check<T: Value>(columns: &[u32], values: &[T]) {
    let whole = encode_row(columns, values).unwrap();
    let mut builder = RowBuilder::default();
    for (c, v) in columns.chunks(BLOCK).zip(values.chunks(BLOCK)) {
        builder.push_block(c, v).unwrap();
    }
    let mut grown = Vec::new();
    builder.finish(&mut grown);
    for bytes in [whole, grown] {
        let (mut c, mut v) = (Vec::new(), Vec::<T>::new());
        decode_row(&bytes, &mut c, &mut v).unwrap();
        assert_eq!(c, columns);
        assert_eq!(bits(&v), bits(values));
        let mut alone = vec![T::default(); values.len()];
        Row::parse(&bytes).unwrap().values(&mut alone).unwrap();
        assert_eq!(bits(&alone), bits(values));
        let wanted: Vec<u32> = columns.iter().step_by(3).flat_map(|&c| [c, c.saturating_add(1)]).collect();
        let mut wanted: Vec<u32> = wanted.into_iter().chain([0, 5, u32::MAX]).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = Vec::new();
        Row::parse(&bytes).unwrap().lookup(&wanted, |i, v: T| found.push((wanted[i], v.to_bits64()))).unwrap();
        let expected: Vec<_> = columns
            .iter()
            .zip(values)
            .filter(|(c, _)| wanted.binary_search(c).is_ok())
            .map(|(&c, v)| (c, v.to_bits64()))
            .collect();
        assert_eq!(found, expected);
        for cut in 0..bytes.len() {
            assert_eq!(
                decode_row::<T>(&bytes[..cut], &mut Vec::new(), &mut Vec::new()).unwrap_err().kind(),
                ErrorKind::Corrupt
            );
        }
    }
}

fn columns(max: usize) -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![prop::collection::btree_set(0u32..2000, 0..max), prop::collection::btree_set(any::<u32>(), 0..max),]
        .prop_map(|s| s.into_iter().collect())
}

macro_rules! round_trip {
    ($name:ident, $t:ty, $values:expr) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(48))]
            #[test]
            fn $name(columns in columns(400), pool in prop::collection::vec($values, 1..400)) {
                let values: Vec<$t> = (0..columns.len()).map(|i| pool[i % pool.len()]).collect();
                check(&columns, &values);
            }
        }
    };
}
round_trip!(bools, bool, any::<bool>());
round_trip!(bytes, u8, any::<u8>());
round_trip!(u32s, u32, prop_oneof![5 => 1u32..4, 1 => any::<u32>()]);
round_trip!(u64s, u64, prop_oneof![50 => 0u64..4, 1 => any::<u64>()]);
round_trip!(i8s, i8, any::<i8>());
round_trip!(i32s, i32, prop_oneof![50 => 1i32..4, 1 => any::<i32>()]);
round_trip!(i64s, i64, prop_oneof![90 => 1i64..4, 5 => -9i64..0, 1 => any::<i64>()]);
round_trip!(count_floats, f32, (1u32..90).prop_map(|c| c as f32));
round_trip!(f32_bits, f32, any::<u32>().prop_map(f32::from_bits));
round_trip!(few_f32, f32, prop_oneof![Just(0.25f32), Just(-0.0), Just(f32::NAN), Just(1.5), Just(f32::INFINITY)]);
round_trip!(f64_bits, f64, prop_oneof![3 => (0u32..5).prop_map(f64::from), 1 => any::<u64>().prop_map(f64::from_bits)]);

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0u8..8, wide in 0u8..4, has_checksum: bool,
    ) {
        if bytes.len() > 1 {
            bytes[0] = if has_checksum { VERSION } else { UNCHECKED };
            bytes[1] = kind | wide << 4;
        }
        if has_checksum {
            let sum = checksum(&bytes);
            bytes.extend(sum.to_le_bytes());
        }
        let _ = decode_row::<f32>(&bytes, &mut Vec::new(), &mut Vec::new());
        let _ = decode_row::<i64>(&bytes, &mut Vec::new(), &mut Vec::new());
        if let Ok(row) = Row::parse(&bytes) {
            let _ = row.lookup(&[0, 7, 300], |_, _: f64| ());
        }
    }

    #[test]
    fn one_flipped_bit_never_panics(columns in columns(300), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let values: Vec<f32> = columns.iter().map(|c| (c % 7 + 1) as f32).collect();
        let mut bytes = encode_row(&columns, &values).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (mut c, mut v) = (Vec::new(), Vec::<f32>::new());
        if decode_row(&bytes, &mut c, &mut v).is_ok() {
            // Only a row without values is without a checksum.
            prop_assert!(columns.is_empty() && c.is_empty());
        }
    }
}

/// A row as version 1 has it.
fn without_checksum(row: &[u8]) -> Vec<u8> {
    [&[UNCHECKED], &row[1..row.len() - CHECKSUM]].concat()
}

#[test]
fn every_flip_is_found_by_the_checksum() {
    let row = encode_row(&[2, 3, 40_000], &[1u16, 7, 1]).unwrap();
    let decode = |row: &[u8]| decode_row::<u16>(row, &mut Vec::new(), &mut Vec::new());
    let mut silent = 0;
    for bit in 0..row.len() * 8 {
        let flip = |row: &[u8]| {
            let mut row = row.to_vec();
            row[bit / 8] ^= 1 << (bit % 8);
            row
        };
        assert!(decode(&flip(&row)).is_err(), "bit {bit}");
        let found = Row::parse(&flip(&row)).and_then(|row| row.lookup(&[3], |_, _: u16| ()));
        assert!(found.is_err(), "bit {bit} in a lookup");
        let old = without_checksum(&row);
        silent += usize::from(bit / 8 < old.len() && decode(&flip(&old)).is_ok());
    }
    assert!(silent > 0, "rows of version 1 cannot tell");
}

/// Pins the bytes: a change of this test is a change of the format.
#[test]
fn the_bytes_are_those_of_the_specification() {
    assert_eq!(encode_row::<f32>(&[], &[]).unwrap(), [1, 0, 0]);
    // One tail block. Gaps 0, 0, 39996: eight bits each and a patch of 0x9c; values less one
    // 0, 6, 0: three bits each.
    assert_eq!(
        encode_row(&[2, 3, 40_000], &[1u16, 7, 1]).unwrap(),
        [2, 0, 3, 2, 8, MINUS_ONE | 3, 1, 0, 0x00, 0x00, 0x3c, 2, 0x9c, 0x30, 0x00, 0xe9, 0xe3, 0x06, 0x13]
    );
}

#[test]
fn types_are_checked() {
    let bytes = encode_row(&[1], &[300u16]).unwrap();
    assert_eq!(decode_row::<u8>(&bytes, &mut Vec::new(), &mut Vec::new()).unwrap_err().kind(), ErrorKind::Corrupt);
    let bytes = encode_row(&[1], &[0.5f64]).unwrap();
    assert_eq!(decode_row::<f32>(&bytes, &mut Vec::new(), &mut Vec::new()).unwrap_err().kind(), ErrorKind::Corrupt);
    let mut v = Vec::<f64>::new();
    decode_row(&encode_row(&[1], &[0.5f32]).unwrap(), &mut Vec::new(), &mut v).unwrap();
    assert_eq!((v[0], f64::DTYPE), (0.5, Dtype::F64));
}

#[test]
fn a_later_version_is_named() {
    let e = Row::parse(&[9, 0, 0]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::UnsupportedFeature);
    assert!(e.to_string().contains("version 9"));
}

#[test]
fn columns_must_rise() {
    assert_eq!(encode_row(&[3, 3], &[1u8, 1]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut b = RowBuilder::default();
    let full: Vec<u32> = (0..BLOCK as u32).collect();
    b.push_block(&full, &[1u8; BLOCK]).unwrap();
    assert_eq!(b.push_block(&[127], &[1]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    b.push_block(&[128], &[1]).unwrap();
    assert_eq!(b.push_block(&[129], &[1]).unwrap_err().kind(), ErrorKind::InvalidArgument);
}
