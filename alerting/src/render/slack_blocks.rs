//! A notification as Slack's blocks, within Slack's documented sizes.

use logweir_incident::render::{
    template::{Markup, Templates, escape, render},
    text::{clean_line, cut, cut_escaped},
    view::{LineView, NumberView, View},
};
use serde_json::{Value, json};

/// Blocks of a message.
pub const BLOCKS_MAX: usize = 50;
/// Characters of a header.
pub const HEADER_CHARS_MAX: usize = 150;
/// Characters of a section's text.
pub const SECTION_CHARS_MAX: usize = 3_000;
/// Fields of a section, and characters of each.
pub const FIELDS_MAX: usize = 10;
/// Characters of a field.
pub const FIELD_CHARS_MAX: usize = 2_000;
/// Elements of a context block.
pub const CONTEXT_ELEMENTS_MAX: usize = 10;
/// Characters of all texts together: more was seen refused, though no limit is documented.
pub const MESSAGE_CHARS_MAX: usize = 10_000;
/// Characters of the text beside the blocks.
const TEXT_CHARS_MAX: usize = 3_000;
/// Incidents of a digest that get a line with a link.
const DIGEST_FULL_MAX: usize = 10;
/// Characters that all but the short lines of a digest take at most: header, text, and the one
/// section of lines with links, with a margin.
const DIGEST_FULL_CHARS_MAX: usize = 4_500;
/// Characters of a title in a short line of a digest: one line on a phone.
const DIGEST_TITLE_CHARS_MAX: usize = 48;
/// Bytes of a link in a digest; ten that are longer would not leave room for the titles.
const DIGEST_LINK_BYTES_MAX: usize = 120;
/// Measured numbers, probable causes, deploys, sample logs and instances that are shown: what fits
/// on a phone without scrolling. The page of the incident has all.
const NUMBERS_MAX: usize = 4;
const CAUSES_MAX: usize = 3;
const DEPLOYS_MAX: usize = 3;
const SAMPLES_MAX: usize = 3;
const INSTANCES_MAX: usize = 5;
/// Characters of what is least needed first at night.
const DETAIL_CHARS_MAX: usize = 1_500;

/// The blocks of a message.
pub fn blocks(view: &View, templates: &Templates) -> Value {
    let mut all = vec![header(view, templates)];
    match own_body(view, templates) {
        None if view.others.is_empty() => all.extend(incident(view)),
        None => all.extend(digest(view)),
        // Whatever somebody words, the way to the incident stays.
        Some(Ok(body)) => {
            all.push(section(&body));
            all.push(section(&links(view)));
        }
        // A wording that fails must not cost the message.
        Some(Err(why)) => {
            all.extend(incident(view));
            all.push(context(&[escape(&why, Markup::Slack)]));
        }
    }
    // Slack refuses a section without text, and with it the whole message.
    all.retain(|block| !block.is_null());
    all.truncate(BLOCKS_MAX);
    Value::Array(all)
}

/// What a phone's lock screen shows, and what is sent alone where the blocks are refused.
pub fn fallback_text(view: &View) -> String {
    let mut lines = vec![view.headline()];
    lines.extend([&view.summary, &view.text].into_iter().filter(|text| !text.is_empty()).cloned());
    if let Some(cause) = view.causes.first() {
        lines.push(format!("probably: {} ({})", cause.pattern, cause.growth));
    }
    // All of a digest, as far as there is room: on a lock screen only the first lines are seen.
    lines.extend(view.others.iter().map(|other| format!("{} {}", other.status, other.title)));
    if !view.link.is_empty() {
        lines.push(view.link.clone());
    }
    cut_escaped(&escape(&lines.join("\n"), Markup::Slack), TEXT_CHARS_MAX)
}

fn own_body(view: &View, templates: &Templates) -> Option<Result<String, String>> {
    let rendered = render(templates.body.as_deref()?, Markup::Slack, view);
    Some(rendered.map_err(|error| format!("The channel's own wording failed ({error}).")))
}

