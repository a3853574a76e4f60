//! Elements that are kept as they are: what in them can be copied.

use super::frame::FrameReader;
use crate::h5::{Elem, Group, H5File, Node, unsupported};
use crate::model::Loss;
use slaf_core::{Error, Result};

/// What a copy of elements has to leave out.
#[derive(Default)]
pub(crate) struct Exceptions {
    pub(crate) losses: Vec<Loss>,
    /// Frames of AnnData 0.7: their categoricals hold references, so that they are read and
    /// written instead, in the form of today.
    pub(crate) old_frames: Vec<(String, FrameReader)>,
}

/// Adds what a copy of `node` has to leave out; the copy is exact but for these.
///
/// # Errors
/// `unsupported-input` for values that could hold anything, such as pickled objects;
/// `malformed-input` for a damaged frame.
pub(crate) fn find_exceptions(node: &Node, found: &mut Exceptions) -> Result<()> {
    let lose =
        |path: &str, reason: &str| Loss { path: path.trim_start_matches('/').to_owned(), reason: reason.to_owned() };
    match node {
        Node::Group(g) => {
            let members = g.members()?;
            for (_, child) in &members {
                if matches!(child, Node::Dataset(d) if d.refers_by_attribute()?) {
                    let frame = FrameReader::open(g, &mut found.losses)?;
                    found.old_frames.push((g.path().trim_start_matches('/').to_owned(), frame));
                    return Ok(());
                }
            }
            for (_, child) in &members {
                find_exceptions(child, found)?;
            }
        }
        Node::Dataset(d) => match d.elem() {
            Elem::Other(name) if name == "opaque" || name == "reference" => {
                let message = format!("{name} values may hold anything, and are not read");
                return Err(unsupported(message).at(d.path()));
            }
            // Whatever is there instead, anndata reads an element of this encoding as None.
            _ if d.is_null()? && d.attrs()?.str("encoding-type") != Some("null") => {
                found.losses.push(lose(d.path(), "an empty dataset without a shape"));
            }
            _ => {}
        },
    }
    Ok(())
}

/// What an element of a file of extras is, in words: `a frame`, `an array of float16`.
///
/// # Errors
/// `corrupt` if there is no such element.
pub fn kind_of_extra(image: Vec<u8>, path: &str) -> Result<String> {
    let file = H5File::of_bytes(image).map_err(|e| Error::corrupt(e.to_string()).with_source(e))?;
    let node = Group::root(&file).get(path)?.ok_or_else(|| Error::corrupt("its file of extras lacks it").at(path))?;
    let attrs = node.attrs()?;
    Ok(match (attrs.str("encoding-type").unwrap_or_default(), &node) {
        ("dataframe", _) => "a frame".to_string(),
        ("csr_matrix" | "csc_matrix", _) => "a sparse matrix".to_string(),
        (_, Node::Dataset(d)) => format!("an array of {}", d.elem().name()),
        ("", Node::Group(_)) => "a group".to_string(),
        (other, Node::Group(_)) => format!("of the encoding {other}"),
    })
}
