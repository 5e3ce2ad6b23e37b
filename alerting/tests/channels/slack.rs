//! Slack, played by a listener; and what it is sent, held against Slack's documented sizes.

use std::time::Duration;

use logweir_alerting::{
    channel::{CallSteps, Channel, Failure, Form, Message, SendError, slack::Slack, test_channel},
    render::slack_blocks::blocks,
};
use logweir_incident::{
    channel::SlackConfig,
    example,
    incident::Incident,
    notification::{Notification, NotificationKind},
    render::{template::Templates, view::View},
    secret::Secret,
};
use serde_json::{Value, json};
use testkit::{Answer, Receiver};

use crate::harness::network;

const PATH: &str = "/services/T0/B0/very-secret";

fn webhook(url: &str, authority: &str) -> Slack {
    let config =
        SlackConfig { webhook_url: Secret::new(url), allow_http: true, ..SlackConfig::default() };
    Slack::new(config, Templates::default(), network(authority)).unwrap()
}

fn bot(receiver: &Receiver) -> Slack {
    let config = SlackConfig {
        bot_token: Secret::new("xoxb-very-secret"),
        channel: "#alerts".into(),
        api_url: Some(receiver.url("/api")),
        allow_http: true,
        ..SlackConfig::default()
    };
    Slack::new(config, Templates::default(), network("")).unwrap()
}

async fn send(slack: &Slack, notification: &Notification) -> Result<Option<String>, SendError> {
    let sent = slack.send(&Message::new(notification), &mut CallSteps::default()).await;
    sent.map(|receipt| receipt.thread)
}

/// Slack's own rules for blocks: what it documents, and refuses with `invalid_blocks`.
pub(crate) fn check(blocks: &Value) {
    let blocks = blocks.as_array().expect("blocks are a list");
    assert!((1..=50).contains(&blocks.len()), "{} blocks", blocks.len());
    let mut total = 0;
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "header" => {
                assert_eq!(block["text"]["type"], "plain_text");
                total += text(&block["text"], 150);
            }
            "section" => {
                let fields = block["fields"].as_array();
                assert!(block.get("text").is_some() || fields.is_some(), "{block}");
                if block.get("text").is_some() {
                    total += text(&block["text"], 3_000);
                }
                if let Some(fields) = fields {
                    assert!((1..=10).contains(&fields.len()));
                    total += fields.iter().map(|field| text(field, 2_000)).sum::<usize>();
                }
            }
            "context" => {
                let elements = block["elements"].as_array().unwrap();
                assert!((1..=10).contains(&elements.len()));
                total += elements.iter().map(|element| text(element, 2_000)).sum::<usize>();
            }
            other => panic!("a block of the unknown type {other}"),
        }
    }
    // No limit is documented, but more was seen refused.
    assert!(total <= 12_000, "{total} characters in all");
}

fn text(object: &Value, chars_max: usize) -> usize {
    let text = object["text"].as_str().unwrap();
    let chars = text.chars().count();
    assert!((1..=chars_max).contains(&chars), "{chars} characters: {text}");
    if object["type"] == "mrkdwn" {
        // `<!channel>` would wake everybody, `<@U1>` somebody: a log must not be able to.
        for (at, _) in text.match_indices('<') {
            let inside = text[at + 1..].split('>').next().unwrap();
            assert!(inside.starts_with("http"), "a command to Slack: {inside}");
        }
        for (at, _) in text.match_indices('&') {
            let entity = ["&amp;", "&lt;", "&gt;"];
            assert!(entity.iter().any(|known| text[at..].starts_with(known)), "{}", &text[at..]);
        }
    }
    chars
}

fn hostile() -> Notification {
    let mut notification = example::notification(NotificationKind::Opened);
    let incident = &mut notification.incident;
    // A command to Slack, the end of a code block, a link, a character that turns the text round, a
    // nought.
    let bad = "<!channel> ```&&& <http://evil|click> \u{202e}\r\n\u{0}*bold*".repeat(400);
    incident.service.clone_from(&bad);
    incident.rule.clone_from(&bad);
    incident.runbook.clone_from(&bad);
    incident.acknowledged_by.clone_from(&bad);
    let evidence = &mut incident.evidence;
    evidence.summary.clone_from(&bad);
    // Longer than a section may be, with what would end a link early.
    evidence.link = format!("https://logs.example.com/{}|x>", "y".repeat(5_000));
    for _ in 0..60 {
        evidence.measured.push(evidence.measured[0].clone());
        evidence.probable_causes.push(evidence.probable_causes[0].clone());
        evidence.sample_logs.push(evidence.sample_logs[0].clone());
        evidence.deploys.push(evidence.deploys[0].clone());
        evidence.instances.push(bad.clone());
    }
    evidence.measured.iter_mut().for_each(|measured| measured.name.clone_from(&bad));
    evidence.probable_causes.iter_mut().for_each(|cause| cause.pattern.clone_from(&bad));
    evidence.sample_logs.iter_mut().for_each(|sample| sample.message.clone_from(&bad));
    evidence.deploys.iter_mut().for_each(|deploy| deploy.version.clone_from(&bad));
    notification
}

