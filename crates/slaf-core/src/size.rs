//! Sizes as people write them.

use crate::error::{Error, Result};

/// A number of bytes: `1000000`, `800M`, `512 MB`, `2GiB`, in any case. K, M, G and T are powers of 1024,
/// with a `B` behind them powers of 1000. `None` for what is none, or is more than 64 bits number.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.strip_prefix(' ').filter(|u| !u.is_empty()).unwrap_or(unit).to_ascii_lowercase().as_str()
    {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The bytes that a variable of the environment says, as [`parse_bytes`] takes them, or else the default.
///
/// # Errors
/// `invalid-argument` for what is no number of bytes.
pub fn bytes_from_env(variable: &str, default: u64) -> Result<u64> {
    std::env::var_os(variable).map_or(Ok(default), |value| bytes_of(variable, &value.to_string_lossy()))
}

fn bytes_of(variable: &str, value: &str) -> Result<u64> {
    parse_bytes(value).ok_or_else(|| {
        let what = "is no number of bytes: write digits, with a unit or without, such as 500000000, 512 MB or 2 GiB";
        Error::invalid(format!("{variable}={value:?} {what}"))
    })
}

#[cfg(test)]
mod tests {
    use super::{bytes_of, parse_bytes};
    use crate::error::ErrorKind;

    #[test]
    fn a_variable_is_digits_and_a_unit() {
        assert_eq!(bytes_of("V", "0").unwrap(), 0);
        assert_eq!(bytes_of("V", "512 MB").unwrap(), 512_000_000);
        for value in ["", "abc", "-5", "1e9", "1.5", "10 furlongs"] {
            let error = bytes_of("V", value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{value}");
            assert!(error.message().contains(&format!("V={value:?}")), "{error}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("18446744073709551615", u64::MAX),
            ("7 B", 7),
            ("2K", 2048),
            ("2kb", 2000),
            ("512 MB", 512_000_000),
            ("1G", 1 << 30),
            ("2 GiB", 2 << 30),
            ("3T", 3 << 40),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for none in
            ["", " ", "G", "-1", "1X", "1.5G", "1e9", " 1", "1 ", "1  GB", "18446744073709551616", "99999999999T"]
        {
            assert_eq!(parse_bytes(none), None, "{none}");
        }
    }
}
