//! Bodies: collected with a limit and a budget, inflated with every byte counted.
use std::io::{self, Write};

use ferula_model::{Budget, Charge};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::error::{Error, innermost};

/// How much of a body is taken.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    /// Of the body as it will be used, uncompressed; 0 means no limit.
    pub bytes_max: u64,
    /// Charged as the body grows, given back when the [`Body`] is dropped.
    pub budget: Budget,
}

impl BodyLimits {
    pub fn unlimited() -> Self {
        BodyLimits { bytes_max: 0, budget: Budget::unlimited() }
    }
}

/// A body in memory, and the bytes it holds of its budget.
#[derive(Debug)]
pub struct Body {
    pub bytes: Vec<u8>,
    charge: Charge,
}

/// Memory is charged and reserved in steps of this size at least.
const STEP_BYTES: usize = 64 << 10;

impl Body {
    fn empty(limits: &BodyLimits) -> Result<Body, Error> {
        Ok(Body { bytes: Vec::new(), charge: limits.budget.charge(0)? })
    }

    /// Room for `more` bytes, charged before it is allocated.
    fn reserve(&mut self, more: usize) -> Result<(), Error> {
        let needed = self.bytes.len().saturating_add(more);
        if needed <= self.bytes.capacity() {
            return Ok(());
        }
        let grown =
            if self.bytes.capacity() == 0 { needed } else { needed.max(self.bytes.capacity() * 3 / 2 + STEP_BYTES) };
        self.charge.grow((grown - self.bytes.capacity()) as u64)?;
        self.bytes.reserve_exact(grown - self.bytes.len());
        Ok(())
    }

    fn push(&mut self, data: &[u8], bytes_max: u64) -> Result<(), Error> {
        // As upstream: reaching the limit is already too much.
        if bytes_max > 0 && (self.bytes.len() + data.len()) as u64 >= bytes_max {
            return Err(Error::BodyTooLarge);
        }
        self.reserve(data.len())?;
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Takes all of `incoming`.
    pub(super) async fn collect(mut incoming: Incoming, limits: &BodyLimits) -> Result<Body, Error> {
        let mut body = Body::empty(limits)?;
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|e| Error::Body(innermost(&e)))?;
            if let Some(data) = frame.data_ref() {
                body.push(data, limits.bytes_max)?;
            }
        }
        Ok(body)
    }

    /// The gzip-compressed `self`, uncompressed. Blocks for as long as that takes; memory is bounded by the limits
    /// whatever the ratio.
    pub(super) fn gunzip(self, limits: &BodyLimits) -> Result<Body, Error> {
        let (mut body, mut refused) = (Body::empty(limits)?, None);
        let sink = Sink { body: &mut body, bytes_max: limits.bytes_max, refused: &mut refused };
        let mut decoder = flate2::write::MultiGzDecoder::new(sink);
        let done = decoder.write_all(&self.bytes).and_then(|()| decoder.try_finish());
        drop(decoder);
        match (refused, done) {
            (Some(e), _) => Err(e),
            (None, Err(e)) => Err(Error::Body(format!("gzip: {e}"))),
            (None, Ok(())) => Ok(body),
        }
    }
}

/// Where inflated pieces (32 KiB at most each) go: the first one too many ends it.
struct Sink<'a> {
    body: &'a mut Body,
    bytes_max: u64,
    refused: &'a mut Option<Error>,
}

impl Write for Sink<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.body.push(data, self.bytes_max) {
            Ok(()) => Ok(data.len()),
            Err(e) => {
                *self.refused = Some(e);
                Err(io::Error::other("refused"))
            }
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
