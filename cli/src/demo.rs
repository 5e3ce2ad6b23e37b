//! Made-up traffic for a first look, and what to try with it.

use std::{path::Path, time::Duration};

use logweir_core::{
    identity::{Role, ServiceScope, Tenant},
    runtime::{
        clock::now,
        tasks::{Fate, Tasks},
    },
    timestamp::Timestamp,
};
use logweir_loadgen::{Config, Generator};
use logweir_sdk::{Compression, SendOptions, Sender, Token};
use logweir_server::{TokenKeys, issue};
use logweir_ship::deliver::batch::{Ids, Producers};
use logweir_storage::Storage;
use tokio::time::{MissedTickBehavior, interval};

use crate::{config::ProcessConfig, output::announce};

/// The token is printed to the terminal, so it does not live longer than a demo.
const TOKEN_TTL: Duration = Duration::from_secs(86_400);
/// How much is made up and sent at once.
const TICK: Duration = Duration::from_millis(500);
const RATE_PER_SECOND: f64 = 200.0;
/// One service fails, one gets slow, again and again, so that there is something to find.
const FAULTS: [(&str, usize); 3] = [("error-burst", 0), ("latency-shift", 1), ("new-pattern", 2)];

/// Issues a token, starts the traffic and says what to try.
pub async fn start(
    settings: &ProcessConfig,
    endpoint: &str,
    storage: &dyn Storage,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let keys = TokenKeys::open_or_create(&settings.token_key_file())?;
    let (tenant, any) = (Tenant::default(), ServiceScope::Any);
    let (record, token) = issue(&keys, &tenant, &any, Role::Admin, TOKEN_TTL, now());
    storage.insert_token(&tenant, record).await?;
    let options = SendOptions { compression: Compression::None, ..SendOptions::default() };
    let sender = Sender::connect(endpoint, Token::Text(token.clone()), options)?;
    let generator = generator(now())?;
    announce(&advice(settings.data_dir(), endpoint, generator.service_name(0), &token));
    let stop = tasks.stop_token();
    tasks.spawn("demo traffic", Fate::MayEnd, async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = send(generator, sender) => {}
        }
    });
    Ok(())
}

fn generator(start: Timestamp) -> anyhow::Result<Generator> {
    let config =
        Config { seed: 7, services: 6, rate_per_second: RATE_PER_SECOND, ..Config::default() };
    // Names of services follow from the seed, so they are asked of a generator without faults.
    let names = Generator::new(config.clone(), start);
    let mut faults = Vec::new();
    // Sixty rounds of ten minutes: longer than anybody watches a demo.
    for round in 0..60 {
        for (number, (kind, service)) in FAULTS.into_iter().enumerate() {
            let minutes = 2 + round * 10 + number * 3;
            faults.push(format!("{kind}@{minutes}m+1m:{}", names.service_name(service)).parse());
        }
    }
    let faults = faults.into_iter().collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    Ok(Generator::new(Config { faults, ..config }, start))
}

/// Sends what each half second brings. A batch that is not accepted is left out: it is a demo.
async fn send(mut generator: Generator, sender: Sender) {
    let mut producers = Producers::default();
    let mut ticks = interval(TICK);
    // After a closed lid there is no backlog of half seconds to make up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (service, records) in generator.tick(now() - TICK, TICK) {
            let name = generator.service_name(service).to_owned();
            let records = records.into_iter().collect();
            let batch = producers.batch(name, &records, Ids::mint(), now());
            sender.send(&batch.encoded, None).await;
            producers.settle(&batch.service, batch.records(), 0);
        }
    }
}

fn advice(data_dir: &Path, endpoint: &str, service: &str, token: &str) -> String {
    let folder = std::env::current_exe().ok();
    let folder = folder.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    format!(
        "
Logweir runs with made-up traffic of six services; something goes wrong every few minutes.
Data: {data}. Metrics: {endpoint}/metrics. Ctrl-C ends it.

In another terminal:

  export PATH=\"{bin}:$PATH\"
  export LOGWEIR_ENDPOINT={endpoint}
  export LOGWEIR_TOKEN={token}

  logweir stats                           # each service over the last 5 minutes
  logweir search 'level>=error'           # the newest errors
  logweir tail service:{service}
  logweir search anomaly:true             # what was judged unusual, and why
  logweir templates --service {service}   # the patterns that its messages follow
  logweir incidents list                  # what is wrong, once there is an hour of history
  logweir report                          # what each sender emitted, and what is missing
  logweir send /var/log/dpkg.log --service host

From Rust, with the same two variables set:

  let guard = logweir_sdk::init(\"shop\")?;
  tracing::info!(order = 42, latency_ms = 12.5, \"order placed\");
",
        data = data_dir.display(),
        bin = folder.display(),
    )
}
