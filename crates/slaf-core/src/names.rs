//! Names that files, SQL, Python and the command line share: of the values of enums, and those that
//! users give.

use crate::error::{Error, Result};
use crate::near::near;

/// Refuses control characters in a name that a user gives for `what`: terminals, logs and the files of
/// others would read something else in it.
///
/// # Errors
/// `invalid-argument`, which shows the name with these characters escaped.
pub fn check_printable(what: &str, name: &str) -> Result<()> {
    match name.chars().any(char::is_control) {
        true => Err(Error::invalid(format!("{what} {name:?} has a control character: take it out"))),
        false => Ok(()),
    }
}

/// The error about a name that no value has.
#[doc(hidden)]
pub fn unknown_name(what: &str, name: &str, known: &[&str]) -> Error {
    let close = near(name, known.iter().copied());
    let hint = match close.first() {
        Some(one) => format!("; did you mean \"{one}\"?"),
        None => String::new(),
    };
    Error::invalid(format!("no {what} \"{name}\"; there are {}{hint}", known.join(", ")))
}

/// Gives the values of an enum their names, once: `ALL`, `name`, `Display`, and `FromStr` whose
/// error lists the names that there are.
///
/// ```
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Join {
///     Outer,
///     Inner,
/// }
/// slaf_core::names!(Join, "join", { Outer => "outer", Inner => "inner" });
/// assert_eq!("inner".parse::<Join>()?, Join::Inner);
/// assert_eq!(Join::Outer.to_string(), "outer");
/// assert!("left".parse::<Join>().unwrap_err().message().contains("outer, inner"));
/// # Ok::<(), slaf_core::Error>(())
/// ```
#[macro_export]
macro_rules! names {
    ($type:ty, $what:literal, { $($variant:ident => $name:literal),* $(,)? }) => {
        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name of the value.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err($crate::unknown_name($what, name, &[$($name),*])),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::check_printable;

    #[test]
    fn control_characters_are_shown_and_refused() {
        for (name, shown) in [("a\0b", "\"a\\0b\""), ("a\nb", "\"a\\nb\""), ("\u{1b}[2J", "\"\\u{1b}[2J\"")] {
            let message = check_printable("the name", name).unwrap_err().to_string();
            assert!(message.contains(shown) && !message.contains(name), "{message}");
        }
        for name in ["", "night 2", "é/ü", "🧬"] {
            check_printable("the name", name).unwrap();
        }
    }
}
