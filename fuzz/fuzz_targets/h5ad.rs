#![no_main]

use libfuzzer_sys::fuzz_target;
use slaf_fuzz::read_all;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::io::Write::write_all(&mut file, bytes).expect("a written file");
    read_all(file.path());
});
