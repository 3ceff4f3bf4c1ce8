//! A remote-write 1.0 request read in place: no message is built, so two bytes of a stranger never become a hundred.
//!
//! prost would turn 31 MB of empty series into gigabytes of structs. Here a series is its labels in a reused list
//! (bounded by [`LABELS_MAX`]) and an iterator over the bytes of its samples. Field numbers: `lib/proto/proto/remote.proto`.
use ferula_model::MetricType;
use ferula_proto::Message as _;
use ferula_proto::remote_v2;

use super::known::{Known, Print};

/// Labels of one series; more is nobody's monitoring.
pub(super) const LABELS_MAX: usize = 4096;
/// Bytes of the labels of one series or exemplar that version 2 may put together from its symbols: a symbol of
/// megabytes is one byte to repeat.
pub(super) const LABEL_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("proto: unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal wire type")]
    WireType,
    #[error("proto: invalid UTF-8 in a label")]
    Utf8,
    #[error("a series has more than {LABELS_MAX} labels")]
    Labels,
    #[error("proto: malformed histogram")]
    Histogram,
    #[error(transparent)]
    Budget(#[from] ferula_model::BudgetExceeded),
    #[error("a series has more than {LABEL_BYTES_MAX} bytes of labels")]
    LabelBytes,
    #[error("invalid labelRefs length {0}")]
    OddRefs(usize),
    #[error("labelRefs {name} (name) = {value} (value) outside of symbols table (size {size})")]
    LabelRef { name: u64, value: u64, size: usize },
    #[error("metadata {field} {at} outside of symbols table (size {size})")]
    MetadataRef { field: &'static str, at: u64, size: usize },
}

/// One field of a message.
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Walks the fields of one message.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    pub rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
            self.rest = rest;
            if shift == 63 && *byte > 1 {
                return Err(WireError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Overflow)
    }
    fn take(&mut self, n: u64) -> Result<&'a [u8], WireError> {
        let n = usize::try_from(n).map_err(|_| WireError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
    pub(super) fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Field::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| WireError::Truncated)?))
            }
            2 => {
                let n = self.varint()?;
                Field::Bytes(self.take(n)?)
            }
            5 => {
                self.take(4)?;
                Field::Fixed32
            }
            _ => return Err(WireError::WireType),
        };
        match key >> 3 {
            0 => Err(WireError::WireType),
            number => Ok(Some((number, field))),
        }
    }
}

/// The messages in field `number` of `message`, in order.
pub(super) fn submessages<'a>(
    message: &'a [u8],
    number: u64,
) -> impl Iterator<Item = Result<&'a [u8], WireError>> + use<'a> {
    let mut fields = Fields { rest: message };
    std::iter::from_fn(move || {
        loop {
            match fields.next() {
                Ok(None) => return None,
                Ok(Some((n, Field::Bytes(bytes)))) if n == number => return Some(Ok(bytes)),
                Ok(Some(_)) => {}
                Err(e) => {
                    fields.rest = &[];
                    return Some(Err(e));
                }
            }
        }
    })
}

/// One item per sample, exemplar and histogram of a series, which both versions have in fields 2 to 4.
pub(super) fn entries<'a>(message: &'a [u8]) -> impl Iterator<Item = Result<(), WireError>> + use<'a> {
    let mut fields = Fields { rest: message };
    std::iter::from_fn(move || {
        loop {
            match fields.next() {
                Ok(None) => return None,
                Ok(Some((2..=4, Field::Bytes(_)))) => return Some(Ok(())),
                Ok(Some(_)) => {}
                Err(e) => {
                    fields.rest = &[];
                    return Some(Err(e));
                }
            }
        }
    })
}

/// The series of a `WriteRequest`.
pub(super) fn series(request: &[u8]) -> impl Iterator<Item = Result<Series<'_>, WireError>> {
    submessages(request, 1).map(|m| m.map(Series::new))
}

/// Labels as sent.
pub(super) type Pairs<'a> = Vec<(&'a str, &'a str)>;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// 0 where the sender knows none.
    pub start_ms: i64,
    pub t_ms: i64,
    pub value: f64,
}

/// Metadata as sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Described<'a> {
    pub metric_type: MetricType,
    pub help: &'a str,
    pub unit: &'a str,
}

