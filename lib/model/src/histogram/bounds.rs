//! Where buckets begin and end, and how indices of one resolution map to a coarser one.
use super::CUSTOM_BUCKETS_SCHEMA;
use super::fractions::FRACTIONS;

pub const SCHEMA_MIN: i32 = -4;
pub const SCHEMA_MAX: i32 = 8;

/// Whether `schema` is one of the exponential ones, -4..=8.
pub fn is_exponential_schema(schema: i32) -> bool {
    (SCHEMA_MIN..=SCHEMA_MAX).contains(&schema)
}

/// `m * 2^e`, rounding once; exact for all `e` the callers produce.
fn ldexp(m: f64, e: i32) -> f64 {
    if e > 1023 {
        m * 2f64.powi(1023) * 2f64.powi((e - 1023).min(1023))
    } else if e < -1000 {
        m * 2f64.powi(-1000) * 2f64.powi((e + 1000).max(-1000))
    } else {
        m * 2f64.powi(e)
    }
}

/// Upper bound of the positive bucket `index`; its lower bound is that of `index - 1`.
///
/// The last exponential bucket before the overflow bucket ends at `f64::MAX`, the overflow bucket at infinity. With
/// custom bounds, an index before the first is -Inf and one past the last +Inf.
pub fn bound(index: i32, schema: i32, custom: &[f64]) -> f64 {
    if schema == CUSTOM_BUCKETS_SCHEMA {
        return match usize::try_from(index) {
            Err(_) => f64::NEG_INFINITY,
            Ok(i) => custom.get(i).copied().unwrap_or(f64::INFINITY),
        };
    }
    if schema < 0 {
        let shift = u32::try_from(-schema).unwrap_or(0).min(30);
        let exp = i64::from(index) << shift;
        if exp == 1024 {
            return f64::MAX;
        }
        return ldexp(1.0, exp.clamp(-2200, 2200) as i32);
    }
    let shift = (schema as u32).min(8);
    let fraction = FRACTIONS[((index & ((1 << shift) - 1)) as usize) << (8 - shift)];
    let exp = (i64::from(index) >> shift) + 1;
    if fraction == 0.5 && exp == 1025 {
        return f64::MAX;
    }
    ldexp(fraction, exp.clamp(-2200, 2200) as i32)
}

/// The bucket of `target` schema that holds bucket `index` of the finer `origin` schema.
pub(super) fn coarser_index(index: i32, origin: i32, target: i32) -> i32 {
    let shift = u32::try_from(origin - target).unwrap_or(0).min(31);
    ((index.wrapping_sub(1)) >> shift).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_bounds() {
        for (index, schema, want) in [
            (0, 0, 1.0),
            (3, 0, 8.0),
            (-1, 0, 0.5),
            (1, 1, 2.0 * 0.707_106_781_186_547_5),
            (512, 8, 4.0),
            (1, -1, 4.0),
            (-1, -1, 0.25),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (512, -1, f64::MAX),
            (513, -1, f64::INFINITY),
            (-1074, 0, 5e-324),
            (-1080, 0, 0.0),
        ] {
            assert_eq!(bound(index, schema, &[]), want, "index {index} schema {schema}");
        }
    }

    #[test]
    fn custom_bounds() {
        let c = [1.0, 2.5];
        assert_eq!(
            [-1, 0, 1, 2].map(|i| bound(i, CUSTOM_BUCKETS_SCHEMA, &c)),
            [f64::NEG_INFINITY, 1.0, 2.5, f64::INFINITY]
        );
    }

    #[test]
    fn coarser_buckets_hold_the_finer_ones() {
        for i in -20..20 {
            for origin in 0..4 {
                let j = coarser_index(i, origin, -1);
                assert!(
                    bound(j, -1, &[]) >= bound(i, origin, &[]) && bound(j - 1, -1, &[]) <= bound(i - 1, origin, &[])
                );
            }
        }
    }
}
