//! Mail, over a server that speaks SMTP.

use logweir_alerting::channel::{CallSteps, Channel, Failure, Message, email::Email, test_channel};
use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    channel::{EmailConfig, Encryption},
    example,
    notification::NotificationKind,
    render::template::Templates,
    secret::Secret,
};
use testkit::{MailManner, MailServer};

use crate::harness::network;

/// `\0alerts\0hunter2` in base64.
const CREDENTIALS: &str = "AGFsZXJ0cwBodW50ZXIy";

fn config(server: &MailServer, encryption: Encryption) -> EmailConfig {
    EmailConfig {
        host: "localhost".into(),
        port: Some(server.port()),
        encryption,
        username: String::new(),
        password: Secret::default(),
        from: "Logweir <alerts@example.com>".into(),
        to: vec!["anna@example.com".into(), "Ben <ben@example.com>".into()],
    }
}

fn email(config: EmailConfig, server: &MailServer) -> Email {
    Email::new(config, Templates::default(), network(server.authority())).unwrap()
}

fn with_password(server: &MailServer, password: &str) -> Email {
    let mut config = config(server, Encryption::Starttls);
    config.username = "alerts".into();
    config.password = Secret::new(password);
    email(config, server)
}

#[tokio::test]
async fn a_mail_goes_by_starttls_with_a_password() {
    let credentials = Some(CREDENTIALS.to_owned());
    let server =
        MailServer::start(MailManner { starttls: true, credentials, ..MailManner::default() });
    let channel = with_password(&server, "hunter2");
    let report = test_channel(&channel, &example::notification(NotificationKind::Opened)).await;
    assert!(report.succeeded, "{report:?}");
    let names: Vec<_> = report.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["dns", "connect", "tls", "authentication", "answer"]);
    assert!(report.words.contains("queued as 4711"), "{}", report.words);
    let mail = &server.mails()[0];
    assert!(mail.within_tls);
    assert_eq!(mail.to, ["anna@example.com", "ben@example.com"]);
    assert!(mail.header("Subject").unwrap().starts_with("[TEST] [Critical] checkout"));
    assert!(mail.data.contains("text/plain") && mail.data.contains("text/html"));
}

#[tokio::test]
async fn a_mail_goes_by_tls_and_plainly() {
    let notification = example::notification(NotificationKind::Opened);
    for (tls, encryption) in [(true, Encryption::Tls), (false, Encryption::None)] {
        let server = MailServer::start(MailManner { tls, ..MailManner::default() });
        let channel = email(config(&server, encryption), &server);
        channel.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap();
        assert_eq!(server.mails()[0].within_tls, tls);
    }
}

#[tokio::test]
async fn an_incident_is_one_conversation_and_a_repeat_has_the_same_id() {
    let server = MailServer::start(MailManner::default());
    let channel = email(config(&server, Encryption::None), &server);
    for kind in [NotificationKind::Opened, NotificationKind::Opened, NotificationKind::Resolved] {
        let notification = example::notification(kind);
        channel.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap();
    }
    let mails = server.mails();
    let header = |at: usize, name| mails[at].header(name);
    let opening = header(0, "Message-ID").unwrap();
    assert_eq!(header(1, "Message-ID").unwrap(), opening);
    // A repeat is the same mail to the byte, or a mail program would show two.
    assert_eq!(
        mails[0].data.lines().find(|line| line.starts_with("Date")),
        mails[1].data.lines().find(|line| line.starts_with("Date"))
    );
    assert_ne!(header(2, "Message-ID").unwrap(), opening);
    assert_eq!(header(2, "References").unwrap(), opening);
    assert_eq!(header(2, "In-Reply-To").unwrap(), opening);
    assert_eq!(header(0, "References"), None);
    assert_eq!(header(2, "X-Logweir-Key").unwrap(), "4f1c9a7be2d03586-2-resolved");
    assert_eq!(header(0, "Auto-Submitted").unwrap(), "auto-generated");
}

#[tokio::test]
async fn two_tests_are_two_mails() {
    let server = MailServer::start(MailManner::default());
    let channel = email(config(&server, Encryption::None), &server);
    for second in [1_790_000_000, 1_790_000_090] {
        let now = Timestamp::from_unix_seconds(second);
        let notification = example::notification_at(NotificationKind::Opened, now);
        assert!(test_channel(&channel, &notification).await.succeeded);
    }
    let header = |name| server.mails().iter().map(|mail| mail.header(name)).collect::<Vec<_>>();
    assert_eq!(header("Date").len(), 2);
    let dates = ["Mon, 21 Sep 2026 14:13:20 +0000", "Mon, 21 Sep 2026 14:14:50 +0000"];
    assert_eq!(header("Date"), dates.map(|date| Some(date.to_owned())));
    for name in ["Message-ID", "X-Logweir-Key"] {
        assert_ne!(header(name)[0], header(name)[1], "{name}");
    }
}

