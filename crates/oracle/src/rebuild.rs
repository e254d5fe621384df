use std::sync::Arc;
use std::time::Duration;

use headwater_actor::Quarantine;
use headwater_bus::{Backlog, Image, Shelf};
use headwater_events::Envelope;
use headwater_market::ResolvedMarket;
use tokio::task::{JoinError, spawn_blocking};
use tracing::{info, warn};

use crate::config::OracleConfig;
use crate::error::RebuildError;
use crate::prices::{Oracle, OracleImage};

/// Under this name its messages are set aside.
const ACTOR: &str = "oracle";

/// Events that are read at once.
const BATCH: usize = 256;

/// The record is written behind the bus; what was processed already arrives in it soon.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// The oracle after the recorded events up to `last`, without what was set aside. It is folded from the newest image
/// that serves; without one, from event `first`.
pub(crate) async fn rebuild(
    market: &Arc<ResolvedMarket>,
    config: &OracleConfig,
    images: Option<Arc<dyn Shelf<OracleImage>>>,
    backlog: &Arc<dyn Backlog>,
    quarantine: &Quarantine,
    first: u64,
    last: u64,
) -> Result<Oracle, RebuildError> {
    let restored = match images {
        Some(images) => restore(Arc::clone(market), config.clone(), images, last).await?,
        None => None,
    };
    let (mut oracle, mut next) = restored.unwrap_or_else(|| (Oracle::new(market, config), first));
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

/// The oracle of the newest image up to event `last` that serves, and the event behind it.
async fn restore(
    market: Arc<ResolvedMarket>,
    config: OracleConfig,
    images: Arc<dyn Shelf<OracleImage>>,
    last: u64,
) -> Result<Option<(Oracle, u64)>, RebuildError> {
    unblocked(last, move || {
        let mut until = last;
        while let Some(Image { as_of, content }) = images.newest(until) {
            match Oracle::of_image(&market, &config, content) {
                Ok(oracle) => {
                    info!(block = as_of.number, seq = as_of.seq, last, "rebuilding from a snapshot");
                    return Ok(Some((oracle, as_of.seq + 1)));
                }
                Err(error) => warn!(%error, block = as_of.number, "a snapshot is refused"),
            }
            until = as_of.seq.saturating_sub(1);
        }
        Ok(None)
    })
    .await
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
    unblocked(last, move || {
        let events = backlog.read(next, limit)?;
        for (wanted, envelope) in (next..).zip(&events) {
            fold(&mut oracle, &quarantine, wanted, envelope)?;
        }
        Ok((oracle, events.len() as u64))
    })
    .await
}

/// Runs what reads a disk where it may block.
async fn unblocked<T: Send + 'static>(
    last: u64,
    read: impl FnOnce() -> Result<T, RebuildError> + Send + 'static,
) -> Result<T, RebuildError> {
    match spawn_blocking(read).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(RebuildError::ShuttingDown { wanted: last }),
    }
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
