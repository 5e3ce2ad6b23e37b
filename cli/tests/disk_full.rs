//! A disk that fills up and is freed again, through the real binary: logs are refused for now, the
//! reason is said, and everything that was sent is stored once in the end.
//!
//! The disk is a small tmpfs of the server's own. Where this user may not mount one, the kernel's
//! limit on file sizes stands in: every write fails, only with another error.

mod support;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use support::{Process, client, logweir, succeeded};

const LOGS: usize = 30_000;
/// As an own user, then as root.
const NAMESPACES: [&[&str]; 2] = [&["--user", "--map-root-user", "--mount"], &["--mount"]];

/// What can run out.
enum Room {
    /// A tmpfs that only the server sees, and what fills it.
    Disk { ballast: PathBuf },
    /// The size of the server's files.
    FileSize,
}

fn may_mount(namespace: &[&str], place: &Path) -> bool {
    let mut command = Command::new("unshare");
    command.args(namespace).args(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(place);
    command.output().is_ok_and(|output| output.status.success())
}

/// Starts a server that can run out of room, by a shell that makes the room and becomes the server.
fn start(place: &Path) -> (Process, Room) {
    let binary = logweir().get_program().to_owned();
    let become_server = r#"exec "$BINARY" standalone --data-dir "$PLACE" --listen 127.0.0.1:0"#;
    let run = |command: &mut Command, script: String| {
        command
            .args(["sh", "-c", &script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("BINARY", &binary).env("PLACE", place);
        Process::start(command)
    };
    if let Some(namespace) = NAMESPACES.into_iter().find(|namespace| may_mount(namespace, place)) {
        let mount = r#"mount -t tmpfs -o size=40m tmpfs "$PLACE" && "#;
        let mut command = Command::new("unshare");
        let server = run(command.args(namespace), format!("{mount}{become_server}"));
        let inside = place.strip_prefix("/").expect("an absolute path");
        let ballast = Path::new("/proc").join(server.id().to_string()).join("root").join(inside);
        return (server, Room::Disk { ballast: ballast.join("ballast") });
    }
    println!("no tmpfs may be mounted here: limiting file sizes instead");
    // The signal that goes with the limit would end the server.
    (run(&mut Command::new("env"), format!("trap '' XFSZ; {become_server}")), Room::FileSize)
}

impl Room {
    fn fill(&self, server: &Process) {
        match self {
            Self::Disk { ballast } => {
                let mut file = File::create(ballast).expect("the server's disk can be reached");
                let error = loop {
                    if let Err(error) = file.write_all(&[0; 4096]) {
                        break error;
                    }
                };
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
            }
            Self::FileSize => limit_file_size(server, Some(4096)),
        }
    }

    fn free(&self, server: &Process) {
        match self {
            Self::Disk { ballast } => fs::remove_file(ballast).expect("it is there"),
            Self::FileSize => limit_file_size(server, None),
        }
    }
}

fn limit_file_size(server: &Process, bytes_max: Option<u64>) {
    let id = Pid::from_raw(server.id().cast_signed()).expect("a process id is not zero");
    let limit = Rlimit { current: bytes_max, maximum: None };
    prlimit(Some(id), Resource::Fsize, limit).expect("the limit of one's own process");
}

/// Lines that do not compress, so that room is needed for them.
fn write_fixture(path: &Path) {
    let mut state = 1_u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 16
    };
    let mut file = std::io::BufWriter::new(File::create(path).expect("it can be made"));
    for number in 0..LOGS {
        let words: Vec<String> = (0..16).map(|_| format!("{:x}", word())).collect();
        let second = number / 1_000;
        writeln!(file, "2026-01-02T03:04:{second:02}Z INFO log {number} {}", words.join(" "))
            .expect("it can be written");
    }
}

#[test]
fn a_full_disk_refuses_for_now_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("data");
    fs::create_dir(&place).expect("a new folder");
    let (server, room) = start(&place);
    let inside = match &room {
        Room::Disk { ballast } => ballast.parent().expect("it lies in the folder").to_owned(),
        Room::FileSize => place,
    };
    let token = support::token(&inside, "*", "admin");
    let (file, journal) = (folder.path().join("app.log"), folder.path().join("journal"));
    write_fixture(&file);
    let (file, journal) = (file.display().to_string(), journal.display().to_string());
    let send = ["send", &file, "--service", "shop", "--journal", &journal];

    room.fill(&server);
    let refused = client(&server, &token, &[&send[..], &["--patience", "3s"]].concat());
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "it cannot answer now: {stderr}");
    let answer = server.readiness();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    if matches!(room, Room::Disk { .. }) {
        assert!(stderr.contains("disk") && answer.contains("disk"), "{stderr} {answer}");
    }

    room.free(&server);
    succeeded(&client(&server, &token, &send));
    assert!(server.readiness().starts_with("HTTP/1.1 200"), "it goes on by itself");
    let objects = |args: &[&str]| -> Vec<Value> {
        let text = succeeded(&client(&server, &token, args));
        text.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    };
    let mut messages: Vec<_> =
        objects(&["export"]).iter().map(|log| log["message"].to_string()).collect();
    messages.sort_unstable();
    messages.dedup();
    assert_eq!(messages.len(), LOGS, "each is there");
    assert_eq!(objects(&["services", "--json"])[0]["total"], LOGS, "and counted once");
    assert_eq!(objects(&["report", "--json"])[0]["missing"], 0);
}
