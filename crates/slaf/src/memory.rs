//! Memory for large results, and for buffers that come and go.

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

/// Lets the allocator keep what is freed. By default glibc gives the memory of every batch back to
/// the system and takes fresh pages for the next, which costs as much as decoding it.
///
/// It holds for the process, so that only who loads batches calls it. Who has set one of the
/// allocator's variables is left alone.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // The largest that glibc takes for the first.
        const FROM_SYSTEM: libc::c_int = 32 << 20;
        const KEPT: libc::c_int = 256 << 20;
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            let theirs = ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_"];
            if theirs.iter().any(|name| std::env::var_os(name).is_some()) {
                return;
            }
            // SAFETY: sets two numbers of the allocator, under its own lock.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, FROM_SYSTEM);
                libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
            }
        });
    }
}
