#![no_main]

use libfuzzer_sys::fuzz_target;
use slaf_fuzz::read_all;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("a written file");
    write("matrix.mtx", bytes);
    write("barcodes.tsv", b"a\nb\nc\n");
    write("features.tsv", b"g1\tA\tGene Expression\ng2\tB\tGene Expression\n");
    read_all(folder.path());
});
