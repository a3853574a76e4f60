//! Dictionaries from Python pickles, of which published models are made.
//!
//! A pickle is a program, and unpickling runs it. This reader runs none: it knows the
//! instructions that build strings, numbers and dictionaries, takes the one way in which numpy
//! writes its numbers as data, and refuses everything else. (serde-pickle would do, were it not
//! for numpy's numbers: Geneformer's medians are `numpy.float64`.)

use slaf_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Global {
    NumpyScalar,
    NumpyDtype,
    Encode,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct NumpyType {
    kind: u8,
    size: usize,
}

/// What the stack holds. Clones share their contents, so that a short pickle stays small.
#[derive(Clone, Debug)]
enum Item {
    Mark,
    None,
    Number(Number),
    Str(Rc<str>),
    Bytes(Rc<[u8]>),
    /// Of plain items only.
    Tuple(Rc<[Item]>),
    Dict,
    Global(Global),
    NumpyType(NumpyType),
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Item>,
    memo: HashMap<u32, Item>,
    /// The entries of the one dictionary.
    dict: Option<HashMap<Rc<str>, Number>>,
}

fn refused(what: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::UnsupportedInput,
        format!(
            "the pickle holds {what}; only one dictionary of strings to numbers is read. Write it as JSON instead, \
             in an environment that may run the pickle: json.dump({{k: float(v) for k, v in d.items()}}, f)"
        ),
    )
}

fn damaged(what: &str) -> Error {
    Error::malformed(format!("damaged pickle: {what}"))
}

/// The dictionary in a pickle of protocol 2 to 5, in no order.
///
/// # Errors
/// `unsupported-input` for anything but a dictionary of strings to numbers, `malformed-input`
/// for bytes that are no pickle.
pub(super) fn read(bytes: &[u8]) -> Result<HashMap<Rc<str>, Number>> {
    let mut m = Machine { bytes, at: 0, stack: Vec::new(), memo: HashMap::new(), dict: None };
    while m.step().map_err(|e| e.at(format_args!("byte {}", m.at)))? {}
    match (m.stack.pop(), m.dict) {
        (Some(Item::Dict), Some(dict)) if m.stack.is_empty() => Ok(dict),
        _ => Err(refused("something else")),
    }
}

