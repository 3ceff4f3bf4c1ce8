//! The kernel's clock discipline: adjtimex(2).
use std::io;

use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;
use ferula_model::MetricType;

use super::Collected;
use crate::platform;
use crate::source::{Source, reason};

/// The clock is not synchronised.
const TIME_ERROR: i32 = 5;
/// Status bit: offsets are nanoseconds instead of microseconds.
const STA_NANO: i32 = 0x2000;
/// Frequencies are parts per million with a 16 bit fraction.
const PPM_FRACTION: f64 = 1_000_000.0 * 65_536.0;
const MICROSECONDS: f64 = 1e6;

pub(super) fn collect(_: &Source, out: &mut Vec<Family>) -> Collected {
    let (state, t) = platform::adjtimex().map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => CollectError::NoData,
        _ => CollectError::Failed(format!("failed to retrieve adjtimex stats: {}", reason(&e))),
    })?;
    let divisor = if t.status & STA_NANO != 0 { 1e9 } else { MICROSECONDS };
    let mut add = |name: &str, help: &'static str, kind, value: f64| {
        out.push(Family::new(format!("node_timex_{name}"), help, kind).with(value));
    };
    let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
    let is_synced = f64::from(u8::from(state != TIME_ERROR));
    add("sync_status", "Is clock synchronized to a reliable server (1 = yes, 0 = no).", gauge, is_synced);
    let offset = t.offset as f64 / divisor;
    add("offset_seconds", "Time offset in between local system and reference clock.", gauge, offset);
    let ratio = 1.0 + t.freq as f64 / PPM_FRACTION;
    add("frequency_adjustment_ratio", "Local clock frequency adjustment.", gauge, ratio);
    add("maxerror_seconds", "Maximum error in seconds.", gauge, t.maxerror as f64 / MICROSECONDS);
    add("estimated_error_seconds", "Estimated error in seconds.", gauge, t.esterror as f64 / MICROSECONDS);
    add("status", "Value of the status array bits.", gauge, f64::from(t.status));
    add("loop_time_constant", "Phase-locked loop time constant.", gauge, t.constant as f64);
    add("tick_seconds", "Seconds between clock ticks.", gauge, t.tick as f64 / MICROSECONDS);
    add("pps_frequency_hertz", "Pulse per second frequency.", gauge, t.ppsfreq as f64 / PPM_FRACTION);
    add("pps_jitter_seconds", "Pulse per second jitter.", gauge, t.jitter as f64 / divisor);
    add("pps_shift_seconds", "Pulse per second interval duration.", gauge, f64::from(t.shift));
    let stability = t.stabil as f64 / PPM_FRACTION;
    add("pps_stability_hertz", "Pulse per second stability, average of recent frequency changes.", gauge, stability);
    let help = "Pulse per second count of jitter limit exceeded events.";
    add("pps_jitter_total", help, counter, t.jitcnt as f64);
    let help = "Pulse per second count of calibration intervals.";
    add("pps_calibration_total", help, counter, t.calcnt as f64);
    add("pps_error_total", "Pulse per second count of calibration errors.", counter, t.errcnt as f64);
    let help = "Pulse per second count of stability limit exceeded events.";
    add("pps_stability_exceeded_total", help, counter, t.stbcnt as f64);
    add("tai_offset_seconds", "International Atomic Time (TAI) offset.", gauge, f64::from(t.tai));
    Ok(())
}