/// One series of a request of either version, unread. Everything it gives is read from the request's bytes again
/// each time.
pub(super) trait Incoming<'a> {
    /// What [`Known`] finds the series by, if its form allows. `pairs` may be written to.
    fn print(&self, known: &Known, pairs: &mut Pairs<'a>) -> Result<Option<Print>, WireError>;
    /// Fills `out` with the labels as sent: any order, perhaps repeated.
    fn labels(&self, out: &mut Pairs<'a>) -> Result<(), WireError>;
    /// How many samples and histograms there are.
    fn points(&self) -> usize;
    /// One item per sample, exemplar and histogram, unread: for counting.
    fn entries(&self) -> impl Iterator<Item = Result<(), WireError>> + use<'a, Self>;
    fn samples(&self) -> impl Iterator<Item = Result<Sample, WireError>> + use<'a, Self>;
    /// Native histograms. These are built by prost, one at a time: eight bytes in memory for a byte on the wire at most.
    fn histograms(&self) -> impl Iterator<Item = Result<remote_v2::Histogram, WireError>> + use<'a, Self>;
    /// Exemplars with their labels in the order of the wire.
    fn exemplars(&self) -> impl Iterator<Item = Result<(Pairs<'a>, Sample), WireError>> + use<'a, Self>;
    /// `None` where the sender said nothing.
    fn metadata(&self) -> Result<Option<Described<'a>>, WireError>;
}

/// One `TimeSeries` of version 1, unread.
#[derive(Clone, Copy)]
pub(super) struct Series<'a> {
    message: &'a [u8],
    /// The labels that come first, with which most messages have them all.
    labels: &'a [u8],
    /// What comes behind them.
    rest: &'a [u8],
}

impl<'a> Series<'a> {
    fn new(message: &'a [u8]) -> Series<'a> {
        let mut fields = Fields { rest: message };
        let mut rest = message;
        while let Ok(Some((1, Field::Bytes(_)))) = fields.next() {
            rest = fields.rest;
        }
        let labels = message.get(..message.len() - rest.len()).unwrap_or_default();
        Series { message, labels, rest }
    }
}

impl<'a> Incoming<'a> for Series<'a> {
    fn print(&self, known: &Known, _: &mut Pairs<'a>) -> Result<Option<Print>, WireError> {
        let more = submessages(self.rest, 1).next().is_some();
        Ok((!more).then(|| known.of_bytes(self.labels)))
    }
    fn labels(&self, out: &mut Pairs<'a>) -> Result<(), WireError> {
        out.clear();
        for label in submessages(self.message, 1) {
            let pair = pair(label?)?;
            if out.len() >= LABELS_MAX {
                return Err(WireError::Labels);
            }
            out.push(pair);
        }
        Ok(())
    }
    fn points(&self) -> usize {
        submessages(self.rest, 2).count() + submessages(self.rest, 4).count()
    }
    fn entries(&self) -> impl Iterator<Item = Result<(), WireError>> + use<'a> {
        entries(self.rest)
    }
    fn samples(&self) -> impl Iterator<Item = Result<Sample, WireError>> + use<'a> {
        // Field 3 is version 2's start time; version 1 has none.
        submessages(self.rest, 2).map(|m| Ok(Sample { start_ms: 0, ..sample(m?)? }))
    }
    fn exemplars(&self) -> impl Iterator<Item = Result<(Pairs<'a>, Sample), WireError>> + use<'a> {
        submessages(self.rest, 3).map(|m| {
            let message = m?;
            let mut labels = Vec::new();
            // Exemplar and TimeSeries both keep their labels in field 1; an exemplar has few, or it is refused later.
            for label in submessages(message, 1).take(64) {
                labels.push(pair(label?)?);
            }
            Ok((labels, exemplar_value(message)?))
        })
    }
    fn histograms(&self) -> impl Iterator<Item = Result<remote_v2::Histogram, WireError>> + use<'a> {
        submessages(self.rest, 4).map(|m| Ok(remote_v2::Histogram { start_timestamp: 0, ..histogram(m?)? }))
    }
    fn metadata(&self) -> Result<Option<Described<'a>>, WireError> {
        Ok(None) // by family, apart from the series: not kept
    }
}

pub(super) fn histogram(message: &[u8]) -> Result<remote_v2::Histogram, WireError> {
    remote_v2::Histogram::decode(message).map_err(|_| WireError::Histogram)
}

