//! `ferula node-exporter`: node_exporter's flags, one listener.
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, FromArgMatches};
use ferula_exporters_node::Flags;
use ferula_instrument::Registry;
use ferula_net::listen::{ListenOptions, Listener};

use super::{Stop, block_on, finish, stop_signal};

const PROGRAM: &str = "node_exporter";

pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    finish(PROGRAM, start(args))
}

fn start(args: Vec<OsString>) -> Result<(), Stop> {
    let about = "Exports metrics of this machine.";
    let command = Flags::augment_args(clap::Command::new(PROGRAM).about(about).no_binary_name(true));
    let matches = super::matches(PROGRAM, command, args)?;
    let flags = Flags::from_arg_matches(&matches).map_err(|e| Stop::Usage(e.to_string()))?;
    crate::logging::install(&flags.log_level, &flags.log_format).map_err(Stop::Usage)?;
    let options = super::with_web_config(&flags.web_config_file, ListenOptions::default())?;
    let addresses = flags.listen_addresses.clone();
    let router =
        ferula_exporters_node::router(flags, Registry::new()).map_err(|e| Stop::Usage(format!("error: {e}")))?;
    block_on(async move {
        let listener = Listener::bind(&addresses, options).await.map_err(|e| e.to_string())?;
        for address in listener.local_addrs() {
            tracing::info!(address = %address, "Listening on");
        }
        listener.serve(router, stop_signal()).await;
        Ok(())
    })
}
