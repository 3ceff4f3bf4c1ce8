//! One Alertmanager by itself, for measuring: takes `--config.file=`, `--storage.path=` and `--web.listen-address=` and passes
//! over other flags, so that it can stand where Alertmanager's binary is expected. The allocator is the program's.
use std::sync::Arc;

use ferula_alertmanager::{Alertmanager, Options};
use ferula_net::listen::{ListenOptions, Listener};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let flag = |name: &str| {
        let prefix = format!("--{name}=");
        let found = std::env::args().find_map(|a| a.strip_prefix(&prefix).map(str::to_owned));
        found.ok_or_else(|| {
            format!("usage: alone --config.file=... --storage.path=... --web.listen-address=...: no {name}")
        })
    };
    let options = Options {
        config_file: flag("config.file")?.into(),
        storage_path: flag("storage.path")?.into(),
        ..Options::default()
    };
    let am = Alertmanager::new(options, Arc::new(ferula_model::SystemClock), ferula_instrument::Registry::new())?;
    let listener = Listener::bind(&[flag("web.listen-address")?], ListenOptions::default()).await?;
    let serve = tokio::spawn(listener.serve(am.router(), std::future::pending()));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    am.run(async move {
        terminate.recv().await;
    })
    .await;
    serve.abort();
    Ok(())
}
