//! The spool: batches on disk until the server has them, so that they catch_panic `kill -9`.
//!
//! Each process has a folder of its own under the spool's root, which names its owner. A batch is
//! appended to the folder's newest segment before it is sent; when it is done with, a mark goes
//! into the file beside the segment, and a segment whose batches are all done with is deleted. At
//! the start and from time to time a process takes over the folders whose owners are dead, by
//! renaming them into its own, which only one can do, and sends their batches under their own ids.
//!
//! A damaged segment loses only what is damaged; it is kept aside as `*.corrupt` (the newest few)
//! once the rest is sent. A lost mark costs one harmless resend. No failure here reaches the
//! program: the client then goes on in memory.

mod files;
pub(crate) mod frame;
pub(crate) mod owner;

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use self::files::{
    ADOPTED_FOLDER, NAME_BYTES, create_private_folder, files_with_extension, folders_in,
    remove_folder, segment_bytes,
};
use super::batch::EncodedBatch;
use crate::{hex, platform};

/// A segment is closed at this size, bytes.
const SEGMENT_BYTES: u64 = 8 << 20;
/// No segment of ours is larger than this: one more batch than [`SEGMENT_BYTES`].
const SEGMENT_BYTES_MAX: u64 = 32 << 20;
/// How many damaged segments are kept for a person to look at.
const CORRUPT_KEPT_MAX: usize = 4;
/// Most batches in a spool: each costs a few bytes of memory.
const FRAMES_MAX: usize = 1 << 16;

/// When the spool forces its writes to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolSync {
    /// Before each batch is sent: survives a power cut.
    Always,
    /// So often: a power cut may cost what came since; `kill -9` costs nothing.
    Interval(Duration),
}

/// The spool's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct SpoolOptions {
    /// Its root. Processes may share it.
    pub directory: PathBuf,
    /// Most bytes of one process. 256 MiB. The oldest go first.
    pub bytes_max: u64,
    /// Longest time a batch waits. 24 h.
    pub age_max: Duration,
    /// When writes are forced to disk. Every second.
    pub sync: SpoolSync,
}

impl SpoolOptions {
    /// The defaults, at a place.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            bytes_max: 256 << 20,
            age_max: Duration::from_secs(24 * 3_600),
            sync: SpoolSync::Interval(Duration::from_secs(1)),
        }
    }
}

/// Where a batch lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FrameRef {
    pub(crate) segment: u32,
    offset: u64,
    length: u32,
}

/// A batch of a dead process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Adopted {
    pub(crate) frame: FrameRef,
    pub(crate) record_count: u32,
}

struct Folder {
    path: PathBuf,
    salt: u32,
}

struct Segment {
    folder: usize,
    path: PathBuf,
    bytes: u64,
    /// Batches not done with.
    waiting: usize,
    /// No more is appended.
    is_sealed: bool,
    is_damaged: bool,
}

/// An open spool.
pub(crate) struct Spool {
    options: SpoolOptions,
    /// The first is this process's own; none once it is empty and deleted.
    folders: Vec<Option<Folder>>,
    segments: BTreeMap<u32, Segment>,
    active: Option<(u32, File)>,
    next_segment: u32,
    bytes: u64,
    waiting: usize,
    needs_sync: bool,
    damaged_runs: u64,
}

impl Spool {
    /// Makes this process's folder.
    pub(crate) fn open(options: SpoolOptions) -> io::Result<Self> {
        let own = create_folder(&options.directory)?;
        Ok(Self::of(options, own))
    }

    fn of(options: SpoolOptions, own: Folder) -> Self {
        Self {
            options,
            folders: vec![Some(own)],
            segments: BTreeMap::new(),
            active: None,
            next_segment: 0,
            bytes: 0,
            waiting: 0,
            needs_sync: false,
            damaged_runs: 0,
        }
    }

    pub(crate) fn options(&self) -> &SpoolOptions {
        &self.options
    }

    /// Runs of bytes that were lost to damage.
    pub(crate) fn damaged_runs(&self) -> u64 {
        self.damaged_runs
    }

