//! SipHash-1-3 over keys of a fixed number of words (Aumasson and Bernstein, 2012): who does not know the seed cannot tell which
//! keys meet.

/// The state of a hash under way.
#[derive(Clone, Copy)]
pub struct Sip([u64; 4]);

impl Sip {
    /// Begins with a seed.
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: [u64; 2]) -> Self {
        Self([
            seed[0] ^ 0x736f_6d65_7073_6575,
            seed[1] ^ 0x646f_7261_6e64_6f6d,
            seed[0] ^ 0x6c79_6765_6e65_7261,
            seed[1] ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    fn round(&mut self) {
        let v = &mut self.0;
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }

    /// Takes a word in.
    #[inline(always)]
    pub fn word(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    /// The hash of what was taken in.
    #[inline(always)]
    #[must_use]
    pub fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }
}
