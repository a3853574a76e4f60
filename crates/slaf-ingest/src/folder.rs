//! Folders of h5ad files.

use slaf_core::{Context, Result};
use std::path::{Path, PathBuf};

/// The h5ad files of a folder, in the order of their names, and how many other things lie beside
/// them; `None` for anything but a folder, and for a folder that is an input or a store itself.
///
/// Subfolders are not looked into. Hidden files are no inputs.
///
/// # Errors
/// Those of reading the folder.
pub fn h5ads_in(path: &Path) -> Result<Option<(Vec<PathBuf>, usize)>> {
    if !path.is_dir() {
        return Ok(None);
    }
    let (mut files, mut others) = (Vec::new(), 0);
    for entry in std::fs::read_dir(path).at(path.display())? {
        let entry = entry.at(path.display())?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if ["matrix.mtx", "zarr.json", ".zgroup", "config.json", "_slaf"].iter().any(|n| name.starts_with(n)) {
            return Ok(None);
        }
        let is_h5ad = name.ends_with(".h5ad") || name.ends_with(".h5ad.gz");
        if is_h5ad && !name.starts_with('.') && entry.path().is_file() {
            files.push(entry.path());
        } else {
            others += 1;
        }
    }
    files.sort();
    Ok((!files.is_empty()).then_some((files, others)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_the_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        assert_eq!(h5ads_in(folder.path()).unwrap(), None);
        for name in ["b.h5ad", "a.H5AD", "c.h5ad.gz", ".hidden.h5ad", "README.md"] {
            touch(name);
        }
        std::fs::create_dir(folder.path().join("d.h5ad")).unwrap();
        let (files, others) = h5ads_in(folder.path()).unwrap().unwrap();
        let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!((names, others), (vec!["a.H5AD", "b.h5ad", "c.h5ad.gz"], 3));
        assert_eq!(h5ads_in(&folder.path().join("b.h5ad")).unwrap(), None);
        touch("matrix.mtx.gz");
        assert_eq!(h5ads_in(folder.path()).unwrap(), None);
    }
}
