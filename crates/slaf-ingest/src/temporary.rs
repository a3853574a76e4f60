//! Files and folders that grow under a temporary name beside what they become.
//!
//! A name tells the host and the process, and the file is locked while its process lives. So the
//! next run in the same folder removes what killed ones left behind, and nothing else: the lock of
//! a dead process is free. Where a file system has no locks, nothing is removed.

use slaf_core::{Context, Error, Result};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const PREFIX: &str = ".slaf-";
const SUFFIX: &str = ".tmp";
/// What is replaced waits under this name in a temporary folder, where the system cannot exchange
/// two names at once. A folder that holds it is never swept: it may be the only copy.
const REPLACED: &str = "replaced";

/// The name of this machine, as far as it fits into a file's name.
pub fn host() -> Option<String> {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    let name: String = host_name()?.chars().take(64).map(fits).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(unix)]
fn host_name() -> Option<String> {
    let mut name = [0_u8; 256];
    // SAFETY: the buffer is as long as the call is told, and its last byte stays 0.
    let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|&b| b == 0)?;
    (failed == 0).then(|| String::from_utf8_lossy(&name[..end]).into_owned())
}

#[cfg(not(unix))]
fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// Whether an open file is locked by nobody, and was not removed: then it is locked now. Where
/// there are no locks, the file is taken for ours.
pub fn claim(file: &File, path: &Path) -> bool {
    match file.try_lock() {
        Ok(()) => is_at(file, path),
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => true,
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |m: std::fs::Metadata| (m.dev(), m.ino());
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(ours), Ok(there)) => place(ours) == place(there),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// The folder of a file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn prefix() -> String {
    let process = std::process::id();
    host().map_or(format!("{PREFIX}{process}-"), |host| format!("{PREFIX}{host}-{process}-"))
}

/// The host that a temporary name tells.
fn host_of(name: &OsStr) -> Option<&str> {
    let mut parts = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.rsplitn(3, '-');
    let (_random, process, host) = (parts.next()?, parts.next()?, parts.next()?);
    process.parse::<u32>().ok().map(|_| host)
}

/// A new file in the folder of `path`, with the permissions that the user's umask gives.
///
/// # Errors
/// Those of creating it.
pub fn file_beside(path: &Path) -> Result<NamedTempFile> {
    let folder = folder_of(path);
    sweep(folder);
    let prefix = prefix();
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let file = builder.tempfile_in(folder).at(path.display())?;
        // A sweep may come between the creation and the lock.
        if claim(file.as_file(), file.path()) {
            return Ok(file);
        }
    }
}

/// Gives a file its name: the one of `path`, in place of what is there if `replace`.
///
/// # Errors
/// `already-exists`; those of renaming.
pub fn persist(file: NamedTempFile, path: &Path, replace: bool) -> Result<()> {
    let kept = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    let file = kept.map_err(|e| Error::from(e.error)).at(path.display())?;
    // Programs that use HDF5 refuse a locked file. Closing it would not do: it may be open twice.
    let _ = file.unlock();
    Ok(())
}

/// A folder that goes with its content, unless it gets another name.
#[derive(Debug)]
pub struct TemporaryFolder {
    path: PathBuf,
    lock: Option<File>,
    /// Whether it is under its temporary name.
    temporary: bool,
}

impl TemporaryFolder {
    /// A new folder for this user alone.
    ///
    /// # Errors
    /// Those of creating it.
    pub fn new_in(folder: &Path) -> Result<TemporaryFolder> {
        Self::with_mode(folder, 0o700)
    }

    /// A new folder in that of `path`, with the permissions that the user's umask gives.
    ///
    /// # Errors
    /// Those of creating it.
    pub fn beside(path: &Path) -> Result<TemporaryFolder> {
        Self::with_mode(folder_of(path), 0o777).at(path.display())
    }

