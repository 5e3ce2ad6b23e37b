//! The servers of the kit: they start, die, come back and leave nothing behind.

use std::process::Command;

use testkit::{Postgres, RabbitMq};

fn sql(postgres: &Postgres, statement: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", statement]);
    let output = command.arg(postgres.url()).output().expect("psql runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[tokio::test]
async fn what_postgres_committed_outlives_its_death() {
    let postgres = Postgres::private().await;
    sql(&postgres, "create table kept as select 7 as value").expect("it runs");
    postgres.kill().await;
    let error = sql(&postgres, "select 1").expect_err("it is dead");
    assert!(error.contains("refused"), "{error}");
    postgres.restart().await;
    assert_eq!(sql(&postgres, "select value from kept").as_deref(), Ok("7"));
    postgres.stop().await;
    assert!(sql(&postgres, "select 1").is_err());
    postgres.restart().await;
    assert_eq!(sql(&postgres, "select value from kept").as_deref(), Ok("7"));
}

async fn assert_knows_vhost(rabbitmq: &RabbitMq) {
    let names = rabbitmq.evaluate("rabbit_vhost:list_names()").await;
    assert!(names.contains(rabbitmq.vhost()), "{names}");
}

#[tokio::test]
async fn rabbitmq_dies_and_comes_back() {
    let rabbitmq = RabbitMq::private().await;
    assert_knows_vhost(&rabbitmq).await;
    rabbitmq.kill().await;
    assert!(std::net::TcpStream::connect(("127.0.0.1", rabbitmq.port())).is_err());
    rabbitmq.restart().await;
    assert_knows_vhost(&rabbitmq).await;
    rabbitmq.block().await;
    let alarms = rabbitmq.evaluate("rabbit_alarm:get_alarms()").await;
    assert!(alarms.contains("memory"), "{alarms}");
    rabbitmq.unblock().await;
    assert_eq!(rabbitmq.evaluate("rabbit_alarm:get_alarms()").await, "[]");
    rabbitmq.restart().await;
    assert_knows_vhost(&rabbitmq).await;
}

#[tokio::test]
async fn tests_do_not_see_each_others_data() {
    let (mine, yours) = tokio::join!(Postgres::start(), Postgres::start());
    sql(&mine, "create table hidden ()").expect("it runs");
    let found = sql(&yours, "select count(*) from pg_class where relname = 'hidden'");
    assert_eq!(found.as_deref(), Ok("0"));
    let (mine, yours) = tokio::join!(RabbitMq::start(), RabbitMq::start());
    assert_ne!(mine.url(), yours.url());
}
