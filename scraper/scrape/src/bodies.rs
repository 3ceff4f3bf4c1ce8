//! The formats' ways into [`Samples`]: lines of text, protobuf families, classic histograms to be converted.
use std::borrow::Cow;

use ferula_exposition::parse::protobuf::{FamilySink, HistogramForms, ProtoSeries, resume_families};
use ferula_exposition::parse::{Entry, KnownLines, Parser, Progress, Sample, Syntax};
use ferula_model::{MetricType, Value};

use crate::cache::Cache;
use crate::error::ScrapeError;
use crate::ingest::{Incoming, Piece, Samples};
use crate::metadata::Families;
use crate::nhcb::{Collector, Sampled, Taken};
use crate::series::resolve;

/// Reads what is whole of a piece in one of the text formats. Returns its length.
pub(crate) fn append_text(
    mut samples: Samples<'_, '_>,
    collector: &mut Option<Collector>,
    progress: &mut Progress,
    piece: Piece<'_>,
) -> Result<usize, ScrapeError> {
    let mut parser = Parser::resume(piece.bytes, piece.syntax, samples.pass.limits, *progress, piece.is_last);
    let reads_starts = samples.pass.starts.are_read();
    loop {
        let mut known = Known { cache: samples.cache, families: samples.families, syntax: piece.syntax };
        let Some(entry) = parser.next_known(&mut known) else { break };
        let entry = entry?;
        if let (Some(collector), false) = (&mut *collector, matches!(entry, Entry::Sample(_))) {
            collector.finish(&mut samples)?;
        }
        match entry {
            Entry::Sample(_) if reads_starts && parser.is_start_line() => {}
            Entry::Sample(sample) => {
                let start_ms = if reads_starts { parser.start_ms() } else { Some(0) };
                let Some(start_ms) = start_ms else { break }; // the next piece tells
                let sample = Line { sample, syntax: piece.syntax, start_ms };
                add_line(&mut samples, &mut parser, sample, collector.as_mut())?;
            }
            Entry::Type { family, metric_type } => {
                if let Some(collector) = collector {
                    collector.begin_family(&family, metric_type);
                }
                samples.families.set_type(&family, metric_type);
                samples.families.learn(parser.entry_bytes(), piece.syntax, Some(metric_type));
            }
            Entry::Help { family, text } => {
                samples.families.set_help(&family, &text);
                samples.families.learn(parser.entry_bytes(), piece.syntax, None);
            }
            Entry::Unit { family, unit } => {
                samples.families.set_unit(&family, unit);
                samples.families.learn(parser.entry_bytes(), piece.syntax, None);
            }
            Entry::Comment => {}
        }
    }
    if let (Some(collector), true) = (collector, piece.is_last) {
        collector.finish(&mut samples)?;
    }
    let (read, now) = parser.pause();
    *progress = now;
    Ok(read)
}

/// The lines of the last scrape.
struct Known<'x> {
    cache: &'x Cache,
    families: &'x mut Families,
    syntax: Syntax,
}

impl KnownLines for Known<'_> {
    #[inline]
    fn series(&mut self, rest: &[u8]) -> Option<usize> {
        self.cache.expected_at(rest)
    }
    fn metadata(&mut self, line: &[u8]) -> Option<Option<MetricType>> {
        self.families.take_expected(line, self.syntax)
    }
}

struct Line<'a> {
    sample: Sample<'a>,
    syntax: Syntax,
    start_ms: i64,
}

