use std::collections::VecDeque;

/// What a concentrated-liquidity pool notes of the past: the sum of its tick over time, up to a moment.
///
/// As `Oracle.Observation` of v3-core: the timestamp is seconds modulo 2^32, the sum an `int56` that wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickObservation {
    /// Seconds since the Unix epoch, modulo 2^32.
    pub timestamp: u32,
    /// Σ tick · seconds, modulo 2^56 with sign.
    pub tick_cumulative: i64,
}

impl TickObservation {
    /// The observation at a later moment, if the tick was `tick` since (`Oracle.transform`).
    pub fn advanced(self, timestamp: u32, tick: i32) -> Self {
        let seconds = i64::from(timestamp.wrapping_sub(self.timestamp));
        Self {
            timestamp,
            tick_cumulative: int56(self.tick_cumulative.wrapping_add(i64::from(tick) * seconds)),
        }
    }
}

/// The observations of a pool, as its contract keeps them: one for each second in which its tick changed, or the liquidity at it,
/// so many at most.
///
/// A tick counts for as long as it stood, so that what a block does to it weighs nothing in that block itself. The price that
/// belongs to a mean tick is a geometric mean: a block of `d` seconds at a tick that is `t` away moves the mean over `w` seconds
/// by `t · d / w` ticks, of which 100 are about one percent.
///
/// `cargo xtask prove oracle` compares them with a `UniswapV3Pool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickObservations {
    /// Oldest first; at least one.
    kept: VecDeque<TickObservation>,
    /// The place of the last one in the contract's array (`observationIndex`).
    index: u16,
    /// How many it has room for (`observationCardinality`), at least one.
    cardinality: u16,
    /// How many it will have room for when it comes to the end of its array (`observationCardinalityNext`).
    cardinality_next: u16,
}

/// Why there is no mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    /// The pool does not remember that far back.
    #[error("the oldest observation is younger than that")]
    Old,
    /// A mean over no time.
    #[error("a mean is over at least one second")]
    NoTime,
}

impl TickObservations {
    /// Those of a pool that is initialized now, and remembers one.
    pub fn begin(timestamp: u32) -> Self {
        Self::of(TickObservation { timestamp, tick_cumulative: 0 }, 0, 1)
    }

    /// Those of a pool whose last one is known, with its place and how many there is room for, by `slot0`. What it remembers beside
    /// that one is not known.
    pub fn of(last: TickObservation, index: u16, cardinality: u16) -> Self {
        let cardinality = cardinality.max(1);
        Self { kept: [last].into(), index, cardinality, cardinality_next: cardinality }
    }

    /// Makes room for so many (`increaseObservationCardinalityNext`); never for fewer than before.
    pub fn raise(&mut self, cardinality: u16) {
        self.cardinality_next = self.cardinality_next.max(cardinality);
    }

    /// Follows a swap that moved the tick from one to another.
    pub fn swapped(&mut self, timestamp: u32, before: i32, after: i32) {
        if before != after {
            self.write(timestamp, before);
        }
    }

    /// Follows liquidity that was added to a range, or taken out of it, while the pool stood at `tick`.
    pub fn liquidity_changed(&mut self, timestamp: u32, tick: i32, [lower, upper]: [i32; 2]) {
        if (lower..upper).contains(&tick) {
            self.write(timestamp, tick);
        }
    }

    /// Notes that the tick was `tick` up to this moment (`Oracle.write`). A second time in the same second changes nothing.
    fn write(&mut self, timestamp: u32, tick: i32) {
        let last = self.last();
        if last.timestamp == timestamp {
            return;
        }
        if self.cardinality_next > self.cardinality && self.index == self.cardinality - 1 {
            self.cardinality = self.cardinality_next;
        }
        self.index = if self.index + 1 < self.cardinality { self.index + 1 } else { 0 };
        self.kept.push_back(last.advanced(timestamp, tick));
        if self.kept.len() > usize::from(self.cardinality) {
            self.kept.pop_front();
        }
    }

    /// The last observation.
    pub fn last(&self) -> TickObservation {
        *self.kept.back().expect("there is at least one")
    }

    /// The sum of the tick as of `seconds_ago` before `now`, if it is `tick` since the last observation (`Oracle.observeSingle`).
    ///
    /// # Errors
    ///
    /// [`ObserveError::Old`] where the pool does not remember that far back.
    pub fn observe(&self, now: u32, tick: i32, seconds_ago: u32) -> Result<i64, ObserveError> {
        let target = now.wrapping_sub(seconds_ago);
        let ago = |observation: &TickObservation| now.wrapping_sub(observation.timestamp);
        let after = self.kept.partition_point(|observation| ago(observation) >= seconds_ago);
        let before = *self.kept.get(after.wrapping_sub(1)).ok_or(ObserveError::Old)?;
        if before.timestamp == target {
            return Ok(before.tick_cumulative);
        }
        let Some(after) = self.kept.get(after) else {
            return Ok(before.advanced(target, tick).tick_cumulative);
        };
        // Division truncates, and comes first.
        let span = i64::from(after.timestamp.wrapping_sub(before.timestamp));
        let into = i64::from(target.wrapping_sub(before.timestamp));
        let per_second = int56(after.tick_cumulative.wrapping_sub(before.tick_cumulative)) / span;
        Ok(int56(before.tick_cumulative.wrapping_add(per_second * into)))
    }

