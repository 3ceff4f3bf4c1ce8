//! Starts an Alertmanager of ours on a free port, inside the test's process.
#![allow(dead_code)] // each suite uses its part
pub mod real;

use std::net::SocketAddr;
use std::sync::Arc;

use ferula_alertmanager::{Alertmanager, Options};
use ferula_instrument::Registry;
use ferula_model::SystemClock;
use ferula_net::listen::{ListenOptions, Listener};
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub struct Server {
    pub am: Arc<Alertmanager>,
    pub addr: SocketAddr,
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    running: Option<tokio::task::JoinHandle<()>>,
    pub dir: Arc<tempfile::TempDir>,
}

impl Server {
    pub fn start(config: &str) -> Server {
        Server::start_in(config, Arc::new(tempfile::tempdir().unwrap()), |_| {})
    }

    pub fn start_in(config: &str, dir: Arc<tempfile::TempDir>, change: impl FnOnce(&mut Options)) -> Server {
        let file = dir.path().join("alertmanager.yml");
        std::fs::write(&file, config).unwrap();
        let mut options =
            Options { config_file: file, storage_path: dir.path().join("data"), seed: 7, ..Options::default() };
        change(&mut options);
        let runtime = Runtime::new().unwrap();
        let (stop, stopped) = watch::channel(false);
        let am = Alertmanager::new(options, Arc::new(SystemClock), Registry::new()).unwrap();
        let listener = runtime.block_on(Listener::bind(&["127.0.0.1:0"], ListenOptions::default())).unwrap();
        let addr = listener.local_addrs()[0];
        runtime.block_on(am.join()).unwrap();
        let wait = |mut s: watch::Receiver<bool>| async move {
            let _ = s.wait_for(|s| *s).await;
        };
        runtime.spawn(listener.serve(am.router(), wait(stopped.clone())));
        let (running, shutdown) = (am.clone(), wait(stopped));
        let running = runtime.spawn(async move { running.run(shutdown).await });
        Server { am, addr, runtime: Some(runtime), stop, running: Some(running), dir }
    }

    /// A clean stop, with the last snapshots written.
    pub fn stop(mut self) -> Arc<tempfile::TempDir> {
        let _ = self.stop.send(true);
        let (runtime, running) = (self.runtime.take().unwrap(), self.running.take().unwrap());
        runtime.block_on(running).unwrap();
        self.dir.clone()
    }

    /// As a crash: nothing more is written.
    pub fn abandon(mut self) -> Arc<tempfile::TempDir> {
        self.runtime.take().unwrap().shutdown_background();
        self.dir.clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
