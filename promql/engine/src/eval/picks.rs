//! Which sample each step of an instant selector takes. Series scraped together have equal times, so that it is found once
//! for all of them.
use super::selector::Reference;

/// Batches of a series whose picks are kept: a batch has about a thousand samples.
const KEPT: usize = 8;
/// What a step takes that finds nothing within the lookback.
const NOTHING: u32 = u32::MAX;

/// The picks from the batches of a series: from the first, the second, ...
#[derive(Default)]
pub(crate) struct Picks(Vec<OfBatch>);

#[derive(Default)]
struct OfBatch {
    times: Vec<i64>,
    first_step: usize,
    /// For that step and those after it that come before the last sample: the place of the newest sample.
    places: Vec<u32>,
}

impl Picks {
    /// For the steps from `first_step` on that lie between the first and the last of `times`: the place of the newest
    /// sample that is not older than `lookback_ms`, or one that no batch has. `None`: not kept, to be found step by step.
    pub fn of(
        &mut self,
        batch: usize,
        times: &[i64],
        steps: &Reference,
        first_step: usize,
        lookback_ms: i64,
    ) -> Option<&[u32]> {
        if batch == self.0.len() && batch < KEPT {
            self.0.push(OfBatch::default());
        }
        let picks = self.0.get_mut(batch)?;
        if picks.first_step != first_step || picks.times != times || picks.times.is_empty() {
            picks.update(times, steps, first_step, lookback_ms);
        }
        Some(&picks.places)
    }
}

impl OfBatch {
    fn update(&mut self, times: &[i64], steps: &Reference, first_step: usize, lookback_ms: i64) {
        self.times.clear();
        self.times.extend_from_slice(times);
        self.first_step = first_step;
        self.places.clear();
        let Some(last) = times.last() else { return };
        let mut at = 0;
        for now in (first_step..steps.n).map(|step| steps.at(step)).take_while(|now| now < last) {
            while times.get(at + 1).is_some_and(|t| *t <= now) {
                at += 1;
            }
            let is_recent = times.get(at).is_some_and(|t| *t > now.saturating_sub(lookback_ms));
            self.places.push(if is_recent { at as u32 } else { NOTHING });
        }
    }
}