impl Machine<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len()).ok_or_else(|| damaged("it is cut"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A little-endian number of up to 8 bytes.
    fn uint(&mut self, n: usize) -> Result<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b)))
    }

    fn len(&mut self, n: usize) -> Result<usize> {
        usize::try_from(self.uint(n)?).map_err(|_| damaged("a length that no memory holds"))
    }

    fn str(&mut self, n: usize) -> Result<Item> {
        let text = std::str::from_utf8(self.take(n)?).map_err(|_| damaged("a string that is not UTF-8"))?;
        Ok(Item::Str(text.into()))
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|&b| b == b'\n').ok_or_else(|| damaged("it is cut"))?;
        self.at += n + 1;
        Ok(String::from_utf8_lossy(&rest[..n]).into_owned())
    }

    fn pop(&mut self) -> Result<Item> {
        self.stack.pop().ok_or_else(|| damaged("the stack is empty"))
    }

    fn int(&mut self, x: i64) {
        self.stack.push(Item::Number(Number::Int(x)));
    }

    /// Two's complement of any length, as Python writes long numbers.
    fn long(&mut self, n: usize) -> Result<()> {
        if n > 8 {
            return Err(refused("a number of more than 64 bits"));
        }
        let x = self.uint(n)?;
        let unused = 64 - 8 * n as u32;
        self.int(if n == 0 { 0 } else { (x << unused) as i64 >> unused });
        Ok(())
    }

    /// Runs one instruction; false at the end.
    fn step(&mut self) -> Result<bool> {
        let op = self.take(1)?[0];
        let item = match op {
            0x80 => {
                if !(2..=5).contains(&self.take(1)?[0]) {
                    return Err(refused("a protocol other than 2 to 5"));
                }
                return Ok(true);
            }
            0x95 => {
                self.take(8)?;
                return Ok(true);
            }
            b'.' => return Ok(false),
            b'(' => Item::Mark,
            b'N' => Item::None,
            0x88 => Item::Number(Number::Int(1)),
            0x89 => Item::Number(Number::Int(0)),
            b'X' => self.len(4).and_then(|n| self.str(n))?,
            0x8c => self.len(1).and_then(|n| self.str(n))?,
            0x8d => self.len(8).and_then(|n| self.str(n))?,
            b'C' => self.len(1).and_then(|n| self.take(n).map(|b| Item::Bytes(b.into())))?,
            b'B' => self.len(4).and_then(|n| self.take(n).map(|b| Item::Bytes(b.into())))?,
            b'J' => Item::Number(Number::Int(i64::from(self.uint(4)? as u32 as i32))),
            b'K' => Item::Number(Number::Int(self.uint(1)? as i64)),
            b'M' => Item::Number(Number::Int(self.uint(2)? as i64)),
            0x8a | 0x8b => {
                let n = self.len(if op == 0x8a { 1 } else { 4 })?;
                self.long(n)?;
                return Ok(true);
            }
            // The only big-endian number of a pickle.
            b'G' => Item::Number(Number::Float(f64::from_bits(self.uint(8)?.swap_bytes()))),
            b'}' => {
                if self.dict.replace(HashMap::new()).is_some() {
                    return Err(refused("more than one dictionary"));
                }
                Item::Dict
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                global(&module, &name)?
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Item::Str(name), Item::Str(module)) => global(&module, &name)?,
                _ => return Err(damaged("a global without a name")),
            },
            b'h' | b'j' => {
                let key = self.uint(if op == b'h' { 1 } else { 4 })? as u32;
                self.memo.get(&key).cloned().ok_or_else(|| damaged("a memo that was not made"))?
            }
            b')' => Item::Tuple([].into()),
            0x85..=0x87 => self.tuple(usize::from(op - 0x84))?,
            b't' => {
                let n = self.since_mark()?;
                let tuple = self.tuple(n)?;
                self.pop()?;
                tuple
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                apply(&function, &arguments)?
            }
            _ => return self.change(op),
        };
        self.stack.push(item);
        Ok(true)
    }

    /// Instructions that push nothing.
    fn change(&mut self, op: u8) -> Result<bool> {
        match op {
            b'q' | b'r' | 0x94 => {
                let key = match op {
                    b'q' => self.uint(1)? as u32,
                    b'r' => self.uint(4)? as u32,
                    _ => u32::try_from(self.memo.len()).map_err(|_| damaged("too many memos"))?,
                };
                let item = self.stack.last().cloned().ok_or_else(|| damaged("the stack is empty"))?;
                self.memo.insert(key, item);
            }
            b's' => self.set_items(2)?,
            b'u' => {
                let n = self.since_mark()?;
                self.set_items(n)?;
                // `set_items` leaves the mark above the dictionary.
                self.pop()?;
            }
            b'b' => {
                // The state of a numpy type: only its byte order could matter.
                let state = self.pop()?;
                let (Some(Item::NumpyType(_)), Item::Tuple(state)) = (self.stack.last(), state) else {
                    return Err(refused("an object"));
                };
                if !matches!(state.get(1), Some(Item::Str(order)) if matches!(&**order, "<" | "|" | "=")) {
                    return Err(refused("numbers that are not little-endian"));
                }
            }
            _ => return Err(refused(format_args!("instruction 0x{op:02x}"))),
        }
        Ok(true)
    }

    fn since_mark(&self) -> Result<usize> {
        self.stack.iter().rev().position(|i| matches!(i, Item::Mark)).ok_or_else(|| damaged("no mark"))
    }

    fn tuple(&mut self, n: usize) -> Result<Item> {
        let start = self.stack.len().checked_sub(n).ok_or_else(|| damaged("the stack is empty"))?;
        let items: Rc<[Item]> = self.stack.drain(start..).collect();
        // Nested tuples would let memos double with each instruction.
        if items.iter().any(|i| matches!(i, Item::Tuple(_) | Item::Dict | Item::Mark)) {
            return Err(refused("nested values"));
        }
        Ok(Item::Tuple(items))
    }

    /// Moves the last `n` items into the dictionary below them and, perhaps, a mark.
    fn set_items(&mut self, n: usize) -> Result<()> {
        let start = self.stack.len().checked_sub(n).ok_or_else(|| damaged("the stack is empty"))?;
        let below = self.stack[..start].iter().rev().find(|i| !matches!(i, Item::Mark));
        let (Some(Item::Dict), Some(dict)) = (below, self.dict.as_mut()) else {
            return Err(refused("something else"));
        };
        let mut items = self.stack.drain(start..);
        while let Some(key) = items.next() {
            match (key, items.next()) {
                (Item::Str(key), Some(Item::Number(x))) => {
                    dict.insert(key, x);
                }
                (Item::Str(key), Some(_)) => return Err(refused(format_args!("no number for \"{key}\""))),
                _ => return Err(refused("a key that is not a string")),
            }
        }
        Ok(())
    }
}

