//! What a connection has seen, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of a connection's counters. Each starts at 0 with the connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        #[non_exhaustive]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Live { $(pub(crate) $name: AtomicU64,)* }

        impl Live {
            pub(crate) fn snapshot(&self) -> Counters {
                Counters { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Requests sent (each call of a batch counts).
    requests,
    /// Answers that reached their request, errors included.
    answers,
    /// Requests given up on: time-out or dropped future.
    given_up,
    /// Answers that came after their request had been given up on, or twice.
    late_answers,
    /// Answers to a request that was never made.
    unknown_answers,
    /// Errors without an id that could not be attributed to a request.
    unattributed_errors,
    /// Notifications put into a subscription's queue.
    notifications,
    /// Notifications dropped because a subscription's queue was full.
    notifications_dropped,
    /// Notifications of a subscription that is not (or no longer) known here.
    unknown_notifications,
    /// Messages that are no JSON-RPC, binary frames among them.
    malformed,
    /// WebSocket frames of type binary; JSON-RPC travels in text frames.
    binary_frames,
    /// Bytes of all messages received.
    bytes_received,
    /// Messages whose result was taken without walking it.
    fast_envelopes,
    /// Messages that went through the full parse.
    full_envelopes,
}

/// Adds one and gives the new count.
pub(crate) fn add_one(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Relaxed) + 1
}

/// Whether the n-th occurrence of a fault deserves a log line: the 1st, 2nd, 4th, 8th, … do.
pub(crate) fn worth_a_line(count: u64) -> bool {
    count.is_power_of_two()
}
