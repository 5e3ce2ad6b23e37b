//! Servers and processors that start before what they need, or are to stop while it does not
//! answer.

mod support;

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use support::cluster::{Client, Cluster};

const KINDS: [&str; 2] = ["server", "processor"];

/// A process that has just been started.
struct Starting {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Starting {
    fn new(cluster: &Cluster, kind: &str) -> Self {
        let mut command = cluster.command(&[kind, "--listen", "127.0.0.1:0"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let stderr = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        Self { child, stdout, stderr }
    }

    /// Waits until it logs something.
    fn until_it_logs(&mut self, what: &str) {
        let mut said = Vec::new();
        for line in &mut self.stderr {
            said.push(line.expect("it logs text"));
            if said.last().is_some_and(|line| line.contains(what)) {
                return;
            }
        }
        panic!("it ended without {what:?}: {said:#?}");
    }

    /// Where it can be asked, once it says so.
    fn endpoint(&mut self) -> String {
        let line = self.stdout.next().expect("it goes on").expect("it prints text");
        line.strip_prefix("ready on ").expect("that is all it says").to_owned()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // Already ended is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn until_they_log(processes: &mut [Starting], what: &str) {
    processes.iter_mut().for_each(|process| process.until_it_logs(what));
}

#[test]
fn a_process_that_starts_while_the_database_goes_waits_for_it() {
    let cluster = testkit::wait(Cluster::private());
    // They have opened the database when they wait for the broker.
    testkit::wait(cluster.rabbitmq.kill());
    let mut processes = KINDS.map(|kind| Starting::new(&cluster, kind));
    until_they_log(&mut processes, "waiting for the broker");
    testkit::wait(cluster.postgres.kill());
    testkit::wait(cluster.rabbitmq.restart());
    until_they_log(&mut processes, "the database does not answer yet");
    testkit::wait(cluster.postgres.restart());

    let [server, _] = processes.each_mut().map(Starting::endpoint);
    let token = cluster.token("*", "admin");
    Client { endpoint: &server, token: &token }.until_shared_by(1);
}

#[test]
fn a_process_that_is_to_stop_while_it_starts_does_not_wait() {
    let cluster = testkit::wait(Cluster::private());
    testkit::wait(cluster.rabbitmq.kill());
    let mut for_the_broker = KINDS.map(|kind| Starting::new(&cluster, kind));
    until_they_log(&mut for_the_broker, "waiting for the broker");
    testkit::wait(cluster.postgres.kill());
    let mut for_the_database = KINDS.map(|kind| Starting::new(&cluster, kind));
    until_they_log(&mut for_the_database, "the database does not answer yet");

    for one in for_the_broker.iter_mut().chain(&mut for_the_database) {
        kill_process(Pid::from_child(&one.child), Signal::TERM).expect("it runs");
        assert_eq!(one.child.wait().expect("it ends").code(), Some(0), "in order");
    }
}

#[test]
fn a_process_that_is_to_stop_does_not_wait_for_a_database_that_is_silent() {
    let cluster = testkit::wait(Cluster::private());
    let [server, processor] = KINDS.map(|kind| cluster.start(kind));
    let token = cluster.token("*", "admin");
    Client { endpoint: &server.endpoint, token: &token }.until_shared_by(1);

    testkit::wait(cluster.postgres.pause());
    // It takes longer to say so than from one look at the database to the next.
    let readiness = processor.readiness();
    assert!(readiness.starts_with("HTTP/1.1 503"), "{readiness}");
    std::thread::scope(|both| {
        for process in [server, processor] {
            both.spawn(|| assert_eq!(process.stop().code(), Some(0), "SIGTERM ends it in order"));
        }
    });
    testkit::wait(cluster.postgres.resume());
}
