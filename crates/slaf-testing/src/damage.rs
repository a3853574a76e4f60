//! Damage to files, as disks and crashes do it.

use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// All files below a folder, sorted.
///
/// # Errors
/// Those of reading the folders.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Cuts a file.
///
/// # Errors
/// Those of writing the file.
pub fn truncate(file: &Path, length: u64) -> Result<()> {
    std::fs::OpenOptions::new().write(true).open(file)?.set_len(length)
}

/// Flips one bit of a file.
///
/// # Errors
/// Those of reading and writing the file.
pub fn flip_bit(file: &Path, offset: u64, bit: u8) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut byte)?;
    byte[0] ^= 1 << bit;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&byte)
}
