//! The distributed setting on one machine: PostgreSQL, RabbitMQ, two servers, two processors, two
//! for alerting and made-up traffic, as local processes on the loopback address, until somebody
//! ends it.
//!
//! A process that somebody kills starts again after a while, so that what a death does can be
//! watched.

use std::{
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};

use crate::{
    Postgres, RabbitMq, blocking,
    instance::{Disk, Instance},
    port,
};

/// How often it looks whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longer than it takes the others to notice that a process is dead.
const DEAD_FOR: Duration = Duration::from_secs(20);

/// Runs the binary as a cluster until SIGINT or SIGTERM.
pub async fn run(binary: &Path) -> std::io::Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    eprintln!("starting PostgreSQL, RabbitMQ, two servers, two processors and two for alerting");
    let binary = binary.to_owned();
    // A broker takes ten seconds to start; a signal counts meanwhile too. What has begun is
    // dropped, and so removed by its guards.
    let mut cluster = tokio::select! {
        cluster = Cluster::start(&binary) => cluster,
        _ = interrupted.recv() => return Ok(()),
        _ = terminated.recv() => return Ok(()),
    };
    println!("{}", cluster.advice(&binary));
    let mut looks = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = looks.tick() => cluster.look_after(),
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        }
    }
    eprintln!("ending");
    blocking(move || cluster.stop()).await;
    Ok(())
}

struct Cluster {
    /// In the order in which a log meets them, which is the order in which they end.
    members: Vec<Member>,
    endpoints: [String; 2],
    token: String,
    instance: Instance,
    postgres: Postgres,
    rabbitmq: RabbitMq,
}

struct Member {
    name: &'static str,
    command: Command,
    state: State,
}

enum State {
    Running(Child),
    Dead { since: Instant },
}

impl Cluster {
    async fn start(binary: &Path) -> Self {
        let durable = Postgres::private_with("fsync = on");
        let (postgres, rabbitmq) = tokio::join!(durable, RabbitMq::private());
        let binary = binary.to_owned();
        blocking(move || Self::start_members(&binary, postgres, rabbitmq)).await
    }

    fn start_members(binary: &Path, postgres: Postgres, rabbitmq: RabbitMq) -> Self {
        let instance = Instance::new("cluster", Disk::Shared);
        let command = |arguments: &[&str]| {
            let mut command = instance.own_command(binary);
            command.args(arguments).env("LOGWEIR_DATA_DIR", instance.folder());
            command.env("LOGWEIR_DATABASE_URL", postgres.url());
            command.env("LOGWEIR_AMQP_URL", rabbitmq.url());
            command
        };
        instance.run(&mut command(&["migrate"]));
        // The first one's port is that which every command asks by itself.
        let addresses = [4317, 4327].map(|wanted| format!("127.0.0.1:{}", port_near(wanted)));
        let endpoints = addresses.each_ref().map(|address| format!("http://{address}"));
        let issue = ["token", "issue", "--service", "*", "--role", "admin"];
        let token = words_of(&instance, &mut command(&issue));
        let traffic = |number: usize| {
            let rate = ["loadgen", "--rate", "200", "--services", "6", "--seed"];
            let mut command = command(&[&rate[..], &[["7", "8"][number]]].concat());
            command.env("LOGWEIR_ENDPOINT", &endpoints[number]).env("LOGWEIR_TOKEN", &token);
            command
        };
        let server = |number: usize| command(&["server", "--listen", &addresses[number]]);
        let [processor, alerting] = ["processor", "alerting"]
            .map(|kind| move || command(&[kind, "--listen", "127.0.0.1:0"]));
        let members = [
            ("traffic-1", traffic(0)),
            ("traffic-2", traffic(1)),
            ("server-1", server(0)),
            ("server-2", server(1)),
            ("processor-1", processor()),
            ("processor-2", processor()),
            ("alerting-1", alerting()),
            ("alerting-2", alerting()),
        ];
        let members = members.map(|(name, command)| Member::start(name, command));
        let cluster =
            Self { members: members.into(), endpoints, token, instance, postgres, rabbitmq };
        cluster.wait_until_it_serves();
        cluster
    }

