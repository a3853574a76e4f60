//! The bytes of packed rows, pinned: `compat/packed_rows_v<n>.tsv` holds rows as version n of the
//! format has them. They must stay readable forever, and the newest version must be written with
//! the same bytes.
//!
//! `SLAF_WRITE_SNAPSHOTS=1 cargo test -p slaf-core` writes the file of the newest version anew after
//! a deliberate change of the writer.

// clippy.toml exempts tests, but not the functions that they share.
#![allow(clippy::unwrap_used, clippy::panic)]

use slaf_core::packed::{VERSION, decode_row, encode_row};
use slaf_core::{Dtype, ErrorKind, Value, with_dtype};
use std::fmt::Write;
use std::path::PathBuf;

// Cargo runs tests in the folder of their package. A path of compile time would be wrong where
// several clones share a target folder.
fn snapshot(version: u8) -> PathBuf {
    PathBuf::from(format!("../../compat/packed_rows_v{version}.tsv"))
}

/// Numbers that look random and are the same for ever.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// Rising columns, each 1 to `gap` after the one before, now and then `jump` more.
    fn columns(&mut self, n: usize, gap: u64, jump: u64) -> Vec<u32> {
        let mut at = 0;
        (0..n)
            .map(|_| {
                at += 1 + self.below(gap) + if self.below(40) == 0 { jump } else { 0 };
                at as u32
            })
            .collect()
    }
}

fn line<T: Value>(name: &str, columns: &[u32], values: &[T], out: &mut String) {
    let list = |items: Vec<String>| items.join(",");
    let columns_text = list(columns.iter().map(u32::to_string).collect());
    let values_text = list(values.iter().map(|v| format!("{:x}", v.to_bits64())).collect());
    let row: String = encode_row(columns, values).unwrap().iter().map(|b| format!("{b:02x}")).collect();
    writeln!(out, "{name}\t{}\t{columns_text}\t{values_text}\t{row}", T::DTYPE).unwrap();
}

fn lines() -> String {
    let mut out = String::from("name\tdtype\tcolumns\tvalue bits\trow\n");
    let mut r = Numbers(7);
    line::<f32>("empty", &[], &[], &mut out);
    line("three counts", &[2, 3, 40_000], &[1u16, 7, 1], &mut out);
    line(
        "one cell of counts",
        &r.columns(300, 20, 5_000),
        &(0..300).map(|i| f32::from(i as u16 % 7 + 1)).collect::<Vec<_>>(),
        &mut out,
    );
    for n in [127, 128, 129, 256] {
        let values: Vec<u32> = (0..n).map(|_| 1 + r.below(3) as u32).collect();
        line(&format!("{n} counts"), &r.columns(n, 9, 0), &values, &mut out);
    }
    let columns = r.columns(200, 3, 900);
    line("patches", &columns, &(0..200).map(|i| if i % 50 == 9 { 200u8 } else { 1 }).collect::<Vec<_>>(), &mut out);
    line("explicit zeros", &columns[..5], &[0i64, 3, 0, 1, 2], &mut out);
    line("counts of 32 bits", &columns[..130], &(0..130).map(|i| u32::MAX - i).collect::<Vec<_>>(), &mut out);
    line("columns up to the last", &[0, 1 << 31, u32::MAX], &[true, false, true], &mut out);
    line("zigzag", &columns, &(0..200).map(|i| i * 3 - 300).collect::<Vec<i32>>(), &mut out);
    line("int64", &columns[..3], &[i64::MIN, -1, i64::MAX], &mut out);
    line("uint64", &columns[..3], &[u64::MAX, 0, 1], &mut out);
    line(
        "dictionary of float32",
        &columns,
        &(0..200i16).map(|i| f32::from(i % 5) * 0.37).collect::<Vec<_>>(),
        &mut out,
    );
    line("dictionary of float64", &columns, &(0..200).map(|i| f64::from(i % 3) + 0.1).collect::<Vec<_>>(), &mut out);
    let odd = [f32::NAN, -0.0, f32::INFINITY, f32::from_bits(0x7fc0_1234), f32::MIN_POSITIVE, 0.1];
    line("odd floats", &columns[..6], &odd, &mut out);
    line("float64", &columns[..150], &(0..150).map(|i| (f64::from(i) + 0.3).sqrt()).collect::<Vec<_>>(), &mut out);
    out
}

#[test]
fn packed_rows_are_written_as_ever() {
    if std::env::var_os("SLAF_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(snapshot(VERSION), lines()).unwrap();
    }
    let pinned = std::fs::read_to_string(snapshot(VERSION)).unwrap();
    for (now, then) in lines().lines().zip(pinned.lines()) {
        assert_eq!(now, then);
    }
    assert_eq!(lines().len(), pinned.len());
}

#[test]
fn pinned_rows_are_read() {
    fn check<T: Value>(columns: &[u32], bits: &[u64], row: &[u8]) {
        let (mut c, mut v) = (Vec::new(), Vec::<T>::new());
        decode_row(row, &mut c, &mut v).unwrap();
        assert_eq!(c, columns);
        assert_eq!(v.iter().map(|v| v.to_bits64()).collect::<Vec<_>>(), bits);
    }
    fn list<T>(text: &str, parse: impl Fn(&str) -> T) -> Vec<T> {
        text.split(',').filter(|t| !t.is_empty()).map(parse).collect()
    }
    let pinned = (1..=VERSION).map(|version| std::fs::read_to_string(snapshot(version)).unwrap());
    for line in pinned.flat_map(|text| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()) {
        let [_, dtype, columns, bits, row] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let columns = list(columns, |t| t.parse().unwrap());
        let bits = list(bits, |t| u64::from_str_radix(t, 16).unwrap());
        let row: Vec<u8> = (0..row.len()).step_by(2).map(|i| u8::from_str_radix(&row[i..i + 2], 16).unwrap()).collect();
        with_dtype!(Dtype::from_name(dtype).unwrap(), T => check::<T>(&columns, &bits, &row));
    }
}

/// Users look kinds up there.
#[test]
fn every_error_kind_is_documented() {
    let page = PathBuf::from("../../docs/errors.md");
    let page = std::fs::read_to_string(page).unwrap();
    for kind in ErrorKind::ALL {
        assert!(page.contains(&format!("| `{}` |", kind.as_str())), "{}", kind.as_str());
    }
}
