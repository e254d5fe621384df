//! Places at which the process can be made to die, as if by `kill -9`: what stands on the disk then is what the next run finds.
//! At some of them the disk can be made to fail instead.
//!
//! The hooks are compiled only with the feature `fail-points`. `HEADWATER_FAIL_POINT=snapshot-rename:3` arms one: the
//! process ends at its third passage, before it does what the point is named after. `fail_at` makes what a point is named
//! after fail with an I/O error, while the process goes on.

use std::fs::File;
use std::io::{self, Write};

macro_rules! fail_points {
    ($($(#[doc = $doc:literal])* $point:ident = $name:literal,)*) => {
        /// A place before a write, a rename, a removal or a forcing to the disk.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FailPoint {
            $($(#[doc = $doc])* $point,)*
        }

        impl FailPoint {
            /// Every point there is.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// As it is armed by.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

fail_points! {
    /// A segment is made.
    SegmentCreate = "segment-create",
    /// Its header is written.
    SegmentHeaderWrite = "segment-header-write",
    /// Half of its header is written.
    SegmentHeaderWriteHalf = "segment-header-write-half",
    /// Its header is forced to the disk.
    SegmentHeaderSync = "segment-header-sync",
    /// Its name is forced to the disk.
    SegmentDirectorySync = "segment-directory-sync",
    /// Records are written.
    RecordWrite = "record-write",
    /// Half of what was to be written of records is.
    RecordWriteHalf = "record-write-half",
    /// Records are forced to the disk.
    RecordSync = "record-sync",
    /// An incomplete record is cut off.
    TailCut = "tail-cut",
    /// That it was cut off is forced to the disk.
    TailSync = "tail-sync",
    /// Retention removes a segment.
    SegmentRemove = "segment-remove",
    /// The temporary file of a snapshot is made.
    SnapshotCreate = "snapshot-create",
    /// It is written.
    SnapshotWrite = "snapshot-write",
    /// Half of it is written.
    SnapshotWriteHalf = "snapshot-write-half",
    /// It is forced to the disk.
    SnapshotSync = "snapshot-sync",
    /// It takes the snapshot's name.
    SnapshotRename = "snapshot-rename",
    /// That name is forced to the disk.
    SnapshotDirectorySync = "snapshot-directory-sync",
    /// A snapshot that is no longer needed is removed.
    SnapshotRemove = "snapshot-remove",
    /// The temporary file of a run's description is made.
    AboutCreate = "about-create",
    /// It is written.
    AboutWrite = "about-write",
    /// Half of it is written.
    AboutWriteHalf = "about-write-half",
    /// It is forced to the disk.
    AboutSync = "about-sync",
    /// It takes the description's name.
    AboutRename = "about-rename",
    /// That name is forced to the disk.
    AboutDirectorySync = "about-directory-sync",
}

/// Writes all of `bytes`, unless the process dies, or the disk fails, before it or in the middle.
pub(crate) fn write_all(file: &mut File, bytes: &[u8], before: FailPoint, half: FailPoint) -> io::Result<()> {
    attempt(before)?;
    if is_hit(half) {
        file.write_all(&bytes[..bytes.len() / 2])?;
        die();
    }
    if fails(half) {
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(failure());
    }
    file.write_all(bytes)
}

/// As [`pass`]; an error where the disk is to fail here.
pub(crate) fn attempt(point: FailPoint) -> io::Result<()> {
    pass(point);
    if fails(point) { Err(failure()) } else { Ok(()) }
}

/// What a device says that can no longer be read or written: EIO (POSIX).
fn failure() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}

/// The process ends here if the point is armed and it is its turn.
pub(crate) fn pass(point: FailPoint) {
    if is_hit(point) {
        die();
    }
}

#[cfg(feature = "fail-points")]
pub use armed::fail_at;
#[cfg(feature = "fail-points")]
use armed::{die, fails, is_hit};

#[cfg(feature = "fail-points")]
mod armed {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

    use super::FailPoint;

    /// The variable that arms a point.
    const ARMED_BY: &str = "HEADWATER_FAIL_POINT";

    /// A point, and how many passages are left.
    static ARMED: OnceLock<Option<(FailPoint, AtomicU64)>> = OnceLock::new();

    /// The points at which the disk is to fail, and how often yet.
    static FAILING: LazyLock<Mutex<HashMap<FailPoint, u32>>> = LazyLock::new(Mutex::default);

    fn failing() -> MutexGuard<'static, HashMap<FailPoint, u32>> {
        FAILING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `times` passages of a point that writes, or forces to the disk, what a journal records fail with an I/O
    /// error; 0 takes it back.
    pub fn fail_at(point: FailPoint, times: u32) {
        failing().insert(point, times);
    }

    pub(super) fn fails(point: FailPoint) -> bool {
        let mut failing = failing();
        let Some(left) = failing.get_mut(&point).filter(|left| **left > 0) else { return false };
        *left -= 1;
        true
    }

    pub(super) fn is_hit(point: FailPoint) -> bool {
        let armed = ARMED.get_or_init(read);
        armed.as_ref().is_some_and(|(at, left)| *at == point && left.fetch_sub(1, Ordering::Relaxed) == 1)
    }

    pub(super) fn die() -> ! {
        std::process::abort()
    }

    #[expect(clippy::disallowed_methods, reason = "a fail point is no configuration, and not in a release")]
    fn read() -> Option<(FailPoint, AtomicU64)> {
        let text = std::env::var(ARMED_BY).ok()?;
        let armed = parse(&text);
        if armed.is_none() {
            tracing::error!("{ARMED_BY} is not the name of a fail point, a colon and a number from 1");
            die();
        }
        armed
    }

    pub(super) fn parse(text: &str) -> Option<(FailPoint, AtomicU64)> {
        let (name, passage) = text.split_once(':')?;
        let point = FailPoint::ALL.iter().find(|point| point.name() == name)?;
        let passage = passage.parse().ok().filter(|passage| *passage > 0)?;
        Some((*point, AtomicU64::new(passage)))
    }
}

#[cfg(not(feature = "fail-points"))]
const fn is_hit(_: FailPoint) -> bool {
    false
}

#[cfg(not(feature = "fail-points"))]
const fn fails(_: FailPoint) -> bool {
    false
}

#[cfg(not(feature = "fail-points"))]
const fn die() {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_points_share_a_name() {
        let names: HashSet<_> = FailPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), FailPoint::ALL.len());
    }

    #[cfg(feature = "fail-points")]
    #[test]
    fn a_point_is_armed_by_its_name_and_a_passage() {
        let parsed = |text| armed::parse(text).map(|(point, left)| (point, left.into_inner()));
        assert_eq!(parsed("snapshot-rename:3"), Some((FailPoint::SnapshotRename, 3)));
        for wrong in ["snapshot-rename", "snapshot-rename:0", "snapshot:1", ":1", ""] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
