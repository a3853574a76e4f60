//! Sizes of caches that the environment sets.

use slaf_core::{Error, Result};

/// The bytes that a variable says, or else the default.
///
/// # Errors
/// `invalid-argument` for what is no number of bytes.
pub(crate) fn of(variable: &str, default: u64) -> Result<u64> {
    std::env::var_os(variable).map_or(Ok(default), |value| read(variable, &value.to_string_lossy()))
}

fn read(variable: &str, value: &str) -> Result<u64> {
    let refused = || {
        let message = format!("{variable}={value:?} is no number of bytes: write it in digits, such as 500000000");
        Error::invalid(message)
    };
    value.parse().map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::read;
    use slaf_core::ErrorKind;

    #[test]
    fn a_size_is_digits() {
        assert_eq!(read("V", "0").unwrap(), 0);
        assert_eq!(read("V", "18446744073709551615").unwrap(), u64::MAX);
        for value in ["", "abc", "-5", "1e9", "1.5", "10GB", " 1", "18446744073709551616"] {
            let error = read("V", value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{value}");
            assert!(error.message().contains(&format!("V={value:?}")), "{error}");
        }
    }
}
