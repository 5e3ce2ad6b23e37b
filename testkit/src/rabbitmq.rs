//! A private RabbitMQ node, or a virtual host of the one that the whole run shares.
//!
//! The node, or those of a cluster, have a port mapper (`epmd`) of their own, so that none is left
//! behind and none of the machine's is disturbed. A node is told what to do by `erl_call`, a
//! hundred times quicker than `rabbitmqctl`.

use std::{
    io::Write as _,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::process::Signal;
use uuid::Uuid;

use crate::{
    blocking,
    certificates::{self, AUTHORITY, CERTIFICATE, KEY},
    instance::{Disk, Instance, Options},
    port,
    shared_address::{RABBITMQ, address},
};

const USER: &str = "logweir";
/// Far below the room at which the alarm is raised. With none at all the quorum queues of RabbitMQ
/// 3.10 end by themselves, and nothing but a restart of the node brings them back.
const LEFT_BYTES: u64 = 16 << 20;
/// What was declared is on disk two seconds later, if nothing asks for it at once.
const KEEP: &str = "ok = mnesia:sync_log()";
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// What a node that is alone is called.
const NAME: &str = "logweir@localhost";

/// A virtual host of its own for a test, empty; it is removed when dropped.
pub struct RabbitMq {
    node: Arc<Node>,
    vhost: String,
}

impl RabbitMq {
    /// A virtual host of the shared node, or of a private one when none is shared.
    pub async fn start() -> Self {
        match address(RABBITMQ).and_then(|text| Address::from_text(&text)) {
            Some(address) => blocking(|| Self::create_in(Node::attach(address))).await,
            None => Self::private().await,
        }
    }

    /// A node of its own, which may be killed. It takes about ten seconds to start.
    pub async fn private() -> Self {
        Self::private_with("").await
    }

    /// A node of its own with further lines of `rabbitmq.conf`.
    pub async fn private_with(settings: &str) -> Self {
        Self::start_with(Options { settings: settings.into(), ..Options::default() }).await
    }

    /// A node of its own that speaks TLS, `amqps://`; [`Self::ca_file`] certifies it.
    pub async fn private_tls() -> Self {
        Self::start_with(Options { is_tls: true, ..Options::default() }).await
    }

    /// A node of its own on a disk of its own, which can be filled. Needs [`crate::may_mount`].
    pub async fn on_disk(bytes: u64, settings: &str) -> Self {
        let disk = Disk::Own { bytes };
        Self::start_with(Options { settings: settings.into(), disk, ..Options::default() }).await
    }

    /// Three nodes that are one broker, each of which may be killed, and a virtual host of them
    /// all.
    pub async fn cluster() -> [Self; 3] {
        blocking(|| {
            let [first, second, third] = Node::start_cluster();
            let first = Self::create_in(first);
            let other = |node| Self { node: Arc::new(node), vhost: first.vhost.clone() };
            let (second, third) = (other(second), other(third));
            [first, second, third]
        })
        .await
    }

    async fn start_with(options: Options) -> Self {
        blocking(move || Self::create_in(Node::start(&options))).await
    }

    fn create_in(node: Node) -> Self {
        let vhost = format!("test_{}", Uuid::new_v4().simple());
        node.address.evaluate(&format!(
            r#"ok = rabbit_vhost:add(<<"{vhost}">>, <<"testkit">>),
            ok = rabbit_auth_backend_internal:set_permissions(<<"{USER}">>, <<"{vhost}">>,
                <<".*">>, <<".*">>, <<".*">>, <<"testkit">>),
            {KEEP}"#
        ));
        Self { node: Arc::new(node), vhost }
    }

    /// Such as `amqp://logweir:SECRET@127.0.0.1:20123/test_1`; its user may do everything.
    pub fn url(&self) -> String {
        let Address { port, password, .. } = &self.node.address;
        let is_tls = self.node.private.as_ref().is_some_and(|private| private.is_tls);
        let scheme = if is_tls { "amqps" } else { "amqp" };
        format!("{scheme}://{USER}:{password}@127.0.0.1:{port}/{}", self.vhost)
    }

    /// The authority of a node that was started by [`Self::private_tls`], PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.node.private().instance.folder().join(AUTHORITY)
    }

    /// Where it listens, on the loopback address.
    pub fn port(&self) -> u16 {
        self.node.address.port
    }

    /// What a private node is called among those of a cluster.
    pub fn name(&self) -> &str {
        &self.node.private().name
    }

    /// The name of the virtual host.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// SIGKILL for every process of a private node.
    pub async fn kill(&self) {
        self.with(Private::kill).await;
    }

    /// Ends a private node in order.
    pub async fn stop(&self) {
        self.with(Private::stop).await;
    }

    /// Starts a private node again on the same port, ending it in order if it runs.
    pub async fn restart(&self) {
        self.with(|private| {
            private.stop();
            private.run();
        })
        .await;
    }

    /// Stops the clocks of a private node: connections stay open and nothing answers.
    pub async fn pause(&self) {
        self.with(|private| drop(private.instance.signal(Signal::STOP))).await;
    }

    /// Lets a paused node go on.
    pub async fn resume(&self) {
        self.with(|private| drop(private.instance.signal(Signal::CONT))).await;
    }

    /// Leaves less room than the node wants on a disk that [`Self::on_disk`] gave it. The node has
    /// raised its alarm when this returns: publishers are told that they are blocked.
    pub async fn fill_disk(&self) {
        self.with(|private| {
            private.instance.fill_disk(LEFT_BYTES);
            private.look_at_disk();
        })
        .await;
    }

    /// Gives the room back that [`Self::fill_disk`] took, which ends the alarm.
    pub async fn free_disk(&self) {
        self.with(|private| {
            private.instance.free_disk();
            private.look_at_disk();
        })
        .await;
    }

    /// Raises the memory alarm of a private node: publishers are told that they are blocked.
    pub async fn block(&self) {
        self.with(|private| {
            private.address.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.0)");
        })
        .await;
    }

    /// Ends what [`Self::block`] began.
    pub async fn unblock(&self) {
        self.with(|private| {
            private.address.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)");
        })
        .await;
    }

    /// Evaluates Erlang in the node, expressions separated by commas; the value of the last as
    /// text. For what no client can see or do.
    pub async fn evaluate(&self, expressions: &str) -> String {
        let (node, expressions) = (self.node.clone(), expressions.to_owned());
        blocking(move || node.address.evaluate(&expressions)).await
    }

    /// The last lines that a private node wrote about itself.
    pub fn log(&self) -> String {
        self.node.private().instance.log()
    }

    async fn with(&self, work: impl FnOnce(&Private) + Send + 'static) {
        let node = self.node.clone();
        blocking(move || work(node.private())).await;
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if self.node.private.is_none() {
            let remove = format!(r#"rabbit_vhost:delete(<<"{}">>, <<"testkit">>)"#, self.vhost);
            self.node.address.evaluate(&remove);
        }
    }
}

