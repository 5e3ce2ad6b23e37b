//! What a tenant sees: the answers to all that it can ask about what it has, as text that can be
//! compared.

use std::collections::BTreeMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, Value};

use super::{
    call::Answer,
    contract::Method,
    requests::{one_by_one, whole},
    tenant::{Tenant, decoded},
    values::Values,
};

/// What an answer holds that is different each time by its nature.
const MASKED: [(&str, &str); 5] = [
    ("logweir.v1.Process.silent_ms", "the time since its last heartbeat"),
    ("logweir.v1.TestStep.took_ms", "how long a step took"),
    ("logweir.v1.TenantShare.held", "what the very calls of the harness hold at the moment"),
    ("logweir.v1.TemplateSummary.trend", "compares the last full hour, which moves with the clock"),
    ("grpc.health.v1.HealthCheckResponse.status", "whether the queue has room at the moment"),
];
/// Fields of questions whose answers depend on the moment at which they are asked.
const MOMENTARY: [(&str, &str); 1] = [(
    "logweir.v1.ListProcessesRequest.silent_seconds_max",
    "who was heard of within a second or two is chance: heartbeats come every two seconds",
)];
/// Requests of each sort for an rpc.
const PER_SORT: usize = 6;
/// A walk finds ids that lead further: to an incident and from there to its logs.
const ROUNDS: usize = 2;

/// Answers as text, by what was asked.
pub(super) type View = BTreeMap<String, String>;

/// How answers are made comparable.
#[derive(Clone)]
pub(super) struct Masks {
    /// Moments from this one on are those of the calls themselves.
    pub(super) since_unix_nano: u64,
    /// Whether ids are shown by the order in which they turn up, and the tenant by no name: two
    /// tenants that do the same then say the same.
    pub(super) symbols: Option<BTreeMap<String, usize>>,
}

/// Questions, asked again and again.
pub(super) struct Walk {
    plan: Vec<(Method, DynamicMessage)>,
}

impl Walk {
    /// Questions about all that the tenant has, and about what others have.
    pub(super) async fn over(tenant: &Tenant<'_>, theirs: &Values) -> Self {
        let mut plan: Vec<(Method, DynamicMessage)> = Vec::new();
        let methods = &tenant.contract.methods;
        let reading = || methods.iter().filter(|method| !method.changes() && !method.is_public());
        for _ in 0..ROUNDS {
            for method in reading() {
                let asked = |message: &DynamicMessage| {
                    plan.iter().any(|(of, known)| of.path == method.path && known == message)
                };
                let own = tenant.values.borrow().clone();
                let mut messages = questions(method, &own);
                messages.retain(|message| !asked(message));
                for message in messages {
                    tenant.call_and_note(method, &message).await;
                    plan.push((method.clone(), message));
                }
            }
        }
        for method in reading() {
            let foreign = questions(method, theirs);
            plan.extend(foreign.into_iter().map(|message| (method.clone(), message)));
        }
        Self { plan }
    }

    /// The answers now.
    pub(super) async fn view(&self, tenant: &Tenant<'_>, masks: &Masks) -> View {
        let mut view = View::new();
        for (number, (method, message)) in self.plan.iter().enumerate() {
            let answer = tenant.call_and_note(method, message).await;
            let key = format!("{number:05} {} {message}", method.path);
            view.insert(key, shown(method, &answer, &mut masks.clone()));
        }
        view
    }

    /// The answers once they no longer change by themselves.
    pub(super) async fn settled(&self, tenant: &Tenant<'_>, masks: &Masks) -> Result<View, String> {
        const LOOKS: usize = 8;
        let mut last = self.view(tenant, masks).await;
        let mut changed = String::new();
        for _ in 0..LOOKS {
            let next = self.view(tenant, masks).await;
            match difference(&last, &next) {
                None => return Ok(next),
                Some(found) => changed = found,
            }
            last = next;
        }
        Err(format!("what {} sees never settles: {changed}", tenant.name))
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
    let mut questions = vec![default];
    for message in ends.into_iter().chain(all) {
        if !questions.contains(&message) && !is_momentary(&message) {
            questions.push(message);
        }
    }
    questions
}

/// Whether the answer depends on the moment.
pub(super) fn is_momentary(message: &DynamicMessage) -> bool {
    let mut fields = message.fields();
    fields.any(|(field, _)| MOMENTARY.iter().any(|(name, _)| *name == field.full_name()))
}

/// The first difference between two views.
pub(super) fn difference(before: &View, after: &View) -> Option<String> {
    before.iter().find_map(|(asked, was)| {
        let is = after.get(asked).map_or("not asked", String::as_str);
        let lines = was.lines().zip(is.lines().chain(std::iter::repeat("")));
        let changed = lines.clone().find(|(was, is)| was != is);
        (was != is).then(|| {
            let (was, is) = changed.unwrap_or(("", "more lines"));
            format!("{asked}: {was:?} is now {is:?}")
        })
    })
}

/// An answer as text.
pub(super) fn shown(method: &Method, answer: &Answer, masks: &mut Masks) -> String {
    let mut text = format!("{:?} {}\n", answer.code, masks.text(&answer.text));
    for message in decoded(&method.descriptor, answer) {
        show(&message, "", masks, &mut text);
    }
    text
}

fn show(message: &DynamicMessage, place: &str, masks: &mut Masks, text: &mut String) {
    for (field, value) in message.fields() {
        show_value(&field, value, &format!("{place}.{}", field.name()), masks, text);
    }
}

fn show_value(
    field: &FieldDescriptor,
    value: &Value,
    place: &str,
    masks: &mut Masks,
    text: &mut String,
) {
    if let Some((_, why)) = MASKED.iter().find(|(name, _)| *name == field.full_name()) {
        text.push_str(&format!("{place}: {why}\n"));
        return;
    }
    match value {
        Value::Message(inner) => show(inner, place, masks, text),
        Value::List(list) => {
            for (at, one) in list.iter().enumerate() {
                show_value(field, one, &format!("{place}[{at}]"), masks, text);
            }
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
    fn scalar(&mut self, field: &FieldDescriptor, value: &Value) -> String {
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

    fn text(&mut self, text: &str) -> String {
        let Some(symbols) = &mut self.symbols else { return text.to_owned() };
        let mut shown = String::new();
        let mut run = String::new();
        let mut end = |run: &mut String, shown: &mut String| {
            let digits = run.bytes().filter(u8::is_ascii_hexdigit).count();
            if digits >= 16 {
                let next = symbols.len();
                let symbol = symbols.entry(std::mem::take(run)).or_insert(next);
                shown.push_str(&format!("<id {symbol}>"));
            }
            shown.push_str(&std::mem::take(run));
        };
        for letter in text.chars() {
            if letter.is_ascii_hexdigit() || letter == '-' {
                run.push(letter);
            } else {
                end(&mut run, &mut shown);
                shown.push(letter);
            }
        }
        end(&mut run, &mut shown);
        if shown.starts_with("eyJ") { "a token".to_owned() } else { shown }
    }
}
