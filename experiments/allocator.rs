//! Memory that was freed stays with the process.
//!
//! A training step frees and takes the same large buffers again and again. glibc hands each of them
//! back to the kernel, which clears every page when it is taken again: 10 to 30 % of a step's time
//! on a CPU. These settings keep them.

/// Tells glibc to keep freed memory; does nothing elsewhere.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(
        unsafe_code,
        reason = "a call of the C library without pointers, before any thread starts"
    )]
    // SAFETY: `mallopt` takes two integers and is called before the first thread is started.
    unsafe {
        const LARGE: libc::c_int = 1 << 30;
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}
