//! Two chunks side by side, one word of each at a time: within a sample nothing branches on the data but what is rare.
//!
//! Whole words are read at any bit; a copy of the chunk with room behind it makes that safe without asking.
use std::cell::RefCell;

use super::{Place, ROOM, Walk};
use crate::encoding::varbit::sign_extend;

/// A chunk's bytes, and zeros behind them for any word that begins in them.
struct Padded([u8; ROOM + 16]);

thread_local! {
    static COPIES: RefCell<[Padded; 2]> = const { RefCell::new([Padded([0; ROOM + 16]), Padded([0; ROOM + 16])]) };
}

/// Reads what is left of the chunks, as far as it is usual.
pub(super) fn walk(walks: &mut [Walk<'_>]) {
    let mut left = walks.iter_mut().filter(|w| !w.is_unusual && w.left() > 0);
    COPIES.with(|copies| {
        let Ok(mut copies) = copies.try_borrow_mut() else { return };
        while let Some(first) = left.next() {
            walk_two(first, left.next(), &mut copies);
        }
    });
}

/// Alone, because the loop wants every register: inside its caller it is slower.
#[inline(never)]
fn walk_two(a: &mut Walk<'_>, mut b: Option<&mut Walk<'_>>, copies: &mut [Padded; 2]) {
    let [copy, other] = copies;
    a.prepare(copy);
    if let Some(b) = &mut b {
        b.prepare(other);
        together((a, copy), (b, other));
        b.finish(other);
    }
    a.finish(copy);
}

/// Steps two walks by turns, until one of them ends or finds something unusual.
fn together((a, copy): (&mut Walk<'_>, &Padded), (b, other): (&mut Walk<'_>, &Padded)) {
    let (mut x, mut y) = (a.at, b.at);
    let columns = a.out.rest(x.done).zip(b.out.rest(y.done));
    for ((t, v), (other_t, other_v)) in columns {
        if !x.step(copy) {
            break;
        }
        (*t, *v) = (x.t, f64::from_bits(x.value));
        if !y.step(other) {
            break;
        }
        (*other_t, *other_v) = (y.t, f64::from_bits(y.value));
    }
    (a.at, b.at) = (x, y);
}

impl Padded {
    fn fill(&mut self, bytes: &[u8]) {
        if let Some(to) = self.0.get_mut(..bytes.len()) {
            to.copy_from_slice(bytes);
        }
        if let Some(rest) = self.0.get_mut(bytes.len()..bytes.len() + 16) {
            rest.fill(0);
        }
    }
    /// 57 bits and more from a place on, left-aligned. Behind the end it is anything.
    #[inline(always)]
    fn word(&self, bit: usize) -> u64 {
        let at = (bit >> 3) & (ROOM - 1);
        let eight = self.0.get(at..at + 8).and_then(|b| b.first_chunk::<8>());
        u64::from_be_bytes(eight.copied().unwrap_or_default()) << (bit & 7)
    }
    /// All 64 bits.
    #[inline(always)]
    fn wide_word(&self, bit: usize) -> u64 {
        let next = self.0.get(((bit >> 3) & (ROOM - 1)) + 8).copied().unwrap_or_default();
        self.word(bit) | u64::from(next) >> (8 - (bit & 7))
    }
}

impl Walk<'_> {
    fn prepare(&mut self, copy: &mut Padded) {
        copy.fill(self.bytes);
        if self.is_sparse() {
            self.runs(copy);
        }
    }

    /// Decodes what is left, samples that repeat the one before as many at a time as a word holds. Stops before what is
    /// unusual.
    fn runs(&mut self, copy: &Padded) {
        while self.left() > 0 {
            let run = copy.word(self.at.bit).leading_zeros().min(56) as usize / 2;
            let (mut t, before) = (self.at.t, self.at.done);
            for (time, value) in self.out.rest(self.at.done).take(run) {
                t = t.wrapping_add(self.at.delta as i64);
                (*time, *value) = (t, f64::from_bits(self.at.value));
                self.at.done += 1;
            }
            self.at.t = t;
            self.at.bit += 2 * (self.at.done - before);
            if self.left() == 0 || !self.at.step(copy) {
                return;
            }
            self.at.done -= 1;
            self.put();
        }
    }

    /// Decodes what is left, as far as the chunk goes.
    fn finish(&mut self, copy: &Padded) {
        while self.left() > 0 {
            let mut at = self.at;
            for (t, v) in self.out.rest(at.done) {
                if !at.step(copy) {
                    break;
                }
                (*t, *v) = (at.t, f64::from_bits(at.value));
            }
            self.at = at;
            if self.left() > 0 && self.careful_step().is_err() {
                self.is_unusual = true;
                return;
            }
        }
    }
}

impl Place {
    /// Decodes one sample. `false`: it is unusual, and nothing has changed.
    #[inline(always)]
    fn step(&mut self, copy: &Padded) -> bool {
        let w = copy.word(self.bit);
        let (mut value, mut at, mut delta) = (w << 1, self.bit + 1, self.delta);
        if w >> 63 != 0 {
            let width = match (!w).leading_zeros() {
                1 => 14,
                2 => 17,
                3 => 20,
                _ => return false, // 64 bits: rare
            };
            let prefix = (!w).leading_zeros() + 1;
            delta = delta.wrapping_add(sign_extend(w << prefix >> (64 - width), width) as u64);
            at = self.bit + (prefix + width) as usize;
            value = copy.word(at);
        }
        if !self.value(copy, value, at) {
            return false;
        }
        self.delta = delta;
        self.t = self.t.wrapping_add(delta as i64);
        self.done += 1;
        true
    }

    /// Decodes the value that begins at `at`; `w` holds at least 56 bits from there on.
    #[inline(always)]
    fn value(&mut self, copy: &Padded, w: u64, at: usize) -> bool {
        let changed = (w >> 63) as u32;
        let fresh = w >> 62 == 0b11;
        let leading = (w >> 57) as u32 & 31;
        let length = ((w >> 51) as u32).wrapping_sub(1) & 63; // 0 stands for 64
        let bits = if fresh { length + 1 } else { self.bits };
        let trailing = if fresh { 63u32.wrapping_sub(leading + length) } else { self.trailing };
        let skip = if fresh { 13 } else { 1 + changed };
        // None for a value that is equal.
        let meaningful = bits & changed.wrapping_neg();
        if trailing > 63 {
            return false;
        }
        let at = at + skip as usize;
        let w = if meaningful > 43 { copy.wide_word(at) } else { w << skip };
        let xor = w >> ((64 - meaningful) & 63) & u64::from(changed).wrapping_neg();
        self.value ^= xor << trailing;
        (self.bits, self.trailing) = (bits, trailing);
        self.bit = at + meaningful as usize;
        true
    }
}
