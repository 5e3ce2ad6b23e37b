//! What a tenant sees: the answers to all that it can ask about what it has, as text that can be
//! compared.

use std::{collections::BTreeMap, time::Duration};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value};

use super::{
    call::Answer,
    contract::Method,
    requests::{one_by_one, whole},
    tenant::{Tenant, decoded},
    values::{Values, converted},
};

/// What an answer holds that is different each time by its nature.
const MASKED: [(&str, &str); 7] = [
    ("logweir.v1.Process.silent_ms", "the time since its last heartbeat"),
    ("logweir.v1.TestStep.took_ms", "how long a step took"),
    ("logweir.v1.TenantShare.held", "what the very calls of the harness hold at the moment"),
    ("logweir.v1.TemplateSummary.trend", "compares the last full hour, which moves with the clock"),
    ("logweir.v1.PreviewRuleResponse.range", "what was played ends now if no end is asked for"),
    (
        "logweir.v1.ListFindingsResponse.findings",
        "a session is judged once it has fallen silent, minutes after its last log",
    ),
    ("grpc.health.v1.HealthCheckResponse.status", "whether the queue has room at the moment"),
];
/// Questions whose answers depend on the moment at which they are asked: below which number of which
/// field.
const MOMENTARY: [(&str, &str, u64, &str); 2] = [
    (
        "logweir.v1.ListProcessesRequest",
        "silent_seconds_max",
        60,
        "who was heard of within a second or two is chance: heartbeats come every two seconds",
    ),
    (
        "logweir.v1.ServiceStatsRequest",
        "window_minutes",
        60,
        "logs leave so short a window while they are looked at",
    ),
];
/// What two tenants that do the same are told differently by chance.
const MASKED_OF_TWINS: [(&str, &str); 6] = [
    (
        "logweir.v1.GetTenantResponse.stored_bytes",
        "what is stored compressed holds random ids and moments of receipt",
    ),
    (
        "logweir.v1.Model.bytes",
        "ids of patterns are hashes of the tenant's name, and rows are drawn in their order",
    ),
    (
        "logweir.v1.Incident.probable_causes",
        "what was there at the look that found the incident: looks come every two seconds",
    ),
    ("logweir.v1.Incident.sample_logs", "logs of the probable causes"),
    ("logweir.v1.Incident.instances", "who wrote the sample logs"),
    ("logweir.v1.Incident.trace_ids", "traces of the sample logs"),
];
/// Words of refusals between which a number stands that is different each time, and why.
const MASKED_BETWEEN: [(&str, &str, &str); 1] =
    [(" holds ", " buckets", "so many as fit: a range without an end ends now")];
/// Requests of each sort for an rpc.
const PER_SORT: usize = 6;
/// An rpc that takes longer than this gets no more questions than so many.
const SLOW: Duration = Duration::from_millis(100);
const OF_SLOW: usize = 4;
/// A walk finds ids that lead further: to an incident and from there to its logs.
const ROUNDS: usize = 2;

/// Answers as text, by what was asked.
pub(super) type View = BTreeMap<String, String>;

/// How answers are made comparable.
#[derive(Clone)]
pub(super) struct Masks {
    /// Moments from this one on are those of the calls themselves.
    pub(super) since_unix_nano: u64,
    /// Whether ids are shown as nothing but ids, and lists in the order of their text: two tenants
    /// that do the same then say the same, though their ids, and what is sorted by them, are chance.
    pub(super) hides_ids: bool,
}

/// Questions, asked again and again.
pub(super) struct Walk {
    plan: Vec<(Method, DynamicMessage)>,
}

