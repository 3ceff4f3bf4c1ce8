//! One Alertmanager by itself: `alone <alertmanager.yml> <listen address> <data folder>`. For measuring.
use std::sync::Arc;

use ferula_alertmanager::{Alertmanager, Options};
use ferula_net::listen::{ListenOptions, Listener};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, listen, data] = args.as_slice() else { return Err("usage: alone CONFIG LISTEN DATA".into()) };
    let options = Options { config_file: config.into(), storage_path: data.into(), ..Options::default() };
    let am = Alertmanager::new(options, Arc::new(ferula_model::SystemClock), ferula_instrument::Registry::new())?;
    let listener = Listener::bind(&[listen], ListenOptions::default()).await?;
    let serve = tokio::spawn(listener.serve(am.router(), std::future::pending()));
    am.run(async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await;
    serve.abort();
    Ok(())
}
