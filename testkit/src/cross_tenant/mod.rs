//! Proves that no rpc and no path of the JSON API tells one tenant anything of another, nor lets it change anything there.
//!
//! Everything is made from the descriptors of the contract: every rpc is called, in every role and
//! with tokens that open nothing, with the ids and names that another tenant's own answers hold.
//! Checked are the content of every answer; that nothing which the others do shows in a number; that
//! the other tenant sees afterwards what it saw before; and that pages without a token name nobody.

mod call;
mod contract;
mod data;
mod forged;
mod http;
mod installation;
mod intrusion;
mod marks;
mod proof;
mod report;
mod requests;
mod tenant;
mod twins;
mod values;
mod view;
mod web;

use std::{cell::RefCell, path::PathBuf, time::Instant};

use rand::random;

pub use self::report::Report;
use self::{
    contract::Contract,
    http::Paths,
    installation::Installation,
    intrusion::{Intrusion, Role},
    marks::{Marks, Words, is_mark, is_open, words_in},
    tenant::Tenant,
    values::Values,
    view::{Masks, View, Walk, differences},
};

const NANOS: u64 = 1_000_000_000;
/// Logs lie a little in the past, so that a time in the future of the server's clock is none of them.
const LOGS_AGO: u64 = 60 * NANOS;
/// Ranges that are given no beginning begin so long ago.
const DAY: u64 = 86_400 * NANOS;
/// After so many calls an intruder has made so much that its lists are long: another takes over.
const CALLS_PER_INTRUDER: u64 = 25_000;
/// One call in so many more goes to a path of the JSON API.
const CALLS_PER_HTTP_CALL: u64 = 8;
/// Tells the twins' words from all others.
const TWIN: u64 = 0x7717;

/// What is to be run.
pub struct Options {
    /// The product.
    pub binary: PathBuf,
    /// Whether as many processes.
    pub is_distributed: bool,
    /// Calls of the intruders.
    pub calls: u64,
    /// Whether answers are compared before and after another tenant grows. That takes a machine that has
    /// little else to do, and one processor: what moments decide differs otherwise.
    pub compares_counts: bool,
    /// None: by chance.
    pub seed: Option<u64>,
}

