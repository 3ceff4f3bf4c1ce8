//! The one system call that no safe crate offers.
#![allow(unsafe_code)]
use std::io;

/// adjtimex(2) without changing anything: the clock's state and the kernel's numbers.
pub(crate) fn adjtimex() -> io::Result<(i32, libc::timex)> {
    // SAFETY: `timex` is a C struct of integers, for which all zeros is a value; zero `modes` asks for reading only.
    let mut t: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed `timex`, which the kernel fills before returning.
    let state = unsafe { libc::adjtimex(&raw mut t) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok((state, t)) }
}
