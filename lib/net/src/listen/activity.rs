//! What one connection is doing, as a few atomics: enough to decide when it has used up its patience.
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::ListenOptions;

/// Times are milliseconds since `opened`, plus one, so that zero can say "not now".
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    requests_in_flight: AtomicUsize,
    last_io: AtomicU64,
    head_since: AtomicU64,
    write_stalled_since: AtomicU64,
    is_http2: AtomicBool,
    /// Asks the connection to close as soon as nothing is in flight.
    pub(super) close: Notify,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again at this time.
    Until(Instant),
    Idle,
    Stalled,
}

impl Activity {
    pub(super) fn new() -> Arc<Activity> {
        Arc::new(Activity {
            opened: Instant::now(),
            requests_in_flight: AtomicUsize::new(0),
            last_io: AtomicU64::new(1),
            head_since: AtomicU64::new(1), // the first head is due from the accept on
            write_stalled_since: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
            close: Notify::new(),
        })
    }
    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1)
    }
    fn at(&self, stamp: u64) -> Instant {
        self.opened + Duration::from_millis(stamp - 1)
    }
    fn bytes_came(&self) {
        let now = self.now();
        self.last_io.store(now, Relaxed);
        // HTTP/2 sends frames of its own at any time; only the idle rule watches it once its first request is here.
        if self.requests_in_flight.load(Relaxed) == 0
            && self.head_since.load(Relaxed) == 0
            && !self.is_http2.load(Relaxed)
        {
            self.head_since.store(now, Relaxed);
        }
    }
    pub(super) fn is_idle(&self) -> bool {
        self.requests_in_flight.load(Relaxed) == 0
    }
    pub(super) fn idle_since(&self) -> u64 {
        self.last_io.load(Relaxed)
    }
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }
    /// A request's header is complete; it counts until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>, is_http2: bool) -> InFlight {
        self.requests_in_flight.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        self.is_http2.store(is_http2, Relaxed);
        InFlight(Arc::clone(self))
    }
    pub(super) fn verdict(&self, options: &ListenOptions, now: Instant) -> Verdict {
        let stalled = self.write_stalled_since.load(Relaxed);
        if stalled != 0 {
            let end = self.at(stalled) + options.write_timeout;
            return if end <= now { Verdict::Stalled } else { Verdict::Until(end) };
        }
        if !self.is_idle() {
            return Verdict::Until(now + options.write_timeout);
        }
        let idle_end = self.at(self.last_io.load(Relaxed)) + options.idle_timeout;
        let end = match self.head_since.load(Relaxed) {
            0 => idle_end,
            since => idle_end.min(self.at(since) + options.header_timeout),
        };
        // Never more often than the write rule needs it: a stall may begin right after this look.
        if end <= now { Verdict::Idle } else { Verdict::Until(end.min(now + options.write_timeout)) }
    }
}

/// Counts one request while it lives: from its header to the last byte of its answer.
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.last_io.store(self.0.now(), Relaxed);
        self.0.requests_in_flight.fetch_sub(1, Relaxed);
    }
}

/// A stream that reports to an [`Activity`].
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) activity: Arc<Activity>,
}

impl<S> Watched<S> {
    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => {
                if self.activity.write_stalled_since.load(Relaxed) == 0 {
                    self.activity.write_stalled_since.store(self.activity.now(), Relaxed);
                }
            }
            Poll::Ready(_) => {
                self.activity.write_stalled_since.store(0, Relaxed);
                self.activity.last_io.store(self.activity.now(), Relaxed);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.bytes_came();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&result);
        result
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&result);
        result
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_follow_what_the_connection_does() {
        let options = ListenOptions {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            ..ListenOptions::default()
        };
        let a = Activity::new();
        let after = |secs| a.opened + Duration::from_secs(secs);
        assert!(matches!(a.verdict(&options, after(9)), Verdict::Until(_)));
        assert_eq!(a.verdict(&options, after(11)), Verdict::Idle, "no header within ten seconds of the accept");

        let request = a.request(false);
        assert!(matches!(a.verdict(&options, after(600)), Verdict::Until(_)), "a long query is nobody's fault");
        a.write_stalled_since.store(1, Relaxed);
        assert_eq!(a.verdict(&options, after(31)), Verdict::Stalled);
        a.write_stalled_since.store(0, Relaxed);
        drop(request);
        assert!(matches!(a.verdict(&options, after(50)), Verdict::Until(_)), "keep-alive outlasts the header rule");
        assert_eq!(a.verdict(&options, after(61)), Verdict::Idle);

        a.bytes_came();
        assert_eq!(a.verdict(&options, after(11)), Verdict::Idle, "a header begun must be finished");
    }
}
