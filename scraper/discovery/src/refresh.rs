//! Mechanisms that ask again and again: what they share.
use std::path::Path;
use std::time::Duration;

use ferula_net::client::config::HttpConfigured;

use crate::error::Error;
use crate::group::TargetGroup;
use crate::manager::Publisher;
use crate::metrics::Metrics;

/// A configuration whose targets are asked for on an interval, all of them every time.
pub(crate) trait Refresh: HttpConfigured + Clone + Send + Sync + 'static {
    /// As in `<name>_sd_configs`, and in metrics.
    const NAME: &'static str;
    /// What is kept between refreshes: clients, tokens.
    type Session: Send;

    /// What upstream refuses, in its words, besides its HTTP settings.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
    /// Joins relative file names of its own to the configuration file's directory.
    fn join(&mut self, _dir: &Path) {}
    fn interval(&self) -> Duration;
    /// How long one refresh may take: nothing hangs for ever.
    fn timeout(&self) -> Duration {
        self.interval().clamp(Duration::from_secs(30), Duration::from_secs(120))
    }
    fn open(&self) -> Result<Self::Session, Error>;
    /// All targets now. `session` may remember things.
    fn refresh(
        &self,
        session: &mut Self::Session,
        metrics: &Metrics,
    ) -> impl Future<Output = Result<Vec<TargetGroup>, Error>> + Send;
    /// Counts a failure where upstream has a counter of the mechanism's own.
    fn failed(_metrics: &Metrics) {}
}

/// Publishes now and after every interval; never returns.
pub(crate) async fn run<R: Refresh>(config: R, mut session: R::Session, publish: Publisher) {
    let mut ticks = tokio::time::interval(config.interval().max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let started = publish.monotonic();
        let refresh = config.refresh(&mut session, publish.metrics());
        let answer = tokio::time::timeout(config.timeout(), refresh).await;
        publish.refreshed(R::NAME, publish.monotonic().saturating_sub(started));
        match answer.unwrap_or_else(|_| Err(Error::Refresh(format!("no answer within {:?}", config.timeout())))) {
            Ok(groups) => publish.groups(groups, None),
            Err(e) => {
                R::failed(publish.metrics());
                publish.refresh_failed(R::NAME);
                publish.failed(e.to_string());
            }
        }
    }
}
