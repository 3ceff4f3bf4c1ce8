//! A query's result as the API's `data`, in pieces of some 64 KiB.
use std::time::Duration;

use ferula_model::FloatHistogram;
use ferula_promql_engine::{PlanNode, SampleStats, SampleValue, SeriesPoints, Value};

use super::json::Json;
use crate::query_metrics::Timings;

/// A piece is handed on as soon as it is so large.
const PIECE_BYTES: usize = 64 << 10;
/// Points written between two looks at the size.
const POINTS_PER_LOOK: usize = 512;
/// Of a point, mostly.
const POINT_BYTES: usize = 40;

/// The `stats` object. `per_step` adds the samples of each step.
pub(crate) fn stats(timings: Timings, samples: &SampleStats, per_step: bool) -> Vec<u8> {
    let mut j = Json::new();
    let seconds = |d: Duration| format!("{}", d.as_secs_f64());
    let total = timings.prepared + timings.evaluated;
    j.raw("{\"timings\":{\"evalTotalTime\":").raw(&seconds(total));
    j.raw(",\"resultSortTime\":0,\"queryPreparationTime\":").raw(&seconds(timings.prepared));
    j.raw(",\"innerEvalTime\":").raw(&seconds(timings.evaluated));
    j.raw(",\"execQueueTime\":").raw(&seconds(timings.queued));
    j.raw(",\"execTotalTime\":").raw(&seconds(total + timings.queued));
    j.raw("},\"samples\":{");
    if per_step {
        steps(&mut j, "totalQueryableSamplesPerStep", &samples.per_step);
    }
    j.raw("\"totalQueryableSamples\":").integer(samples.total_queryable).raw(",");
    if per_step {
        steps(&mut j, "samplesReadPerStep", &samples.read_per_step);
    }
    j.raw("\"samplesRead\":").integer(samples.read).raw(",\"peakSamples\":").integer(samples.peak).raw("}}");
    j.into_bytes()
}

/// `"name":[[time,samples],...],`
fn steps(j: &mut Json, name: &str, steps: &[(i64, u64)]) {
    let mut first = true;
    j.raw("\"").raw(name).raw("\":[");
    for (t_ms, n) in steps {
        j.separate(&mut first).raw("[").time(*t_ms).raw(",").integer(*n).raw("]");
    }
    j.raw("],");
}

/// A plan as a tree: every expression with what it cost and with its operands.
pub(super) fn plan(nodes: &[PlanNode]) -> Vec<u8> {
    let mut j = Json::new();
    let mut open = 0;
    for (i, n) in nodes.iter().enumerate() {
        // Close what this one is not part of.
        while open > n.depth {
            j.raw("]}");
            open -= 1;
        }
        if i > 0 && nodes.get(i - 1).is_some_and(|before| before.depth >= n.depth) {
            j.raw(",");
        }
        j.raw("{\"node\":").string(n.kind).raw(",\"expr\":").string(&n.expr);
        if !n.notes.is_empty() {
            j.raw(",\"notes\":").string(&n.notes.join(", "));
        }
        if let Some(m) = &n.measured {
            for (name, v) in [
                ("evaluations", m.evaluations),
                ("series", m.series),
                ("samples", m.samples),
                ("bytes", m.bytes),
                ("samplesDecoded", m.samples_decoded),
            ] {
                j.raw(",\"").raw(name).raw("\":").integer(v);
            }
            j.raw(",\"seconds\":").raw(&format!("{}", m.time.as_secs_f64()));
        }
        j.raw(",\"operands\":[");
        open = n.depth + 1;
    }
    for _ in 0..open {
        j.raw("]}");
    }
    j.into_bytes()
}

/// `{"resultType":...,"result":...,"stats":...}` piece by piece.
///
/// `explain` follows where it was asked for.
pub(super) fn pieces(
    value: Value,
    stats: Option<Vec<u8>>,
    explain: Option<Vec<u8>>,
) -> impl Iterator<Item = Vec<u8>> + Send {
    let mut writer = Writer { value, stats, explain, json: Json::new(), series: 0, phase: Phase::Start };
    std::iter::from_fn(move || writer.piece())
}

enum Phase {
    Start,
    Result,
    /// Inside the series: points written of the floats, then of the histograms.
    Floats(usize),
    Histograms(usize),
    End,
    Done,
}

struct Writer {
    value: Value,
    stats: Option<Vec<u8>>,
    explain: Option<Vec<u8>>,
    json: Json,
    series: usize,
    phase: Phase,
}

