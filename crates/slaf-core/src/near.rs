/// Up to three names that are near a wrong one, the nearest first.
pub fn near<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    // Enough for any gene list; a hint is not worth a pass over millions of cells.
    const LOOK_AT: usize = 100_000;
    // The work grows with the square of the length.
    const LONGEST: usize = 256;
    if wrong.len() > LONGEST {
        return Vec::new();
    }
    let lower = wrong.to_lowercase();
    let mut close: Vec<(usize, &str)> = names
        .take(LOOK_AT)
        .filter(|n| n.len().abs_diff(wrong.len()) <= 2)
        .map(|n| (strsim::damerau_levenshtein(&lower, &n.to_lowercase()), n))
        .filter(|(distance, n)| *distance <= 2 && *distance < n.len())
        .collect();
    close.sort_unstable();
    close.dedup();
    close.truncate(3);
    close.into_iter().map(|(_, n)| n.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn the_nearest_comes_first() {
        let names = ["batch", "cell_type", "cell_types", "n_genes"];
        assert_eq!(near("celltype", names.into_iter()), ["cell_type", "cell_types"]);
        assert_eq!(near("Batch", names.into_iter()), ["batch"]);
        assert!(near("donor", names.into_iter()).is_empty());
        assert_eq!(near("cd3d", ["CD3D", "CD3D"].into_iter()), ["CD3D"]);
        let long = "x".repeat(1 << 20);
        assert!(near(&long, [long.as_str()].into_iter()).is_empty());
    }
}