impl Options {
    /// From the arguments of a command line behind the binary.
    pub fn parse(binary: PathBuf, arguments: &[String]) -> Option<Self> {
        let (calls, compares_counts) = (5_000, true);
        let mut options =
            Self { binary, is_distributed: false, calls, compares_counts, seed: None };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match &argument[..] {
                "--distributed" => {
                    options.is_distributed = true;
                    options.compares_counts = false;
                }
                "--calls" => options.calls = arguments.next()?.parse().ok()?,
                "--seed" => options.seed = Some(arguments.next()?.parse().ok()?),
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Runs it all.
pub async fn run(options: Options) -> Report {
    let seed = options.seed.unwrap_or_else(random);
    println!("seed {seed}");
    let contract = Contract::read();
    let installation = Installation::start(&options.binary, options.is_distributed).await;
    let mut bench = Bench::new(&contract, installation, seed);
    bench.run(options.calls, options.compares_counts).await;
    bench.report.into_inner()
}

/// Everything that the checks use.
struct Bench<'a> {
    contract: &'a Contract,
    installation: Installation,
    seed: u64,
    /// Around when logs happen.
    time: u64,
    masks: Masks,
    report: RefCell<Report>,
    begun: Instant,
}

impl<'a> Bench<'a> {
    fn new(contract: &'a Contract, installation: Installation, seed: u64) -> Self {
        let now = forged::issued_at(&installation.issue("clock", "viewer")) * NANOS;
        let masks = Masks { since_unix_nano: now - DAY - LOGS_AGO, hides_ids: false };
        let report = RefCell::new(Report::new(seed));
        Self {
            contract,
            installation,
            seed,
            time: now - LOGS_AGO,
            masks,
            report,
            begun: Instant::now(),
        }
    }

    /// The order of the checks.
    async fn run(&mut self, calls: u64, compares_counts: bool) {
        self.say("making two tenants");
        let mut victim = self.furnished("victim", self.seed ^ 1).await;
        let mut bystander = self.furnished("bystander", self.seed ^ 2).await;
        let public = proof::services(&bystander, &self.report).await;
        let seen = bystander.values.borrow().clone();
        let theirs = victim.values.borrow().only(is_open);
        if compares_counts {
            self.say("two tenants that do the same, one before and one after a third grows");
            self.counts(&mut victim, &bystander, &theirs).await;
        }
        self.say("looking at what the tenant sees");
        let walk = Walk::over(&victim, &Values::default()).await;
        let before = self.settled(&walk, &victim).await;
        let marks = self.marks(&victim, &seen, &public);
        self.pages(&marks).await;
        self.say("every rpc by one tenant about its own");
        proof::serve_all(&bystander, &self.report).await;
        self.intrude(&victim, &marks, calls).await;
        self.say("looking again");
        let after = self.settled(&walk, &victim).await;
        for found in differences(&before, &after) {
            self.find(format!("what the tenant sees was changed by another: {found}"));
        }
        self.say("tails while both store");
        self.tails(&mut victim, &mut bystander, &marks).await;
        proof::tokens_hold(&victim, &self.report).await;
        self.pages(&marks).await;
        proof::none_is_vacuous(self.contract, &self.report);
        http::none_is_vacuous(&self.installation.servers[0], &self.report).await;
        let ended = self.installation.ended();
        if ended > 0 {
            self.find(format!("{ended} processes ended: {}", self.installation.log()));
        }
    }

    fn say(&self, what: &str) {
        println!("{:4} s: {what}", self.begun.elapsed().as_secs());
    }

    fn find(&self, finding: String) {
        self.report.borrow_mut().find(finding);
    }

    async fn furnished(&self, name: &str, seed: u64) -> Tenant<'a> {
        // The name is a mark too, so that it is nowhere else.
        let name = format!("{name}-{}", Words::new(seed ^ 0xffff).sealed());
        let mut tenant = Tenant::new(self.contract, &self.installation, &name, seed);
        tenant.furnish(self.recent(&tenant)).await;
        tenant
    }

    /// A moment a little before a tenant began, when a minute did: whoever comes later has logs as old
    /// when they come, and in as many buckets of time.
    fn recent(&self, tenant: &Tenant<'_>) -> u64 {
        let now = forged::issued_at(&tenant.admin) * NANOS;
        (now - LOGS_AGO) / LOGS_AGO * LOGS_AGO
    }

    async fn settled(&self, walk: &Walk, tenant: &Tenant<'_>) -> View {
        match walk.settled(tenant, &self.masks).await {
            Ok(view) => view,
            Err(why) => {
                self.find(why);
                View::new()
            }
        }
    }

    /// That nothing of what the one does shows in what others are answered.
    async fn counts(&self, victim: &mut Tenant<'_>, bystander: &Tenant<'_>, theirs: &Values) {
        let twin = |number: u64| self.furnished_twin(number);
        // The twins' logs have other times, so that a moment lies otherwise among the ones and the others.
        let others = theirs.without_moments();
        let first = twin(1).await;
        let first = twins::transcript(&first, &others, &self.masks, self.seed).await;
        let walk = Walk::over(bystander, theirs).await;
        let before = self.settled(&walk, bystander).await;
        victim.grow(self.time).await;
        let after = self.while_busy(victim, walk.view(bystander, &self.masks)).await;
        for found in differences(&before, &after) {
            self.find(format!("what a tenant is answered tells how much another does: {found}"));
        }
        let second = twin(2).await;
        let second = twins::transcript(&second, &others, &self.masks, self.seed).await;
        for found in differences(&first, &second) {
            self.find(format!("one tenant is answered otherwise after another grew: {found}"));
        }
    }

    /// Its twin has a name as long, and the same words.
    async fn furnished_twin(&self, number: u64) -> Tenant<'a> {
        let name = format!("twin-{number}");
        let mut twin = Tenant::new(self.contract, &self.installation, &name, self.seed ^ TWIN);
        twin.furnish(self.recent(&twin)).await;
        twin
    }

    /// Does something while the other tenant sends, and has tails open.
    async fn while_busy<T>(&self, busy: &mut Tenant<'_>, work: impl Future<Output = T>) -> T {
        const BATCHES: usize = 40;
        let batches: Vec<_> = (0..BATCHES).map(|_| busy.small_batch(self.time)).collect();
        let busy = &*busy;
        let sending = async {
            for batch in &batches {
                let _: logweir_proto::v1::IngestResponse = busy.ask("Ingest", batch).await;
            }
            std::future::pending::<()>().await
        };
        let tail = busy.contract.method("TailLogs");
        let tailing = async {
            loop {
                let tails = (0..8).map(|_| busy.call(tail, vec![bytes::Bytes::new()]));
                futures::future::join_all(tails).await;
            }
        };
        tokio::select! {
            done = work => done,
            () = sending => unreachable!("it never ends"),
            () = tailing => unreachable!("it never ends"),
        }
    }

