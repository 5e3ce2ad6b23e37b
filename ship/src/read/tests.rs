//! Files that are rotated, overwritten, copied and read again, as one run after the other sees them.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use flate2::{Compression, write::GzEncoder};
use logweir_core::{limits::Limits, timestamp::Timestamp};
use logweir_parse::Tz;
use logweir_proto::v1;
use tokio::sync::mpsc;

use super::{
    files::Progress,
    follow::Following,
    reader::{ReadSummary, Reader},
};
use crate::{
    deliver::batch::{BatchLimits, ServiceBatch},
    error::Error,
    event::Event,
    feed::{Feed, FeedParts},
    journal::{Group, State},
    record::Rules,
    registry,
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_400_000);

/// A feed whose groups nobody sends; each ends up in the journal, if there is one.
struct Rig {
    feed: Feed,
    known: Vec<Progress>,
    groups: mpsc::Receiver<Group>,
    stop: Arc<AtomicBool>,
    said: Mutex<Vec<String>>,
}

impl Rig {
    fn new(registry: Option<&Path>, group_records: usize) -> Self {
        let (groups, receiver) = mpsc::channel(10_000);
        let stop = Arc::<AtomicBool>::default();
        let (journal, state, known) = match registry {
            Some(directory) => {
                let opened = registry::open(directory, None, &[]).unwrap();
                let state = State { files: Vec::new(), ..opened.left.state };
                (Some(Arc::new(opened.journal)), state, opened.known)
            }
            None => Default::default(),
        };
        let runs_before = state.group as i64;
        let ticks = AtomicI64::new(NOW.as_unix_nanos() + (runs_before << 32));
        let feed = Feed::new(FeedParts {
            state,
            rules: Rules {
                service: None,
                service_from: None,
                limits: Limits::default(),
                zone: Tz::UTC,
            },
            limits: BatchLimits {
                gathered_records_max: group_records,
                ..BatchLimits::with_batch_records(3)
            },
            clock: Arc::new(move || {
                Timestamp::from_unix_nanos(ticks.fetch_add(1, Ordering::Relaxed))
            }),
            journal,
            counts: Arc::default(),
            groups,
            stop: stop.clone(),
        });
        Self { feed, known, groups: receiver, stop, said: Mutex::default() }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Reader<'_>) -> T) -> (T, ReadSummary) {
        let Self { feed, known, said, .. } = self;
        let said = &*said;
        let notify = |event: Event| said.lock().unwrap().push(format!("{event:?}"));
        let mut reader = Reader::new(feed, std::mem::take(known), Arc::default(), &notify);
        let result = act(&mut reader);
        (result, reader.summary)
    }

    fn records(&mut self) -> Vec<(String, v1::LogRecord)> {
        let mut records = Vec::new();
        while let Ok(group) = self.groups.try_recv() {
            for batch in group.batches {
                let service = &batch.service;
                let of_batch = batch.encoded.decode().unwrap().records;
                records.extend(of_batch.into_iter().map(|record| (service.clone(), record)));
            }
        }
        records.sort_by_key(|(_, record)| record.time_unix_nano);
        records
    }

    fn messages(&mut self) -> Vec<String> {
        self.records().into_iter().map(|(_, record)| record.message).collect()
    }
}

