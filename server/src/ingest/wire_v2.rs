//! A remote-write 2.0 request read in place, as [`super::wire`] reads version 1.
//!
//! Strings are references into one table of symbols. The table costs 16 bytes a symbol and is charged; what a series
//! puts together from it is bounded by [`LABELS_MAX`] and [`LABEL_BYTES_MAX`], because a reference of one byte may stand
//! for a megabyte. Field numbers: `lib/proto/proto/remote_v2.proto`.
use ferula_model::{Charge, MetricType};
use ferula_proto::remote_v2;
use ferula_proto::remote_v2::metadata::MetricType as Sent;

use super::known::{Known, Print};
use super::wire::{
    Described, Field, Fields, Incoming, LABEL_BYTES_MAX, LABELS_MAX, Pairs, Sample, WireError, entries, exemplar_value,
    histogram, sample, submessages,
};

/// The strings of one request.
pub(super) struct Symbols<'a> {
    table: Vec<&'a str>,
}

impl<'a> Symbols<'a> {
    /// Charges the table as it grows. Refuses a symbol that is not UTF-8.
    pub(super) fn read(request: &'a [u8], charge: &mut Charge) -> Result<Symbols<'a>, WireError> {
        let mut table = Vec::new();
        for symbol in submessages(request, 4) {
            let symbol = std::str::from_utf8(symbol?).map_err(|_| WireError::Utf8)?;
            if table.len() == table.capacity() {
                let more = table.capacity().max(64);
                charge.grow((more * size_of::<&str>()) as u64)?;
                table.reserve_exact(more);
            }
            table.push(symbol);
        }
        Ok(Symbols { table })
    }

    fn get(&self, at: u64) -> Option<&'a str> {
        self.table.get(usize::try_from(at).ok()?).copied()
    }

    /// The name-value pairs of a message whose `labels_refs` is field 1.
    fn labels(&self, message: &'a [u8], out: &mut Pairs<'a>) -> Result<(), WireError> {
        out.clear();
        let (mut name, mut refs, mut bytes) = (None, 0usize, 0usize);
        let mut one = |at: u64| {
            refs += 1;
            let Some(name_at) = name.take() else {
                name = Some(at);
                return Ok(());
            };
            let (Some(name), Some(value)) = (self.get(name_at), self.get(at)) else {
                return Err(WireError::LabelRef { name: name_at, value: at, size: self.table.len() });
            };
            if out.len() >= LABELS_MAX {
                return Err(WireError::Labels);
            }
            bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
            if bytes > LABEL_BYTES_MAX {
                return Err(WireError::LabelBytes);
            }
            out.push((name, value));
            Ok(())
        };
        let mut fields = Fields { rest: message };
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Varint(at)) => one(at)?,
                (1, Field::Bytes(packed)) => {
                    let mut packed = Fields { rest: packed };
                    while !packed.rest.is_empty() {
                        one(packed.varint()?)?;
                    }
                }
                _ => {}
            }
        }
        if name.is_some() { Err(WireError::OddRefs(refs)) } else { Ok(()) }
    }
}

/// The series of a `Request`.
pub(super) fn series<'a>(
    request: &'a [u8],
    symbols: &'a Symbols<'a>,
) -> impl Iterator<Item = Result<Series<'a>, WireError>> {
    submessages(request, 5).map(move |m| m.map(|message| Series { message, symbols }))
}

/// One `TimeSeries` of version 2, unread.
#[derive(Clone, Copy)]
pub(super) struct Series<'a> {
    message: &'a [u8],
    symbols: &'a Symbols<'a>,
}

impl<'a> Incoming<'a> for Series<'a> {
    fn print(&self, known: &Known, pairs: &mut Pairs<'a>) -> Result<Option<Print>, WireError> {
        self.labels(pairs)?;
        Ok(Some(known.of_pairs(pairs)))
    }
    fn labels(&self, out: &mut Pairs<'a>) -> Result<(), WireError> {
        self.symbols.labels(self.message, out)
    }
    fn points(&self) -> usize {
        submessages(self.message, 2).count() + submessages(self.message, 3).count()
    }
    fn entries(&self) -> impl Iterator<Item = Result<(), WireError>> + use<'a> {
        entries(self.message)
    }
    fn samples(&self) -> impl Iterator<Item = Result<Sample, WireError>> + use<'a> {
        submessages(self.message, 2).map(|m| sample(m?))
    }
    fn histograms(&self) -> impl Iterator<Item = Result<remote_v2::Histogram, WireError>> + use<'a> {
        submessages(self.message, 3).map(|m| histogram(m?))
    }
    fn exemplars(&self) -> impl Iterator<Item = Result<(Pairs<'a>, Sample), WireError>> + use<'a> {
        let symbols = self.symbols;
        submessages(self.message, 4).map(move |m| {
            let message = m?;
            let mut labels = Vec::new();
            symbols.labels(message, &mut labels)?;
            Ok((labels, exemplar_value(message)?))
        })
    }
    fn metadata(&self) -> Result<Option<Described<'a>>, WireError> {
        let (mut kind, mut help, mut unit, mut sent) = (0u64, 0u64, 0u64, false);
        for message in submessages(self.message, 5) {
            sent = true;
            let mut fields = Fields { rest: message? };
            while let Some(field) = fields.next()? {
                match field {
                    (1, Field::Varint(v)) => kind = v,
                    (3, Field::Varint(v)) => help = v,
                    (4, Field::Varint(v)) => unit = v,
                    _ => {}
                }
            }
        }
        if !sent {
            return Ok(None);
        }
        let of = |field, at| {
            let size = self.symbols.table.len();
            self.symbols.get(at).ok_or(WireError::MetadataRef { field, at, size })
        };
        // As protobuf has it, an unknown number is kept and means nothing.
        let kind = i32::try_from(kind).ok().and_then(|n| Sent::try_from(n).ok()).unwrap_or_default();
        let metric_type = match kind {
            Sent::Unspecified => MetricType::Unknown,
            Sent::Counter => MetricType::Counter,
            Sent::Gauge => MetricType::Gauge,
            Sent::Histogram => MetricType::Histogram,
            Sent::Gaugehistogram => MetricType::GaugeHistogram,
            Sent::Summary => MetricType::Summary,
            Sent::Info => MetricType::Info,
            Sent::Stateset => MetricType::StateSet,
        };
        let described = Described { metric_type, help: of("help_ref", help)?, unit: of("unit_ref", unit)? };
        // Senders without metadata send the empty message.
        let empty = metric_type == MetricType::Unknown && described.help.is_empty() && described.unit.is_empty();
        Ok((!empty).then_some(described))
    }
}