/// How to reach a node.
#[derive(Clone)]
pub(crate) struct Address {
    port: u16,
    /// Where it speaks with other nodes.
    distribution_port: u16,
    password: String,
    /// What the nodes of a cluster know each other by.
    cookie: String,
}

impl Address {
    fn new() -> Self {
        let secret = || Uuid::new_v4().simple().to_string();
        let (port, distribution_port) = (port::free(), port::free());
        Self { port, distribution_port, password: secret(), cookie: secret() }
    }

    /// For the environment variable of a shared node.
    pub(crate) fn to_text(&self) -> String {
        let Self { port, distribution_port, password, cookie } = self;
        format!("{port} {distribution_port} {password} {cookie}")
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split(' ').collect();
        let [port, distribution_port, password, cookie] = fields[..] else { return None };
        Some(Self {
            port: port.parse().ok()?,
            distribution_port: distribution_port.parse().ok()?,
            password: password.to_owned(),
            cookie: cookie.to_owned(),
        })
    }

    fn evaluate(&self, expressions: &str) -> String {
        self.try_evaluate(expressions).unwrap_or_else(|error| panic!("{expressions}: {error}"))
    }

    fn try_evaluate(&self, expressions: &str) -> Result<String, String> {
        let mut command = Command::new("erl_call");
        command.arg("-address").arg(format!("127.0.0.1:{}", self.distribution_port));
        // Of two callers of one name the node refuses the second.
        command.arg("-h").arg(Uuid::new_v4().simple().to_string());
        command.args(["-c", &self.cookie, "-e", "-fetch_stdout", "-no_result_term"]);
        command.env("HOME", "/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("erl_call runs: deploy/setup.sh test installs it");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let printed = format!(
            "try begin {expressions} end of Value -> io:format(\"ok ~0tp\", [Value])\n\
            catch Class:Reason:Stack -> io:format(\"~0tp\", [{{Class, Reason, Stack}}]) end.\n"
        );
        stdin.write_all(printed.as_bytes()).expect("erl_call reads");
        drop(stdin);
        let output = child.wait_with_output().expect("erl_call ends");
        let stdout = String::from_utf8_lossy(&output.stdout);
        // An error is caught in the node and printed, at which `erl_call` succeeds as well.
        match stdout.strip_prefix("ok ") {
            Some(value) if output.status.success() => Ok(value.to_owned()),
            _ => Err(format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))),
        }
    }
}

