//! Snapshots of components beside the journal: what a rebuild begins with.
//!
//! ```text
//! header   magic 8 | format u16 | version u16 | configuration u32 | seq u64 | number u64 | hash 32 | length u64 (of the payload)
//!          | crc32c u32 (of the payload) | crc32c u32 (of the 76 bytes before)
//! payload  bincode 2, standard configuration: the component's image
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use alloy_primitives::{B256, BlockNumber};
use headwater_bus::{Image, Shelf};
use headwater_events::{AsOf, BusEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::durable::{Points, TEMPORARY, replace, sync_directory};
use crate::error::JournalError;
use crate::fail_points::{FailPoint, pass};
use crate::recording::Recording;

/// Begins every snapshot.
const MAGIC: [u8; 8] = *b"\x89HWS\r\n\x1a\n";
/// Version of the framing.
const FORMAT: u16 = 1;
/// Largest payload in bytes that is written or believed: some hundred bytes for each of a million pools.
pub const MAX_SNAPSHOT_BYTES: usize = 256 << 20;
const HEADER_BYTES: usize = 80;
/// How the names of snapshots end.
const EXTENSION: &str = "hws";
/// Newest snapshots that are kept at least: if the last one does not hold, the one before it does.
const NEWEST: usize = 2;

const POINTS: Points = Points {
    create: FailPoint::SnapshotCreate,
    write: FailPoint::SnapshotWrite,
    write_half: FailPoint::SnapshotWriteHalf,
    sync: FailPoint::SnapshotSync,
    rename: FailPoint::SnapshotRename,
    directory_sync: FailPoint::SnapshotDirectorySync,
};

/// The snapshots of one component in the directory of a run.
#[derive(Clone, Debug)]
pub struct Snapshots {
    directory: PathBuf,
    /// How the names of their files begin: that of the component.
    name: &'static str,
    /// Version of the image. One of another version is refused.
    version: u16,
    /// Stands for the configuration that the image depends on. One that was taken under another is refused.
    configuration: u32,
    /// Blocks that a reorganisation may undo: as many and more lie between the newest snapshot and the oldest one.
    horizon: BlockNumber,
}

/// Why a snapshot is not gone on from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] JournalError),
    /// The file does not begin as a snapshot does.
    #[error("it is no snapshot")]
    Foreign,
    /// The header's checksum does not hold.
    #[error("the header's checksum does not hold")]
    Header,
    /// Of a later program.
    #[error("format {0} is newer than this program")]
    Format(u16),
    /// The image is of another version.
    #[error("the image is of version {found}, and this program reads {expected}")]
    Version {
        /// That of the file.
        found: u16,
        /// That of this program.
        expected: u16,
    },
    /// The configuration has changed since.
    #[error("it was taken under another configuration")]
    Configuration,
    /// The header does not say what the name does.
    #[error("it has the name of another snapshot")]
    Name,
    /// The file is shorter or longer than its header says, or longer than any snapshot.
    #[error("it has {found} bytes, and should have {expected}")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes that its header claims.
        expected: u64,
    },
    /// The payload's checksum does not hold.
    #[error("the checksum does not hold")]
    Checksum,
    /// The payload is no image, although its checksum holds.
    #[error("the payload does not decode: {0}")]
    Payload(String),
    /// The record ends before the snapshot was taken.
    #[error("the record ends before it was taken")]
    AheadOfRecord,
    /// The record has another event there, or none.
    #[error("its block does not stand in the record at event {0}")]
    NotRecorded(u64),
    /// A later reorganisation in the record undoes its block.
    #[error("its block is no longer canonical")]
    NotCanonical,
}

impl Refusal {
    /// Whether another program or configuration may still go on from it.
    fn may_serve_others(&self) -> bool {
        matches!(
            self,
            Self::Io(_) | Self::Foreign | Self::Format(_) | Self::Version { .. } | Self::Configuration
        )
    }
}

