//! Sizes of caches that the environment sets.

use slaf_core::{Error, Result, parse_bytes};

/// The bytes that a variable says, or else the default.
///
/// # Errors
/// `invalid-argument` for what is no number of bytes.
pub(crate) fn of(variable: &str, default: u64) -> Result<u64> {
    std::env::var_os(variable).map_or(Ok(default), |value| read(variable, &value.to_string_lossy()))
}

fn read(variable: &str, value: &str) -> Result<u64> {
    parse_bytes(value).ok_or_else(|| {
        let what = "is no number of bytes: write digits, with a unit or without, such as 500000000, 512 MB or 2 GiB";
        Error::invalid(format!("{variable}={value:?} {what}"))
    })
}

#[cfg(test)]
mod tests {
    use super::read;
    use slaf_core::ErrorKind;

    #[test]
    fn a_size_is_digits_and_a_unit() {
        assert_eq!(read("V", "0").unwrap(), 0);
        assert_eq!(read("V", "512 MB").unwrap(), 512_000_000);
        for value in ["", "abc", "-5", "1e9", "1.5", "10 furlongs"] {
            let error = read("V", value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{value}");
            assert!(error.message().contains(&format!("V={value:?}")), "{error}");
        }
    }
}