#[tokio::test]
async fn a_recipient_that_is_refused_is_named_and_keeps_nobody_from_their_mail() {
    let unknown = vec!["ben@example.com".to_owned()];
    let server = MailServer::start(MailManner { unknown, ..MailManner::default() });
    let channel = email(config(&server, Encryption::None), &server);
    let notification = example::notification(NotificationKind::Opened);
    let receipt =
        channel.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap();
    assert!(receipt.words.contains("ben@example.com") && receipt.words.contains("no such user"));
    assert_eq!(server.mails()[0].to, ["anna@example.com"]);
    // Were the only recipient refused, nobody would be told: that is an error.
    let mut alone = config(&server, Encryption::None);
    alone.to = vec!["ben@example.com".into()];
    let channel = email(alone, &server);
    let error =
        channel.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap_err();
    assert_eq!(error.failure, Failure::Misconfigured, "{error}");
    assert!(error.text.contains("no such user here"), "{error}");
}

#[tokio::test]
async fn each_refusal_is_understood() {
    let limits = MailManner::default;
    let credentials = Some(CREDENTIALS.to_owned());
    let cases = [
        (
            MailManner { refusal: Some("451 4.3.0 try later".into()), ..limits() },
            "try later",
            Failure::RateLimited { pause: None },
            false,
        ),
        (
            MailManner { refusal: Some("554 5.7.1 looks like spam".into()), ..limits() },
            "looks like spam",
            Failure::Rejected,
            false,
        ),
        (
            MailManner { is_silent: true, ..limits() },
            "no answer",
            Failure::Failing { pause: None },
            true,
        ),
        // No user is set, and this server wants one.
        (MailManner { credentials, ..limits() }, "who are you", Failure::Rejected, false),
    ];
    let notification = example::notification(NotificationKind::Opened);
    for (limits, words, failure, may_have_arrived) in cases {
        let server = MailServer::start(limits);
        let channel = email(config(&server, Encryption::None), &server);
        let error = channel
            .send(&Message::new(&notification), &mut CallSteps::default())
            .await
            .unwrap_err();
        assert!(error.text.contains(words), "{error}");
        assert_eq!((error.failure, error.may_have_arrived), (failure, may_have_arrived), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_wrong_setting_and_is_not_shown() {
    let credentials = Some(CREDENTIALS.to_owned());
    let server =
        MailServer::start(MailManner { starttls: true, credentials, ..MailManner::default() });
    let channel = with_password(&server, "swordfish");
    let report = test_channel(&channel, &example::notification(NotificationKind::Opened)).await;
    assert!(!report.succeeded);
    assert_eq!(report.steps.last().unwrap().name, "authentication");
    assert!(report.words.contains("wrong password") && report.words.contains("check user"));
    assert!(!format!("{report:?}").contains("swordfish"));
}

#[tokio::test]
async fn without_starttls_nothing_is_sent() {
    let server = MailServer::start(MailManner::default());
    let channel = email(config(&server, Encryption::Starttls), &server);
    let notification = example::notification(NotificationKind::Opened);
    let error =
        channel.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap_err();
    assert_eq!(error.failure, Failure::Misconfigured, "{error}");
    assert!(server.mails().is_empty());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let server = MailServer::start(MailManner::default());
    let new = |config| Email::new(config, Templates::default(), network("")).err().unwrap();
    let mut none = config(&server, Encryption::None);
    none.to.clear();
    assert!(new(none).contains("`to` must name"));
    let mut bad = config(&server, Encryption::None);
    bad.to = vec!["x\r\nBcc: y@example.com".into()];
    assert!(new(bad).contains("the address"));
    let mut open = config(&server, Encryption::None);
    open.password = Secret::new("hunter2");
    let error = new(open);
    assert!(error.contains("without encryption") && !error.contains("hunter2"));
}

#[test]
fn what_logs_say_adds_no_header() {
    let server = MailServer::start(MailManner::default());
    let channel = email(config(&server, Encryption::None), &server);
    let mut notification = example::notification(NotificationKind::Opened);
    notification.incident.service = "x\r\nBcc: evil@example.com\r\n\r\n<b>".into();
    notification.key = "k\r\nX-Evil: 1".into();
    let mail = channel.mail(&Message::new(&notification)).unwrap();
    let mail = String::from_utf8(mail).unwrap();
    // Lines that begin with a space go on with the header before.
    let head = mail.split("\r\n\r\n").next().unwrap();
    let names: Vec<_> = head.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(!names.iter().any(|line| line.starts_with("Bcc") || line.starts_with("X-Evil")));
}
