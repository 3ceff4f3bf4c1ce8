//! Eight chunks side by side, each in its lane of vectors of eight words (AVX-512): a sample of each at a time.
//!
//! ```text
//! per lane:  high | low | third | fourth   256 bits of the chunk, the words in which the next samples lie
//!            bit                           where the next sample begins; when it leaves `high` the words move up, and the
//!                                          next one is fetched
//! ```
//! What is usual in all lanes (no change of the interval, and the sample's bits within one word) takes some fifty
//! instructions without a branch for eight samples; otherwise [`Lanes::general`] reads them, and tells the lanes that hold
//! what only [`super::Careful`] reads: those are left as they were.
//!
//! `unsafe` is needed for reading words at eight places at once, for writing less than a whole vector, and for calling
//! what only some processors can do.
#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

use super::Walk;

/// Reads what is left of the chunks, as far as it is usual and worth it.
#[cfg(target_arch = "x86_64")]
pub(super) fn walk(walks: &mut [Walk<'_>]) {
    /// Fewer chunks are read faster one or two at a time.
    const FEWEST: usize = 3;
    use std::arch::is_x86_feature_detected as has;
    if walks.iter().filter(|w| suits(w)).count() >= FEWEST
        && has!("avx512f")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vbmi2")
    {
        // SAFETY: the processor has what the function is compiled for.
        unsafe { vectors::walk(walks) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn walk(_: &mut [Walk<'_>]) {}

#[cfg(target_arch = "x86_64")]
fn suits(walk: &Walk<'_>) -> bool {
    !walk.is_unusual && walk.left() > 0 && !walk.is_sparse()
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;
    use std::cell::RefCell;

    use smallvec::SmallVec;

    use super::super::{AT_ONCE, Out, ROOM, Walk};
    use super::suits;

    /// Words of a lane's copy: some more than a chunk has are read.
    const WORDS: usize = ROOM / 8 + 8;
    /// A power of two, so that whatever number can be made a place in it.
    const ALL: usize = (1 + AT_ONCE * WORDS).next_power_of_two();

    /// A word that is always zero, and the chunks' words, lane after lane.
    struct Copies([u64; ALL]);

    thread_local! {
        static COPIES: RefCell<Copies> = const { RefCell::new(Copies([0; ALL])) };
    }

    const fn first_word(lane: usize) -> usize {
        1 + lane * WORDS
    }

    impl Copies {
        fn fill(&mut self, lane: usize, bytes: &[u8]) {
            let Some(to) = self.0.get_mut(first_word(lane)..first_word(lane + 1)) else { return };
            let (whole, rest) = bytes.as_chunks::<8>();
            for (to, from) in to.iter_mut().zip(whole) {
                *to = u64::from_be_bytes(*from);
            }
            let mut last = [0; 8];
            if let Some(to) = last.get_mut(..rest.len()) {
                to.copy_from_slice(rest);
            }
            let mut behind = to.iter_mut().skip(whole.len()).take(5);
            if let Some(to) = behind.next() {
                *to = u64::from_be_bytes(last);
            }
            behind.for_each(|to| *to = 0);
        }
        fn word(&self, at: usize) -> u64 {
            self.0.get(at).copied().unwrap_or_default()
        }
        /// The words at eight places (modulo their number), zero in lanes without a bit of `wanted`.
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn gather(&self, wanted: __mmask8, places: __m512i) -> __m512i {
            let places = _mm512_and_si512(places, _mm512_set1_epi64(ALL as i64 - 1));
            // SAFETY: every place is that of a word.
            unsafe { _mm512_mask_i64gather_epi64::<8>(_mm512_setzero_si512(), wanted, places, self.0.as_ptr().cast()) }
        }
    }

    /// Eight numbers as memory has them.
    #[repr(align(64))]
    #[derive(Clone, Copy)]
    struct Eight([i64; 8]);

    impl Eight {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn load(&self) -> __m512i {
            // SAFETY: 64 bytes, aligned.
            unsafe { _mm512_load_si512(self.0.as_ptr().cast()) }
        }
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn of(v: __m512i) -> Eight {
            let mut eight = Eight([0; 8]);
            // SAFETY: 64 bytes, aligned.
            unsafe { _mm512_store_si512(eight.0.as_mut_ptr().cast(), v) };
            eight
        }
    }

    /// Writes as many of eight words as there is room for.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn put<T: EightBytes>(to: Option<&mut [T]>, words: __m512i) {
        let Some(to) = to else { return };
        let mask = ((1u32 << to.len().min(8)) - 1) as __mmask8;
        // SAFETY: only words for which the slice has room are written.
        unsafe { _mm512_mask_storeu_epi64(to.as_mut_ptr().cast(), mask, words) }
    }

    /// Numbers that any 64 bits are one of.
    trait EightBytes {}
    impl EightBytes for i64 {}
    impl EightBytes for f64 {}

    /// What of the samples' state is in each lane.
    #[derive(Clone, Copy)]
    struct Lanes {
        high: __m512i,
        low: __m512i,
        /// The two words behind them: fetching one takes as long as reading some samples.
        third: __m512i,
        fourth: __m512i,
        /// Where the chunk's fourth word is in the copies; where the next sample begins, in bits from there on.
        first: __m512i,
        bit: __m512i,
        /// What counts of the place of a word to be fetched: nothing in lanes that have ended, where the first is zero.
        kept: __m512i,
        t: __m512i,
        delta: __m512i,
        value: __m512i,
        /// 64 less the meaningful bits of the last XOR, and how many zeros stand behind them.
        unused: __m512i,
        trailing: __m512i,
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
    fn all(n: i64) -> __m512i {
        _mm512_set1_epi64(n)
    }

    impl Lanes {
        /// 64 bits from the place on.
        #[inline]
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
        fn window(&self) -> __m512i {
            _mm512_shldv_epi64(self.high, self.low, self.bit)
        }

        /// Goes on by at most 64 bits.
        #[inline]
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
        fn skip(mut self, copies: &Copies, bits: __m512i) -> Lanes {
            let bit = _mm512_add_epi64(self.bit, bits);
            let used_up = _mm512_test_epi64_mask(_mm512_xor_si512(self.bit, bit), all(64));
            self.bit = bit;
            self.high = _mm512_mask_mov_epi64(self.high, used_up, self.low);
            self.low = _mm512_mask_mov_epi64(self.low, used_up, self.third);
            self.third = _mm512_mask_mov_epi64(self.third, used_up, self.fourth);
            // Not into the old word's register, or each would wait for the one before.
            let place = _mm512_add_epi64(self.first, _mm512_srli_epi64::<6>(bit));
            let fetched = copies.gather(used_up, _mm512_and_si512(place, self.kept));
            self.fourth = _mm512_mask_mov_epi64(self.fourth, used_up, fetched);
            self
        }

        /// Reads a sample of every lane, unless one of them is not usual. By value, because in memory it is slow.
        #[inline]
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
        fn usual(mut self, copies: &Copies) -> (Lanes, bool) {
            let window = self.window();
            let other_interval = _mm512_movepi64_mask(window);
            let w = _mm512_add_epi64(window, window);
            let changed = _mm512_movepi64_mask(w);
            let fresh = changed & _mm512_movepi64_mask(_mm512_add_epi64(w, w));
            let (unused, trailing) = self.new_window(w, fresh);
            // Of a value that is equal no bit counts.
            let shift = _mm512_mask_mov_epi64(all(64), changed, unused);
            // The bits in front of the value and 64 (shifts count modulo that), and then less what is not used of a word.
            let in_front = _mm512_mask_mov_epi64(all(64 + 2), changed, all(64 + 3));
            let in_front = _mm512_mask_mov_epi64(in_front, fresh, all(64 + 14));
            let bits = _mm512_sub_epi64(in_front, shift);
            let too_many = _mm512_cmpgt_epu64_mask(bits, all(64));
            if other_interval | too_many | _mm512_movepi64_mask(trailing) != 0 {
                return (self, false);
            }
            let from = _mm512_shldv_epi64(window, _mm512_setzero_si512(), in_front);
            self.change(changed, from, unused, trailing);
            (self.unused, self.trailing) = (unused, trailing);
            self.t = _mm512_add_epi64(self.t, self.delta);
            (self.skip(copies, bits), true)
        }

        /// Takes the value's bits from the front of `from`. Double shifts, because they count modulo 64 and cost no more.
        #[inline]
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
        fn change(&mut self, changed: __mmask8, from: __m512i, unused: __m512i, trailing: __m512i) {
            let zero = _mm512_setzero_si512();
            let xor = _mm512_shldv_epi64(_mm512_shrdv_epi64(from, zero, unused), zero, trailing);
            self.value = _mm512_mask_xor_epi64(self.value, changed, self.value, xor);
        }

        /// The window of the lanes whose value begins with a new one; negative zeros: there is no such window.
        #[inline]
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
        fn new_window(&self, w: __m512i, fresh: __mmask8) -> (__m512i, __m512i) {
            let length = _mm512_srli_epi64::<51>(w);
            let unused = _mm512_and_si512(_mm512_sub_epi64(_mm512_setzero_si512(), length), all(63));
            let leading = _mm512_and_si512(_mm512_srli_epi64::<57>(w), all(31));
            let trailing = _mm512_sub_epi64(unused, leading);
            (_mm512_mask_mov_epi64(self.unused, fresh, unused), _mm512_mask_mov_epi64(self.trailing, fresh, trailing))
        }

        /// Reads a sample of every lane. Says in which the interval changes, and which could not be read.
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
        fn general(&mut self, copies: &Copies) -> (__mmask8, __mmask8) {
            // The interval: ones and a zero, and then a number of so many bits.
            let w = self.window();
            let other = _mm512_movepi64_mask(w);
            let ones = _mm512_lzcnt_epi64(_mm512_xor_si512(w, all(-1)));
            let mut unusual = other & _mm512_cmpgt_epi64_mask(ones, all(3)); // 64 bits: rare
            let width = _mm512_permutexvar_epi64(ones, _mm512_set_epi64(0, 0, 0, 0, 20, 17, 14, 0));
            let prefix = _mm512_add_epi64(ones, all(1));
            let number = _mm512_srlv_epi64(_mm512_sllv_epi64(w, prefix), _mm512_sub_epi64(all(64), width));
            let half = _mm512_sllv_epi64(all(1), _mm512_sub_epi64(width, all(1)));
            let is_negative = _mm512_cmpgt_epi64_mask(number, half);
            let number = _mm512_mask_sub_epi64(number, is_negative, number, _mm512_add_epi64(half, half));
            self.delta = _mm512_mask_add_epi64(self.delta, other, self.delta, number);
            self.t = _mm512_add_epi64(self.t, self.delta);
            let bits = _mm512_mask_add_epi64(all(1), other, prefix, width);
            *self = self.skip(copies, _mm512_min_epu64(bits, all(64)));
            // The value.
            let w = self.window();
            let changed = _mm512_movepi64_mask(w);
            let fresh = changed & _mm512_movepi64_mask(_mm512_add_epi64(w, w));
            (self.unused, self.trailing) = self.new_window(w, fresh);
            unusual |= _mm512_movepi64_mask(self.trailing);
            let in_front = _mm512_mask_mov_epi64(all(1), changed, all(2));
            *self = self.skip(copies, _mm512_mask_mov_epi64(in_front, fresh, all(13)));
            let shift = _mm512_mask_mov_epi64(all(64), changed, self.unused);
            self.change(changed, self.window(), self.unused, self.trailing);
            *self = self.skip(copies, _mm512_sub_epi64(all(64), shift));
            (other, unusual)
        }

        /// What the next eight samples of each lane add to its time if their interval stays as it is.
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
        fn ramps(&self) -> [Eight; 8] {
            let steps = _mm512_set_epi64(8, 7, 6, 5, 4, 3, 2, 1);
            Eight::of(self.delta).0.map(|delta| Eight::of(_mm512_mullo_epi64(steps, all(delta))))
        }

        /// Reads `n <= 8` samples of every lane and puts them behind the first `done`. Says which of the lanes `reading` could
        /// not be read.
        #[inline]
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
        fn some(
            mut self,
            copies: &Copies,
            n: usize,
            reading: __mmask8,
            done: usize,
            outs: &mut [Out<'_>; 8],
            ramps: &mut [Eight; 8],
        ) -> (Lanes, __mmask8) {
            let (mut values, mut times) = ([Eight([0; 8]); 8], None);
            let (t, mut unusual) = (self.t, 0);
            for i in 0..n {
                let (usual, is_usual) = self.usual(copies);
                if is_usual {
                    self = usual;
                } else {
                    let mut copy = self; // what is lent lies in memory, and would for all steps
                    let (changed, could_not) = copy.general(copies);
                    unusual |= could_not & reading;
                    if changed & reading != 0 && times.is_none() {
                        times = Some(steady(t, self.delta));
                    }
                    self = copy;
                }
                if let Some(v) = values.get_mut(i) {
                    *v = Eight::of(self.value);
                }
                if let Some(t) = times.as_mut().and_then(|times| times.get_mut(i)) {
                    *t = Eight::of(self.t);
                }
            }
            for (out, v) in outs.iter_mut().zip(transpose(&values)) {
                put(out.values.get_mut(done..done + n), v);
            }
            if let Some(times) = times {
                for (out, t) in outs.iter_mut().zip(transpose(&times)) {
                    put(out.t_ms.get_mut(done..done + n), t);
                }
                *ramps = self.ramps();
            } else {
                for ((out, ramp), t) in outs.iter_mut().zip(ramps).zip(Eight::of(t).0) {
                    put(out.t_ms.get_mut(done..done + n), _mm512_add_epi64(ramp.load(), all(t)));
                }
            }
            (self, unusual)
        }

        /// Has the lanes read nothing but zeros from now on.
        #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
        fn quiet(self, lanes: __mmask8) -> Lanes {
            let zero = |v: __m512i| _mm512_mask_mov_epi64(v, lanes, all(0));
            Lanes {
                high: zero(self.high),
                low: zero(self.low),
                third: zero(self.third),
                fourth: zero(self.fourth),
                kept: zero(self.kept),
                trailing: zero(self.trailing),
                ..self
            }
        }
    }

    /// The times of the next eight samples, all lanes' first ones first.
    #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
    fn steady(t: __m512i, delta: __m512i) -> [Eight; 8] {
        let mut t = t;
        std::array::from_fn(|_| {
            t = _mm512_add_epi64(t, delta);
            Eight::of(t)
        })
    }

    /// Rows become columns.
    #[inline]
    #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
    fn transpose(rows: &[Eight; 8]) -> [__m512i; 8] {
        let [a, b, c, d, e, f, g, h] = rows.each_ref().map(|r| r.load());
        // Pairs of words, ...
        let (ab, ab2) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let (cd, cd2) = (_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
        let (ef, ef2) = (_mm512_unpacklo_epi64(e, f), _mm512_unpackhi_epi64(e, f));
        let (gh, gh2) = (_mm512_unpacklo_epi64(g, h), _mm512_unpackhi_epi64(g, h));
        // ... then quarters of a vector, twice.
        let quarters = |ab, cd, ef, gh| {
            let (x, y) = (_mm512_shuffle_i64x2::<0x88>(ab, cd), _mm512_shuffle_i64x2::<0xdd>(ab, cd));
            let (z, w) = (_mm512_shuffle_i64x2::<0x88>(ef, gh), _mm512_shuffle_i64x2::<0xdd>(ef, gh));
            [
                _mm512_shuffle_i64x2::<0x88>(x, z),
                _mm512_shuffle_i64x2::<0x88>(y, w),
                _mm512_shuffle_i64x2::<0xdd>(x, z),
                _mm512_shuffle_i64x2::<0xdd>(y, w),
            ]
        };
        let ([r0, r2, r4, r6], [r1, r3, r5, r7]) = (quarters(ab, cd, ef, gh), quarters(ab2, cd2, ef2, gh2));
        [r0, r1, r2, r3, r4, r5, r6, r7]
    }

    #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
    pub fn walk(walks: &mut [Walk<'_>]) {
        COPIES.with(|copies| {
            if let Ok(mut copies) = copies.try_borrow_mut() {
                walk_in(walks, &mut copies);
            }
        });
    }

    #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
    fn walk_in(walks: &mut [Walk<'_>], copies: &mut Copies) {
        let mut walks: SmallVec<[&mut Walk<'_>; AT_ONCE]> =
            walks.iter_mut().filter(|w| suits(w)).take(AT_ONCE).collect();
        let mut lanes = begin(&walks, copies);
        let mut reading = ((1u32 << walks.len()) - 1) as __mmask8;
        let mut ends = [0; AT_ONCE];
        let mut outs: [Out<'_>; AT_ONCE] = Default::default();
        for ((walk, end), out) in walks.iter_mut().zip(&mut ends).zip(&mut outs) {
            *end = walk.left();
            *out = walk.out.after(walk.at.done);
        }
        // Where each lane's chunk was left at its end; lanes that could not be read have none.
        let mut bits = [None; AT_ONCE];
        let mut done = 0;
        let mut ramps = lanes.ramps();
        while reading != 0 {
            let of_reading = |(lane, end): (usize, &usize)| (reading >> lane & 1 != 0).then_some(*end);
            let end = ends.iter().enumerate().filter_map(of_reading).min().unwrap_or(done);
            while done < end {
                let n = (end - done).min(8);
                let unusual;
                (lanes, unusual) = lanes.some(copies, n, reading, done, &mut outs, &mut ramps);
                done += n;
                if unusual != 0 {
                    lanes = lanes.quiet(unusual);
                    reading &= !unusual;
                }
            }
            let at = Eight::of(lanes.bit);
            let mut ended = 0;
            for (lane, (bit, end)) in bits.iter_mut().zip(&ends).enumerate() {
                if reading >> lane & 1 != 0 && *end == done {
                    *bit = at.0.get(lane).map(|at| *at as usize);
                    ended |= 1 << lane;
                }
            }
            lanes = lanes.quiet(ended);
            reading &= !ended;
        }
        for (walk, bit) in walks.iter_mut().zip(bits) {
            if let Some(bit) = bit {
                walk.at.bit = bit;
                walk.at.done = walk.out.t_ms.len();
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx512vbmi2")]
    fn begin(walks: &[&mut Walk<'_>], copies: &mut Copies) -> Lanes {
        let zero = Eight([0; 8]);
        let (mut high, mut low, mut third, mut fourth) = (zero, zero, zero, zero);
        let (mut bit, mut t, mut delta, mut value) = (zero, zero, zero, zero);
        let (mut unused, mut trailing, mut first, mut kept) = (zero, zero, zero, zero);
        for (lane, walk) in walks.iter().enumerate() {
            copies.fill(lane, walk.bytes);
            let at = &walk.at;
            let word = first_word(lane) + at.bit / 64;
            high.0[lane] = copies.word(word) as i64;
            low.0[lane] = copies.word(word + 1) as i64;
            third.0[lane] = copies.word(word + 2) as i64;
            fourth.0[lane] = copies.word(word + 3) as i64;
            (first.0[lane], bit.0[lane], kept.0[lane]) = (first_word(lane) as i64 + 3, at.bit as i64, -1);
            (t.0[lane], delta.0[lane], value.0[lane]) = (at.t, at.delta as i64, at.value as i64);
            (unused.0[lane], trailing.0[lane]) = (64 - i64::from(at.bits), i64::from(at.trailing));
        }
        Lanes {
            high: high.load(),
            low: low.load(),
            third: third.load(),
            fourth: fourth.load(),
            first: first.load(),
            bit: bit.load(),
            kept: kept.load(),
            t: t.load(),
            delta: delta.load(),
            value: value.load(),
            unused: unused.load(),
            trailing: trailing.load(),
        }
    }
}
