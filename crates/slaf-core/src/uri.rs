//! Paths that users write as `file:` URIs.

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// A text without the user and the password that addresses in it have: `http://user:secret@host` reads
/// `http://host` (RFC 3986, 3.2.1).
pub(crate) fn without_users(text: String) -> String {
    let mut kept = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("://") {
        let authority = after.split(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).next().unwrap_or_default();
        let user = authority.rfind('@').map_or(0, |at| at + 1);
        kept.extend([before, "://"]);
        rest = &after[user..];
    }
    match kept.is_empty() {
        true => text,
        false => kept + rest,
    }
}

/// The local path that a text names: a path, or a URI `file:///path`, `file://localhost/path` or
/// `file:/path` (RFC 8089), with its `%20` decoded. `None` for a URI of another scheme.
///
/// # Errors
/// `invalid-argument` for a file URI of another host, without an absolute path, or whose escapes are
/// no UTF-8.
pub fn local_path(text: &str) -> Result<Option<PathBuf>> {
    let rest = match text.get(..5) {
        Some(scheme) if scheme.eq_ignore_ascii_case("file:") => &text[5..],
        _ if text.contains("://") => return Ok(None),
        _ => return Ok(Some(PathBuf::from(text))),
    };
    let wrong = |why: String| Error::invalid(format!("{why}; a file URI reads file:///folder/name")).at(text);
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => {
            let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Err(wrong(format!("names the host \"{host}\", whose files are not reached from here")));
            }
            &rest[host.len()..]
        }
    };
    if !path.starts_with('/') {
        return Err(wrong("has no absolute path".into()));
    }
    match decoded(path) {
        Some(path) => Ok(Some(PathBuf::from(path))),
        None => Err(wrong("its % escapes are no UTF-8 (a % itself is written %25)".into())),
    }
}

/// A path of the user, which may be a file URI.
///
/// # Errors
/// Those of [`local_path`].
pub fn plain_path(path: &Path) -> Result<Cow<'_, Path>> {
    match path.to_str() {
        Some(text) => Ok(local_path(text)?.map_or(Cow::Borrowed(path), Cow::Owned)),
        None => Ok(Cow::Borrowed(path)),
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok().filter(|&b| b != 0)?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn users_are_left_out() {
        for (text, shown) in [
            ("http://user:s@cret@host:9000/a@b", "http://host:9000/a@b"),
            ("GET (https://u:p@h?x=1) and s3://k:v@b/c, no", "GET (https://h?x=1) and s3://b/c, no"),
            ("s3://bucket/a@b: x@y", "s3://bucket/a@b: x@y"),
            ("a@b.c :// x@y", "a@b.c :// x@y"),
            ("://@", "://"),
            ("s3://", "s3://"),
        ] {
            assert_eq!(without_users(text.to_string()), shown);
        }
    }

    #[test]
    fn file_uris_are_paths() {
        for (text, path) in [
            ("file:///a/b", "/a/b"),
            ("file://localhost/a/b", "/a/b"),
            ("FILE://LocalHost/a", "/a"),
            ("file:/a/b", "/a/b"),
            ("file:///a%20b/%C3%A9.slaf", "/a b/é.slaf"),
            ("file:///a b/é", "/a b/é"),
            ("a/b%20c", "a/b%20c"),
            ("/file:/a", "/file:/a"),
            ("", ""),
        ] {
            assert_eq!(local_path(text).unwrap(), Some(PathBuf::from(path)), "{text}");
            assert_eq!(plain_path(Path::new(text)).unwrap(), Path::new(path), "{text}");
        }
        assert_eq!(local_path("s3://b/a%20b").unwrap(), None);
        assert_eq!(plain_path(Path::new("s3://b/a%20b")).unwrap(), Path::new("s3://b/a%20b"));
    }

    #[test]
    fn other_hosts_and_broken_uris_are_refused() {
        for (text, why) in [
            ("file://server/share/a", "\"server\""),
            ("file://relative", "\"relative\""),
            ("file:a", "absolute"),
            ("file:", "absolute"),
            ("file://", "absolute"),
            ("file:///100%", "%25"),
            ("file:///a%zz", "%25"),
            ("file:///a%00", "%25"),
            ("file:///a%ff", "%25"),
            ("file:///a%é", "%25"),
        ] {
            let error = local_path(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
            assert!(error.to_string().contains(why) && error.to_string().contains(text), "{error}");
        }
    }
}