fn global(module: &str, name: &str) -> Result<Item> {
    Ok(Item::Global(match (module, name) {
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::NumpyScalar,
        ("numpy", "dtype") => Global::NumpyDtype,
        ("_codecs", "encode") => Global::Encode,
        _ => return Err(refused(format_args!("the object {module}.{name}"))),
    }))
}

/// What numpy's own constructors of a number would make of their arguments.
fn apply(function: &Item, arguments: &Item) -> Result<Item> {
    let (Item::Global(function), Item::Tuple(arguments)) = (function, arguments) else {
        return Err(refused("a call"));
    };
    match (function, &**arguments) {
        (Global::NumpyDtype, [Item::Str(code), ..]) => match code.as_bytes() {
            &[kind @ b'f', size @ (b'4' | b'8')] | &[kind @ (b'i' | b'u'), size @ (b'1' | b'2' | b'4' | b'8')] => {
                Ok(Item::NumpyType(NumpyType { kind, size: usize::from(size - b'0') }))
            }
            _ => Err(refused(format_args!("numpy numbers of type \"{code}\""))),
        },
        (Global::NumpyScalar, [Item::NumpyType(t), Item::Bytes(bytes)]) if bytes.len() == t.size => {
            let bits = bytes.iter().rev().fold(0_u64, |x, &b| x << 8 | u64::from(b));
            let unused = 64 - 8 * t.size as u32;
            Ok(Item::Number(match (t.kind, t.size) {
                (b'f', 4) => Number::Float(f64::from(f32::from_bits(bits as u32))),
                (b'f', _) => Number::Float(f64::from_bits(bits)),
                (b'i', _) => Number::Int((bits << unused) as i64 >> unused),
                _ => Number::Int(i64::try_from(bits).map_err(|_| refused("a number of more than 63 bits"))?),
            }))
        }
        // Bytes in protocol 2: text of which each character is a byte.
        (Global::Encode, [Item::Str(text), Item::Str(codec)]) if &**codec == "latin1" => {
            let bytes: Option<Rc<[u8]>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
            bytes.map(Item::Bytes).ok_or_else(|| damaged("text that is not latin1"))
        }
        _ => Err(refused("a call")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn code_is_refused_by_name() {
        // pickle.dumps(os.system) and a call of it.
        let e = read(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnsupportedInput);
        assert!(e.to_string().contains("posix.system"), "{e}");
    }

    #[test]
    fn memos_cannot_double() {
        let mut bomb = b"\x80\x02X\x01\x00\x00\x00aq\x00".to_vec();
        bomb.extend(b"h\x00h\x00\x86q\x00".repeat(100));
        bomb.push(b'.');
        assert_eq!(read(&bomb).unwrap_err().kind(), ErrorKind::UnsupportedInput);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut pickle = b"\x80\x04}\x94(".to_vec();
            pickle.extend(bytes);
            let _ = read(&pickle);
        }
    }
}
