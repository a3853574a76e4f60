//! Whether an input is still what it was when the conversion began.

use serde::{Deserialize, Serialize};
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::{OpenOptions, files_of};
use std::collections::HashSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What tells a state of the files of an input from another without reading them: names, lengths and
/// times of writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    files: u64,
    bytes: u64,
    hash: String,
}

/// What is added up.
struct Walk<'a> {
    print: Fingerprint,
    hasher: blake3::Hasher,
    /// What the conversion writes may lie inside of a folder that it reads.
    target: Option<&'a Path>,
    /// The folders that were seen, where links lead in a circle.
    seen: HashSet<PathBuf>,
}

impl Fingerprint {
    /// That of what an input is read from: of a folder all files but those of the target.
    pub(super) fn of(input: &Path, options: &OpenOptions, target: Option<&Path>) -> Result<Fingerprint> {
        let target = target.and_then(|t| t.canonicalize().ok());
        let print = Fingerprint { files: 0, bytes: 0, hash: String::new() };
        let hasher = blake3::Hasher::new();
        let mut walk = Walk { print, hasher, target: target.as_deref(), seen: HashSet::new() };
        for path in files_of(input, options) {
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            walk.add(&path, &name, std::fs::metadata(&path).at(path.display())?)?;
        }
        walk.print.hash = walk.hasher.finalize().to_hex().to_string();
        Ok(walk.print)
    }

    /// Compares an input with what it was.
    ///
    /// # Errors
    /// `conflict` for another state of it; `not-found` if it is gone.
    pub(super) fn check(&self, input: &Path, options: &OpenOptions, target: Option<&Path>) -> Result<()> {
        let now = Fingerprint::of(input, options, target)?;
        if now == *self {
            return Ok(());
        }
        let change = match (now.files == self.files, now.bytes == self.bytes) {
            (true, true) => "was written to".to_string(),
            (true, false) => format!("has {} bytes and had {}", now.bytes, self.bytes),
            (false, _) => format!("has {} files and had {}", now.files, self.files),
        };
        let what = format!("{change} since the conversion began: convert again when nobody writes to it");
        Err(Error::new(ErrorKind::Conflict, what).at(input.display()))
    }
}

impl Walk<'_> {
    fn add(&mut self, path: &Path, name: &str, metadata: Metadata) -> Result<()> {
        if metadata.is_dir() {
            return self.add_folder(path, name);
        }
        let written = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        // Shared file systems keep no finer times than these, all of them.
        let micros = written.map_or(0, |t| t.as_micros() as u64);
        self.hasher.update(&(name.len() as u64).to_le_bytes());
        self.hasher.update(name.as_bytes());
        self.hasher.update(&metadata.len().to_le_bytes());
        self.hasher.update(&micros.to_le_bytes());
        self.print.files += 1;
        self.print.bytes += metadata.len();
        Ok(())
    }

    fn add_folder(&mut self, path: &Path, name: &str) -> Result<()> {
        let real = path.canonicalize().at(path.display())?;
        if self.target == Some(&*real) || !self.seen.insert(real) {
            return Ok(());
        }
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut entries = entries.at(path.display())?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            // A link that leads nowhere is nothing that is read.
            if let Ok(metadata) = std::fs::metadata(entry.path()) {
                self.add(&entry.path(), &format!("{name}/{}", entry.file_name().to_string_lossy()), metadata)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "12").unwrap();
        let options = OpenOptions::default();
        let of = |path: &Path| Fingerprint::of(path, &options, None).unwrap();
        let check = |print: &Fingerprint, path: &Path| print.check(path, &options, None);
        let (of_file, of_folder) = (of(&file), of(folder.path()));
        check(&of_file, &file).unwrap();
        check(&of_folder, folder.path()).unwrap();
        std::fs::write(&file, "123").unwrap();
        let e = check(&of_file, &file).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(e.message().starts_with("has 3 bytes and had 2 since"), "{e}");
        std::fs::write(folder.path().join("b"), "").unwrap();
        assert!(check(&of_folder, folder.path()).unwrap_err().message().starts_with("has 2 files and had 1"));
        let later = of(&file);
        let time = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert!(check(&later, &file).unwrap_err().message().starts_with("was written to since"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(check(&later, &file).unwrap_err().kind(), ErrorKind::NotFound);
    }
    #[test]
    fn what_is_not_read_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let (zarr, target) = (folder.path().join("a.zarr"), folder.path().join("a.zarr/out.slaf"));
        std::fs::create_dir(&zarr).unwrap();
        std::fs::write(zarr.join(".zgroup"), "{}").unwrap();
        #[cfg(unix)]
        for (to, link) in [("nowhere", "broken"), (".", "circle")] {
            std::os::unix::fs::symlink(to, zarr.join(link)).unwrap();
        }
        let options = OpenOptions::default();
        let before = Fingerprint::of(&zarr, &options, Some(&target)).unwrap();
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("data"), "1").unwrap();
        before.check(&zarr, &options, Some(&target)).unwrap();
        std::fs::write(zarr.join(".zattrs"), "{}").unwrap();
        assert!(before.check(&zarr, &options, Some(&target)).is_err());
    }

    #[test]
    fn a_matrix_and_the_files_beside_it_are_an_input() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("matrix.mtx", "%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 5\n");
        write("barcodes.tsv", "c\n");
        write("features.tsv", "g\tg\tGene Expression\n");
        let options = OpenOptions::default();
        let inputs = [folder.path().to_path_buf(), folder.path().join("matrix.mtx")];
        let before = inputs.clone().map(|i| Fingerprint::of(&i, &options, None).unwrap());
        write("convert.log", "10 cells");
        for (print, input) in before.iter().zip(&inputs) {
            print.check(input, &options, None).unwrap();
        }
        write("barcodes.tsv", "cell\n");
        for (print, input) in before.iter().zip(&inputs) {
            let e = print.check(input, &options, None).unwrap_err();
            assert!(e.message().contains("bytes and had"), "{e}");
        }
    }
}