fn header(view: &View, templates: &Templates) -> Value {
    // By shape and colour, as a lock screen shows neither bold nor links.
    let sign = match (view.is_resolved, view.severity.as_str()) {
        (true, _) => "✅",
        (_, "critical") => "🔴",
        (_, "warning") => "🟠",
        _ => "🔵",
    };
    let own = templates.title.as_deref().map(|title| render(title, Markup::Text, view));
    let title = match own {
        Some(Ok(title)) => clean_line(&title, HEADER_CHARS_MAX),
        _ => view.headline(),
    };
    let text = cut(&format!("{sign} {title}"), HEADER_CHARS_MAX);
    json!({ "type": "header", "text": { "type": "plain_text", "text": text, "emoji": true } })
}

fn incident(view: &View) -> Vec<Value> {
    vec![
        section(&sentences(view)),
        fields(view),
        section(&causes(view)),
        section(&samples(view)),
        section(&links(view)),
        context(&details(view)),
    ]
}

fn sentences(view: &View) -> String {
    let texts = [&view.summary, &view.text].into_iter().filter(|text| !text.is_empty());
    let escaped: Vec<String> = texts.map(|text| slack(text)).collect();
    escaped.join("\n")
}

fn fields(view: &View) -> Value {
    let mut all = Vec::new();
    if !view.service.is_empty() {
        all.push(format!("*Service*\n{}", slack(&view.service)));
    }
    // "For" of what goes on, or a person would think that it is over.
    let lasted = if view.is_resolved { "lasted" } else { "for" };
    all.push(format!("*Since*\n{} ({lasted} {})", view.since, view.lasted));
    let when = if view.is_resolved { "then" } else { "now" };
    all.extend(view.numbers.iter().take(NUMBERS_MAX).map(|shown| number(shown, when)));
    all.push(format!("*Rule*\n{}", slack(&view.rule)));
    if !view.acknowledged_by.is_empty() {
        all.push(format!("*Seen to by*\n{}", slack(&view.acknowledged_by)));
    }
    let fields: Vec<Value> = all
        .iter()
        .take(FIELDS_MAX)
        .map(|text| mrkdwn(&cut_escaped(text, FIELD_CHARS_MAX)))
        .collect();
    json!({ "type": "section", "fields": fields })
}

fn number(number: &NumberView, when: &str) -> String {
    let times = match number.times.as_str() {
        "" => String::new(),
        times => format!(" ({times})"),
    };
    let NumberView { name, now, normal, .. } = number;
    format!("*{}*\n*{now}* {when}, normal {normal}{times}", slack(name))
}

fn causes(view: &View) -> String {
    let mut lines: Vec<String> = view
        .causes
        .iter()
        .take(CAUSES_MAX)
        .enumerate()
        .map(|(at, cause)| {
            let growth = slack(&cause.growth);
            format!("{}. `{}`\n     {} · {growth}", at + 1, code(&cause.pattern), cause.level)
        })
        .collect();
    lines.extend(
        view.deploys
            .iter()
            .take(DEPLOYS_MAX)
            .map(|deploy| format!("🚀 deployed: {}", slack(deploy))),
    );
    if lines.is_empty() {
        return String::new();
    }
    cut_escaped(&format!("*Probable cause*\n{}", lines.join("\n")), DETAIL_CHARS_MAX)
}

fn samples(view: &View) -> String {
    let lines: Vec<String> = view
        .samples
        .iter()
        .take(SAMPLES_MAX)
        .map(|sample| format!("{} {} {}", sample.time, sample.level, code(&sample.message)))
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    // Cut before it is fenced, or the fence would be cut off and the rest of the message be shown
    // as code.
    let logs = cut_escaped(&lines.join("\n"), DETAIL_CHARS_MAX);
    format!("*Logs*\n```{logs}```")
}

