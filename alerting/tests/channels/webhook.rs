//! The webhook: its document, its signature, and what it will not call.

use logweir_core::timestamp::Timestamp;
use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use logweir_alerting::{
    channel::address::AddressPolicy,
    channel::{
        CallSteps, Channel, Failure, Message, Network, Resolve,
        webhook::{Webhook, sign},
    },
};
use logweir_incident::{
    channel::WebhookConfig, example, notification::NotificationKind, render::template::Templates,
    secret::Secret,
};
use serde_json::Value;
use testkit::{Answer, Receiver};

use crate::harness::network;

fn config(url: &str) -> WebhookConfig {
    WebhookConfig {
        url: Secret::new(url),
        signing_secret: Secret::new("key of both"),
        bearer_token: Secret::new("token"),
        allow_http: true,
    }
}

fn webhook(url: &str, body: Option<&str>, network: Network) -> Webhook {
    let templates = Templates { title: None, body: body.map(str::to_owned) };
    // A clock that stands still, so that the signature is known.
    let clock = Arc::new(|| Timestamp::from_unix_seconds(1_772_937_700));
    Webhook::new(config(url), templates, network, clock).unwrap()
}

#[tokio::test]
async fn a_document_is_signed_and_says_its_key() {
    let receiver = Receiver::start(|_| Answer::Taken("thanks".into()));
    let webhook = webhook(&receiver.url("/in?a=b"), None, network(""));
    let notification = example::notification(NotificationKind::Resolved);
    let receipt =
        webhook.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap();
    assert_eq!(receipt.words, "200 OK: thanks");
    let call = receiver.calls().remove(0);
    assert_eq!(call.path, "/in?a=b");
    assert_eq!(call.header("idempotency-key"), Some("4f1c9a7be2d03586-2-resolved"));
    assert_eq!(call.header("x-logweir-timestamp"), Some("1772937700"));
    assert_eq!(call.header("authorization"), Some("Bearer token"));
    let signature = sign("key of both", 1_772_937_700, &call.body);
    assert_eq!(call.header("x-logweir-signature"), Some(signature.as_str()));
    let body: Value = serde_json::from_str(&call.body).unwrap();
    assert_eq!(body["key"], "4f1c9a7be2d03586-2-resolved");
    assert_eq!((&body["status"], &body["version"]), (&"resolved".into(), &1.into()));
    assert_eq!(body["incident"]["service"], "checkout");
}

#[tokio::test]
async fn what_an_answer_quotes_of_the_address_is_masked() {
    let quote = "Cannot POST /hooks/T0KEN-OF-THE-PATH?key=T0KEN-OF-THE-QUERY";
    let receiver = Receiver::start(|_| Answer::Refused(404, None, quote.into()));
    let url = receiver.url("/hooks/T0KEN-OF-THE-PATH?key=T0KEN-OF-THE-QUERY");
    let webhook = webhook(&url, None, network(""));
    let mut steps = CallSteps::default();
    let notification = example::notification(NotificationKind::Opened);
    let error = webhook.send(&Message::new(&notification), &mut steps).await.unwrap_err();
    assert!(error.text.contains("Cannot POST /hooks/***?key=***"), "{error}");
    assert!(!format!("{:?}", steps.into_vec()).contains("T0KEN"));
}

#[test]
fn the_signature_is_hmac_sha256() {
    // Made with `printf '1.body' | openssl dgst -sha256 -hmac secret`.
    let expected = "v1=842b24d9575dee4b6ec460b7e3af7d683501d84fe6279102340787c79d2e2bab";
    assert_eq!(sign("secret", 1, "body"), expected);
    assert_ne!(sign("secret", 1, "body"), sign("secret", 2, "body"));
    assert_ne!(sign("secret", 1, "body"), sign("other", 1, "body"));
}

#[tokio::test]
async fn an_own_document_is_used_and_a_broken_one_is_named() {
    let receiver = Receiver::start(|_| Answer::ok());
    let good = r#"{"dedup_key": "{{ incident_id }}", "summary": "{{ causes[0].pattern }}"}"#;
    let broken = r#"{"summary": {{ title }}}"#;
    let mut notification = example::notification(NotificationKind::Opened);
    notification.incident.evidence.probable_causes[0].pattern = "a \"quoted\" \\ text".into();
    for body in [good, broken] {
        let webhook = webhook(&receiver.url("/"), Some(body), network(""));
        webhook.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap();
    }
    let bodies: Vec<Value> =
        receiver.calls().iter().map(|call| serde_json::from_str(&call.body).unwrap()).collect();
    assert_eq!(bodies[0]["summary"], "a \"quoted\" \\ text");
    assert_eq!(bodies[0]["dedup_key"], "4f1c9a7be2d03586");
    assert_eq!(bodies[1]["status"], "firing");
    assert!(bodies[1]["template_error"].as_str().unwrap().contains("no JSON"));
}

