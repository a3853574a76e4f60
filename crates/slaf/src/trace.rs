//! Addresses as spans show them. Spans are at the entry points (`open`, `read`, `query`, `convert`,
//! `commit`, `load`, ...), name stores and sizes, and hold no value or name of a cell, no text of a
//! query, and no option of an object store.

use std::fmt::{Display, Formatter, Result};

/// Shows an address without what may be a password in it: the part before `@`, and the query.
pub(crate) struct Address<'a>(pub(crate) &'a str);

impl Display for Address<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str(self.0);
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        match host.split_once('@') {
            Some((user, host)) if user.contains(':') => write!(f, "{scheme}://...@{host}{path}"),
            _ => write!(f, "{scheme}://{host}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for (address, shown) in [
            ("/data/a@b.slaf?x", "/data/a@b.slaf?x"),
            ("s3://bucket/a.slaf", "s3://bucket/a.slaf"),
            ("s3://key:hunter2@bucket/a.slaf", "s3://...@bucket/a.slaf"),
            ("az://container@account/a.slaf?sig=hunter2", "az://container@account/a.slaf"),
            ("gs://bucket?token=hunter2", "gs://bucket"),
        ] {
            assert_eq!(Address(address).to_string(), shown);
        }
    }
}