fn pair(message: &[u8]) -> Result<(&str, &str), WireError> {
    let (mut name, mut value) = ("", "");
    let mut fields = Fields { rest: message };
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Bytes(b)) => name = std::str::from_utf8(b).map_err(|_| WireError::Utf8)?,
            (2, Field::Bytes(b)) => value = std::str::from_utf8(b).map_err(|_| WireError::Utf8)?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// A `Sample`.
pub(super) fn sample(message: &[u8]) -> Result<Sample, WireError> {
    let mut sample = Sample::default();
    let mut fields = Fields { rest: message };
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Fixed64(bits)) => sample.value = f64::from_bits(bits),
            (2, Field::Varint(t)) => sample.t_ms = t.cast_signed(),
            (3, Field::Varint(t)) => sample.start_ms = t.cast_signed(),
            _ => {}
        }
    }
    Ok(sample)
}

/// Value and time of an `Exemplar`.
pub(super) fn exemplar_value(message: &[u8]) -> Result<Sample, WireError> {
    let mut sample = Sample::default();
    let mut fields = Fields { rest: message };
    while let Some(field) = fields.next()? {
        match field {
            (2, Field::Fixed64(bits)) => sample.value = f64::from_bits(bits),
            (3, Field::Varint(t)) => sample.t_ms = t.cast_signed(),
            _ => {}
        }
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_proto::remote;
    use proptest::prelude::*;
    use remote::{Label, TimeSeries, WriteRequest};

    fn read(bytes: &[u8]) -> Result<WriteRequest, WireError> {
        let mut out = WriteRequest::default();
        let own = |labels: Vec<(&str, &str)>| {
            labels.into_iter().map(|(n, v)| Label { name: n.to_owned(), value: v.to_owned() }).collect::<Vec<_>>()
        };
        let mut labels = Vec::new();
        for s in series(bytes) {
            let s = s?;
            s.labels(&mut labels)?;
            let mut ts = TimeSeries { labels: own(labels.clone()), ..TimeSeries::default() };
            for x in s.samples() {
                let x = x?;
                ts.samples.push(remote::Sample { value: x.value, timestamp: x.t_ms });
            }
            for e in s.exemplars() {
                let (labels, x) = e?;
                ts.exemplars.push(remote::Exemplar { labels: own(labels), value: x.value, timestamp: x.t_ms });
            }
            for h in s.histograms() {
                // Version 2's message without a start time is version 1's.
                ts.histograms.push(remote::Histogram::decode(h?.encode_to_vec().as_slice()).unwrap());
            }
            out.timeseries.push(ts);
        }
        Ok(out)
    }

    fn label() -> impl Strategy<Value = Label> {
        (".{0,8}", ".{0,8}").prop_map(|(name, value)| Label { name, value })
    }
    fn labels() -> impl Strategy<Value = Vec<Label>> {
        proptest::collection::vec(label(), 0..5)
    }
    prop_compose! {
        fn a_series()(
            labels in labels(),
            samples in proptest::collection::vec((-1e9..1e9f64, any::<i64>()), 0..5),
            exemplars in proptest::collection::vec((labels(), -1e9..1e9f64, any::<i64>()), 0..3),
            deltas in proptest::collection::vec(proptest::collection::vec(any::<i64>(), 0..4), 0..3),
        ) -> TimeSeries {
            TimeSeries {
                labels,
                samples: samples.into_iter().map(|(value, timestamp)| remote::Sample { value, timestamp }).collect(),
                exemplars: exemplars
                    .into_iter()
                    .map(|(labels, value, timestamp)| remote::Exemplar { labels, value, timestamp })
                    .collect(),
                histograms: deltas
                    .into_iter()
                    .map(|positive_deltas| remote::Histogram { positive_deltas, sum: 1.5, ..Default::default() })
                    .collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn reads_what_prost_reads(timeseries in proptest::collection::vec(a_series(), 0..4), flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
            let request = WriteRequest { timeseries, metadata: vec![] };
            let mut bytes = request.encode_to_vec();
            prop_assert_eq!(read(&bytes), Ok(request));
            // Damaged bytes: never a panic, and whatever both read, they read alike.
            for (at, with) in flips {
                if !bytes.is_empty() {
                    let i = at.index(bytes.len());
                    bytes[i] ^= with;
                }
            }
            if let (Ok(ours), Ok(theirs)) = (read(&bytes), WriteRequest::decode(bytes.as_slice())) {
                prop_assert_eq!(format!("{:?}", ours.timeseries), format!("{:?}", theirs.timeseries));
            }
        }
    }
}