/// A folder of logs, and what was sent of it by one run after the other.
struct Folder {
    directory: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("logs")).unwrap();
        Self { directory }
    }

    fn logs(&self) -> PathBuf {
        self.directory.path().join("logs")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.logs().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// As `copytruncate` overwrites: the same file with other lines.
    fn overwrite(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn compress(&self, name: &str) {
        let content = fs::read(self.path(name)).unwrap();
        fs::write(self.path(&format!("{name}.gz")), gzip(&content)).unwrap();
        fs::remove_file(self.path(name)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    fn registry(&self) -> PathBuf {
        self.directory.path().join("registry")
    }

    /// What one run sends of some of it, and what it came to.
    fn send(&self, names: &[&str]) -> (Vec<String>, ReadSummary) {
        let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        let mut rig = Rig::new(Some(&self.registry()), 100);
        let (result, summary) = rig.with(|reader| reader.read_all(&paths));
        result.unwrap();
        (rig.messages(), summary)
    }

    fn send_all(&self) -> Vec<String> {
        self.send(&[""]).0
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Follows a folder while steps are done to it, and looks often enough after each that everything
/// is read that was there.
fn follow(folder: &Folder, open_max: usize, steps: &[&dyn Fn()]) -> (Vec<String>, ReadSummary) {
    let mut rig = Rig::new(Some(&folder.registry()), 100);
    let paths = [folder.logs()];
    let ((), summary) = rig.with(|reader| {
        let mut following = Following::new(open_max);
        for step in steps {
            step();
            for _ in 0..4 {
                following.look_around(reader, &paths).unwrap();
                following.poll(reader).unwrap();
            }
            reader.feed.flush().unwrap();
        }
        following.finish(reader).unwrap();
        reader.feed.flush().unwrap();
    });
    (rig.messages(), summary)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[test]
fn a_file_of_json_lines_is_read_whole() {
    let mut rig = Rig::new(None, 100);
    let (result, summary) = rig.with(|reader| reader.read_all(&[fixture("orders.ndjson")]));
    result.unwrap();
    assert_eq!(summary, ReadSummary { files: 1, ..ReadSummary::default() });
    let mut services = BTreeMap::new();
    for (service, _) in rig.records() {
        *services.entry(service).or_insert(0) += 1;
    }
    let expected = [("billing", 2), ("orders", 4), ("orders.Core_Worker", 1)];
    assert_eq!(services, expected.map(|(name, count)| (name.to_owned(), count)).into());
    let tally = &rig.feed.tally;
    assert_eq!((tally.records, tally.renamed, tally.untimed), (7, 1, 0));
    assert_eq!(tally.inherited_time, 1);
    assert!(tally.renamed_examples.contains("orders.Core$Worker"));
}

#[test]
fn a_file_of_many_formats_is_read_whole() {
    let mut rig = Rig::new(None, 100);
    rig.with(|reader| reader.read_all(&[fixture("shop.log")])).0.unwrap();
    let records = rig.records();
    let level = |message: &str| {
        let found = records.iter().find(|(_, record)| record.message.starts_with(message));
        found.map(|(service, record)| (service.as_str(), record.level()))
    };
    assert_eq!(records.len(), 7);
    assert_eq!(level("Server ready"), Some(("shop", v1::Level::Info)));
    assert_eq!(level("Request 42 failed"), Some(("shop", v1::Level::Error)));
    assert_eq!(level("cache is 91"), Some(("shop", v1::Level::Warn)));
    assert_eq!(level("logfmt works"), Some(("shop", v1::Level::Info)));
    assert_eq!(level("Accepted key"), Some(("sshd", v1::Level::Unspecified)));
    assert_eq!(level("epoch"), Some(("shop", v1::Level::Debug)));
    let tally = &rig.feed.tally;
    assert_eq!((tally.invalid_utf8, tally.untimed, tally.joined), (1, 0, 2));
}

#[test]
fn logs_of_one_line_are_noted_together() {
    let folder = Folder::new();
    folder
        .append("app.log", "[{\"msg\":\"a\"},{\"msg\":\"b\"},{\"msg\":\"c\"}]\n{\"msg\":\"d\"}\n");
    // A group is full with one log: of the line with three, no group may have only a part.
    let mut rig = Rig::new(None, 1);
    rig.with(|reader| reader.read_all(&[folder.logs()])).0.unwrap();
    let mut counts = Vec::new();
    while let Ok(group) = rig.groups.try_recv() {
        counts.push(group.batches.iter().map(ServiceBatch::records).sum::<u64>());
    }
    counts.retain(|count| *count > 0);
    assert_eq!(counts, [3, 1]);
}

#[test]
fn what_a_silent_file_says_next_is_of_then() {
    let folder = Folder::new();
    folder.append("app.log", "2020-01-01 00:00:00 INFO old\n");
    let mut rig = Rig::new(Some(&folder.registry()), 100);
    rig.with(|reader| {
        let mut following = Following::new(8);
        for text in ["", "", "", "", "news\n", "", "", ""] {
            folder.append("app.log", text);
            following.look_around(reader, &[folder.logs()]).unwrap();
            following.poll(reader).unwrap();
        }
        following.finish(reader).unwrap();
        reader.feed.flush().unwrap();
    });
    let times: Vec<_> =
        rig.records().into_iter().map(|(_, record)| record.time_unix_nano).collect();
    assert_eq!(times[0], 1_577_836_800_000_000_000);
    assert!(times[1] >= NOW.as_unix_nanos().unsigned_abs(), "{times:?}");
    assert_eq!((times.len(), rig.feed.tally.inherited_time), (2, 0));
}

/// Reads a folder by runs that each end with their first group, which is noted and not sent.
fn read_by_short_runs(folder: &Folder, group_records: usize) {
    let mut runs = 0;
    loop {
        runs += 1;
        let mut rig = Rig::new(Some(&folder.registry()), group_records);
        rig.groups.close();
        match rig.with(|reader| reader.read_all(&[folder.logs()])).0 {
            Ok(()) => break,
            Err(error) => assert!(matches!(error, Error::Interrupted)),
        }
    }
    assert!(runs > 8, "{runs}");
}

#[test]
fn logs_of_several_processes_that_wait_at_the_end_of_a_file_are_all_sent_once() {
    for group_records in 1..=4 {
        let folder = Folder::new();
        let line = |n: u32| format!("Jan  2 03:04:05 gw app[{}]: line {n}\n", n % 4);
        folder.append("app.log", &(0..40).map(line).collect::<String>());
        read_by_short_runs(&folder, group_records);
        let left = registry::open(&folder.registry(), None, &[]).unwrap().left;
        let batches = left.groups.iter().flat_map(|group| &group.batches);
        let records = batches.flat_map(|batch| batch.encoded.decode().unwrap().records);
        let mut found: Vec<_> = records.map(|record| record.message).collect();
        found.sort_by_key(|message| message[5..].parse::<u32>().unwrap());
        assert_eq!(found, (0..40).map(|n| format!("line {n}")).collect::<Vec<_>>());
    }
}

#[test]
fn ended_after_each_group_it_goes_on_without_loss_or_doubles() {
    let folder = Folder::new();
    let lines: Vec<_> = (0..40).map(|n| format!("INFO line {n}")).collect();
    folder.append("app.log", &lines.join("\n  and more\n"));
    read_by_short_runs(&folder, 5);
    let left = registry::open(&folder.registry(), None, &[]).unwrap().left;
    let batches: Vec<_> = left.groups.iter().flat_map(|group| &group.batches).collect();
    let records = batches.iter().flat_map(|batch| batch.encoded.decode().unwrap().records);
    let found: Vec<_> = records.map(|record| record.message).collect();
    assert_eq!(found.len(), 40);
    let numbers = found.iter().enumerate().map(|(n, _)| format!("line {n}"));
    assert!(numbers.zip(&found).all(|(start, message)| message.starts_with(&start)));
    let producer = &left.state.producers.0["app"];
    assert_eq!((producer.emitted, producer.sequence), (40, batches.len() as u64));
}

#[test]
fn what_was_sent_is_not_sent_again_but_what_was_added_is() {
    let folder = Folder::new();
    folder.append("a.log", "one\ntwo\n");
    let runs = [("", 1, 0, vec!["one", "two"]), ("", 0, 1, vec![]), ("three", 1, 0, vec!["three"])];
    for (added, files, already_sent, expected) in runs {
        folder.append("a.log", added);
        let (messages, summary) = folder.send(&["a.log"]);
        assert_eq!((summary.files, summary.already_sent), (files, already_sent));
        assert_eq!(messages, expected);
    }
    folder.append("b.log", "four\n");
    assert_eq!(folder.send(&["a.log", "b.log"]).0, ["four"]);
    assert_eq!(folder.send(&[""]).1.already_sent, 2);
}

#[test]
fn a_broken_file_is_said_and_the_others_are_read() {
    let folder = Folder::new();
    folder.overwrite("b.log", "fine\n");
    fs::write(folder.path("a.gz"), [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
    let mut rig = Rig::new(None, 100);
    let (result, summary) = rig.with(|reader| reader.read_all(&[folder.logs()]));
    result.unwrap();
    assert_eq!((summary.files, summary.failed), (1, 1));
    assert_eq!(rig.messages(), ["fine"]);
    assert!(rig.said.lock().unwrap()[0].contains("a.gz"));
}

#[test]
fn asked_to_stop_it_leaves_the_rest_for_the_next_run() {
    let folder = Folder::new();
    folder.append("a.log", "one\ntwo\n");
    let mut rig = Rig::new(Some(&folder.registry()), 100);
    rig.stop.store(true, Ordering::Relaxed);
    let (result, _) = rig.with(|reader| reader.read_all(&[folder.logs()]));
    assert!(matches!(result, Err(Error::Interrupted)));
    assert!(rig.records().is_empty());
    drop(rig);
    assert_eq!(folder.send_all(), ["one", "two"]);
}

#[test]
fn rotation_between_two_runs_doubles_and_loses_nothing() {
    let folder = Folder::new();
    let mut sent = Vec::new();
    let steps: [&dyn Fn(); 6] = [
        &|| folder.append("app.log", "one\ntwo\n"),
        &|| {
            folder.append("app.log", "late\n");
            folder.rename("app.log", "app.log.1");
            folder.append("app.log", "three\n");
        },
        &|| {
            folder.compress("app.log.1");
            folder.append("app.log", "four\n");
        },
        &|| {
            folder.copy("app.log", "app.log.2");
            folder.overwrite("app.log", "five, and longer than all that stood here before\n");
        },
        &|| folder.rename("app.log", "app-2026-11-28.log"),
        &|| folder.compress("app-2026-11-28.log"),
    ];
    for step in steps {
        step();
        sent.extend(folder.send_all());
    }
    let long = "five, and longer than all that stood here before";
    assert_eq!(sent, ["one", "two", "three", "late", "four", long]);
}

#[test]
fn a_last_line_without_an_end_is_sent_and_sent_whole_once_it_has_grown() {
    let folder = Folder::new();
    folder.append("app.log", "one\nha");
    assert_eq!(folder.send_all(), ["one", "ha"]);
    assert!(folder.send_all().is_empty());
    folder.append("app.log", "lf\nlast");
    assert_eq!(folder.send_all(), ["half", "last"]);
    folder.compress("app.log");
    assert!(folder.send_all().is_empty());
}

#[test]
fn a_copy_is_known_though_its_original_was_overwritten_runs_ago() {
    let folder = Folder::new();
    folder.append("app.log", "one\n");
    assert_eq!(folder.send_all(), ["one"]);
    folder.rename("app.log", "../aside");
    folder.copy("../aside", "../copy");
    folder.rename("../aside", "app.log");
    folder.overwrite("app.log", "two, and more\n");
    assert_eq!(folder.send_all(), ["two, and more"]);
    assert!(folder.send_all().is_empty());
    folder.rename("../copy", "app.log.1");
    assert!(folder.send_all().is_empty());
}

#[test]
fn a_named_file_is_found_where_rotation_put_it() {
    let folder = Folder::new();
    folder.append("app.log.7", "long ago\n");
    let old = fs::File::options().append(true).open(folder.path("app.log.7")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    folder.append("app.log", "one\n");
    assert_eq!(folder.send(&["app.log"]).0, ["one"]);
    folder.append("app.log", "two\n");
    folder.rename("app.log", "app.log.2");
    folder.append("app.log", "three\n");
    folder.rename("app.log", "app.log.1");
    folder.append("app.log", "four\n");
    let mut messages = folder.send(&["app.log"]).0;
    messages.sort_unstable();
    assert_eq!(messages, ["four", "three", "two"]);
    assert!(folder.send(&["app.log"]).0.is_empty());
}

#[test]
fn another_file_with_the_same_long_header_is_read_anew() {
    let folder = Folder::new();
    let header = format!("# {}\n", "h".repeat(2_000));
    folder.append("app.log", &format!("{header}one\n"));
    folder.send_all();
    folder.overwrite("app.log", &format!("{header}two\nthree\nfour\n"));
    assert_eq!(folder.send_all()[1..], ["two", "three", "four"]);
    assert!(folder.send_all().is_empty());
}

#[test]
fn the_same_lines_in_two_files_are_those_of_both() {
    let folder = Folder::new();
    for name in ["web-1/app.log", "web-2/app.log", "jobs/a.log", "jobs/b.log"] {
        folder.append(name, "started\n");
    }
    assert_eq!(folder.send_all(), ["started"; 4]);
    // Renamed by rotation, the new one begins as the old one did.
    folder.rename("jobs/a.log", "jobs/a.log.1");
    folder.append("jobs/a.log", "started\n");
    assert_eq!(folder.send_all(), ["started"]);
    // Deleted, its inode is perhaps that of the next one.
    fs::remove_file(folder.path("jobs/b.log")).unwrap();
    folder.append("jobs/c.log", "started\n");
    assert_eq!(folder.send_all(), ["started"]);
}

#[test]
fn a_copy_beside_its_original_holds_nothing_new() {
    let folder = Folder::new();
    folder.append("app.log", "one\ntwo\n");
    folder.send_all();
    folder.copy("app.log", "app.log.bak");
    let (messages, summary) = folder.send(&[""]);
    assert!(messages.is_empty());
    assert_eq!((summary.already_sent, summary.copies), (1, 1));
}

#[test]
fn half_of_a_compressed_file_and_then_all_of_it() {
    let folder = Folder::new();
    let lines: Vec<_> = (0..3_000).map(|n| format!("line {n} of {}", n * 7_919)).collect();
    let whole = gzip((lines.join("\n") + "\n").as_bytes());
    fs::write(folder.path("app.gz"), &whole[..whole.len() / 2]).unwrap();
    let (mut sent, summary) = folder.send(&[""]);
    assert_eq!(summary.failed, 1);
    fs::write(folder.path("app.gz"), &whole).unwrap();
    sent.extend(folder.send_all());
    assert_eq!(sent, lines);
}

#[test]
fn rotation_while_following_loses_nothing() {
    for open_max in [1, 2, 10] {
        let folder = Folder::new();
        let (mut messages, summary) = follow(
            &folder,
            open_max,
            &[
                &|| folder.append("app.log", "one\nhalf"),
                &|| folder.append("app.log", " a line\n"),
                &|| {
                    folder.rename("app.log", "app.log.1");
                    folder.append("app.log.1", "late\n");
                    folder.append("app.log", "new file\n");
                },
                // The copy is seen while its original is still there.
                &|| folder.copy("app.log", "app.log.2"),
                &|| folder.overwrite("app.log", "overwritten, and longer than before\n"),
                &|| folder.compress("app.log.1"),
                &|| folder.append("pod/0.log", "in a new folder\n"),
                &|| fs::remove_dir_all(folder.path("pod")).unwrap(),
                &|| folder.append("app.log", "last\n"),
            ],
        );
        let overwritten = "overwritten, and longer than before";
        let mut expected =
            ["one", "half a line", "late", "new file", overwritten, "in a new folder", "last"];
        // Which of two files is read first does not matter.
        messages.sort_unstable();
        expected.sort_unstable();
        assert_eq!(messages, expected, "{open_max} open");
        assert_eq!(summary.failed, 0);
        assert!(folder.send_all().is_empty());
    }
}

#[test]
fn more_files_than_may_be_open_are_all_followed() {
    let folder = Folder::new();
    let names: Vec<_> = (0..20).map(|n| format!("{n}.log")).collect();
    let append = |text: &'static str| {
        let (folder, names) = (&folder, &names);
        move || names.iter().for_each(|name| folder.append(name, &format!("{text} {name}\n")))
    };
    let (mut messages, _) = follow(&folder, 3, &[&append("first"), &append("second"), &|| {}]);
    messages.sort_unstable();
    let mut expected: Vec<_> = ["first", "second"]
        .iter()
        .flat_map(|text| names.iter().map(move |n| format!("{text} {n}")))
        .collect();
    expected.sort_unstable();
    assert_eq!(messages, expected);
}

#[test]
fn a_pipe_is_read_as_it_comes() {
    let folder = Folder::new();
    let path = folder.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, "one\n  more\nwithout an end").unwrap()
    });
    let mut rig = Rig::new(None, 100);
    let (result, summary) = rig.with(|reader| reader.read_all(std::slice::from_ref(&path)));
    result.unwrap();
    writer.join().unwrap();
    assert_eq!(rig.messages(), ["one\n  more", "without an end"]);
    assert_eq!(summary.files, 1);
}
