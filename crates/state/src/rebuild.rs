use std::sync::Arc;
use std::time::Duration;

use headwater_actor::Quarantine;
use headwater_bus::Backlog;
use headwater_events::Envelope;
use headwater_market::ResolvedMarket;
use tokio::task::{JoinError, spawn_blocking};

use crate::error::RebuildError;
use crate::world::World;

/// Under this name its messages are set aside.
const ACTOR: &str = "state";

/// Events that are read at once.
const BATCH: usize = 256;

/// The record is written behind the bus; what was processed already arrives in it soon.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// The world after the recorded events from `first` to `last`: the one that an undisturbed actor would have, without
/// what was set aside.
pub(crate) async fn rebuild(
    market: &ResolvedMarket,
    backlog: &Arc<dyn Backlog>,
    quarantine: &Quarantine,
    first: u64,
    last: u64,
) -> Result<World, RebuildError> {
    let mut world = World::new(market);
    let mut next = first;
    let mut waited = Duration::ZERO;
    while next <= last {
        let read;
        (world, read) = fold_batch(world, Arc::clone(backlog), quarantine.clone(), next, last).await?;
        if read > 0 {
            next += read;
            waited = Duration::ZERO;
        } else if waited < PATIENCE {
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        } else {
            return Err(RebuildError::Short { wanted: last, next });
        }
    }
    Ok(world)
}

/// Folds the next events of the record; says how many there were. Reads a disk, and so runs where it may block.
async fn fold_batch(
    mut world: World,
    backlog: Arc<dyn Backlog>,
    quarantine: Quarantine,
    next: u64,
    last: u64,
) -> Result<(World, u64), RebuildError> {
    let limit = usize::try_from(last - next + 1).unwrap_or(BATCH).min(BATCH);
    let folded = spawn_blocking(move || {
        let events = backlog.read(next, limit)?;
        for (wanted, envelope) in (next..).zip(&events) {
            fold(&mut world, &quarantine, wanted, envelope)?;
        }
        Ok((world, events.len() as u64))
    });
    match folded.await.map_err(JoinError::try_into_panic) {
        Ok(folded) => folded,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is shutting down.
        Err(Err(_)) => Err(RebuildError::Short { wanted: last, next }),
    }
}

fn fold(
    world: &mut World,
    quarantine: &Quarantine,
    wanted: u64,
    envelope: &Envelope,
) -> Result<(), RebuildError> {
    let seq = envelope.seq;
    if seq != wanted {
        return Err(RebuildError::Hole { wanted, found: seq });
    }
    if quarantine.contains(ACTOR, seq) {
        world.leave_out(envelope);
        return Ok(());
    }
    world.apply(envelope).map_err(|error| RebuildError::World { seq, error })?;
    Ok(())
}