impl Walk {
    /// Questions about all that the tenant has, and about what others have.
    pub(super) async fn over(tenant: &Tenant<'_>, theirs: &Values) -> Self {
        let mut plan = Vec::new();
        let methods = tenant.contract.methods.iter();
        let reading = methods.filter(|method| !method.changes() && !method.is_public());
        let reading: Vec<&Method> = reading.collect();
        for _ in 0..ROUNDS {
            for method in &reading {
                let own = tenant.values.borrow().clone();
                explore(tenant, method, questions(method, &own), &mut plan).await;
            }
        }
        for method in &reading {
            explore(tenant, method, questions(method, theirs), &mut plan).await;
        }
        Self { plan }
    }

    /// The answers now.
    pub(super) async fn view(&self, tenant: &Tenant<'_>, masks: &Masks) -> View {
        let mut view = View::new();
        for (number, (method, message)) in self.plan.iter().enumerate() {
            let answer = tenant.call_and_note(method, message).await;
            let key = format!("{number:05} {} {message}", method.path);
            view.insert(key, shown(method, &answer, masks));
        }
        view
    }

    /// The answers once they no longer change by themselves.
    pub(super) async fn settled(&self, tenant: &Tenant<'_>, masks: &Masks) -> Result<View, String> {
        const LOOKS: usize = 6;
        let mut last = self.view(tenant, masks).await;
        let mut changed = Vec::new();
        for _ in 0..LOOKS {
            let next = self.view(tenant, masks).await;
            changed = differences(&last, &next);
            if changed.is_empty() {
                return Ok(next);
            }
            last = next;
        }
        Err(format!("what {} sees never settles: {}", tenant.name, changed.join("; ")))
    }
}

/// Asks what is new among the questions, for what the answers lead to, and adds it to the plan.
async fn explore(
    tenant: &Tenant<'_>,
    method: &Method,
    questions: Vec<DynamicMessage>,
    plan: &mut Vec<(Method, DynamicMessage)>,
) {
    let before = plan.len();
    for message in questions {
        let is_known =
            |(of, known): &(Method, DynamicMessage)| of.path == method.path && *known == message;
        if plan.iter().any(is_known) {
            continue;
        }
        let answer = tenant.call_and_note(method, &message).await;
        plan.push((method.clone(), message));
        if answer.took > SLOW && plan.len() - before >= OF_SLOW {
            return;
        }
    }
}

/// Questions of an rpc about these values: none set, each set by itself, and all set.
fn questions(method: &Method, values: &Values) -> Vec<DynamicMessage> {
    let descriptor = method.descriptor.input();
    let default = DynamicMessage::new(descriptor.clone());
    let mut singles = one_by_one(&descriptor, values, std::slice::from_ref(&default));
    singles.retain(|message| *message != default);
    // From both ends: what is built in comes first, what is newest last.
    let (first, last) = (PER_SORT / 2, singles.len().saturating_sub(PER_SORT / 2));
    let ends = singles.iter().enumerate().filter(|(at, _)| *at < first || *at >= last);
    let ends: Vec<DynamicMessage> = ends.map(|(_, message)| message.clone()).collect();
    let all = (0..PER_SORT).map(|turn| whole(&descriptor, values, turn));
    let mut questions = Vec::new();
    for message in [default].into_iter().chain(ends).chain(all) {
        if !questions.contains(&message) && !is_momentary(&message) {
            questions.push(message);
        }
    }
    questions
}

/// Whether the answer depends on the moment.
pub(super) fn is_momentary(message: &DynamicMessage) -> bool {
    MOMENTARY.iter().any(|(kind, field, least, _)| {
        let value = message.get_field_by_name(field).map(|value| value.into_owned());
        let number = value.and_then(|value| converted(&value, &Kind::Uint64)?.as_u64());
        message.descriptor().full_name() == *kind && number.is_some_and(|number| number < *least)
    })
}

/// How two views differ, a line for each answer that does; not all of very many.
pub(super) fn differences(before: &View, after: &View) -> Vec<String> {
    const SHOWN: usize = 25;
    let changed = before.iter().filter_map(|(asked, was)| {
        let is = after.get(asked).map_or("not asked", String::as_str);
        let mut lines = was.lines().zip(is.lines().chain(std::iter::repeat("")));
        let (was_line, is_line) = lines.find(|(was, is)| was != is).unwrap_or(("", "more lines"));
        (was != is).then(|| format!("{asked}: {was_line:?} is now {is_line:?}"))
    });
    changed.take(SHOWN).collect()
}

