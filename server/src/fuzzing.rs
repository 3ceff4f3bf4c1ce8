//! Doors for fuzz targets (`fuzz/`), and the test that replays their seeds.
use ferula_net::listen::Params;

pub use crate::ingest::remote_write::fuzz as remote_write;

/// Reads every kind of parameter out of a query string.
pub fn params(query: &str) {
    use crate::api::time;
    let params = Params::from_query(query);
    for (name, value) in params.iter() {
        let _ = (time::limit(&params, name), time::parse_duration_ms(value));
        if let Ok(t_ms) = time::parse_time_ms(value) {
            assert!((time::MIN_TIME_MS..=time::MAX_TIME_MS).contains(&t_ms), "{value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn seeds(of: &str) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(of);
        let seeds: Vec<Vec<u8>> =
            std::fs::read_dir(dir).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect();
        assert!(seeds.len() > 5);
        seeds
    }

    #[test]
    fn seeds_replay() {
        for seed in seeds("remote_write") {
            super::remote_write(&seed);
        }
        for seed in seeds("params") {
            super::params(std::str::from_utf8(&seed).unwrap());
        }
    }
}