/// The head of a file.
struct Header {
    version: u16,
    configuration: u32,
    as_of: AsOf,
    length: u64,
    crc: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let AsOf { seq, number, hash } = self.as_of;
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.configuration.to_le_bytes());
        bytes[16..24].copy_from_slice(&seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&number.to_le_bytes());
        bytes[32..64].copy_from_slice(hash.as_slice());
        bytes[64..72].copy_from_slice(&self.length.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..76]);
        bytes[76..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| Refusal::Foreign)?;
        if bytes[..8] != MAGIC {
            return Err(Refusal::Foreign);
        }
        if crc32c::crc32c(&bytes[..76]) != u32::from_le_bytes(part(bytes, 76)) {
            return Err(Refusal::Header);
        }
        let format = u16::from_le_bytes(part(bytes, 8));
        if format != FORMAT {
            return Err(Refusal::Format(format));
        }
        let number = |at| u64::from_le_bytes(part(bytes, at));
        Ok(Self {
            version: u16::from_le_bytes(part(bytes, 10)),
            configuration: u32::from_le_bytes(part(bytes, 12)),
            as_of: AsOf { seq: number(16), number: number(24), hash: B256::new(part(bytes, 32)) },
            length: number(64),
            crc: u32::from_le_bytes(part(bytes, 72)),
        })
    }
}

fn part<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

fn encoding() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_SNAPSHOT_BYTES>()
}

impl Snapshots {
    /// Those of the component `name` in `directory`. `version` is that of its image, `configuration` says all that the
    /// image depends on, and `horizon` how many blocks a reorganisation may undo.
    pub fn new(
        directory: impl Into<PathBuf>,
        name: &'static str,
        version: u16,
        configuration: &str,
        horizon: BlockNumber,
    ) -> Self {
        let configuration = crc32c::crc32c(configuration.as_bytes());
        Self { directory: directory.into(), name, version, configuration, horizon }
    }

    /// The component's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Saves an image, durably, and removes those that are no longer needed. Says how many bytes it takes.
    ///
    /// # Errors
    ///
    /// [`JournalError::Encode`] for an image beyond [`MAX_SNAPSHOT_BYTES`], [`JournalError::Io`] where it cannot be written;
    /// then the earlier ones are all there.
    pub fn save<T: Serialize>(&self, image: &Image<T>) -> Result<u64, JournalError> {
        let seq = image.as_of.seq;
        let refused = |reason| JournalError::Encode { seq, reason };
        let mut bytes = vec![0; HEADER_BYTES];
        bincode::serde::encode_into_std_write(&image.content, &mut bytes, encoding())
            .map_err(|error| refused(error.to_string()))?;
        let payload = &bytes[HEADER_BYTES..];
        if payload.len() > MAX_SNAPSHOT_BYTES {
            let length = payload.len();
            return Err(refused(format!("{length} bytes exceed the limit of {MAX_SNAPSHOT_BYTES}")));
        }
        let header = Header {
            version: self.version,
            configuration: self.configuration,
            as_of: image.as_of,
            length: payload.len() as u64,
            crc: crc32c::crc32c(payload),
        };
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        replace(&self.path(seq), &bytes, &POINTS)?;
        self.prune()?;
        Ok(bytes.len() as u64)
    }

    /// The first event that a rebuild from any of these snapshots needs; `None` until two of them reach beyond the horizon:
    /// then the whole record may be needed.
    pub fn needed_from(&self) -> Option<u64> {
        let kept = self.intact().ok()?;
        let (newest, oldest) = (kept.last()?, kept.first()?);
        let is_deep = newest.number.saturating_sub(oldest.number) >= self.horizon;
        (kept.len() >= NEWEST && is_deep).then_some(oldest.seq)
    }