    fn wait_until_it_serves(&self) {
        for endpoint in &self.endpoints {
            let address = endpoint.trim_start_matches("http://");
            self.instance
                .until("the servers listen", || std::net::TcpStream::connect(address).is_ok());
        }
    }

    fn look_after(&mut self) {
        for member in &mut self.members {
            member.look_after();
        }
    }

    /// Downstream, so that each stores what it has taken while the next still runs.
    fn stop(mut self) {
        for group in ["traffic", "server", "processor", "alerting"] {
            let group = self.members.iter_mut().filter(|member| member.name.starts_with(group));
            let mut group: Vec<&mut Member> = group.collect();
            group.iter().for_each(|member| member.ask_to_stop());
            group.iter_mut().for_each(|member| member.wait());
        }
    }

    fn advice(&self, binary: &Path) -> String {
        let process_ids = self.members[2..].iter().map(Member::describe).collect::<Vec<_>>();
        format!(
            "
Logweir runs as many processes, with made-up traffic of six services through both servers.
{processes}
PostgreSQL: {database}
RabbitMQ: {broker}
Logs of the processes: {log}
Ctrl-C ends it and removes everything.

In another terminal:

  export PATH=\"{folder}:$PATH\"
  export LOGWEIR_ENDPOINT={first}   # or {second}
  export LOGWEIR_TOKEN={token}

  logweir processes                # who is alive, which partitions each has, how far each is
  logweir stats                    # each service over the last 5 minutes
  logweir tail                     # as they come, through both servers
  logweir rules list               # what is watched; one alerting process leads, the other stands by
  logweir incidents list           # what is wrong, once there is an hour of history
  logweir report                   # what each sender emitted, and what is missing: nothing
  kill -9 {victim}                     # a processor: the other takes its partitions within 10 s,
                                   # and in {dead_for} s it starts again
",
            processes = process_ids.join(", "),
            database = self.postgres.url(),
            broker = self.rabbitmq.url(),
            log = self.instance.folder().join("log").display(),
            folder = binary.parent().unwrap_or(Path::new(".")).display(),
            first = self.endpoints[0],
            second = self.endpoints[1],
            token = self.token,
            victim = self.members[4].id(),
            dead_for = DEAD_FOR.as_secs(),
        )
    }
}

impl Member {
    fn start(name: &'static str, mut command: Command) -> Self {
        let state = State::Running(command.spawn().expect("the binary can be started"));
        Self { name, command, state }
    }

    /// Starts it again when it has been dead for a while.
    fn look_after(&mut self) {
        match &mut self.state {
            State::Running(child) => {
                let ended = child.try_wait().expect("it is a child of this process");
                if let Some(status) = ended {
                    let seconds = DEAD_FOR.as_secs();
                    eprintln!("{} {}; it starts again in {seconds} s", self.name, describe(status));
                    self.state = State::Dead { since: Instant::now() };
                }
            }
            State::Dead { since } if since.elapsed() >= DEAD_FOR => {
                let child = self.command.spawn().expect("the binary can be started");
                self.state = State::Running(child);
                eprintln!("{} runs again", self.describe());
            }
            State::Dead { .. } => {}
        }
    }

    /// 0 if it is dead.
    fn id(&self) -> u32 {
        match &self.state {
            State::Running(child) => child.id(),
            State::Dead { .. } => 0,
        }
    }

    fn describe(&self) -> String {
        format!("{} (process {})", self.name, self.id())
    }

    fn ask_to_stop(&self) {
        if let State::Running(child) = &self.state {
            // It may have ended meanwhile.
            kill_process(Pid::from_child(child), Signal::TERM).ok();
        }
    }

    fn wait(&mut self) {
        if let State::Running(child) = &mut self.state {
            child.wait().expect("it is a child of this process");
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, code) => format!("ended with code {}", code.unwrap_or_default()),
    }
}

/// The usual port, or another if that is taken.
fn port_near(wanted: u16) -> u16 {
    if TcpListener::bind(("127.0.0.1", wanted)).is_ok() { wanted } else { port::free() }
}

/// What a command prints that must succeed.
pub(crate) fn words_of(instance: &Instance, command: &mut Command) -> String {
    let output = command.stdout(std::process::Stdio::piped()).output().expect("the binary runs");
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, instance.log());
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
