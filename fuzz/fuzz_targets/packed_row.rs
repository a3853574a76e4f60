#![no_main]

use libfuzzer_sys::fuzz_target;
use slaf_core::Value;
use slaf_core::packed::{Row, decode_row};

/// What decodes is found again by looking it up.
fn check<T: Value>(bytes: &[u8]) {
    let (mut columns, mut values) = (Vec::new(), Vec::<T>::new());
    if decode_row(bytes, &mut columns, &mut values).is_err() {
        return;
    }
    let row = Row::parse(bytes).expect("a decoded row parses");
    let mut found = Vec::new();
    row.lookup(&columns, |i, v: T| found.push((columns[i], v.to_bits64()))).expect("a decoded row is looked up");
    let all = columns.iter().zip(&values).map(|(&c, v)| (c, v.to_bits64()));
    assert!(all.eq(found));
}

fuzz_target!(|bytes: &[u8]| {
    check::<u8>(bytes);
    check::<i32>(bytes);
    check::<u64>(bytes);
    check::<f32>(bytes);
    check::<f64>(bytes);
    if let Ok(row) = Row::parse(bytes) {
        let _ = row.lookup(&[0, 1, 127, 128, u32::MAX], |_, _: f32| ());
    }
});
