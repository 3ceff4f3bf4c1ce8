//! SCSI tape drives: `/sys/class/scsi_tape/st*/stats`.
use ferula_exposition::family::Family;

use super::attributes::{Attribute, Attributes, COUNTER, GAUGE};
use super::{Collect, Context};
use crate::Error;
use crate::filter::expression;

const NS: f64 = 0.000_000_001;

const NUMBERS: [Attribute; 10] = [
    ("in_flight", "node_tape_io_now", "The number of I/Os currently outstanding to this device.", GAUGE, 1.0),
    (
        "io_ns",
        "node_tape_io_time_seconds_total",
        "The amount of time spent waiting for all I/O to complete (including read and write). This includes tape movement commands such as seeking between file or set marks and implicit tape movement such as when rewind on close tape devices are used.",
        COUNTER,
        NS,
    ),
    (
        "other_cnt",
        "node_tape_io_others_total",
        "The number of I/Os issued to the tape drive other than read or write commands. The time taken to complete these commands uses the following calculation io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
        COUNTER,
        1.0,
    ),
    ("read_byte_cnt", "node_tape_read_bytes_total", "The number of bytes read from the tape drive.", COUNTER, 1.0),
    (
        "read_cnt",
        "node_tape_reads_completed_total",
        "The number of read requests issued to the tape drive.",
        COUNTER,
        1.0,
    ),
    (
        "read_ns",
        "node_tape_read_time_seconds_total",
        "The amount of time spent waiting for read requests to complete.",
        COUNTER,
        NS,
    ),
    (
        "resid_cnt",
        "node_tape_residual_total",
        "The number of times during a read or write we found the residual amount to be non-zero. This should mean that a program is issuing a read larger thean the block size on tape. For write not all data made it to tape.",
        COUNTER,
        1.0,
    ),
    ("write_byte_cnt", "node_tape_written_bytes_total", "The number of bytes written to the tape drive.", COUNTER, 1.0),
    (
        "write_cnt",
        "node_tape_writes_completed_total",
        "The number of write requests issued to the tape drive.",
        COUNTER,
        1.0,
    ),
    (
        "write_ns",
        "node_tape_write_time_seconds_total",
        "The amount of time spent waiting for write requests to complete.",
        COUNTER,
        NS,
    ),
];

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let ignored = expression(&context.flags, "collector.tapestats.ignored-devices")?;
    Ok(Box::new(move |out: &mut Vec<Family>| {
        let mut numbers = Attributes::new(&NUMBERS);
        for device in source.sys_entries_or_no_data("class/scsi_tape")? {
            // The same drive appears under several names; only `st<number>` counts.
            let is_drive = device.strip_prefix("st").is_some_and(|n| n.parse::<u32>().is_ok());
            if is_drive && !ignored.as_ref().is_some_and(|r| r.is_match(&device)) {
                let folder = source.sys_path(&format!("class/scsi_tape/{device}/stats"));
                numbers.read(&folder, &[("device", device.into())]);
            }
        }
        numbers.finish(out);
        Ok(())
    }))
}
