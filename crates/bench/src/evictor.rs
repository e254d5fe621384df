use std::time::Duration;

use headwater_bus::clock;

/// Empties the caches before each round: in production everything else that ran since the last block has done so, and
/// a tight loop alone understates what a block costs.
#[derive(Debug)]
pub struct Evictor {
    other: Vec<u64>,
}

impl Default for Evictor {
    fn default() -> Self {
        Self { other: vec![0; WORDS] }
    }
}

/// Words of 64 MiB: more than all caches of the processor hold.
const WORDS: usize = 64 << 17;

impl Evictor {
    /// The time that `rounds` rounds take; each takes the next of `inputs`, after the last of them from a new `start`.
    pub fn timed<S, I>(
        &mut self,
        rounds: u64,
        inputs: &[I],
        start: impl Fn() -> S,
        mut round: impl FnMut(&mut S, &I),
    ) -> Duration {
        let (mut state, mut took) = (start(), Duration::ZERO);
        for (count, input) in (0..rounds).zip(inputs.iter().cycle()) {
            if (count as usize).is_multiple_of(inputs.len()) {
                state = start();
            }
            self.other.iter_mut().for_each(|word| *word = word.wrapping_add(count));
            let began = clock::now();
            round(&mut state, input);
            took += clock::now().saturating_duration_since(began);
        }
        took
    }
}
