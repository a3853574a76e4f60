//! Which axis of a table is that of the genes.

/// Names looked at per axis.
const SAMPLE: usize = 2000;
/// Genes that nearly every table has.
const COMMON: [&str; 12] =
    ["ACTB", "GAPDH", "MALAT1", "B2M", "RPLP0", "EEF1A1", "CD3E", "MS4A1", "LYZ", "NKG7", "MT-CO1", "RPS27"];

/// Whether genes are rows, and why.
pub(super) fn genes_in_rows(rows: &[String], columns: &[String]) -> (bool, &'static str) {
    let share = |names: &[String], test: fn(&str) -> bool| {
        let n = names.len().min(SAMPLE);
        names[..n].iter().filter(|name| test(name)).count() * 2 > n
    };
    match (share(rows, is_ensembl), share(columns, is_ensembl)) {
        (true, false) => return (true, "Ensembl ids in the rows"),
        (false, true) => return (false, "Ensembl ids in the columns"),
        _ => {}
    }
    match (share(rows, is_barcode), share(columns, is_barcode)) {
        (true, false) => return (false, "cell barcodes in the rows"),
        (false, true) => return (true, "cell barcodes in the columns"),
        _ => {}
    }
    let common = |names: &[String]| names.iter().filter(|n| COMMON.iter().any(|c| n.eq_ignore_ascii_case(c))).count();
    match (common(rows), common(columns)) {
        (0, 0) => {}
        (r, c) if r > c => return (true, "well-known gene symbols in the rows"),
        (r, c) if r < c => return (false, "well-known gene symbols in the columns"),
        _ => {}
    }
    match rows.len() > columns.len() {
        true => (true, "more rows than columns; set the orientation if this is wrong"),
        false => (false, "no more rows than columns; set the orientation if this is wrong"),
    }
}

/// Such as `ENSG00000281131` or `ENSMUSG00000051951.5`.
fn is_ensembl(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("ENS") else { return false };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let digits = rest.split('.').next().unwrap_or(rest);
    digits.len() == 11 && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Names with a run of at least ten bases, such as `sample1_AAACCTGAGCGTGTCC-1`.
fn is_barcode(name: &str) -> bool {
    let is_base = |b: u8| matches!(b, b'A' | b'C' | b'G' | b'T');
    name.as_bytes().split(|&b| !is_base(b)).any(|run| run.len() >= 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_genes() {
        let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let ensembl = names(&["ENSG00000281131", "ENSMUSG00000051951.5"]);
        let barcodes = names(&["s1_AAACCTGAGCGTGTCC-1", "AAACCTGAGCGTGTCC", "x"]);
        let symbols = names(&["ActB", "g2"]);
        let plain = names(&["a", "b", "c"]);
        assert!(genes_in_rows(&ensembl, &plain).0);
        assert!(!genes_in_rows(&plain, &ensembl).0);
        assert!(!genes_in_rows(&barcodes, &plain).0);
        assert!(genes_in_rows(&plain, &barcodes).0);
        assert!(genes_in_rows(&symbols, &plain).0);
        assert!(!genes_in_rows(&plain, &symbols).0);
        assert!(genes_in_rows(&plain, &plain[..2]).0);
        assert!(!genes_in_rows(&plain, &plain).0);
    }
}