    /// The arithmetic mean of the tick over the last `seconds`, rounded toward negative infinity
    /// (v3-periphery, `OracleLibrary.consult`).
    ///
    /// # Errors
    ///
    /// [`ObserveError`].
    pub fn consult(&self, now: u32, tick: i32, seconds: u32) -> Result<i32, ObserveError> {
        let earlier = self.observe(now, tick, seconds)?;
        let later = self.observe(now, tick, 0)?;
        mean_tick(earlier, later, seconds)
    }
}

/// The arithmetic mean of the tick between two sums that lie so many seconds apart, rounded toward negative infinity.
///
/// # Errors
///
/// [`ObserveError::NoTime`] for no seconds.
pub fn mean_tick(earlier: i64, later: i64, seconds: u32) -> Result<i32, ObserveError> {
    let mean = int56(later.wrapping_sub(earlier)).checked_div_euclid(i64::from(seconds));
    // The contract's cast to `int24` cuts nothing off: a mean lies between the ticks that it is of.
    mean.map(|mean| mean as i32).ok_or(ObserveError::NoTime)
}

/// As an `int56`: what is beyond wraps.
fn int56(value: i64) -> i64 {
    value << 8 >> 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST_TICK: i32 = 887_272;

    #[test]
    fn a_mean_is_rounded_toward_negative_infinity() {
        for (delta, seconds, expected) in
            [(100, 10, 10), (101, 10, 10), (-100, 10, -10), (-101, 10, -11), (-1, 1_800, -1), (0, 7, 0)]
        {
            assert_eq!(mean_tick(50, 50 + delta, seconds), Ok(expected), "{delta} over {seconds}");
        }
        assert_eq!(mean_tick(0, 1, 0), Err(ObserveError::NoTime));
    }

    #[test]
    fn sums_and_seconds_wrap() {
        let top = (1i64 << 55) - 1;
        let last = TickObservation { timestamp: u32::MAX - 9, tick_cumulative: top };
        let mut pool = TickObservations::of(last, 3, 10);
        pool.write(10, 5);
        assert_eq!(pool.last(), TickObservation { timestamp: 10, tick_cumulative: -(1 << 55) + 99 });
        assert_eq!(pool.consult(10, 77, 20), Ok(5));
        assert_eq!(pool.consult(14, 9, 10), Ok((6 * 5 + 4 * 9) / 10));
    }

    #[test]
    fn what_is_forgotten_is_old() {
        let mut pool = TickObservations::begin(100);
        pool.raise(2);
        pool.write(110, 1);
        pool.write(120, 2);
        assert_eq!(pool.observe(120, 3, 10), Ok(10));
        assert_eq!(pool.observe(120, 3, 11), Err(ObserveError::Old));
        assert_eq!(pool.consult(130, 3, 0), Err(ObserveError::NoTime));
    }

    #[test]
    fn room_is_made_at_the_end_of_the_array() {
        let mut pool = TickObservations::begin(100);
        pool.raise(2);
        pool.raise(1);
        (1..4).for_each(|step| pool.swapped(100 + 10 * step, 0, 1));
        // The last stands in the second of two places: from here on there are four.
        pool.raise(4);
        assert_eq!((pool.kept.len(), pool.kept[0].timestamp), (2, 120));
        (4..9).for_each(|step| pool.swapped(100 + 10 * step, 0, 1));
        assert_eq!((pool.kept.len(), pool.kept[0].timestamp), (4, 150));
    }

    #[test]
    fn what_does_not_touch_the_tick_is_not_noted() {
        let mut pool = TickObservations::begin(100);
        pool.swapped(110, 5, 5);
        pool.liquidity_changed(110, 5, [6, 9]);
        pool.liquidity_changed(110, 5, [0, 5]);
        assert_eq!(pool.last().timestamp, 100);
        pool.liquidity_changed(110, 5, [5, 6]);
        assert_eq!(pool.last(), TickObservation { timestamp: 110, tick_cumulative: 50 });
    }

    proptest! {
        /// The judge goes through the seconds one by one.
        #[test]
        fn a_sum_is_that_of_the_tick_of_each_second(
            begin in any::<u32>(),
            changes in proptest::collection::vec((1u32..90, -MOST_TICK..=MOST_TICK), 1..40),
            since in 0u32..90,
            ago in 0u32..4_000,
        ) {
            let mut pool = TickObservations::begin(begin);
            pool.raise(1_000);
            // The tick in each second since the beginning.
            let (mut tick, mut seconds, mut now) = (0i32, Vec::new(), begin);
            for (span, next) in &changes {
                now = now.wrapping_add(*span);
                seconds.extend((0..*span).map(|_| tick));
                pool.write(now, tick);
                pool.write(now, next.wrapping_add(1));
                tick = *next;
            }
            now = now.wrapping_add(since);
            seconds.extend((0..since).map(|_| tick));
            let ago = ago as usize;
            let found = pool.observe(now, tick, ago as u32);
            let expected = seconds.len().checked_sub(ago).map(|upto| {
                seconds[..upto].iter().map(|tick| i64::from(*tick)).sum::<i64>()
            });
            prop_assert_eq!(found.ok(), expected);
            if let Some(upto) = seconds.len().checked_sub(ago).filter(|_| ago > 0) {
                let sum: i64 = seconds[upto..].iter().map(|tick| i64::from(*tick)).sum();
                let floor = (sum as f64 / ago as f64).floor() as i32;
                prop_assert_eq!(pool.consult(now, tick, ago as u32), Ok(floor));
            }
        }
    }
}