    /// Writes a batch, forced to disk if the options say so.
    pub(crate) fn append(&mut self, batch: &EncodedBatch) -> io::Result<FrameRef> {
        let (segment, salt) = self.active_segment()?;
        let frame = frame::encode(salt, batch);
        // Where the last write ended: files are appended to by this process alone.
        let offset = self.segments.get(&segment).map_or(0, |segment| segment.bytes);
        let result = match &mut self.active {
            Some((_, file)) => file.write_all(&frame),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = result {
            // What was written of it is passed over as a frame cut off.
            self.seal();
            return Err(error);
        }
        // Also if what follows fails: the bytes are in the file.
        self.needs_sync = true;
        if self.options.sync == SpoolSync::Always
            && let Err(error) = self.sync()
        {
            self.seal();
            return Err(error);
        }
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.bytes += frame.len() as u64;
            segment.waiting += 1;
        }
        self.bytes += frame.len() as u64;
        self.waiting += 1;
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        Ok(FrameRef { segment, offset, length })
    }

    /// Reads a batch back; an error if it is damaged by now, or deleted.
    pub(crate) fn read(&mut self, place: FrameRef) -> io::Result<EncodedBatch> {
        let (segment, salt) = self.segment(place.segment).ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; place.length as usize];
        File::open(&segment.path)?.read_exact_at(&mut bytes, place.offset)?;
        // Checked again: a disk may damage what was sound when it was written.
        if let Some((batch, _)) = frame::decode(salt, &bytes) {
            return Ok(batch);
        }
        self.damaged_runs += 1;
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.is_damaged = true;
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Marks a batch as done with. An error costs a harmless resend after a restart.
    pub(crate) fn acknowledge(&mut self, place: FrameRef) -> io::Result<()> {
        let Some((segment, salt)) = self.segment(place.segment) else { return Ok(()) };
        let marks = segment.path.with_extension("ack");
        let mark = frame::encode_mark(salt, place.offset);
        let Some(segment) = self.segments.get_mut(&place.segment) else { return Ok(()) };
        segment.waiting = segment.waiting.saturating_sub(1);
        let is_done = segment.waiting == 0 && segment.is_sealed;
        self.waiting = self.waiting.saturating_sub(1);
        if is_done {
            self.delete_segment(place.segment);
            return Ok(());
        }
        // Appended and not rewritten: a crash costs the last mark at most.
        OpenOptions::new().create(true).append(true).open(marks)?.write_all(&mark)
    }

    /// Whether the oldest segment must go; its number if so. Its waiting batches are lost.
    pub(crate) fn evict(&mut self) -> Option<u32> {
        if self.bytes <= self.options.bytes_max && self.waiting <= FRAMES_MAX {
            return None;
        }
        let oldest = *self.segments.keys().next()?;
        // Nothing may be appended to a file that is about to be deleted.
        if self.active.as_ref().is_some_and(|(active, _)| *active == oldest) {
            self.seal();
        }
        self.delete_segment(oldest);
        Some(oldest)
    }