pub(crate) struct Node {
    pub(crate) address: Address,
    /// None where another process started it.
    private: Option<Private>,
}

impl Node {
    fn attach(address: Address) -> Self {
        Self { address, private: None }
    }

    pub(crate) fn start(options: &Options) -> Self {
        let port_mapper = Arc::new(PortMapper::start());
        let node = Self::new(Address::new(), NAME.to_owned(), port_mapper, options);
        node.private().run();
        node
    }

    /// Nodes that find each other by name.
    fn start_cluster() -> [Self; 3] {
        let names = [0, 1, 2].map(|number| format!("logweir-{number}@localhost"));
        let mut settings = "cluster_formation.peer_discovery_backend = classic_config\n".to_owned();
        for (number, name) in (1..).zip(&names) {
            settings += &format!("cluster_formation.classic_config.nodes.{number} = {name}\n");
        }
        let options = Options { settings, ..Options::default() };
        let port_mapper = Arc::new(PortMapper::start());
        let Address { password, cookie, .. } = Address::new();
        let nodes = names.map(|name| {
            let shared =
                Address { password: password.clone(), cookie: cookie.clone(), ..Address::new() };
            Self::new(shared, name, Arc::clone(&port_mapper), &options)
        });
        // All at once: one after the other would take three times ten seconds.
        thread::scope(|all| {
            for node in &nodes {
                all.spawn(|| node.private().run());
            }
        });
        nodes[0].private().instance.until("the nodes are a cluster", || {
            nodes[0].address.evaluate("length(rabbit_nodes:all_running())") == "3"
        });
        nodes
    }

    fn new(
        address: Address,
        name: String,
        port_mapper: Arc<PortMapper>,
        options: &Options,
    ) -> Self {
        let private = Private::new(address.clone(), name, port_mapper, options);
        Self { address, private: Some(private) }
    }

    fn private(&self) -> &Private {
        self.private.as_ref().expect("only a private node can be tampered with: RabbitMq::private")
    }
}

/// Where nodes are found by name. It outlives them, in a folder of its own.
struct PortMapper {
    instance: Instance,
    port: u16,
    running: Child,
}

