//! Sizes such as `10MB`; as upstream, every unit is a power of 1024.
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u32); 7] = [("EB", 60), ("PB", 50), ("TB", 40), ("GB", 30), ("MB", 20), ("KB", 10), ("B", 0)];

fn number_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len())
}

fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, unit) = text.split_at(number_len(text));
    let unit = unit.replace("iB", "B");
    let shift = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let bytes = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            if self.0 > 0 && self.0.is_multiple_of(1 << shift) {
                let binary = if shift == 0 { unit.to_owned() } else { unit.replace('B', "iB") };
                return write!(f, "{}{binary}", self.0 >> shift);
            }
        }
        f.write_str("0B")
    }
}
impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 10MB")
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Bytes, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Bytes, E> {
                parse(v).map(Bytes).ok_or_else(|| {
                    let (number, unit) = v.split_at(number_len(v));
                    E::custom(match number {
                        "" => format!("units: invalid {v}"),
                        _ => format!("units: unknown unit {unit} in {v}"),
                    })
                })
            }
        }
        d.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, bytes, printed) in [
            ("0", 0, "0B"),
            ("15MB", 15 << 20, "15MiB"),
            ("1.5KB", 1536, "1536B"),
            ("2GiB", 2 << 30, "2GiB"),
            ("7B", 7, "7B"),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
            assert_eq!(Bytes(bytes).to_string(), printed);
        }
        for text in ["", "15", "MB", "1QB", "99999999999EB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
