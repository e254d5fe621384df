//! Snapshots of state and oracle beside the record, so that a start and a restart need not fold all of it.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use headwater_actor::{ActorControl, Component, RestartPolicy, System};
use headwater_bus::{Image, Images, Mailbox, Topology};
use headwater_journal::{Keeper, Snapshots};
use headwater_market::{HORIZON, ResolvedMarket};
use headwater_oracle::OracleImage;
use headwater_state::WorldImage;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;
use tracing::{debug, warn};

use crate::config::Config;

/// Images that wait while one is being saved.
const MAIL: usize = 1;

/// Where the snapshots of a run are.
#[derive(Clone, Debug)]
pub struct Archive {
    pub(crate) state: Snapshots,
    pub(crate) oracle: Snapshots,
    every: u64,
    keeper: Keeper,
}

impl Archive {
    /// The snapshots beside the record in `directory`.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be written down.
    pub fn beside(directory: &Path, market: &ResolvedMarket, config: &Config) -> serde_json::Result<Self> {
        let (for_state, for_oracle) =
            (market, (market, config.oracle.min_base_reserve_wei, config.oracle.average_window_s));
        let (for_state, for_oracle) =
            (serde_json::to_string(&for_state)?, serde_json::to_string(&for_oracle)?);
        let horizon = HORIZON as u64;
        Ok(Self {
            state: Snapshots::new(directory, "state", WorldImage::VERSION, &for_state, horizon),
            oracle: Snapshots::new(directory, "oracle", OracleImage::VERSION, &for_oracle, horizon),
            every: config.journal.snapshot_blocks,
            keeper: Keeper::default(),
        })
    }

    /// The same; `keeper` is told which events are still needed when a snapshot was saved.
    pub fn with_keeper(self, keeper: Keeper) -> Self {
        Self { keeper, ..self }
    }

    pub(crate) fn all(&self) -> [&Snapshots; 2] {
        [&self.state, &self.oracle]
    }

    /// The first event that any rebuild needs; `None` while the whole record may be needed.
    pub(crate) fn needed_from(&self) -> Option<u64> {
        Some(self.state.needed_from()?.min(self.oracle.needed_from()?))
    }

    /// Begins to save what a component hands over.
    pub(crate) fn keep<T>(
        &self,
        snapshots: &Snapshots,
        system: &System,
        topology: &Topology,
    ) -> (Images<T>, ActorControl)
    where
        T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let mail = Mailbox::new(topology, format!("{}-snapshots", snapshots.name()), MAIL);
        let outlet = mail.dropping(snapshots.name(), "images to be saved");
        let (archive, kept) = (self.clone(), snapshots.clone());
        let archivist = system.spawn(mail, RestartPolicy::default(), move |_| {
            let archivist = Archivist::<T>::new(kept.clone(), archive.clone());
            async move { Ok(archivist) }
        });
        let images = Images { outlet, every: self.every, shelf: Arc::new(snapshots.clone()) };
        (images, archivist.control().clone())
    }
}

/// Saves images where that holds nobody up. One that cannot be saved is told, and those before it stay.
struct Archivist<T> {
    snapshots: Snapshots,
    archive: Archive,
    observed: ArchivistObserved,
    images: PhantomData<fn(T)>,
}

/// What can be seen of it from outside.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct ArchivistObserved {
    /// Snapshots saved by this incarnation.
    saved: u64,
    /// Bytes of the last one.
    bytes: u64,
    /// Images that could not be saved.
    failed: u64,
}

impl<T> Archivist<T> {
    fn new(snapshots: Snapshots, archive: Archive) -> Self {
        Self { snapshots, archive, observed: ArchivistObserved::default(), images: PhantomData }
    }
}

impl<T: Clone + Serialize + Send + Sync + 'static> Component for Archivist<T> {
    type Message = Image<T>;
    type Observed = ArchivistObserved;

    async fn handle(&mut self, image: &Image<T>) -> anyhow::Result<()> {
        let (snapshots, archive, saved) = (self.snapshots.clone(), self.archive.clone(), image.clone());
        let saved = spawn_blocking(move || {
            let bytes = snapshots.save(&saved)?;
            if let Some(seq) = archive.needed_from() {
                archive.keeper.keep_from(seq);
            }
            Ok::<_, headwater_journal::JournalError>(bytes)
        });
        let (of, block) = (self.snapshots.name(), image.as_of.number);
        match saved.await? {
            Ok(bytes) => {
                debug!(of, block, bytes, "saved a snapshot");
                self.observed.saved += 1;
                self.observed.bytes = bytes;
            }
            Err(error) => {
                warn!(%error, of, block, "a snapshot cannot be saved; those before it stay");
                self.observed.failed += 1;
            }
        }
        Ok(())
    }

    fn observe(&self) -> ArchivistObserved {
        self.observed
    }
}
