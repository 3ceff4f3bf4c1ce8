//! `ferula promtool`, or a link named promtool.
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs promtool on the process's streams.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let words: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let version = super::version_text("promtool");
    let (mut input, mut out, mut err) =
        (std::io::stdin(), std::io::BufWriter::new(std::io::stdout()), std::io::stderr());
    let code = {
        let mut streams = ferula_promtool::Streams { input: &mut input, out: &mut out, err: &mut err };
        ferula_promtool::run(&words, &version, &mut streams)
    };
    // Whoever closed the other end does not want the rest.
    let _ = std::io::Write::flush(&mut out);
    ExitCode::from(code)
}
