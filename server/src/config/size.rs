//! Sizes in configurations: `15MB`, `1.5GiB`. Units are powers of 1024, with or without the `i`, as upstream reads them.
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const UNITS: [(&str, u64); 6] =
    [("EiB", 1 << 60), ("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    pub fn parse(text: &str) -> Result<Size, String> {
        if text == "0" {
            return Ok(Size(0));
        }
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let factor = match unit {
            "B" => 1,
            "" => return Err(format!("units: unknown unit {unit} in {text}")),
            _ => UNITS
                .iter()
                .find(|(name, _)| *name == unit || name.replace('i', "") == unit)
                .map(|(_, factor)| *factor)
                .ok_or_else(|| format!("units: unknown unit {unit} in {text}"))?,
        };
        let bytes = number.parse::<f64>().map_err(|_| format!("units: invalid {text}"))? * factor as f64;
        if !(0.0..=i64::MAX as f64).contains(&bytes) {
            return Err(format!("units: invalid {text}"));
        }
        Ok(Size(bytes as u64))
    }
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)) {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}
impl Serialize for Size {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Size, D::Error> {
        let text = String::deserialize(d)?;
        Size::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, bytes, printed) in [
            ("0", 0, "0B"),
            ("15MB", 15 << 20, "15MiB"),
            ("1.5GiB", 1536 << 20, "1536MiB"),
            ("100B", 100, "100B"),
            ("1024KB", 1 << 20, "1MiB"),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
            assert_eq!(Size(bytes).to_string(), printed);
        }
        assert_eq!(Size::parse("100"), Err("units: unknown unit  in 100".into()));
        for bad in ["", "MB", "1XB", "-1MB", "1e400MB"] {
            assert!(Size::parse(bad).is_err(), "{bad}");
        }
    }
}