    /// Refuses what cannot be gone on from behind a record that ends before event `next_seq`, and removes it where it cannot
    /// serve anybody: before the record is written on. Says for each component how many snapshots are left.
    ///
    /// # Errors
    ///
    /// Where the record or the directory cannot be read.
    pub fn admit(all: &[&Self], recording: &Recording, next_seq: u64) -> Result<Vec<usize>, JournalError> {
        let mut known = BTreeSet::new();
        for snapshots in all {
            snapshots.remove_unfinished()?;
            for (seq, path) in snapshots.files()? {
                let examined =
                    if seq < next_seq { snapshots.examine(&path) } else { Err(Refusal::AheadOfRecord) };
                match examined {
                    Ok((header, _)) => known.extend([(seq, header.as_of.hash)]),
                    Err(refusal) => snapshots.refuse(&path, &refusal)?,
                }
            }
        }
        let verdicts = judge(&known, recording)?;
        let mut left = Vec::new();
        for snapshots in all {
            let mut usable = 0;
            for as_of in snapshots.intact()? {
                match verdicts.get(&(as_of.seq, as_of.hash)) {
                    Some(refusal) => snapshots.refuse(&snapshots.path(as_of.seq), refusal)?,
                    None => usable += 1,
                }
            }
            left.push(usable);
        }
        Ok(left)
    }

    fn path(&self, seq: u64) -> PathBuf {
        self.directory.join(format!("{}-{seq:020}.{EXTENSION}", self.name))
    }

    /// Oldest first, with the events that their names say.
    fn files(&self) -> Result<Vec<(u64, PathBuf)>, JournalError> {
        let files = snapshot_files(&self.directory)?.into_iter();
        let mut own: Vec<_> = files.filter_map(|path| Some((self.seq_of(&path)?, path))).collect();
        own.sort_unstable();
        Ok(own)
    }

    fn seq_of(&self, path: &Path) -> Option<u64> {
        let name = path.file_stem()?.to_str()?;
        let seq = name.strip_prefix(self.name)?.strip_prefix('-')?.parse().ok()?;
        (self.path(seq) == path).then_some(seq)
    }

    /// What the files with a header of ours are of, oldest first.
    fn intact(&self) -> Result<Vec<AsOf>, JournalError> {
        let files = self.files()?;
        Ok(files
            .iter()
            .filter_map(|(_, path)| Some(self.header(path, &mut open(path).ok()?).ok()?.as_of))
            .collect())
    }