fn links(view: &View) -> String {
    let mut all = Vec::new();
    if !view.link.is_empty() {
        all.push(anchor(&view.link, "Open the incident"));
    }
    match view.runbook_link() {
        link if !link.is_empty() => all.push(anchor(&link, "Runbook")),
        _ if !view.runbook.is_empty() => all.push(format!("*Runbook:* {}", slack(&view.runbook))),
        _ => {}
    }
    all.join("   ")
}

fn details(view: &View) -> Vec<String> {
    let mut all = Vec::new();
    if !view.instances.is_empty() {
        let shown: Vec<String> =
            view.instances.iter().take(INSTANCES_MAX).map(|text| slack(text)).collect();
        all.push(format!("on {}", shown.join(", ")));
    }
    if let Some(trace) = view.traces.first() {
        all.push(format!("trace {}", slack(trace)));
    }
    all.push(format!("incident {}", slack(&view.incident_id)));
    all
}

/// The worst with a link each, the rest in short.
fn digest(view: &View) -> Vec<Value> {
    let mut all = vec![section(&slack(&view.text))];
    let (full, short) = view.others.split_at(view.others.len().min(DIGEST_FULL_MAX));
    let lines: Vec<String> = full.iter().map(digest_line).collect();
    all.push(section(&lines.join("\n")));
    let mut left = MESSAGE_CHARS_MAX - DIGEST_FULL_CHARS_MAX;
    let mut page = String::new();
    for other in short {
        let line =
            format!("{} · {}\n", other.status, slack(&cut(&other.title, DIGEST_TITLE_CHARS_MAX)));
        // What does not fit is only counted, below.
        let Some(rest) = left.checked_sub(line.chars().count()) else { break };
        left = rest;
        if page.chars().count() + line.chars().count() > SECTION_CHARS_MAX {
            all.push(section(&std::mem::take(&mut page)));
        }
        page.push_str(&line);
    }
    all.push(section(&page));
    let named = view.others.len() as u64;
    if view.count > named {
        all.push(context(&[format!("and {} more", view.count - named)]));
    }
    all
}

fn digest_line(line: &LineView) -> String {
    let sign = match (line.is_resolved, line.severity.as_str()) {
        (true, _) => "✅",
        (_, "critical") => "🔴",
        (_, "warning") => "🟠",
        _ => "🔵",
    };
    let title = match line.link.as_str() {
        "" => slack(&line.title),
        // A link that is cut would lead nowhere.
        link if link.len() < DIGEST_LINK_BYTES_MAX => anchor(link, &line.title),
        _ => slack(&line.title),
    };
    format!("{sign} {title} · {}", line.since)
}

fn section(text: &str) -> Value {
    match text.trim() {
        "" => Value::Null,
        text => json!({ "type": "section", "text": mrkdwn(&cut_escaped(text, SECTION_CHARS_MAX)) }),
    }
}

fn context(texts: &[String]) -> Value {
    let elements: Vec<Value> = texts
        .iter()
        .filter(|text| !text.is_empty())
        .take(CONTEXT_ELEMENTS_MAX)
        .map(|text| mrkdwn(&cut_escaped(text, FIELD_CHARS_MAX)))
        .collect();
    if elements.is_empty() {
        return Value::Null;
    }
    json!({ "type": "context", "elements": elements })
}

fn mrkdwn(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text })
}

fn slack(text: &str) -> String {
    escape(text, Markup::Slack)
}

/// Within backquotes, which nothing can escape.
fn code(text: &str) -> String {
    // By a letter that looks alike: a pattern with a backquote is still to be read.
    slack(&text.replace('`', "ˋ"))
}

/// A link; an address that would end it early is encoded.
fn anchor(link: &str, title: &str) -> String {
    let link = slack(&link.replace('|', "%7C").replace('>', "%3E").replace('<', "%3C"));
    format!("<{link}|{}>", slack(title).replace('|', "¦"))
}