    #[cfg_attr(not(unix), allow(unused_variables))]
    fn with_mode(folder: &Path, mode: u32) -> Result<TemporaryFolder> {
        sweep(folder);
        let prefix = prefix();
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
        loop {
            let path = builder.tempdir_in(folder)?.keep();
            let mut made = TemporaryFolder { path, lock: None, temporary: true };
            if cfg!(unix) {
                match File::open(&made.path) {
                    Ok(lock) if claim(&lock, &made.path) => made.lock = Some(lock),
                    // A sweep may come between the creation and the lock.
                    Ok(_) => continue,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(e.into()),
                }
            }
            return Ok(made);
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its name, if nothing has it.
    ///
    /// # Errors
    /// `AlreadyExists` and others of renaming; the folder goes then.
    pub fn persist(mut self, path: &Path) -> io::Result<()> {
        rename_new(&self.path, path)?;
        self.temporary = false;
        Ok(())
    }

    /// Puts an entry of the folder in the place of `path`, and what is there into the folder if it
    /// may be replaced.
    ///
    /// # Errors
    /// `AlreadyExists`; those of renaming; what was there is there then.
    pub fn put(&self, entry: &Path, path: &Path, replace: bool) -> io::Result<()> {
        if !replace {
            return rename_new(entry, path);
        }
        if path.symlink_metadata().is_err() {
            return std::fs::rename(entry, path);
        }
        if exchange(entry, path).is_ok() {
            return Ok(());
        }
        let replaced = self.path.join(REPLACED);
        std::fs::rename(path, &replaced)?;
        std::fs::rename(entry, path).or_else(|e| std::fs::rename(&replaced, path).and(Err(e)))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Listing a folder opens it, and the limit of open files may be why it is not needed. An
        // empty one goes without.
        self.lock = None;
        if self.temporary && std::fs::remove_dir(&self.path).is_err() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Renames a file or folder to a name that nothing has.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rename_with(from, to, Rename::NoReplace) {
        // A file system that cannot tell in the same step; only something that comes in this moment
        // is not seen, and of folders only an empty one is replaced then.
        Err(e) if is_unsupported(&e) => match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => std::fs::rename(from, to),
        },
        done => done,
    }
}

/// Exchanges two names at once.
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    rename_with(a, b, Rename::Exchange)
}

fn is_unsupported(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

/// How Linux renames: `RENAME_NOREPLACE`, `RENAME_EXCHANGE`.
#[derive(Clone, Copy)]
enum Rename {
    NoReplace = 1,
    Exchange = 2,
}

#[cfg(target_os = "linux")]
fn rename_with(from: &Path, to: &Path, how: Rename) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let [from, to] = [from, to].map(|p| std::ffi::CString::new(p.as_os_str().as_bytes()));
    let (from, to) = (from?, to?);
    // SAFETY: both are texts that end with 0 and live during the call.
    let failed = unsafe {
        let how = how as libc::c_uint;
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), how)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn rename_with(_: &Path, _: &Path, _: Rename) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes what dead processes of this machine left in a folder. What cannot be removed stays.
fn sweep(folder: &Path) {
    let (Some(host), Ok(entries)) = (host(), std::fs::read_dir(folder)) else { return };
    for entry in entries.flatten().filter(|e| host_of(&e.file_name()) == Some(&*host)) {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let opened = OpenOptions::new().read(true).write(kind.is_file()).open(&path);
        // The lock is held until the end, so that only one sweeps it.
        let Ok(file) = opened else { continue };
        if file.try_lock().is_err() || path.join(REPLACED).exists() {
            continue;
        }
        // Without effect where another was quicker.
        let _ = if kind.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn folders_that_are_made_at_once_are_all_there() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let made = TemporaryFolder::new_in(folder.path()).unwrap();
                        std::fs::write(made.path().join("x"), "x").unwrap();
                        assert_eq!(std::fs::read_to_string(made.path().join("x")).unwrap(), "x");
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_lives_stays_and_what_is_dead_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_beside(&folder.path().join("a.h5ad")).unwrap();
        let kept = TemporaryFolder::beside(&folder.path().join("a_mtx")).unwrap();
        std::fs::write(kept.path().join("x"), "x").unwrap();
        let alive = names(folder.path());
        let (host, other) = (host().unwrap(), "elsewhere.example");
        assert!(alive.iter().all(|n| n.starts_with(&format!(".slaf-{host}-{}-", std::process::id()))), "{alive:?}");
        // Debris of a process that was killed, of another machine, and files of other people.
        std::fs::write(folder.path().join(format!(".slaf-{host}-1-abcdef.tmp")), "half").unwrap();
        std::fs::create_dir(folder.path().join(format!(".slaf-{host}-2-abcdef.tmp"))).unwrap();
        std::fs::write(folder.path().join(format!(".slaf-{host}-2-abcdef.tmp/x")), "half").unwrap();
        let only_copy = format!(".slaf-{host}-3-abcdef.tmp");
        std::fs::create_dir_all(folder.path().join(&only_copy).join(REPLACED)).unwrap();
        let foreign = [format!(".slaf-{other}-1-abcdef.tmp"), ".slaf-notes.tmp".into(), "slaf.tmp".into()];
        for name in &foreign {
            std::fs::write(folder.path().join(name), "mine").unwrap();
        }
        sweep(folder.path());
        let mut expected = [&alive[..], &foreign, &[only_copy]].concat();
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        persist(file, &folder.path().join("a.h5ad"), false).unwrap();
        assert!(File::open(folder.path().join("a.h5ad")).unwrap().try_lock().is_ok());
        kept.persist(&folder.path().join("a_mtx")).unwrap();
        assert!(folder.path().join("a_mtx/x").exists());
    }

    #[test]
    fn a_folder_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        for content in ["one", "two"] {
            let temporary = TemporaryFolder::beside(&target).unwrap();
            let new = temporary.path().join("new");
            std::fs::create_dir(&new).unwrap();
            std::fs::write(new.join("file"), content).unwrap();
            temporary.put(&new, &target, content == "two").unwrap();
            drop(temporary);
            assert_eq!(std::fs::read_to_string(target.join("file")).unwrap(), content);
            assert_eq!(names(folder.path()), ["target"]);
        }
    }

    #[test]
    fn a_folder_takes_no_name_that_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir_all(at("empty")).unwrap();
        std::fs::create_dir_all(at("full/inner")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
        let before = names(folder.path());
        for name in &before {
            let error = TemporaryFolder::beside(&at(name)).unwrap().persist(&at(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}: {error}");
            let temporary = TemporaryFolder::beside(&at(name)).unwrap();
            let new = temporary.path().join("new");
            std::fs::create_dir(&new).unwrap();
            let error = temporary.put(&new, &at(name), false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}: {error}");
        }
        assert_eq!(names(folder.path()), before);
    }
}
