//! Runs the real binary for whole-path tests.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod clients;
pub(crate) mod cluster;
pub(crate) mod faulty_cluster;
pub(crate) mod http;
pub(crate) mod network;
pub(crate) mod oracle;

use std::{
    fs,
    io::{BufRead, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

/// The binary under test, with an environment that holds nothing of the caller's.
pub(crate) fn logweir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logweir"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// A running `logweir standalone`, `server` or `processor`, killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Such as `http://127.0.0.1:40123`.
    pub(crate) endpoint: String,
}

impl Process {
    /// Starts a standalone on a free port and waits until it says that it is ready.
    pub(crate) fn standalone(data_dir: &Path) -> Self {
        Self::standalone_with(data_dir, "127.0.0.1:0", &[])
    }

    /// Starts it on an address, with further environment variables.
    pub(crate) fn standalone_with(data_dir: &Path, listen: &str, env: &[(&str, &str)]) -> Self {
        let mut command = logweir();
        command.arg("standalone").arg("--data-dir").arg(data_dir).args(["--listen", listen]);
        Self::start(command.envs(env.iter().copied()))
    }

    /// Starts it by a command that becomes it.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        let mut said = String::new();
        let endpoint = loop {
            line.clear();
            let read = stdout.read_line(&mut line).expect("stdout can be read");
            assert!(read > 0, "it ended before it was ready; it said: {said:?}");
            said += &line;
            if let Some(url) = line.trim().strip_prefix("ready on ") {
                break url.to_owned();
            }
        };
        Self { child, stdout, endpoint }
    }

    /// The address without the scheme.
    pub(crate) fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// What it answers to who asks whether it is ready.
    pub(crate) fn readiness(&self) -> String {
        let mut stream = TcpStream::connect(self.address()).expect("it listens");
        let request = "GET /readyz HTTP/1.1\r\nHost: logweir\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A line of its status in bytes, such as `VmHWM`.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("a size");
        kibibytes.parse::<u64>().expect("a number") << 10
    }

    /// The sum of one of its metrics; 0 if there is none yet.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.address()).expect("it listens");
        let request = "GET /metrics HTTP/1.0\r\nHost: logweir\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next() == Some(name))
                .then(|| value.parse::<f64>().expect("a number"))
        };
        answer.lines().filter_map(value).sum()
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends")
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A new token of a role for a service.
pub(crate) fn token(data_dir: &Path, service: &str, role: &str) -> String {
    let output = logweir()
        .args(["token", "issue", "--service", service, "--role", role])
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .expect("the binary runs");
    succeeded(&output).trim().to_owned()
}

/// Runs a client command against a server; its standard output.
pub(crate) fn client(server: &Process, token: &str, args: &[&str]) -> Output {
    logweir()
        .args(args)
        .env("LOGWEIR_ENDPOINT", &server.endpoint)
        .env("LOGWEIR_TOKEN", token)
        .output()
        .expect("the binary runs")
}

/// The standard output of a run that succeeded.
pub(crate) fn succeeded(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).expect("it prints UTF-8")
}

/// Logs of the fixture.
pub(crate) const FIXTURE_LOGS: usize = 600;

/// Writes NDJSON of three services, three levels, two patterns a service.
pub(crate) fn write_fixture(path: &Path) {
    let line = |number: usize| {
        let service = ["shop", "billing", "search"][number % 3];
        let level =
            if number.is_multiple_of(50) { "ERROR" } else { ["INFO", "WARN"][number / 3 % 2] };
        let message = match number / 3 % 2 {
            0 => format!("order {number} placed by user {}", number * 7),
            _ => format!("payment of order {number} took {} ms", number % 90),
        };
        let time = format!("2026-01-02T03:{:02}:{:02}.{:03}Z", number / 60, number % 60, number);
        serde_json::json!({
            "time": time, "service": service, "level": level, "message": message, "user_id": number
        })
        .to_string()
    };
    let lines: Vec<String> = (0..FIXTURE_LOGS).map(line).collect();
    fs::write(path, lines.join("\n") + "\n").expect("the fixture can be written");
}
