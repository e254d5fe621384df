use std::sync::Arc;
use std::time::Duration;

use headwater_actor::Quarantine;
use headwater_bus::Backlog;
use headwater_events::Envelope;
use tokio::task::spawn_blocking;

use crate::error::RebuildError;
use crate::prices::Oracle;

/// Under this name its messages are set aside.
const ACTOR: &str = "oracle";

/// Events that are read at once.
const BATCH: usize = 256;

/// The record is written behind the bus; what was processed already arrives in it soon.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// `oracle`, which knows nothing yet, after the recorded events from `first` to `last`, without what was set aside.
pub(crate) async fn rebuild(
    mut oracle: Oracle,
    backlog: &Arc<dyn Backlog>,
    quarantine: &Quarantine,
    first: u64,
    last: u64,
) -> Result<Oracle, RebuildError> {
    let mut next = first;
    let mut waited = Duration::ZERO;
    while next <= last {
        let folded;
        (oracle, folded) = fold_batch(oracle, Arc::clone(backlog), quarantine.clone(), next, last).await?;
        if folded > 0 {
            next += folded;
            waited = Duration::ZERO;
        } else if waited < PATIENCE {
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        } else {
            return Err(RebuildError::Short { wanted: last, next });
        }
    }
    Ok(oracle)
}

/// Folds the next events of the record; says how many there were. Reads a disk, and so runs where it may block.
async fn fold_batch(
    mut oracle: Oracle,
    backlog: Arc<dyn Backlog>,
    quarantine: Quarantine,
    next: u64,
    last: u64,
) -> Result<(Oracle, u64), RebuildError> {
    let limit = usize::try_from(last - next + 1).unwrap_or(BATCH).min(BATCH);
    let folded = spawn_blocking(move || {
        let events = backlog.read(next, limit)?;
        for (wanted, envelope) in (next..).zip(&events) {
            fold(&mut oracle, &quarantine, wanted, envelope)?;
        }
        Ok((oracle, events.len() as u64))
    });
    folded.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn fold(
    oracle: &mut Oracle,
    quarantine: &Quarantine,
    wanted: u64,
    envelope: &Envelope,
) -> Result<(), RebuildError> {
    let seq = envelope.seq;
    if seq != wanted {
        return Err(RebuildError::Hole { wanted, found: seq });
    }
    if quarantine.contains(ACTOR, seq) {
        oracle.leave_out(envelope);
        return Ok(());
    }
    oracle.apply(envelope).map_err(|error| RebuildError::Oracle { seq, error })?;
    Ok(())
}
