//! Reading: borrowed entries out of a scrape body.
