//! Results that count against the memory of queries as long as something holds them.

use arrow::alloc::Allocation;
use arrow::array::{ArrayData, ArrayRef, make_array};
use arrow::buffer::Buffer;
use datafusion::common::Result as DfResult;
use datafusion::execution::memory_pool::MemoryReservation;
use std::ptr::NonNull;
use std::sync::Arc;

/// A buffer, and the memory that is counted for it.
struct Counted {
    _buffer: Buffer,
    _memory: Arc<MemoryReservation>,
}

// Nothing inside is changed, so that an unwinding thread leaves it whole.
impl std::panic::RefUnwindSafe for Counted {}

/// The same array: with its last buffer goes the reservation.
pub(super) fn hold(array: &ArrayRef, memory: MemoryReservation) -> DfResult<ArrayRef> {
    let data = with_buffers(array.to_data(), &Arc::new(memory))?;
    Ok(make_array(data))
}

fn with_buffers(data: ArrayData, memory: &Arc<MemoryReservation>) -> DfResult<ArrayData> {
    let counted = |buffer: &Buffer| {
        let Some(start) = NonNull::new(buffer.as_ptr().cast_mut()) else { return buffer.clone() };
        let owner: Arc<dyn Allocation> = Arc::new(Counted { _buffer: buffer.clone(), _memory: memory.clone() });
        // SAFETY: the owner holds the buffer, whose bytes neither move nor change.
        unsafe { Buffer::from_custom_allocation(start, buffer.len(), owner) }
    };
    let buffers = data.buffers().iter().map(counted).collect();
    let children = data.child_data().iter().map(|child| with_buffers(child.clone(), memory));
    let children = children.collect::<DfResult<Vec<_>>>()?;
    let builder = data.into_builder().buffers(buffers).child_data(children);
    // SAFETY: the same bytes in the same places.
    Ok(unsafe { builder.build_unchecked() })
}
