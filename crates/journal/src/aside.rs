//! What was set aside during a run: a file of JSON lines beside the journal, so that whoever goes on with the record, or
//! replays it, does not come to grief on the same events. The events themselves are in the journal.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable::sync_directory;
use crate::error::JournalError;
use crate::recording::{Recording, segment_index};

/// The file in a journal's directory. It is removed with the run.
pub(crate) const QUARANTINE: &str = "quarantine.ndjson";

/// A message that an actor could not process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// The source event that it stems from.
    pub seq: Option<u64>,
    /// Whose message it was.
    pub actor: String,
    /// Who sent it.
    pub from: String,
    /// What it did.
    pub reason: String,
}

/// Notes in a journal's directory that a message was set aside, and forces it to the disk. Blocks.
///
/// # Errors
///
/// [`JournalError::Io`] where it cannot be written; what stands there already still holds.
pub fn note_set_aside(directory: &Path, set_aside: &SetAside) -> Result<(), JournalError> {
    let path = directory.join(QUARANTINE);
    append(&path, set_aside).map_err(JournalError::io("write", &path))?;
    sync_directory(directory)
}

fn append(path: &Path, set_aside: &SetAside) -> io::Result<()> {
    let mut file = File::options().read(true).append(true).create(true).open(path)?;
    let mut line = serde_json::to_vec(set_aside)?;
    line.push(b'\n');
    // A line that was cut off stands alone.
    if file.seek(SeekFrom::End(-1)).is_ok() {
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, b'\n');
        }
    }
    file.write_all(&line)?;
    file.sync_all()
}

impl Recording {
    /// What was set aside while it was recorded, oldest first.
    ///
    /// # Errors
    ///
    /// [`JournalError::Io`] where that cannot be read.
    pub fn set_aside(&self) -> Result<Vec<SetAside>, JournalError> {
        let path = quarantine_of(self.path());
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            // Also where the recording is part of the program.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(JournalError::io("read", &path)(error)),
        }
    }

    /// Notes beside a recording in one file what was set aside while it was recorded.
    pub(crate) fn copy_set_aside(&self, file: &Path) -> Result<(), JournalError> {
        let path = quarantine_of(file);
        let lines: Vec<_> = self.set_aside()?.iter().map(serde_json::to_string).collect();
        let text: String = lines.into_iter().flatten().map(|line| line + "\n").collect();
        let written = match text.is_empty() {
            true => fs::remove_file(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }),
            false => fs::write(&path, text),
        };
        written.map_err(JournalError::io("write", &path))
    }
}

/// In a journal's directory, or beside a recording in one file.
fn quarantine_of(journal: &Path) -> PathBuf {
    if journal.is_dir() {
        return journal.join(QUARANTINE);
    }
    if segment_index(journal).is_some() {
        return journal.with_file_name(QUARANTINE);
    }
    let mut name = journal.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(QUARANTINE);
    journal.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use headwater_events::RunId;

    use super::*;
    use crate::{Journal, JournalConfig, export_recording};

    fn set_aside(seq: u64) -> SetAside {
        SetAside { seq: Some(seq), actor: "state".into(), from: "forwarder".into(), reason: "a\nline".into() }
    }

    async fn journal(directory: &Path) -> Recording {
        let journal =
            Journal::create(&JournalConfig::in_directory(directory), RunId(1), 1).expect("a journal");
        let (writer, recorder) = journal.start().expect("it starts");
        drop(recorder);
        writer.close().await.expect("nothing to write");
        Recording::open(directory).expect("it is there")
    }

    #[tokio::test]
    async fn what_was_set_aside_is_found_in_order_by_directory_segment_and_export() {
        let folder = tempfile::tempdir().expect("a folder");
        let recording = journal(folder.path()).await;
        assert_eq!(recording.set_aside().expect("none is no error"), []);
        (1..=3).for_each(|seq| note_set_aside(folder.path(), &set_aside(seq)).expect("there is room"));
        let all = [1, 2, 3].map(set_aside);
        assert_eq!(recording.set_aside().expect("readable"), all);
        let segment = Recording::open(folder.path().join("00000001.hwj")).expect("a segment");
        assert_eq!(segment.set_aside().expect("readable"), all);
        let file = folder.path().join("export.hwj");
        export_recording(folder.path(), &file, None).expect("it is whole");
        assert_eq!(Recording::open(&file).expect("a recording").set_aside().expect("readable"), all);
    }

    #[tokio::test]
    async fn a_line_that_was_cut_off_spoils_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let recording = journal(folder.path()).await;
        note_set_aside(folder.path(), &set_aside(1)).expect("there is room");
        let path = folder.path().join(QUARANTINE);
        let text = fs::read_to_string(&path).expect("it is there");
        fs::write(&path, [&text, &text[..9]].concat()).expect("there is room");
        note_set_aside(folder.path(), &set_aside(2)).expect("there is room");
        assert_eq!(recording.set_aside().expect("readable"), [1, 2].map(set_aside));
    }
}