fn digest(count: usize, of: &Notification) -> Notification {
    let mut digest = of.clone();
    digest.kind = NotificationKind::Digest;
    // More than it names: the rest is only counted.
    digest.count = count as u64 + 40;
    digest.others = (1..count)
        .map(|n| Incident { service: format!("service-{n}"), ..of.incident.clone() })
        .collect();
    digest
}

#[test]
fn blocks_fit_whatever_logs_say() {
    let plain = example::notification(NotificationKind::Opened);
    let hostile = hostile();
    for notification in [
        &plain,
        &example::notification(NotificationKind::Resolved),
        &hostile,
        &digest(7, &plain),
        &digest(100, &plain),
        &digest(100, &hostile),
    ] {
        for is_test in [false, true] {
            check(&blocks(
                &View::new(notification, &notification.key, is_test),
                &Templates::default(),
            ));
        }
    }
}

#[test]
fn an_own_wording_is_used_and_a_broken_one_is_named() {
    let notification = example::notification(NotificationKind::Opened);
    let view = View::new(&notification, &notification.key, false);
    let own = |body: &str| {
        let templates = Templates { title: Some("{{ service }}!".into()), body: Some(body.into()) };
        let blocks = blocks(&view, &templates);
        check(&blocks);
        blocks.to_string()
    };
    let good = own("*{{ service }}* {{ causes[0].pattern }}");
    assert!(good.contains("*checkout* timed out after &lt;num&gt; ms"), "{good}");
    assert!(good.contains("🔴 checkout!"), "{good}");
    let broken = own("{% for a in causes %}{{ a.nothing }}{% endfor %}");
    assert!(broken.contains("own wording failed") && broken.contains("errors/min"), "{broken}");
}

#[tokio::test]
async fn a_webhook_takes_a_message_within_tls() {
    let receiver = Receiver::start_tls(|_| Answer::ok());
    let slack = webhook(&receiver.url(PATH), receiver.authority());
    let report = test_channel(&slack, &example::notification(NotificationKind::Opened)).await;
    assert!(report.succeeded, "{report:?}");
    let names: Vec<_> = report.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["dns", "connect", "tls", "answer"]);
    assert_eq!(report.words, "ok");
    let calls = receiver.calls();
    assert_eq!(calls[0].path, PATH);
    let body: Value = serde_json::from_str(&calls[0].body).unwrap();
    check(&body["blocks"]);
    assert!(body["text"].as_str().unwrap().starts_with("[TEST] [Critical] checkout"));
}

#[tokio::test]
async fn each_answer_is_understood() {
    // A port that was free a moment ago, and that nobody listens to.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failing = Failure::Failing { pause: None };
    let refused = |status, pause, body: &str| Answer::Refused(status, pause, body.into());
    let pause = Some(Duration::from_secs(7));
    let cases = [
        (refused(429, Some(7), "rate_limited"), Failure::RateLimited { pause }, false),
        (refused(503, Some(7), "busy"), Failure::Failing { pause }, true),
        (refused(500, None, "oops"), failing, true),
        (refused(404, None, "no_service"), Failure::Misconfigured, false),
        (refused(403, None, "action_prohibited"), Failure::Misconfigured, false),
        (refused(410, None, "channel_is_archived"), Failure::Misconfigured, false),
        (refused(302, None, ""), Failure::Misconfigured, false),
        (refused(400, None, "invalid_blocks"), Failure::Rejected, false),
        (Answer::TakenInSilence, failing, true),
        (Answer::TakenSlowly(Duration::from_secs(60)), failing, true),
    ];
    let notification = example::notification(NotificationKind::Opened);
    for (answer, failure, may_have_arrived) in cases {
        let scripted = answer.clone();
        let receiver = Receiver::start(move |_| scripted.clone());
        let error = send(&webhook(&receiver.url(PATH), ""), &notification).await.unwrap_err();
        assert_eq!((error.failure, error.may_have_arrived), (failure, may_have_arrived), "{error}");
        assert!(!error.text.contains("very-secret"), "{error}");
        if let Answer::Refused(_, _, words) = answer {
            assert!(error.text.contains(&words), "the provider's words: {error}");
        }
    }
    let nobody = webhook(&format!("http://{dead}{PATH}"), "");
    let error = send(&nobody, &notification).await.unwrap_err();
    assert_eq!((error.failure, error.may_have_arrived), (failing, false), "{error}");
    // `.invalid` is reserved for names that never exist (RFC 2606).
    let unknown = webhook("http://no-such-name.invalid/x", "");
    let error = send(&unknown, &notification).await.unwrap_err();
    assert_eq!(error.failure, Failure::Unresolved, "{error}");
}

#[tokio::test]
async fn a_certificate_of_nobody_we_know_is_refused() {
    let receiver = Receiver::start_tls(|_| Answer::ok());
    let error =
        send(&webhook(&receiver.url(PATH), ""), &example::notification(NotificationKind::Opened))
            .await;
    let error = error.unwrap_err();
    assert!(error.text.contains("TLS failed") && !error.may_have_arrived, "{error}");
    assert!(receiver.calls().is_empty());
}

