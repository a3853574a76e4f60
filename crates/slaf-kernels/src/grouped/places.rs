//! Which groups the values of a row are of.

/// The places of the values of a row.
#[derive(Clone, Copy, Debug)]
pub enum Places<'a> {
    /// All have one.
    One,
    /// Each that of its number.
    Own,
    /// Each that of its number in a table, which has no [`Places::NONE`].
    Whole(&'a [u32]),
    /// Each that of its number in a table; values of [`Places::NONE`] are left out.
    Table(&'a [u32]),
}

impl Places<'_> {
    /// The place of what is in no group.
    pub const NONE: u32 = u32::MAX;
}
