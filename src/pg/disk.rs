//! Room on a disk, and in the memory before it.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that an ordinary user may still write there.
pub fn free(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: a system call that fills the structure it is given.
    unsafe {
        let mut found = std::mem::zeroed::<libc::statvfs>();
        (libc::statvfs(path.as_ptr(), &raw mut found) == 0).then_some(found.f_bavail * found.f_frsize)
    }
}

/// What is on the disk of a file need not stay in memory.
pub fn forget(file: &File) {
    // SAFETY: a system call on an open file. It is advice: a failure changes nothing.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}
