//! `check web-config`: TLS and authentication of listeners.
use ferula_net::listen::WebConfig;

use crate::command_line::Parsed;
use crate::{FAILURE, Streams};

pub(crate) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> u8 {
    let mut failed = false;
    for file in parsed.args("web-config-files") {
        match WebConfig::load(file) {
            Ok(_) => streams.complain(format_args!("{file} SUCCESS")),
            Err(e) => {
                streams.complain(format_args!("{file} FAILED: {e}"));
                failed = true;
            }
        }
    }
    if failed { FAILURE } else { 0 }
}