impl Writer {
    fn piece(&mut self) -> Option<Vec<u8>> {
        while self.json.len() < PIECE_BYTES {
            match self.phase {
                Phase::Done => break,
                Phase::Start => self.start(),
                Phase::Result => self.element(),
                Phase::Floats(n) => self.floats(n),
                Phase::Histograms(n) => self.histograms(n),
                Phase::End => {
                    if let Some(stats) = self.stats.take() {
                        self.json.raw(",\"stats\":").raw_bytes(&stats);
                    }
                    if let Some(explain) = self.explain.take() {
                        self.json.raw(",\"explain\":").raw_bytes(&explain);
                    }
                    self.json.raw("}");
                    self.phase = Phase::Done;
                }
            }
        }
        let more = if matches!(self.phase, Phase::Done) { 0 } else { PIECE_BYTES + POINTS_PER_LOOK * POINT_BYTES };
        (!self.json.is_empty()).then(|| self.json.take(more))
    }

    fn start(&mut self) {
        let j = &mut self.json;
        j.raw("{\"resultType\":").string(self.value.type_name()).raw(",\"result\":");
        self.phase = match &self.value {
            Value::Scalar { t_ms, value } => {
                j.sample(*t_ms, *value);
                Phase::End
            }
            Value::String { t_ms, value } => {
                j.raw("[").time(*t_ms).raw(",").string(value).raw("]");
                Phase::End
            }
            Value::Vector(_) | Value::Matrix(_) => {
                j.raw("[");
                Phase::Result
            }
        };
    }

    /// The next element of a vector, or the head of the next series of a matrix.
    fn element(&mut self) {
        let j = &mut self.json;
        let comma = if self.series == 0 { "" } else { "," };
        match &self.value {
            Value::Vector(samples) => {
                if let Some(sample) = samples.get(self.series) {
                    j.raw(comma).raw("{\"metric\":").labels(&sample.labels);
                    match &sample.value {
                        SampleValue::Float(v) => j.raw(",\"value\":").sample(sample.t_ms, *v),
                        SampleValue::Histogram(h) => {
                            j.raw(",\"histogram\":");
                            histogram_sample(j, sample.t_ms, h)
                        }
                    };
                    j.raw("}");
                    self.series += 1;
                    return;
                }
            }
            Value::Matrix(series) => {
                if let Some(one) = series.get(self.series) {
                    j.raw(comma).raw("{\"metric\":").labels(&one.labels);
                    self.phase = Phase::Floats(0);
                    return;
                }
            }
            Value::Scalar { .. } | Value::String { .. } => {}
        }
        j.raw("]");
        self.phase = Phase::End;
    }

    fn floats(&mut self, from: usize) {
        let Some(series) = current(&self.value, self.series) else {
            self.phase = Phase::End;
            return;
        };
        let j = &mut self.json;
        let to = series.floats.len().min(from + POINTS_PER_LOOK);
        for (i, (t_ms, v)) in series.floats.iter().enumerate().take(to).skip(from) {
            j.raw(if i == 0 { ",\"values\":[" } else { "," }).sample(*t_ms, *v);
        }
        self.phase = Phase::Floats(to);
        if to == series.floats.len() {
            if to > 0 {
                j.raw("]");
            }
            self.phase = Phase::Histograms(0);
        }
    }

    fn histograms(&mut self, from: usize) {
        let Some(series) = current(&self.value, self.series) else {
            self.phase = Phase::End;
            return;
        };
        let j = &mut self.json;
        let to = series.histograms.len().min(from + POINTS_PER_LOOK / 64);
        for (i, (t_ms, h)) in series.histograms.iter().enumerate().take(to).skip(from) {
            j.raw(if i == 0 { ",\"histograms\":[" } else { "," });
            histogram_sample(j, *t_ms, h);
        }
        self.phase = Phase::Histograms(to);
        if to == series.histograms.len() {
            j.raw(if to > 0 { "]}" } else { "}" });
            self.series += 1;
            self.phase = Phase::Result;
        }
    }
}

fn current(value: &Value, at: usize) -> Option<&SeriesPoints> {
    match value {
        Value::Matrix(series) => series.get(at),
        _ => None,
    }
}

