//! One scrape over many collectors, none of which can hold up the others.
//!
//! Collectors run one after the other on one thread, because they usually take microseconds. When one takes longer than
//! `PATIENCE`, another thread goes on with the next collector while the slow one still has the rest of its deadline. A
//! call that is given up keeps its thread, is never waited for again, and bars its collector until it returns.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ferula_exposition::family::Family;
use tokio::sync::mpsc;
use tokio::time;

use crate::collector::{CollectError, Collector};

/// How long the next collectors wait for a slow one.
const PATIENCE: Duration = Duration::from_millis(100);

/// A collector and what outlives a scrape.
pub(crate) struct Slot {
    pub collector: Box<dyn Collector>,
    /// Calls that were given up and have not returned yet.
    outstanding: AtomicUsize,
}

impl Slot {
    pub fn new(collector: Box<dyn Collector>) -> Arc<Slot> {
        Arc::new(Slot { collector, outstanding: AtomicUsize::new(0) })
    }
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub name: &'static str,
    pub duration: Duration,
    pub result: Result<(), CollectError>,
}

impl Outcome {
    fn failed(slot: &Slot, duration: Duration, why: impl Into<String>) -> Outcome {
        Outcome { name: slot.collector.name(), duration, result: Err(CollectError::Failed(why.into())) }
    }
}

const RUNNING: u8 = 0;
const RETURNED: u8 = 1;
const GIVEN_UP: u8 = 2;

struct Call {
    slot: Arc<Slot>,
    started: OnceLock<Instant>,
    state: AtomicU8,
}

impl Call {
    /// Stops waiting for it; false if it has returned meanwhile.
    fn give_up(&self) -> bool {
        self.slot.outstanding.fetch_add(1, Ordering::AcqRel);
        let won = self.state.compare_exchange(RUNNING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !won {
            self.slot.outstanding.fetch_sub(1, Ordering::AcqRel);
        }
        won
    }

    fn run(&self) -> (Outcome, Vec<Family>) {
        let begin = *self.started.get_or_init(Instant::now);
        let mut families = Vec::new();
        let collector = &self.slot.collector;
        let result = catch_unwind(AssertUnwindSafe(|| collector.collect(&mut families)))
            .unwrap_or_else(|_| Err(CollectError::Failed("the collector panicked".to_owned())));
        if self.state.swap(RETURNED, Ordering::AcqRel) == GIVEN_UP {
            self.slot.outstanding.fetch_sub(1, Ordering::AcqRel);
        }
        (Outcome { name: collector.name(), duration: begin.elapsed(), result }, families)
    }
}

/// What the threads of one scrape share.
struct Run {
    calls: Vec<Call>,
    /// The first call that no thread has taken.
    next: AtomicUsize,
}

type Report = (usize, Outcome, Vec<Family>);

/// Takes calls until none is left or nobody listens any more.
fn walk(run: &Run, reports: &mpsc::UnboundedSender<Report>) {
    while !reports.is_closed() {
        let index = run.next.fetch_add(1, Ordering::AcqRel);
        let Some(call) = run.calls.get(index) else { return };
        call.started.get_or_init(Instant::now);
        if reports.is_closed() {
            return; // asked again after marking the start: the scrape's end either sees the mark or is seen here
        }
        let (outcome, families) = call.run();
        if reports.send((index, outcome, families)).is_err() {
            return;
        }
    }
}

/// When the client goes away in mid-scrape, what is running counts as given up, so that it is not started again.
struct GiveUpOnDrop(Arc<Run>);

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        for call in self.0.calls.iter().filter(|c| c.started.get().is_some()) {
            if call.state.load(Ordering::Acquire) == RUNNING {
                call.give_up();
            }
        }
    }
}

