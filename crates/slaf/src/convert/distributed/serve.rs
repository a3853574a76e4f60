//! A worker process: it converts the parts that it is sent, one after the other, until nobody sends.
//!
//! Both ways go frames: a byte that says what it is, the length as 8 bytes, and the content.

use super::work::convert_part;
use crate::progress::ProgressEvent;
use serde::{Deserialize, Serialize};
use slaf_core::{Error, ErrorKind, Result, STACK};
use std::io::{self, Read, Write};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a frame is.
pub(super) const TASK: u8 = b'T';
pub(super) const PROGRESS: u8 = b'P';
pub(super) const DONE: u8 = b'D';
pub(super) const FAILED: u8 = b'E';

/// No frame is longer: a longer one is no frame.
const LONGEST: u64 = 4 << 30;
/// How often progress is told.
const PACE: Duration = Duration::from_millis(100);

/// An error on its way between processes.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    kind: String,
    location: Option<String>,
    message: String,
}

/// Writes a frame.
pub(super) fn write_frame(to: &mut impl Write, kind: u8, content: &[u8]) -> io::Result<()> {
    to.write_all(&[kind])?;
    to.write_all(&(content.len() as u64).to_le_bytes())?;
    to.write_all(content)?;
    to.flush()
}

/// Reads a frame; `None` at the end, also in the midst of one.
pub(super) fn read_frame(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 9];
    let mut content = Vec::new();
    let read = from.read_exact(&mut head).and_then(|()| {
        let length = head[1..].iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        let known = [TASK, PROGRESS, DONE, FAILED].contains(&head[0]) && length <= LONGEST;
        if !known {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "something else than a message of a worker"));
        }
        match from.by_ref().take(length).read_to_end(&mut content)? as u64 == length {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    });
    match read {
        Ok(()) => Ok(Some((head[0], content))),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn error_to_bytes(e: &Error) -> Vec<u8> {
    let told = Told {
        kind: e.kind().as_str().to_string(),
        location: e.location().map(str::to_string),
        message: e.message().to_string(),
    };
    serde_json::to_vec(&told).unwrap_or_default()
}

pub(super) fn error_from_bytes(bytes: &[u8]) -> Error {
    let Ok(told) = serde_json::from_slice::<Told>(bytes) else {
        return Error::new(ErrorKind::Internal, "a worker failed, and said nothing that can be understood");
    };
    let kind = ErrorKind::ALL.iter().find(|k| k.as_str() == told.kind).copied().unwrap_or(ErrorKind::Internal);
    let e = Error::new(kind, told.message);
    match told.location {
        Some(location) => e.at(location),
        None => e,
    }
}

/// Does the work of a worker process: converts the parts that come from `input`, and tells of them on
/// `output`, on which nothing else may write. It comes back when nobody sends any more, also in the midst of a
/// part, which nobody waits for then: the process is to end.
///
/// # Errors
/// `io` for something else than what [`convert_with_workers`](super::convert_with_workers) sends.
pub fn serve(input: impl Read, output: impl Write + Send + 'static) -> Result<()> {
    let (send, tasks) = sync_channel::<Vec<u8>>(1);
    let output = Arc::new(Mutex::new(output));
    std::thread::Builder::new().name("slaf-part".into()).stack_size(STACK).spawn(move || {
        for task in tasks {
            let told = Mutex::new(Instant::now());
            let tell = |kind: u8, content: &[u8]| {
                write_frame(&mut *output.lock().unwrap_or_else(PoisonError::into_inner), kind, content).is_ok()
            };
            let progress = |event: ProgressEvent| {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.elapsed() < PACE {
                    return true;
                }
                *told = Instant::now();
                // Nobody is left who waits for the part.
                tell(PROGRESS, &event.cells_done.to_le_bytes())
            };
            match convert_part(&task, &progress) {
                Ok(done) => tell(DONE, &done),
                Err(e) => tell(FAILED, &error_to_bytes(&e)),
            };
        }
    })?;
    let mut input = input;
    while let Some((kind, task)) = read_frame(&mut input)? {
        if kind != TASK {
            return Err(Error::new(ErrorKind::Io, "a worker was sent something else than a part"));
        }
        if send.send(task).is_err() {
            return Err(Error::new(ErrorKind::Internal, "the thread that converts has stopped"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, DONE, b"one").unwrap();
        write_frame(&mut bytes, FAILED, b"").unwrap();
        let mut from = &bytes[..];
        assert_eq!(read_frame(&mut from).unwrap(), Some((DONE, b"one".to_vec())));
        assert_eq!(read_frame(&mut from).unwrap(), Some((FAILED, Vec::new())));
        assert_eq!(read_frame(&mut from).unwrap(), None);
        assert_eq!(read_frame(&mut &bytes[..5]).unwrap(), None);
        assert_eq!(read_frame(&mut &bytes[..11]).unwrap(), None);
        assert!(read_frame(&mut &b"hello, world"[..]).is_err());
    }

    #[test]
    fn errors_come_back() {
        let e = Error::malformed("not monotone").at("/X/indptr").at("a.h5ad");
        let back = error_from_bytes(&error_to_bytes(&e));
        assert_eq!((back.kind(), back.to_string()), (e.kind(), e.to_string()));
        assert_eq!(error_from_bytes(b"?").kind(), ErrorKind::Internal);
    }
}
