//! A block's `meta.json`.
use std::path::Path;

use ferula_fs::Fs;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::format::names;

/// Hint of blocks whose samples came out of order: they say nothing about where the head begins.
pub const FROM_OUT_OF_ORDER: &str = "from-out-of-order";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    pub ulid: String,
    /// Half open: `min_time_ms <= t < max_time_ms`.
    #[serde(rename = "minTime")]
    pub min_time_ms: i64,
    #[serde(rename = "maxTime")]
    pub max_time_ms: i64,
    #[serde(default)]
    pub stats: Stats,
    pub compaction: Compaction,
    pub version: u32,
    /// What other programs (Thanos) keep there.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    pub level: u32,
    /// Blocks of level 1 that went into this one, itself if it is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deletable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Fields this program does not know.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub ulid: String,
    #[serde(rename = "minTime")]
    pub min_time_ms: i64,
    #[serde(rename = "maxTime")]
    pub max_time_ms: i64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Meta {
    /// Whether its samples came out of order: of two samples of one time, such a one counts, as upstream has it. Any hint
    /// means this, and any field unknown to us: only a plain cut of the head may decide where the head begins.
    pub fn is_out_of_order(&self) -> bool {
        !self.compaction.hints.is_empty() || !self.compaction.other.is_empty()
    }
    pub fn read(fs: &dyn Fs, dir: &Path) -> Result<Meta, Error> {
        let path = dir.join(names::META);
        let bytes = fs.read(&path).map_err(Error::io("reading", &path))?;
        let meta: Meta = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&path, 0, e.to_string()))?;
        if meta.version != 1 {
            return Err(Error::UnknownVersion { path, version: meta.version });
        }
        if meta.min_time_ms > meta.max_time_ms {
            return Err(Error::corrupt(&path, 0, "minTime exceeds maxTime"));
        }
        Ok(meta)
    }
    pub fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
        let path = dir.join(names::META);
        // Upstream indents with tabs.
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        self.serialize(&mut serializer).map_err(|e| Error::Invalid(e.to_string()))?;
        text.push(b'\n');
        fs.write_atomically(&path, &text).map_err(Error::io("writing", &path))
    }
}