fn add_line(
    samples: &mut Samples<'_, '_>,
    parser: &mut Parser<'_>,
    line: Line<'_>,
    collector: Option<&mut Collector>,
) -> Result<(), ScrapeError> {
    let Line { sample, syntax, start_ms } = line;
    let mut exemplar = if sample.has_exemplar { parser.exemplar() } else { None };
    if let (Some(e), true) = (&mut exemplar, samples.pass.job.config.honor_timestamps) {
        e.t_ms = e.t_ms.or(sample.t_ms); // its own time, else its sample's
    }
    if let Some(collector) = collector {
        if sample.expected {
            reread(parser)?;
        }
        let mut pairs = Vec::with_capacity(8);
        parser.labels(|name, value| pairs.push((name, value)));
        if syntax == Syntax::OpenMetrics && collector.is_created(&pairs) {
            return collector.finish(samples);
        }
        let part = Sampled { value: sample.value, t_ms: sample.t_ms, start_ms, exemplars: exemplar.as_slice() };
        if collector.take(samples, &pairs, part)? == Taken::Only {
            return Ok(());
        }
    }
    let known = if sample.expected { samples.take_expected() } else { samples.cache.find(sample.series) };
    let incoming = Incoming {
        key: sample.series,
        value: Value::Float(sample.value),
        t_ms: sample.t_ms,
        start_ms,
        exemplars: exemplar.as_slice(),
    };
    let pass = samples.pass;
    samples.add(known, &incoming, &mut |family| {
        if sample.expected {
            reread(parser)?;
        }
        let mut pairs = Vec::with_capacity(8);
        parser.labels(|name, value| pairs.push((name, value)));
        resolve(&mut pairs, family, pass.job, pass.target)
    })
}

/// Makes the labels of a line that was only compared available.
fn reread(parser: &mut Parser<'_>) -> Result<(), ScrapeError> {
    match parser.reread() {
        Some(Ok(_)) => Ok(()),
        Some(Err(e)) => Err(e.into()),
        None => Err(ScrapeError::Internal("a known line could not be read again".into())),
    }
}

/// Reads the whole families of a piece of a protobuf body. Returns their length.
pub(crate) fn append_protobuf(
    samples: Samples<'_, '_>,
    collector: &mut Option<Collector>,
    progress: &mut Progress,
    piece: Piece<'_>,
) -> Result<usize, ScrapeError> {
    let config = &samples.pass.job.config;
    let forms = HistogramForms {
        native: config.scrape_native_histograms == Some(true),
        always_classic: config.always_scrape_classic_histograms == Some(true),
    };
    let limits = samples.pass.limits;
    let mut sink = Sink { samples, collector: collector.as_mut() };
    let read = resume_families(piece.bytes, limits, forms, progress, piece.is_last, &mut sink)?;
    if let (Some(collector), true) = (&mut sink.collector, piece.is_last) {
        collector.finish(&mut sink.samples)?;
    }
    Ok(read)
}

struct Sink<'f, 'p, 'a> {
    samples: Samples<'p, 'a>,
    collector: Option<&'f mut Collector>,
}

impl FamilySink for Sink<'_, '_, '_> {
    type Error = ScrapeError;

    fn family(&mut self, name: &str, metric_type: MetricType, help: &str, unit: &str) -> Result<(), ScrapeError> {
        if let Some(collector) = &mut self.collector {
            collector.finish(&mut self.samples)?;
            collector.begin_family(name, metric_type);
        }
        self.samples.families.set(name, metric_type, help, unit);
        Ok(())
    }

    fn series(&mut self, series: &ProtoSeries<'_>) -> Result<(), ScrapeError> {
        let pairs = || {
            let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(8);
            series.labels(|name, value| pairs.push((name.into(), value.into())));
            pairs
        };
        let (t_ms, exemplars) = (series.t_ms, series.exemplars);
        let start_ms = if self.samples.pass.starts.are_read() { series.start_ms } else { 0 };
        if let (Some(collector), Value::Float(value)) = (&mut self.collector, series.value) {
            let part = Sampled { value, t_ms, start_ms, exemplars };
            if collector.take(&mut self.samples, &pairs(), part)? == Taken::Only {
                return Ok(());
            }
        }
        let samples = &mut self.samples;
        let is_expected = samples.cache.is_expected(series.key);
        let known = if is_expected { samples.take_expected() } else { samples.cache.find(series.key) };
        let incoming = Incoming { key: series.key, value: series.value, t_ms, start_ms, exemplars };
        let pass = self.samples.pass;
        self.samples.add(known, &incoming, &mut |family| resolve(&mut pairs(), family, pass.job, pass.target))
    }
}