    /// That the one's tails show what it stores, and nothing of the other.
    async fn tails(&self, victim: &mut Tenant<'_>, own: &mut Tenant<'_>, marks: &Marks) {
        let address = &self.installation.servers[0];
        let paths = Paths::of(address).await;
        let (token, secret) = (own.admin.clone(), own.names.secret.clone());
        let followed = paths.ask_plainly(address, &token, &secret, marks, &self.report);
        self.while_busy(victim, self.while_busy(own, followed)).await;
    }

    /// What must not be seen: the tenant's ids, and its words.
    fn marks(&self, victim: &Tenant<'_>, seen_by_another: &Values, public: &Values) -> Marks {
        let values = victim.values.borrow();
        // A checksum follows from content: models of two tenants that learnt from alike logs are alike.
        let ids = values.texts_but_of("checksum").filter(|text| is_mark(text)).map(str::to_owned);
        let words = values.texts().flat_map(words_in);
        let mut texts: Vec<String> = ids.chain(words).collect();
        // Processes, for one, serve all tenants and are shown to all.
        let others: Vec<&str> = seen_by_another.texts().chain(public.texts()).collect();
        texts.retain(|text| !others.contains(&&text[..]));
        texts.push(victim.name.clone());
        texts.push(victim.admin.clone());
        texts.extend(victim.issued.iter().map(|issued| issued.jwt.clone()));
        let marks = Marks::new(texts);
        self.report.borrow_mut().marks = marks.count();
        marks
    }

    /// Pages without a token.
    async fn pages(&self, marks: &Marks) {
        let own = ["/metrics", "/healthz", "/readyz", "/", "/v1/logs", "/api/logs", "/debug"];
        let shippers = ["/loki/api/v1/push", "/ready", "/_bulk", "/_license", "/_nodes/http"];
        let paths = own.into_iter().chain(shippers);
        for address in &self.installation.addresses {
            for path in paths.clone() {
                let page = web::get(address, path).await;
                let text = String::from_utf8_lossy(&page);
                let names = ["victim", "bystander", "twin-", "intruder", "tenant="];
                let named = names.iter().find(|name| text.contains(**name));
                let leaked = marks.leaked_in(&page);
                if !leaked.is_empty() || named.is_some() {
                    self.find(format!("{path} of {address} holds {leaked:?} {named:?}"));
                }
                if page.is_empty() {
                    self.find(format!("{path} of {address} says nothing"));
                }
            }
        }
    }

    async fn intrude(&self, victim: &Tenant<'_>, marks: &Marks, calls: u64) {
        let theirs = victim.values.borrow().only(is_open);
        let mut first = 0;
        while first < calls {
            let seed = self.seed ^ (3 + first);
            let intruder = self.furnished(&format!("intruder-{first}"), seed).await;
            let calls = CALLS_PER_INTRUDER.min(calls - first);
            self.say(&format!("calls {first} to {}", first + calls));
            let roles = self.roles(victim, &intruder);
            // Refusals name the token by its id, which who has the token knows.
            for token in [&victim.revoked, &victim.admin] {
                marks.note_sent(forged::token_id(token).as_bytes());
            }
            let (roles, theirs, report) = (&roles[..], &theirs, &self.report);
            let (intruder, seed) = (&intruder, self.seed);
            let intrusion = Intrusion { intruder, roles, theirs, marks, seed, report };
            intrusion.make(first, calls).await;
            let paths = Paths::of(&self.installation.servers[0]).await;
            paths.try_all(&intrusion, first, calls / CALLS_PER_HTTP_CALL).await;
            proof::tokens_hold(intruder, report).await;
            first += calls;
        }
    }

    /// Every role of the one, and tokens that would be the other's if they were any.
    fn roles(&self, victim: &Tenant<'_>, intruder: &Tenant<'_>) -> Vec<Role> {
        const EACH_VALID: usize = 8;
        let key = self.installation.token_key();
        let refused = |name: &str, token: String| Role {
            name: name.to_owned(),
            token: Some(token),
            is_valid: false,
        };
        let mut roles = vec![
            Role { name: "nobody".to_owned(), token: None, is_valid: false },
            refused("a revoked token", victim.revoked.clone()),
            refused("an expired token", forged::expired(&victim.admin, &key)),
        ];
        let forged = forged::forged(&victim.admin, &intruder.admin, &key.0);
        roles.extend(forged.into_iter().map(|token| refused("a forged token", token)));
        for issued in &intruder.issued {
            let role = || Role {
                name: issued.role.as_str_name().to_owned(),
                token: Some(issued.jwt.clone()),
                is_valid: true,
            };
            roles.extend(std::iter::repeat_with(role).take(EACH_VALID));
        }
        roles
    }
}
