//! Elements that are kept as they are: what in them can be copied.

use crate::h5::{Elem, Node, unsupported};
use crate::model::Loss;
use slaf_core::Result;

/// Adds what a copy of `node` has to leave out to `losses`; the copy is exact but for these.
///
/// # Errors
/// `unsupported-input` for values that could hold anything, such as pickled objects.
pub(crate) fn find_losses(node: &Node, losses: &mut Vec<Loss>) -> Result<()> {
    let lose =
        |path: &str, reason: &str| Loss { path: path.trim_start_matches('/').to_owned(), reason: reason.to_owned() };
    match node {
        Node::Group(g) => {
            let members = g.members()?;
            for (_, child) in &members {
                if matches!(child, Node::Dataset(d) if d.refers_by_attribute()?) {
                    losses.push(lose(
                        g.path(),
                        "holds categoricals of AnnData 0.7, whose references cannot be copied; \
                         read and write the file with a newer anndata first",
                    ));
                    return Ok(());
                }
            }
            for (_, child) in &members {
                find_losses(child, losses)?;
            }
        }
        Node::Dataset(d) => match d.elem() {
            Elem::Other(name) if name == "opaque" || name == "reference" => {
                let message = format!("{name} values may hold anything, and are not read");
                return Err(unsupported(message).at(d.path()));
            }
            // Whatever is there instead, anndata reads an element of this encoding as None.
            _ if d.is_null()? && d.attrs()?.str("encoding-type") != Some("null") => {
                losses.push(lose(d.path(), "an empty dataset without a shape"));
            }
            _ => {}
        },
    }
    Ok(())
}
