//! How the C library keeps memory that was freed.
//!
//! Once a large buffer was freed, glibc takes later ones of that size from its heap, and keeps what is freed there: batches
//! of many megabytes then leave as much behind again. With limits of our own, buffers as large as that go back at once.

/// Buffers from this size on are memory of their own, which goes back when they are freed. A fetch is smaller: it is taken
/// from the heap, which costs less.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OF_ITS_OWN: std::ffi::c_int = 2 << 20;

/// Has large buffers go back to the system as they are freed. For the whole process, so a program asks for it and no library.
pub(crate) fn give_back_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;

        /// `M_TRIM_THRESHOLD`, and `M_MMAP_THRESHOLD` (malloc.h).
        const TRIM_THRESHOLD: c_int = -1;
        const MMAP_THRESHOLD: c_int = -3;

        #[expect(unsafe_code, reason = "a function of glibc")]
        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        for (parameter, value) in [(MMAP_THRESHOLD, OF_ITS_OWN), (TRIM_THRESHOLD, 2 * OF_ITS_OWN)] {
            // SAFETY: it may be called at any time, and takes its own lock.
            #[expect(unsafe_code, reason = "a function of glibc")]
            if unsafe { mallopt(parameter, value) } == 0 {
                tracing::debug!(parameter, value, "the C library does not take a limit");
            }
        }
    }
}
