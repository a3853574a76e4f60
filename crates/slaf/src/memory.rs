//! Memory for large results.

/// From here on a buffer is worth the call.
const LARGE: usize = 8 << 20;

/// `n` zeros, on huge pages where the system has them: touching fresh pages of 4 KiB one by one
/// takes as long as decoding into them.
pub(crate) fn zeros<T: Copy + Default>(n: usize) -> Vec<T> {
    let zeros = vec![T::default(); n];
    #[cfg(target_os = "linux")]
    advise_huge_pages(zeros.as_ptr().cast(), n * size_of::<T>());
    zeros
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(start: *const u8, bytes: usize) {
    if bytes < LARGE {
        return;
    }
    const PAGE: usize = 4096;
    let skip = start.align_offset(PAGE).min(bytes);
    let whole_pages = (bytes - skip) / PAGE * PAGE;
    // SAFETY: the range lies inside of the caller's buffer, and the advice changes no content. A
    // kernel without huge pages refuses, which costs nothing but speed.
    unsafe {
        libc::madvise(start.add(skip).cast_mut().cast(), whole_pages, libc::MADV_HUGEPAGE);
    }
}