/// Runs the collectors, appends their families to `out`, and says how each did. Takes about `deadline`, plus `PATIENCE`
/// for every collector that hangs for the first time, at the most.
pub(crate) async fn scrape(slots: Vec<Arc<Slot>>, deadline: Duration, out: &mut Vec<Family>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(slots.len());
    let mut calls = Vec::with_capacity(slots.len());
    for slot in slots {
        if slot.outstanding.load(Ordering::Acquire) > 0 {
            outcomes.push(Outcome::failed(&slot, Duration::ZERO, "an earlier call is still hanging"));
        } else {
            calls.push(Call { slot, started: OnceLock::new(), state: AtomicU8::new(RUNNING) });
        }
    }
    let total = calls.len();
    let run = GiveUpOnDrop(Arc::new(Run { calls, next: AtomicUsize::new(0) }));
    let run = &run.0;
    let (reports, mut inbox) = mpsc::unbounded_channel::<Report>();
    let start_thread = || {
        let (run, reports) = (Arc::clone(run), reports.clone());
        std::thread::Builder::new().name("collect".to_owned()).spawn(move || walk(&run, &reports)).is_ok()
    };

    let mut settled = vec![false; total];
    let mut is_walked = total == 0 || start_thread();
    while settled.contains(&false) {
        let taken = run.next.load(Ordering::Acquire).min(total);
        if !is_walked {
            // No thread to be had: what nobody took fails at once.
            let from = run.next.swap(total, Ordering::AcqRel).min(total);
            for (call, settled) in run.calls.iter().zip(&mut settled).skip(from) {
                *settled = true;
                outcomes.push(Outcome::failed(&call.slot, Duration::ZERO, "cannot start a thread"));
            }
            is_walked = true;
            continue;
        }
        let patience = if taken < total { PATIENCE.min(deadline) } else { deadline };
        let running = run.calls.iter().zip(&settled).take(taken).filter(|(_, settled)| !**settled);
        let first_start = running.filter_map(|(call, _)| call.started.get()).min();
        let overdue_in = first_start.map_or(deadline, |s| deadline.saturating_sub(s.elapsed()));
        match time::timeout(patience.min(overdue_in), inbox.recv()).await {
            Ok(Some((index, outcome, families))) => {
                if let Some(settled) = settled.get_mut(index)
                    && !std::mem::replace(settled, true)
                {
                    out.extend(families);
                    outcomes.push(outcome);
                }
            }
            Ok(None) => break, // cannot be: we hold a sender
            Err(_elapsed) => {
                for (call, settled) in run.calls.iter().zip(&mut settled).take(taken) {
                    let is_overdue = call.started.get().is_some_and(|s| s.elapsed() >= deadline);
                    if !*settled && is_overdue && call.give_up() {
                        *settled = true;
                        let why = format!("no answer within {deadline:?}");
                        outcomes.push(Outcome::failed(&call.slot, deadline, why));
                    }
                }
                if taken < total {
                    is_walked = start_thread();
                }
            }
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, mpsc as std_mpsc};

    /// Answers at once, or waits for the test to let it go.
    struct Fake {
        name: &'static str,
        gate: Option<Mutex<std_mpsc::Receiver<()>>>,
        calls: Arc<AtomicUsize>,
    }

    impl Collector for Fake {
        fn name(&self) -> &'static str {
            self.name
        }
        fn collect(&self, out: &mut Vec<Family>) -> Result<(), CollectError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            if let Some(gate) = &self.gate {
                gate.lock().unwrap().recv().unwrap();
            }
            if self.name == "panics" {
                panic!("on purpose");
            }
            out.push(Family::gauge(self.name, "").with(1.0));
            Ok(())
        }
    }

    fn fake(name: &'static str, gate: Option<std_mpsc::Receiver<()>>) -> (Arc<Slot>, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let collector = Fake { name, gate: gate.map(Mutex::new), calls: Arc::clone(&calls) };
        (Slot::new(Box::new(collector)), calls)
    }

    async fn names(slots: &[Arc<Slot>], deadline: Duration) -> (Vec<String>, Vec<(&'static str, bool)>) {
        let mut out = Vec::new();
        let outcomes = scrape(slots.to_vec(), deadline, &mut out).await;
        let mut families: Vec<String> = out.iter().map(|f| f.name.to_string()).collect();
        families.sort();
        let mut ok: Vec<_> = outcomes.iter().map(|o| (o.name, o.result.is_ok())).collect();
        ok.sort_unstable();
        (families, ok)
    }

    #[tokio::test]
    async fn a_hung_collector_is_left_behind_and_not_started_again_until_it_returns() {
        let (open, gate) = std_mpsc::channel();
        let (a, _) = fake("a", None);
        let (hung, hung_calls) = fake("hung", Some(gate));
        let (panics, _) = fake("panics", None);
        let (z, _) = fake("z", None);
        let slots = [a, Arc::clone(&hung), panics, z];
        let short = Duration::from_millis(400);
        for _ in 0..3 {
            let (families, ok) = names(&slots, short).await;
            assert_eq!(families, ["a", "z"]);
            assert_eq!(ok, [("a", true), ("hung", false), ("panics", false), ("z", true)]);
        }
        assert_eq!(hung_calls.load(Ordering::SeqCst), 1);
        open.send(()).unwrap();
        while hung.outstanding.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
        open.send(()).unwrap();
        let (families, _) = names(&slots, Duration::from_secs(60)).await;
        assert_eq!(families, ["a", "hung", "z"]);
        assert_eq!(hung_calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_leaves_no_second_call() {
        let (open, gate) = std_mpsc::channel();
        let (hung, calls) = fake("hung", Some(gate));
        let mut out = Vec::new();
        let pending = scrape(vec![Arc::clone(&hung)], Duration::from_secs(600), &mut out);
        let watch = async {
            while calls.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = pending => panic!("cannot finish"),
            () = watch => {}
        }
        let (families, ok) = names(&[hung], Duration::from_secs(600)).await;
        assert_eq!((families.len(), ok), (0, vec![("hung", false)]));
        drop(open);
    }
}
