//! Files that are there whole or not at all, whenever the process or the machine dies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::JournalError;
use crate::fail_points::{self, FailPoint, pass};
use crate::journal::DESCRIPTION;

/// How the names of unfinished files end.
pub(crate) const TEMPORARY: &str = "tmp";

/// Where the process may be made to die.
pub(crate) struct Points {
    pub(crate) create: FailPoint,
    pub(crate) write: FailPoint,
    pub(crate) write_half: FailPoint,
    pub(crate) sync: FailPoint,
    pub(crate) rename: FailPoint,
    pub(crate) directory_sync: FailPoint,
}

const ABOUT: Points = Points {
    create: FailPoint::AboutCreate,
    write: FailPoint::AboutWrite,
    write_half: FailPoint::AboutWriteHalf,
    sync: FailPoint::AboutSync,
    rename: FailPoint::AboutRename,
    directory_sync: FailPoint::AboutDirectorySync,
};

/// Writes what a run is about into its directory, durably.
///
/// # Errors
///
/// [`JournalError::Io`] where it cannot be written; then an earlier description is as it was.
pub fn describe(directory: &Path, text: &[u8]) -> Result<(), JournalError> {
    note(&directory.join(DESCRIPTION), text)
}

/// Writes a file beside a record, durably.
///
/// # Errors
///
/// As [`describe`].
pub fn note(path: &Path, text: &[u8]) -> Result<(), JournalError> {
    replace(path, text, &ABOUT)
}

/// Makes `bytes` the content of a file: under a temporary name, forced to the disk, renamed, and the name forced to the
/// disk. After an error nothing is left of it.
pub(crate) fn replace(path: &Path, bytes: &[u8], points: &Points) -> Result<(), JournalError> {
    let temporary = path.with_extension(TEMPORARY);
    let written = write(&temporary, bytes, points).and_then(|()| {
        pass(points.rename);
        fs::rename(&temporary, path).map_err(JournalError::io("rename", &temporary))
    });
    if written.is_err() {
        // It may not even have been made.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    pass(points.directory_sync);
    sync_directory(&directory_of(path))
}

fn write(path: &Path, bytes: &[u8], points: &Points) -> Result<(), JournalError> {
    pass(points.create);
    let mut file = File::create(path).map_err(JournalError::io("create", path))?;
    fail_points::write_all(&mut file, bytes, points.write, points.write_half)
        .map_err(JournalError::io("write", path))?;
    pass(points.sync);
    file.sync_all().map_err(JournalError::io("sync", path))
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Makes the names of new files, and the removal of old ones, durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    let open = File::open(directory).map_err(JournalError::io("open", directory))?;
    open.sync_all().map_err(JournalError::io("sync", directory))
}
