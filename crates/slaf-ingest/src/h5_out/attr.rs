//! Attributes.

use super::file::H5Out;
use super::message::{Space, Type};
use slaf_core::{Error, ErrorKind, Result};

/// An attribute.
#[derive(Clone)]
pub(crate) struct Attr {
    pub(super) name: String,
    value: AttrData,
}

#[derive(Clone)]
enum AttrData {
    Raw(Type, Space, Vec<u8>),
    Strings(Type, Space, Vec<String>),
}

impl Attr {
    pub(crate) fn raw(name: &str, of: Type, space: Space, data: Vec<u8>) -> Attr {
        Attr { name: name.to_owned(), value: AttrData::Raw(of, space, data) }
    }

    pub(crate) fn string(name: &str, value: &str) -> Attr {
        Attr::strings_of(name, Type::string(), Space::Scalar, vec![value.to_owned()])
    }

    pub(crate) fn strings(name: &str, values: Vec<String>) -> Attr {
        let space = Space::Simple(vec![values.len() as u64]);
        Attr::strings_of(name, Type::string(), space, values)
    }

    /// Strings of a variable-length type.
    pub(super) fn strings_of(name: &str, of: Type, space: Space, values: Vec<String>) -> Attr {
        Attr { name: name.to_owned(), value: AttrData::Strings(of, space, values) }
    }

    pub(crate) fn bool(name: &str, value: bool) -> Attr {
        Attr::raw(name, Type::bool(), Space::Scalar, vec![u8::from(value)])
    }

    pub(crate) fn ints(name: &str, values: &[i64]) -> Attr {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Attr::raw(name, Type::int(8, true), Space::Simple(vec![values.len() as u64]), data)
    }

    pub(super) fn encode(&self, out: &mut H5Out) -> Result<Vec<u8>> {
        let (of, space, data) = match &self.value {
            AttrData::Raw(of, space, data) => (of, space, data.clone()),
            AttrData::Strings(of, space, values) => {
                let mut data = Vec::with_capacity(values.len() * 16);
                for value in values {
                    data.extend(out.store(value.as_bytes())?);
                }
                (of, space, data)
            }
        };
        let too_long = |_| Error::new(ErrorKind::UnsupportedFeature, "an attribute's name or type is too long");
        let space = space.encode();
        let mut bytes = vec![3, 0];
        for len in [self.name.len() + 1, of.bytes.len(), space.len()] {
            bytes.extend(u16::try_from(len).map_err(too_long)?.to_le_bytes());
        }
        bytes.push(1);
        bytes.extend(self.name.as_bytes());
        bytes.push(0);
        bytes.extend(&of.bytes);
        bytes.extend(space);
        bytes.extend(data);
        Ok(bytes)
    }
}

impl H5Out {
    /// Sets an attribute of a group.
    pub(crate) fn set_attr(&mut self, path: &str, attr: &Attr) -> Result<()> {
        let body = attr.encode(self)?;
        self.group_mut(path)?.attrs.insert(attr.name.clone(), body);
        Ok(())
    }
}