/// An answer as text.
pub(super) fn shown(method: &Method, answer: &Answer, masks: &Masks) -> String {
    let mut text = format!("{:?} {}\n", answer.code, masks.text(&without_numbers(&answer.text)));
    for message in decoded(&method.descriptor, answer) {
        show(&message, "", masks, &mut text);
    }
    text
}

/// The text of a refusal without what changes by itself.
fn without_numbers(text: &str) -> String {
    let masked = MASKED_BETWEEN.iter().find_map(|(from, to, why)| {
        let (before, rest) = text.split_once(from)?;
        let (_, after) = rest.split_once(to)?;
        Some(format!("{before}{from}{why}{to}{after}"))
    });
    masked.unwrap_or_else(|| text.to_owned())
}

fn show(message: &DynamicMessage, place: &str, masks: &Masks, text: &mut String) {
    for (field, value) in message.fields() {
        show_value(&field, value, &format!("{place}.{}", field.name()), masks, text);
    }
}

fn show_value(
    field: &FieldDescriptor,
    value: &Value,
    place: &str,
    masks: &Masks,
    text: &mut String,
) {
    let of_twins = MASKED_OF_TWINS.iter().filter(|_| masks.hides_ids);
    let mut masked = MASKED.iter().chain(of_twins);
    // Nothing at all is shown, so that an empty list is as good as any.
    if masked.any(|(name, _)| *name == field.full_name()) {
        return;
    }
    match value {
        Value::Message(inner) => show(inner, place, masks, text),
        Value::List(list) => {
            let shown = |one: &Value| {
                let mut text = String::new();
                show_value(field, one, &format!("{place}[]"), masks, &mut text);
                text
            };
            let mut shown: Vec<String> = list.iter().map(shown).collect();
            if masks.hides_ids {
                shown.sort_unstable();
            }
            text.push_str(&shown.concat());
        }
        Value::Map(map) => {
            let mut pairs: Vec<(&MapKey, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            for (key, one) in pairs {
                show_value(field, one, &format!("{place}[{key:?}]"), masks, text);
            }
        }
        scalar => text.push_str(&format!("{place}: {}\n", masks.scalar(field, scalar))),
    }
}

impl Masks {
    fn scalar(&self, field: &FieldDescriptor, value: &Value) -> String {
        let moment = match value {
            Value::I64(moment) => u64::try_from(*moment).ok(),
            Value::U64(moment) => Some(*moment),
            _ => None,
        };
        // The clock went on between two calls; what was sent with a time has an earlier one.
        let is_moment = field.name().ends_with("_unix_nano");
        if is_moment && moment.is_some_and(|moment| moment >= self.since_unix_nano) {
            return "a moment of this run".to_owned();
        }
        match value {
            Value::String(text) => self.text(text),
            Value::Bytes(bytes) => self.text(&hex::encode(bytes)),
            other => format!("{other:?}"),
        }
    }

    fn text(&self, text: &str) -> String {
        const ID_DIGITS_MIN: usize = 16;
        if !self.hides_ids {
            return text.to_owned();
        }
        if text.starts_with("eyJ") {
            return "a token".to_owned();
        }
        let is_digit = |letter: char| letter.is_ascii_hexdigit() || letter == '-';
        let mut shown = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|letter| !is_digit(letter)).unwrap_or(rest.len());
            let (run, after) = rest.split_at(end);
            shown.push_str(if run.len() >= ID_DIGITS_MIN { "<id>" } else { run });
            let end = after.find(is_digit).unwrap_or(after.len());
            shown.push_str(&after[..end]);
            rest = &after[end..];
        }
        shown
    }
}