    fn header(&self, path: &Path, file: &mut File) -> Result<Header, Refusal> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        let head = file.by_ref().take(HEADER_BYTES as u64);
        { head }.read_to_end(&mut bytes).map_err(JournalError::io("read", path))?;
        let header = Header::decode(&bytes)?;
        if self.seq_of(path) != Some(header.as_of.seq) {
            return Err(Refusal::Name);
        }
        if header.version != self.version {
            return Err(Refusal::Version { found: header.version, expected: self.version });
        }
        if header.configuration != self.configuration {
            return Err(Refusal::Configuration);
        }
        Ok(header)
    }

    /// The header and the payload of a file that is whole.
    fn examine(&self, path: &Path) -> Result<(Header, Vec<u8>), Refusal> {
        let mut file = open(path)?;
        let header = self.header(path, &mut file)?;
        let found = file.metadata().map_err(JournalError::io("read", path))?.len();
        let expected = header.length.saturating_add(HEADER_BYTES as u64);
        if found != expected || header.length > MAX_SNAPSHOT_BYTES as u64 {
            return Err(Refusal::Length { found, expected });
        }
        let mut payload = Vec::new();
        file.take(header.length).read_to_end(&mut payload).map_err(JournalError::io("read", path))?;
        if crc32c::crc32c(&payload) != header.crc {
            return Err(Refusal::Checksum);
        }
        Ok((header, payload))
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Image<T>, Refusal> {
        let (header, payload) = self.examine(path)?;
        let (content, used): (T, usize) = bincode::serde::decode_from_slice(&payload, encoding())
            .map_err(|error| Refusal::Payload(error.to_string()))?;
        if used != payload.len() {
            return Err(Refusal::Payload(format!("{} bytes are left over", payload.len() - used)));
        }
        Ok(Image { as_of: header.as_of, content })
    }

    fn refuse(&self, path: &Path, refusal: &Refusal) -> Result<(), JournalError> {
        warn!(snapshot = %path.display(), reason = %refusal, "a snapshot is refused; trying the one before");
        if refusal.may_serve_others() {
            return Ok(());
        }
        remove(path)?;
        // Before the record is written on: then it must not come back.
        sync_directory(&self.directory)
    }

    /// Keeps the newest two, and of those before them as many as it takes to reach beyond the horizon.
    fn prune(&self) -> Result<(), JournalError> {
        let intact = self.intact()?;
        let Some(newest) = intact.last() else { return Ok(()) };
        let is_deep = |as_of: &&AsOf| newest.number.saturating_sub(as_of.number) >= self.horizon;
        let Some(oldest) = intact.iter().rev().skip(NEWEST - 1).find(is_deep) else { return Ok(()) };
        for (_, path) in self.files()?.into_iter().take_while(|(seq, _)| *seq < oldest.seq) {
            remove(&path)?;
        }
        Ok(())
    }

    /// What a process that died left of one that it was writing.
    fn remove_unfinished(&self) -> Result<(), JournalError> {
        for path in files_ending_in(&self.directory, TEMPORARY)? {
            let finished = path.with_extension(EXTENSION);
            if self.seq_of(&finished).is_some() {
                fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Shelf<T> for Snapshots {
    fn newest(&self, until: u64) -> Option<Image<T>> {
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                warn!(%error, "the snapshots cannot be found");
                return None;
            }
        };
        files.into_iter().rev().filter(|(seq, _)| *seq <= until).find_map(|(_, path)| {
            let read = self.read(&path);
            if let Err(refusal) = &read {
                warn!(snapshot = %path.display(), reason = %refusal, "a snapshot is refused; trying the one before");
            }
            read.ok()
        })
    }
}

/// Which of the blocks, each with the event of it, do not stand in the record there, or are undone in it later.
fn judge(
    known: &BTreeSet<(u64, B256)>,
    recording: &Recording,
) -> Result<BTreeMap<(u64, B256), Refusal>, JournalError> {
    let missing = |at: &(u64, B256)| (*at, Refusal::NotRecorded(at.0));
    let mut refused: BTreeMap<_, _> = known.iter().map(missing).collect();
    let Some((first, _)) = known.first() else { return Ok(refused) };
    for record in recording.records(*first) {
        let envelope = record?.envelope;
        match &envelope.event {
            BusEvent::NewBlock(block) => drop(refused.remove(&(envelope.seq, block.header.hash))),
            BusEvent::Reorg(reorg) => {
                let earlier = known.iter().take_while(|(seq, _)| *seq < envelope.seq);
                let undone = earlier.filter(|(_, hash)| reorg.undone.contains(hash));
                refused.extend(undone.map(|at| (*at, Refusal::NotCanonical)));
            }
            _ => {}
        }
    }
    Ok(refused)
}

/// The snapshots of all components in a directory.
pub(crate) fn snapshot_files(directory: &Path) -> Result<Vec<PathBuf>, JournalError> {
    files_ending_in(directory, EXTENSION)
}

fn files_ending_in(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, JournalError> {
    let unreadable = || JournalError::io("read", directory);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable())? {
        let path = entry.map_err(unreadable())?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    Ok(files)
}

fn open(path: &Path) -> Result<File, JournalError> {
    File::open(path).map_err(JournalError::io("open", path))
}

fn remove(path: &Path) -> Result<(), JournalError> {
    pass(FailPoint::SnapshotRemove);
    fs::remove_file(path).map_err(JournalError::io("remove", path))
}

#[cfg(test)]
mod tests;
