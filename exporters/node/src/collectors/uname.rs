//! uname(2).
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::Source;

pub(super) fn collect(_: &Source, out: &mut Vec<Family>) -> Collected {
    let uname = rustix::system::uname();
    let text = |s: &std::ffi::CStr| Text::Owned(s.to_string_lossy().into_owned());
    let help = "Labeled system information as provided by the uname system call.";
    let mut info = Family::gauge("node_uname_info", help);
    let labels = [
        ("domainname", text(uname.domainname())),
        ("machine", text(uname.machine())),
        ("nodename", text(uname.nodename())),
        ("release", text(uname.release())),
        ("sysname", text(uname.sysname())),
        ("version", text(uname.version())),
    ];
    info.push_with(labels, 1.0);
    out.push(info);
    Ok(())
}