#[tokio::test]
async fn a_success_that_says_it_failed_is_none() {
    let notification = example::notification(NotificationKind::Opened);
    let answers = [
        (Answer::Refused(204, None, String::new()), true),
        (Answer::Refused(202, None, r#"{"result":"Request will be processed"}"#.into()), true),
        (Answer::Taken("1".into()), true),
        (Answer::Taken(r#"{"status":"success","dedup_key":"k"}"#.into()), true),
        (Answer::Taken(r#"{"status":"invalid event","errors":["no key"]}"#.into()), false),
        (Answer::Taken(r#"{"ok":false,"error_code":400}"#.into()), false),
        (
            Answer::Taken(
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned \
                 HTTP error 403 with ContextId tcid=7"
                    .into(),
            ),
            false,
        ),
    ];
    for (answer, succeeds) in answers {
        let scripted = answer.clone();
        let receiver = Receiver::start(move |_| scripted.clone());
        let webhook = webhook(&receiver.url("/"), None, network(""));
        let sent = webhook.send(&Message::new(&notification), &mut CallSteps::default()).await;
        assert_eq!(sent.is_ok(), succeeds, "{answer:?}: {sent:?}");
    }
}

/// Answers with one address first and another after that, as somebody would who wants what was
/// checked to differ from what is called.
struct Rebinding {
    asked: AtomicUsize,
    first: IpAddr,
    then: IpAddr,
}

#[async_trait]
impl Resolve for Rebinding {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(vec![if asked == 0 { self.first } else { self.then }])
    }
}

#[tokio::test]
async fn what_was_checked_is_what_is_called() {
    let receiver = Receiver::start(|_| Answer::ok());
    let port = receiver.url("").rsplit(':').next().unwrap().to_owned();
    let resolver = Arc::new(Rebinding {
        asked: AtomicUsize::new(0),
        first: "127.0.0.1".parse().unwrap(),
        then: "127.0.0.2".parse().unwrap(),
    });
    // One address alone, so that its neighbour is refused.
    let networks_allowed = vec!["127.0.0.1/32".parse().unwrap()];
    let policy = AddressPolicy { networks_allowed, ..AddressPolicy::default() };
    let network = Network::new(policy, Arc::clone(&resolver) as Arc<dyn Resolve>, b"").unwrap();
    let webhook = webhook(&format!("http://hooks.example:{port}/"), None, network);
    let notification = example::notification(NotificationKind::Opened);
    webhook.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap();
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 1, "asked once for a call");
    assert_eq!(receiver.calls()[0].header("host"), Some(format!("hooks.example:{port}").as_str()));
    let error =
        webhook.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap_err();
    assert_eq!(error.failure, Failure::Misconfigured, "and again for the next: {error}");
    assert_eq!(receiver.calls().len(), 1);
}

#[tokio::test]
async fn what_is_not_public_is_not_called() {
    let receiver = Receiver::start(|_| Answer::ok());
    let resolver = || Arc::new(logweir_alerting::channel::SystemResolver);
    let port = receiver.url("").rsplit(':').next().unwrap().to_owned();
    let hosts = [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        // The loopback address as one number, in hexadecimal, and in octal: resolvers take them
        // all.
        "2130706433",
        "0x7f.1",
        "017700000001",
        "169.254.169.254",
        "10.0.0.1",
    ];
    for host in hosts {
        let network = Network::new(AddressPolicy::default(), resolver(), b"").unwrap();
        let webhook = webhook(&format!("http://{host}:{port}/"), None, network);
        let notification = example::notification(NotificationKind::Opened);
        let mut steps = CallSteps::default();
        let error = webhook.send(&Message::new(&notification), &mut steps).await.unwrap_err();
        assert_eq!(error.failure, Failure::Misconfigured, "{host}: {error}");
        assert_eq!(steps.into_vec().last().unwrap().name, "dns", "{host}");
    }
    assert!(receiver.calls().is_empty());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = Receiver::start(|_| Answer::ok());
    let target = inner.url("/");
    let outer = Receiver::start(move |_| Answer::Refused(307, None, format!("see {target}")));
    let webhook = webhook(&outer.url("/"), None, network(""));
    let notification = example::notification(NotificationKind::Opened);
    let error =
        webhook.send(&Message::new(&notification), &mut CallSteps::default()).await.unwrap_err();
    assert_eq!(error.failure, Failure::Misconfigured);
    assert!(error.text.contains("redirects are not followed"), "{error}");
    assert!(inner.calls().is_empty());
}

#[tokio::test]
async fn whoever_no_longer_leads_sends_nothing() {
    let receiver = Receiver::start(|_| Answer::ok());
    let webhook = webhook(&receiver.url("/"), None, network(""));
    let notification = example::notification(NotificationKind::Opened);
    // Checked before the first byte goes out: it certainly did not arrive.
    let late = Instant::now() - Duration::from_millis(1);
    let message = Message { not_after: Some(late), ..Message::new(&notification) };
    let error = webhook.send(&message, &mut CallSteps::default()).await.unwrap_err();
    assert_eq!((error.failure, error.may_have_arrived), (Failure::TooLate, false));
    assert!(receiver.calls().is_empty());
}