/// `[time,{"count":"1","sum":"2","buckets":[[rule,"lower","upper","count"],...]}]`; empty buckets are left out.
fn histogram_sample<'j>(j: &'j mut Json, t_ms: i64, h: &FloatHistogram) -> &'j mut Json {
    j.raw("[").time(t_ms).raw(",{\"count\":").value(h.count).raw(",\"sum\":").value(h.sum);
    let mut any = false;
    for bucket in h.buckets() {
        if bucket.count == 0.0 {
            continue;
        }
        // Which ends belong to the bucket: 0 the upper, 1 the lower, 2 neither, 3 both.
        let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => "0",
            (true, false) => "1",
            (false, false) => "2",
            (true, true) => "3",
        };
        j.raw(if any { ",[" } else { ",\"buckets\":[[" }).raw(rule).raw(",").value(bucket.lower);
        j.raw(",").value(bucket.upper).raw(",").value(bucket.count).raw("]");
        any = true;
    }
    j.raw(if any { "]}]" } else { "}]" })
}

/// Bytes a result holds, roughly: what the answer is charged while it is being sent.
pub(super) fn size_bytes(value: &Value) -> u64 {
    match value {
        Value::Scalar { .. } | Value::String { .. } => 64,
        Value::Vector(samples) => samples.iter().map(|s| 64 + s.labels.size_bytes() as u64).sum(),
        Value::Matrix(series) => series
            .iter()
            .map(|s| 96 + s.labels.size_bytes() as u64 + 16 * s.floats.len() as u64 + 400 * s.histograms.len() as u64)
            .sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_model::{Labels, Span};
    use ferula_promql_engine::Sample;
    use std::sync::Arc;

    fn text(value: Value) -> String {
        String::from_utf8(pieces(value, None, None).flatten().collect()).unwrap()
    }

    #[test]
    fn every_type_prints_as_upstream_prints_it() {
        let metric = Labels::from_pairs([("__name__", "up")]);
        let histogram = Arc::new(FloatHistogram {
            schema: 0,
            count: 6.0,
            sum: 1.5,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![2.0, 0.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_buckets: vec![3.0],
            ..FloatHistogram::default()
        });
        let buckets = r#"[[1,"-2","-1","3"],[3,"-0.001","0.001","1"],[0,"0.5","1","2"]]"#;
        let h = format!(r#"{{"count":"6","sum":"1.5","buckets":{buckets}}}"#);
        assert_eq!(text(Value::Scalar { t_ms: 1500, value: 2.0 }), r#"{"resultType":"scalar","result":[1.500,"2"]}"#);
        assert_eq!(
            text(Value::String { t_ms: 0, value: "a\"".into() }),
            r#"{"resultType":"string","result":[0,"a\""]}"#
        );
        assert_eq!(
            text(Value::Vector(vec![
                Sample { labels: metric.clone(), t_ms: 1000, value: SampleValue::Float(f64::NAN) },
                Sample { labels: Labels::empty(), t_ms: 1000, value: SampleValue::Histogram(Arc::clone(&histogram)) },
            ])),
            format!(
                r#"{{"resultType":"vector","result":[{{"metric":{{"__name__":"up"}},"value":[1,"NaN"]}},{{"metric":{{}},"histogram":[1,{h}]}}]}}"#
            )
        );
        assert_eq!(
            text(Value::Matrix(vec![
                SeriesPoints { labels: metric, floats: vec![(0, 1.0), (500, 2.0)], histograms: vec![] },
                SeriesPoints { labels: Labels::empty(), floats: vec![], histograms: vec![(0, histogram)] },
                SeriesPoints::default(),
            ])),
            format!(
                r#"{{"resultType":"matrix","result":[{{"metric":{{"__name__":"up"}},"values":[[0,"1"],[0.500,"2"]]}},{{"metric":{{}},"histograms":[[0,{h}]]}},{{"metric":{{}}}}]}}"#
            )
        );
        assert_eq!(text(Value::Vector(vec![])), r#"{"resultType":"vector","result":[]}"#);
    }

    #[test]
    fn a_large_result_comes_in_small_pieces() {
        let series = |n: i64| SeriesPoints {
            labels: Labels::from_pairs([("n", n.to_string())]),
            floats: (0..5000).map(|i| (i * 1000, i as f64)).collect(),
            histograms: vec![],
        };
        let value = Value::Matrix((0..10).map(series).collect());
        let all: Vec<Vec<u8>> = pieces(value, Some(b"{}".to_vec()), None).collect();
        assert!(all.len() > 10 && all.iter().all(|p| p.len() < 2 * PIECE_BYTES));
        let whole: serde_json::Value = serde_json::from_slice(&all.concat()).unwrap();
        assert_eq!(whole["result"].as_array().unwrap().len(), 10);
        assert_eq!(whole["result"][9]["values"].as_array().unwrap().len(), 5000);
        assert_eq!(whole["stats"], serde_json::json!({}));
    }
}