#[tokio::test]
async fn a_bot_edits_its_first_message_and_answers_below_it() {
    let receiver = Receiver::start(|_| {
        Answer::Taken(json!({ "ok": true, "channel": "C1", "ts": "17.5" }).to_string())
    });
    let slack = bot(&receiver);
    let thread =
        send(&slack, &example::notification(NotificationKind::Opened)).await.unwrap().unwrap();
    for kind in [NotificationKind::Updated, NotificationKind::Escalated, NotificationKind::Resolved]
    {
        let notification = example::notification(kind);
        let message = Message { thread: Some(&thread), ..Message::new(&notification) };
        slack.send(&message, &mut CallSteps::default()).await.unwrap();
    }
    let calls = receiver.calls();
    let paths: Vec<_> = calls.iter().map(|call| call.path.as_str()).collect();
    let (post, update) = ("/api/chat.postMessage", "/api/chat.update");
    // What ends is edited and posted as well, since an edit makes no sound.
    assert_eq!(paths, [post, update, post, update, post]);
    let bodies: Vec<Value> =
        calls.iter().map(|call| serde_json::from_str(&call.body).unwrap()).collect();
    assert_eq!(bodies[0]["channel"], "#alerts");
    assert_eq!(bodies[0]["metadata"]["event_payload"]["key"], "4f1c9a7be2d03586-1-opened");
    assert_eq!((&bodies[1]["channel"], &bodies[1]["ts"]), (&json!("C1"), &json!("17.5")));
    assert_eq!(bodies[2]["thread_ts"], "17.5");
    assert_eq!(bodies[2]["reply_broadcast"], true);
    assert_eq!(bodies[4]["thread_ts"], "17.5");
    assert_eq!(calls[0].header("authorization"), Some("Bearer xoxb-very-secret"));
    bodies.iter().for_each(|body| check(&body["blocks"]));
}

#[tokio::test]
async fn a_digest_is_no_first_message_that_could_be_edited() {
    let receiver = Receiver::start(|_| {
        Answer::Taken(json!({ "ok": true, "channel": "C1", "ts": "17.5" }).to_string())
    });
    let slack = bot(&receiver);
    let many = digest(3, &example::notification(NotificationKind::Opened));
    assert_eq!(send(&slack, &many).await.unwrap(), None, "the others would be gone from it");
}

#[tokio::test]
async fn what_is_wrong_comes_to_a_bot_with_status_200() {
    let cases = [
        ("invalid_auth", Failure::Misconfigured),
        ("channel_not_found", Failure::Misconfigured),
        ("ratelimited", Failure::RateLimited { pause: None }),
        ("internal_error", Failure::Failing { pause: None }),
        ("invalid_blocks", Failure::Rejected),
    ];
    for (word, failure) in cases {
        let returned = json!({ "ok": false, "error": word }).to_string();
        let receiver = Receiver::start(move |_| Answer::Taken(returned.clone()));
        let error = send(&bot(&receiver), &example::notification(NotificationKind::Opened))
            .await
            .unwrap_err();
        assert_eq!(error.failure, failure, "{error}");
        assert!(error.text.contains(word) && !error.text.contains("very-secret"), "{error}");
    }
}

#[tokio::test]
async fn the_plain_form_has_no_blocks() {
    let receiver = Receiver::start(|_| Answer::ok());
    let slack = webhook(&receiver.url(PATH), "");
    let notification = hostile();
    let message = Message { form: Form::Plain, ..Message::new(&notification) };
    slack.send(&message, &mut CallSteps::default()).await.unwrap();
    let body: Value = serde_json::from_str(&receiver.calls()[0].body).unwrap();
    assert!(body.get("blocks").is_none());
    assert!(!body["text"].as_str().unwrap().contains('<'));
}

#[tokio::test]
async fn a_webhook_took_the_message_only_if_it_says_so() {
    let failing = Failure::Failing { pause: None };
    let notification = example::notification(NotificationKind::Opened);
    for body in ["ok", "ok\n", r#"{"ok":true}"#, r#"{"success":true}"#] {
        let receiver = Receiver::start(move |_| Answer::Taken(body.into()));
        let sent = send(&webhook(&receiver.url(PATH), ""), &notification).await;
        assert_eq!(sent, Ok(None), "{body}");
    }
    let refusals = [
        ("no_text", Failure::Rejected, false),
        ("team_disabled", Failure::Misconfigured, false),
        ("rollup_error", failing, true),
        (r#"{"ok":false,"error":"too_many_attachments"}"#, Failure::Rejected, false),
        ("<html><body>Please sign in</body></html>", failing, true),
        ("", failing, true),
    ];
    for (body, failure, may_have_arrived) in refusals {
        let receiver = Receiver::start(move |_| Answer::Taken(body.into()));
        let error = send(&webhook(&receiver.url(PATH), ""), &notification).await.unwrap_err();
        assert_eq!((error.failure, error.may_have_arrived), (failure, may_have_arrived), "{error}");
        assert!(error.text.contains(body.split(['"', '<']).next().unwrap()), "{error}");
    }
}
