//! The mail's page and Slack's blocks of a made-up incident, for people to look at: written to the
//! folder that `LOGWEIR_RENDER_DIR` names, if it does.

use std::{fs, path::PathBuf};

use logweir_alerting::{
    channel::{Message, email::Email},
    render::slack_blocks::blocks,
};
use logweir_incident::{
    channel::{EmailConfig, Encryption},
    example,
    incident::{Incident, IncidentState},
    notification::{Notification, NotificationKind},
    render::{template::Templates, view::View},
    rule::Severity,
    secret::Secret,
};

use crate::harness::network;

fn digest() -> Notification {
    let mut digest = example::notification(NotificationKind::Opened);
    digest.kind = NotificationKind::Digest;
    digest.count = 14;
    let first = digest.incident.clone();
    let service = |name: &str, severity, state| Incident {
        service: name.into(),
        severity,
        state,
        ..first.clone()
    };
    digest.others = vec![
        service("payments", Severity::Critical, IncidentState::Firing),
        service("search", Severity::Warning, IncidentState::Firing),
        service("mail", Severity::Info, IncidentState::Resolved),
    ];
    digest
}

#[test]
fn what_people_see() {
    let config = EmailConfig {
        host: "mail.example.com".into(),
        port: None,
        encryption: Encryption::Tls,
        username: String::new(),
        password: Secret::default(),
        from: "alerts@example.com".into(),
        to: vec!["oncall@example.com".into()],
    };
    let email = Email::new(config, Templates::default(), network("")).unwrap();
    let folder = std::env::var_os("LOGWEIR_RENDER_DIR").map(PathBuf::from);
    let notifications = [
        ("opened", example::notification(NotificationKind::Opened)),
        ("resolved", example::notification(NotificationKind::Resolved)),
        ("digest", digest()),
    ];
    for (name, notification) in notifications {
        let blocks =
            blocks(&View::new(&notification, &notification.key, false), &Templates::default());
        crate::slack::check(&blocks);
        let mail = String::from_utf8(email.mail(&Message::new(&notification)).unwrap()).unwrap();
        assert!(mail.contains("https://logs.example.com/incidents/"), "{mail}");
        if let Some(folder) = &folder {
            let blocks = serde_json::to_string_pretty(&blocks).unwrap();
            fs::write(folder.join(format!("{name}.slack.json")), blocks).unwrap();
            fs::write(folder.join(format!("{name}.eml")), mail).unwrap();
        }
    }
}