impl PortMapper {
    fn start() -> Self {
        let (instance, port) = (Instance::new("epmd", Disk::Shared), port::free());
        let mut command = instance.command("epmd");
        command.env("ERL_EPMD_ADDRESS", "127.0.0.1").arg("-port").arg(port.to_string());
        let running = command.spawn().expect("epmd starts");
        instance.until("epmd takes connections", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Self { instance, port, running }
    }
}

impl Drop for PortMapper {
    fn drop(&mut self) {
        self.instance.kill();
        self.running.wait().expect("it is a child of this process");
    }
}

struct Private {
    instance: Instance,
    address: Address,
    name: String,
    is_tls: bool,
    port_mapper: Arc<PortMapper>,
    running: Mutex<Option<Child>>,
}

impl Private {
    fn new(
        address: Address,
        name: String,
        port_mapper: Arc<PortMapper>,
        options: &Options,
    ) -> Self {
        let instance = Instance::new("rabbitmq", options.disk);
        let Address { port, password, .. } = &address;
        let listener = if options.is_tls {
            certificates::write(&instance);
            format!(
                "listeners.tcp = none\n\
                listeners.ssl.1 = 127.0.0.1:{port}\n\
                ssl_options.cacertfile = {AUTHORITY}\n\
                ssl_options.certfile = {CERTIFICATE}\n\
                ssl_options.keyfile = {KEY}\n"
            )
        } else {
            format!("listeners.tcp.1 = 127.0.0.1:{port}\n")
        };
        instance.write(
            "rabbitmq.conf",
            format!(
                "{listener}\
                default_user = {USER}\n\
                default_pass = {password}\n\
                disk_free_limit.absolute = 50MB\n\
                log.console = true\n\
                log.file = false\n\
                {}\n",
                options.settings
            ),
        );
        instance.write("plugins", "[].\n");
        instance.write(".erlang.cookie", &address.cookie);
        let is_tls = options.is_tls;
        Self { instance, address, name, is_tls, port_mapper, running: Mutex::default() }
    }

    fn run(&self) {
        let mut node = self.node_command().spawn().expect("RabbitMQ starts");
        self.instance.until("RabbitMQ takes connections", || {
            let ended = node.try_wait().expect("it is a child of this process");
            assert!(ended.is_none(), "RabbitMQ ended: {}", self.instance.log());
            // It listens when all else is done.
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.address.port)).is_ok()
        });
        self.instance.until("RabbitMQ runs", || {
            self.address.try_evaluate("rabbit:is_running()").as_deref() == Ok("true")
        });
        *self.running.lock().expect("no holder panics") = Some(node);
    }

    fn node_command(&self) -> Command {
        let folder = self.instance.folder();
        let mut command = self.instance.command(SERVER);
        let mut set = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            command.env(name, value.as_ref());
        };
        set("ERL_EPMD_ADDRESS", &"127.0.0.1");
        set("ERL_EPMD_PORT", &self.port_mapper.port.to_string());
        set("RABBITMQ_NODENAME", &self.name);
        set("RABBITMQ_NODE_IP_ADDRESS", &"127.0.0.1");
        set("RABBITMQ_NODE_PORT", &self.address.port.to_string());
        set("RABBITMQ_DIST_PORT", &self.address.distribution_port.to_string());
        set("RABBITMQ_MNESIA_BASE", &folder.join("data"));
        set("RABBITMQ_LOG_BASE", &folder.join("data"));
        set("RABBITMQ_PID_FILE", &folder.join("pid"));
        set("RABBITMQ_CONFIG_FILE", &folder.join("rabbitmq.conf"));
        set("RABBITMQ_ENABLED_PLUGINS_FILE", &folder.join("plugins"));
        // The settings of the machine's own broker must not reach a test's.
        set("RABBITMQ_CONF_ENV_FILE", &Path::new("/dev/null"));
        // Idle schedulers must not spin: the machine is shared with the tests.
        set(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            &"-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
        );
        command
    }

    /// The node looks every ten seconds by itself.
    fn look_at_disk(&self) {
        let look = "rabbit_disk_monitor ! update, sys:get_state(rabbit_disk_monitor)";
        self.address.evaluate(look);
    }

    fn kill(&self) {
        self.instance.kill();
        self.reap();
    }

    fn stop(&self) {
        if self.running.lock().expect("no holder panics").is_some() {
            self.instance.signal(Signal::CONT);
            // The answer may be cut off by the end. A killed node cannot be reached.
            drop(self.address.try_evaluate("spawn(fun() -> rabbit:stop_and_halt() end), ok"));
            self.reap();
        }
        self.kill();
    }

    fn reap(&self) {
        if let Some(mut node) = self.running.lock().expect("no holder panics").take() {
            node.wait().expect("it is a child of this process");
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.kill();
    }
}