    /// Forces what was written to disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        // Cleared also if the sync fails: the caller tells, and the next write asks again.
        if !std::mem::take(&mut self.needs_sync) {
            return Ok(());
        }
        match &self.active {
            Some((_, file)) => file.sync_data(),
            None => Ok(()),
        }
    }

    pub(crate) fn needs_sync(&self) -> bool {
        self.needs_sync
    }

    /// Shows that this process lives.
    pub(crate) fn renew(&self) -> io::Result<()> {
        owner::renew(&self.own()?.path)
    }

    /// Whether this process was taken for dead, and its folder with all that was in it taken over.
    pub(crate) fn is_taken(&self) -> bool {
        self.own().is_ok_and(|own| owner::is_taken(&own.path))
    }

    /// Begins anew with an empty folder. What was in the old one is another's.
    pub(crate) fn start_over(&mut self) -> io::Result<()> {
        let own = create_folder(&self.options.directory)?;
        let (next_segment, damaged_runs) = (self.next_segment, self.damaged_runs);
        *self = Self { next_segment, damaged_runs, ..Self::of(self.options.clone(), own) };
        Ok(())
    }

    /// Forces everything to disk, deletes what is done with, and leaves the rest to others.
    pub(crate) fn close(mut self) -> io::Result<()> {
        let own = self.own()?.path.clone();
        let synced = self.sync();
        self.seal();
        let done: Vec<u32> =
            self.segments.iter().filter(|(_, s)| s.waiting == 0).map(|(id, _)| *id).collect();
        for segment in done {
            self.delete_segment(segment);
        }
        // Before it is released: an empty folder needs no owner.
        self.delete_folder_if_empty(0);
        if own.exists() { synced.and(owner::release(&own)) } else { synced }
    }

    fn own(&self) -> io::Result<&Folder> {
        self.folders[0].as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn segment(&self, id: u32) -> Option<(&Segment, u32)> {
        let segment = self.segments.get(&id)?;
        Some((segment, self.folders[segment.folder].as_ref()?.salt))
    }

    /// The segment to append to, and its salt.
    fn active_segment(&mut self) -> io::Result<(u32, u32)> {
        let is_full = |(id, _): &(u32, File)| {
            self.segments.get(id).is_none_or(|segment| segment.bytes >= SEGMENT_BYTES)
        };
        if self.active.as_ref().is_some_and(is_full) {
            self.sync()?;
            self.seal();
        }
        let salt = self.own()?.salt;
        if let Some((id, _)) = &self.active {
            return Ok((*id, salt));
        }
        let (folder, id) = (self.own()?.path.clone(), self.next_segment);
        // Also if what follows fails: a file that was made by then is not in the way of the next
        // try.
        self.next_segment += 1;
        let path = folder.join(format!("{id:010}.seg"));
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?;
        // A file whose folder is not on disk is gone after a power cut, whatever was synced in it.
        File::open(folder)?.sync_all()?;
        self.active = Some((id, file));
        self.insert(id, Segment::new(0, path));
        Ok((id, salt))
    }

    fn insert(&mut self, id: u32, segment: Segment) {
        self.bytes += segment.bytes;
        self.waiting += segment.waiting;
        self.segments.insert(id, segment);
    }

    /// Appends no more to the active segment. Should forcing it to disk fail here, it can still be
    /// read and sent: only a power cut would show it.
    fn seal(&mut self) {
        self.sync().ok();
        let Some((id, _)) = self.active.take() else { return };
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.is_sealed = true;
            if segment.waiting == 0 {
                self.delete_segment(id);
            }
        }
    }

    /// Deletes a segment, then its marks: the other way round, a crash between would send it all
    /// again.
    fn delete_segment(&mut self, id: u32) {
        let Some(segment) = self.segments.remove(&id) else { return };
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        self.waiting = self.waiting.saturating_sub(segment.waiting);
        let gone = if segment.is_damaged {
            self.keep_aside(&segment)
        } else {
            fs::remove_file(&segment.path)
        };
        // A segment that cannot be deleted keeps its marks.
        if gone.is_ok() {
            fs::remove_file(segment.path.with_extension("ack")).ok();
        }
        if segment.folder != 0 {
            self.delete_folder_if_empty(segment.folder);
        }
    }

    /// Keeps a damaged segment for a person to look at, and only the newest few of those.
    fn keep_aside(&self, segment: &Segment) -> io::Result<()> {
        let part = |path: Option<&std::ffi::OsStr>| {
            path.unwrap_or_default().to_string_lossy().into_owned()
        };
        let folder = part(segment.path.parent().and_then(Path::file_name));
        let name = format!("{folder}-{}.corrupt", part(segment.path.file_stem()));
        fs::rename(&segment.path, self.options.directory.join(name))?;
        let mut kept = files_with_extension(&self.options.directory, "corrupt")?;
        // By age, since the names of folders are random.
        kept.sort_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
        let surplus = kept.len().saturating_sub(CORRUPT_KEPT_MAX);
        kept.iter().take(surplus).try_for_each(fs::remove_file)
    }

    fn delete_folder_if_empty(&mut self, index: usize) {
        if self.segments.values().any(|segment| segment.folder == index) {
            return;
        }
        if let Some(folder) = self.folders[index].take() {
            remove_folder(&folder.path);
        }
    }

    /// Takes over the folders of dead processes; of each, the oldest batches come first.
    pub(crate) fn adopt(&mut self) -> Vec<Adopted> {
        let mut adopted = Vec::new();
        for path in folders_in(&self.options.directory) {
            let is_own = self.own().is_ok_and(|own| own.path == path);
            if is_own || !self.is_of_our_user(&path) || !owner::is_dead_folder(&path) {
                continue;
            }
            // Its owner died before it wrote anything.
            // Fails unless the folder is empty, which is what is asked.
            let is_gone = fs::remove_dir(&path).is_ok();
            if !is_gone && self.has_room_for(&path) {
                self.take_over(&path, &mut adopted);
            }
        }
        adopted
    }

    /// Moves a folder to where our others are. The renaming fails for all but one who try.
    fn take_over(&mut self, path: &Path, adopted: &mut Vec<Adopted>) {
        let Ok(own) = self.own() else { return };
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
        let folder = own.path.join(ADOPTED_FOLDER);
        let new = Folder { path: folder.join(name), salt: frame::salt(name) };
        // It may be there already.
        create_private_folder(&folder).ok();
        // A rename is atomic: of two processes that try, one finds the folder gone.
        if fs::rename(path, &new.path).is_ok() {
            self.adopt_folder(new, adopted);
        }
    }

    /// What does not fit stays for the next time, so that nothing is given up to take it over. One
    /// that never would fit is taken over alone.
    fn has_room_for(&self, path: &Path) -> bool {
        let fits = self.bytes + segment_bytes(path) <= self.options.bytes_max;
        self.waiting == 0 || fits && self.waiting < FRAMES_MAX
    }

    /// Whether nobody else can have put logs into it for us to send.
    fn is_of_our_user(&self, path: &Path) -> bool {
        let own = self.own().and_then(|own| fs::metadata(&own.path));
        // A link is none: its own metadata is read, and not that of where it leads.
        let (Ok(own), Ok(there)) = (own, fs::symlink_metadata(path)) else { return false };
        there.uid() == own.uid()
    }

    fn adopt_folder(&mut self, folder: Folder, adopted: &mut Vec<Adopted>) {
        let path = folder.path.clone();
        // What it had taken over itself comes to stand beside it.
        // Otherwise folders would nest deeper with each process that dies.
        for other in folders_in(&path.join(ADOPTED_FOLDER)) {
            self.take_over(&other, adopted);
        }
        let index = self.folders.len();
        self.folders.push(Some(folder));
        let mut segments = files_with_extension(&path, "seg").unwrap_or_default();
        segments.sort();
        for segment in segments {
            // One that cannot be read is left where it is, and so is its folder.
            if self.adopt_segment(index, segment, adopted).is_err() {
                self.damaged_runs += 1;
            }
        }
        self.delete_folder_if_empty(index);
    }

    fn adopt_segment(
        &mut self,
        index: usize,
        path: PathBuf,
        adopted: &mut Vec<Adopted>,
    ) -> io::Result<()> {
        let salt = self.folders[index].as_ref().map_or(0, |folder| folder.salt);
        let mut data = Vec::new();
        File::open(&path)?.take(SEGMENT_BYTES_MAX).read_to_end(&mut data)?;
        let scan = frame::scan(salt, &data);
        // Without marks everything is sent again, which doubles nothing.
        let marks = fs::read(path.with_extension("ack")).unwrap_or_default();
        let done: HashSet<u64> = frame::decode_marks(salt, &marks).collect();
        let id = self.next_segment;
        self.next_segment += 1;
        self.damaged_runs += u64::from(scan.damaged_runs);
        let waiting = scan.frames.into_iter().filter(|(offset, _, _)| !done.contains(offset));
        let before = adopted.len();
        adopted.extend(waiting.map(|(offset, length, batch)| Adopted {
            frame: FrameRef { segment: id, offset, length },
            record_count: batch.record_count,
        }));
        let segment = Segment {
            bytes: data.len() as u64,
            waiting: adopted.len() - before,
            is_sealed: true,
            is_damaged: scan.damaged_runs > 0,
            ..Segment::new(index, path)
        };
        let is_done = segment.waiting == 0;
        self.insert(id, segment);
        if is_done {
            self.delete_segment(id);
        }
        Ok(())
    }
}

