//! Whether an input is still what it was when the conversion began.

use serde::{Deserialize, Serialize};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// What tells a state of the files of an input from another without reading them: names, lengths and
/// times of writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    files: u64,
    bytes: u64,
    hash: String,
}

impl Fingerprint {
    /// That of a file, or of all files in a folder.
    pub(super) fn of(input: &Path) -> Result<Fingerprint> {
        let (mut print, mut hasher) = (Fingerprint { files: 0, bytes: 0, hash: String::new() }, blake3::Hasher::new());
        print.add(input, "", &mut hasher)?;
        print.hash = hasher.finalize().to_hex().to_string();
        Ok(print)
    }

    fn add(&mut self, path: &Path, name: &str, hasher: &mut blake3::Hasher) -> Result<()> {
        let metadata = std::fs::metadata(path).at(path.display())?;
        if metadata.is_dir() {
            let entries = std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
            let mut entries = entries.at(path.display())?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let inner = format!("{name}/{}", entry.file_name().to_string_lossy());
                self.add(&entry.path(), &inner, hasher)?;
            }
            return Ok(());
        }
        let written = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        // Shared file systems keep no finer times than these, all of them.
        let micros = written.map_or(0, |t| t.as_micros() as u64);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&metadata.len().to_le_bytes());
        hasher.update(&micros.to_le_bytes());
        self.files += 1;
        self.bytes += metadata.len();
        Ok(())
    }

    /// Compares an input with what it was.
    ///
    /// # Errors
    /// `conflict` for another state of it; `not-found` if it is gone.
    pub(super) fn check(&self, input: &Path) -> Result<()> {
        let now = Fingerprint::of(input)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "12").unwrap();
        let (of_file, of_folder) = (Fingerprint::of(&file).unwrap(), Fingerprint::of(folder.path()).unwrap());
        of_file.check(&file).unwrap();
        of_folder.check(folder.path()).unwrap();
        std::fs::write(&file, "123").unwrap();
        let e = of_file.check(&file).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(e.message().starts_with("has 3 bytes and had 2 since"), "{e}");
        std::fs::write(folder.path().join("b"), "").unwrap();
        assert!(of_folder.check(folder.path()).unwrap_err().message().starts_with("has 2 files and had 1"));
        let later = Fingerprint::of(&file).unwrap();
        let time = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert!(later.check(&file).unwrap_err().message().starts_with("was written to since"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(later.check(&file).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