impl Segment {
    fn new(folder: usize, path: PathBuf) -> Self {
        Self { folder, path, bytes: 0, waiting: 0, is_sealed: false, is_damaged: false }
    }
}

/// A new folder that names its owner.
fn create_folder(root: &Path) -> io::Result<Folder> {
    fs::create_dir_all(root)?;
    let name = hex::encode(&platform::random_bytes::<NAME_BYTES>());
    let path = root.join(&name);
    create_private_folder(&path)?;
    owner::claim(&path)?;
    Ok(Folder { path, salt: frame::salt(&name) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tempfile::TempDir;

    fn batch(sequence: u64, bytes: usize) -> EncodedBatch {
        EncodedBatch {
            batch_id: crate::platform::random_bytes(),
            producer_id: [7; 16],
            sequence,
            record_count: 2,
            created_unix_nano: 1,
            request: Bytes::from(vec![sequence as u8; bytes]),
        }
    }

    fn open_with(options: SpoolOptions) -> (Spool, Vec<Adopted>) {
        let mut spool = Spool::open(options).unwrap();
        let adopted = spool.adopt();
        (spool, adopted)
    }

    fn open(root: &TempDir) -> (Spool, Vec<Adopted>) {
        open_with(SpoolOptions { sync: SpoolSync::Always, ..SpoolOptions::new(root.path()) })
    }

    /// A process that is gone from one moment to the next.
    fn die(spool: Spool) {
        owner::release(&spool.own().unwrap().path).unwrap();
    }

    fn sequences(spool: &mut Spool, adopted: &[Adopted]) -> Vec<u64> {
        adopted.iter().map(|adopted| spool.read(adopted.frame).unwrap().sequence).collect()
    }

    /// The files under the root, with the folders' random names left out.
    fn files(root: &TempDir) -> Vec<String> {
        let mut found = Vec::new();
        for path in fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                let inside = fs::read_dir(&path).unwrap();
                found.extend(inside.map(|file| file.unwrap().file_name().into_string().unwrap()));
            } else {
                found.push(path.extension().unwrap().to_str().unwrap().to_owned());
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_is_not_done_with_outlives_its_process() {
        let root = TempDir::new().unwrap();
        let (mut spool, adopted) = open(&root);
        assert_eq!(adopted, []);
        let written: Vec<EncodedBatch> = (1..=4).map(|n| batch(n, 100)).collect();
        let places: Vec<FrameRef> = written.iter().map(|b| spool.append(b).unwrap()).collect();
        spool.acknowledge(places[1]).unwrap();
        die(spool);
        let (mut spool, adopted) = open(&root);
        assert_eq!(sequences(&mut spool, &adopted), [1, 3, 4]);
        assert_eq!(spool.read(adopted[1].frame).unwrap(), written[2]);
        for adopted in adopted {
            spool.acknowledge(adopted.frame).unwrap();
        }
        spool.close().unwrap();
        assert_eq!(files(&root), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_fit_is_left_for_the_next_start() {
        let root = TempDir::new().unwrap();
        for _ in 0..3 {
            let options = SpoolOptions { bytes_max: 10 << 20, ..SpoolOptions::new(root.path()) };
            let mut written = Spool::open(options).unwrap();
            written.append(&batch(1, 4 << 20)).unwrap();
            die(written);
        }
        let adopted = || {
            let options = SpoolOptions { bytes_max: 10 << 20, ..SpoolOptions::new(root.path()) };
            let (mut spool, adopted) = open_with(options);
            for adopted in &adopted {
                spool.acknowledge(adopted.frame).unwrap();
            }
            assert_eq!(spool.evict(), None);
            spool.close().unwrap();
            adopted.len()
        };
        assert_eq!([adopted(), adopted(), adopted()], [2, 1, 0]);
        let options = SpoolOptions { bytes_max: 10 << 20, ..SpoolOptions::new(root.path()) };
        let mut large = Spool::open(options).unwrap();
        for sequence in 1..=3 {
            large.append(&batch(sequence, 4 << 20)).unwrap();
        }
        die(large);
        assert_eq!(adopted(), 3, "one that never fits is taken over alone");
    }

    #[test]
    fn a_living_process_keeps_its_folder() {
        let root = TempDir::new().unwrap();
        let (mut first, _) = open(&root);
        first.append(&batch(1, 10)).unwrap();
        let (second, adopted) = open(&root);
        assert_eq!(adopted, []);
        second.close().unwrap();
        assert_eq!(files(&root), ["0000000000.seg", "owner"]);
    }

    #[test]
    fn full_segments_are_deleted_when_done_with() {
        let root = TempDir::new().unwrap();
        let (mut spool, _) = open(&root);
        let places: Vec<FrameRef> =
            (0..5).map(|n| spool.append(&batch(n, 3 << 20)).unwrap()).collect();
        assert_eq!(files(&root), ["0000000000.seg", "0000000001.seg", "owner"]);
        for place in &places[..3] {
            spool.acknowledge(*place).unwrap();
        }
        assert_eq!(files(&root), ["0000000001.seg", "owner"]);
        spool.close().unwrap();
        assert_eq!(files(&root), ["0000000001.seg", "owner"]);
    }

    #[test]
    fn a_full_spool_gives_up_its_oldest_segment() {
        let root = TempDir::new().unwrap();
        let options = SpoolOptions { bytes_max: 10 << 20, ..SpoolOptions::new(root.path()) };
        let (mut spool, _) = open_with(options);
        let places: Vec<FrameRef> = (0..4)
            .map(|n| {
                let place = spool.append(&batch(n, 3 << 20)).unwrap();
                assert_eq!(spool.evict(), (n == 3).then_some(0));
                place
            })
            .collect();
        assert!(spool.read(places[0]).is_err());
        assert_eq!(spool.read(places[3]).unwrap().sequence, 3);
    }

    #[test]
    fn a_damaged_segment_loses_one_batch_and_is_kept_aside() {
        let root = TempDir::new().unwrap();
        let (mut spool, _) = open(&root);
        let places: Vec<FrameRef> = (1..=3).map(|n| spool.append(&batch(n, 50)).unwrap()).collect();
        let path = spool.segments[&places[0].segment].path.clone();
        die(spool);
        let mut data = fs::read(&path).unwrap();
        data[places[1].offset as usize + 30] ^= 1;
        fs::write(&path, data).unwrap();
        let (mut spool, adopted) = open(&root);
        assert_eq!((sequences(&mut spool, &adopted), spool.damaged_runs()), (vec![1, 3], 1));
        for adopted in adopted {
            spool.acknowledge(adopted.frame).unwrap();
        }
        spool.close().unwrap();
        assert_eq!(files(&root), ["corrupt"]);
    }

    #[test]
    fn foreign_and_half_made_files_do_not_stop_the_start() {
        let root = TempDir::new().unwrap();
        let [half_made, noise] = ["0123456789abcdef", "fedcba9876543210"].map(|name| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        });
        fs::create_dir(root.path().join("foreign")).unwrap();
        fs::write(root.path().join("foreign/notes.txt"), "keep me").unwrap();
        std::os::unix::fs::symlink(&noise, root.path().join("00000000ffffffff")).unwrap();
        owner::release(&noise).unwrap();
        fs::write(noise.join("0000000000.seg"), vec![0x5A; 10_000]).unwrap();
        fs::write(noise.join("0000000009.ack"), "orphan").unwrap();
        let (spool, adopted) = open(&root);
        assert_eq!((adopted, spool.damaged_runs()), (Vec::new(), 1));
        spool.close().unwrap();
        assert!(half_made.exists(), "its owner may be about to write to it");
        fs::remove_file(root.path().join("00000000ffffffff")).unwrap();
        assert_eq!(files(&root), ["corrupt", "notes.txt"]);
    }

    #[test]
    fn what_the_dead_had_taken_over_comes_along() {
        let root = TempDir::new().unwrap();
        let (mut first, _) = open(&root);
        first.append(&batch(1, 50)).unwrap();
        die(first);
        let (mut second, adopted) = open(&root);
        assert_eq!(sequences(&mut second, &adopted), [1]);
        second.append(&batch(2, 50)).unwrap();
        die(second);
        let (mut third, adopted) = open(&root);
        assert_eq!(sequences(&mut third, &adopted), [1, 2]);
        third.acknowledge(adopted[1].frame).unwrap();
        third.close().unwrap();
        // It goes on for as long as it takes, one within the other nowhere.
        let (mut fourth, adopted) = open(&root);
        assert_eq!(sequences(&mut fourth, &adopted), [1]);
        fourth.acknowledge(adopted[0].frame).unwrap();
        fourth.close().unwrap();
        assert_eq!(files(&root), Vec::<String>::new());
    }

    #[test]
    fn of_many_who_try_one_takes_over() {
        let root = TempDir::new().unwrap();
        for sequence in 0..20 {
            let mut spool = Spool::open(SpoolOptions::new(root.path())).unwrap();
            spool.append(&batch(sequence, 50)).unwrap();
            die(spool);
        }
        let start = std::sync::Barrier::new(4);
        let adopt = || {
            let mut spool = Spool::open(SpoolOptions::new(root.path())).unwrap();
            start.wait();
            let adopted = spool.adopt();
            sequences(&mut spool, &adopted)
        };
        let mut all: Vec<u64> = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(adopt));
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>(), "each once");
    }

    #[test]
    fn an_owner_that_was_taken_for_dead_begins_anew() {
        let root = TempDir::new().unwrap();
        let (mut taken, _) = open(&root);
        let place = taken.append(&batch(1, 50)).unwrap();
        assert!(!taken.is_taken() && taken.renew().is_ok());
        owner::release(&taken.own().unwrap().path).unwrap();
        let (mut other, adopted) = open(&root);
        assert_eq!(sequences(&mut other, &adopted), [1]);
        assert!(taken.is_taken());
        assert_eq!(taken.renew().unwrap_err().kind(), io::ErrorKind::NotFound);
        taken.start_over().unwrap();
        assert!(!taken.is_taken() && taken.read(place).is_err());
        let place = taken.append(&batch(2, 50)).unwrap();
        assert_eq!(taken.read(place).unwrap().sequence, 2);
    }
}
