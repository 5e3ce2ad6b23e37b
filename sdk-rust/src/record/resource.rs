//! What all logs have in common: what the code says, else the environment, else what can be found
//! out about machine, process, container and pod. Pure: variables and files come from an argument.

use std::path::Path;

use logweir_proto::v1;

use crate::{
    error::ConfigError,
    hex,
    platform::{Notice, ProcessContext},
    record::{self, NAME_BYTES_MAX, Value},
};

const SERVICE: &str = "LOGWEIR_SERVICE";
const OTEL_SERVICE: &str = "OTEL_SERVICE_NAME";
const OTEL_RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SERVICE_BYTES_MAX: usize = 128;
const PROCESS_ID: &str = "process.pid";
/// Length of a container's id, hexadecimal digits.
const CONTAINER_ID_DIGITS: usize = 64;
/// Is set in every container of a pod.
const KUBERNETES: &str = "KUBERNETES_SERVICE_HOST";
/// Attributes, and the variables by which deployments hand them down (the downward API).
const POD: [(&str, [&str; 2]); 5] = [
    ("k8s.pod.name", ["K8S_POD_NAME", "POD_NAME"]),
    ("k8s.namespace.name", ["K8S_NAMESPACE_NAME", "POD_NAMESPACE"]),
    ("k8s.node.name", ["K8S_NODE_NAME", "NODE_NAME"]),
    ("k8s.pod.uid", ["K8S_POD_UID", "POD_UID"]),
    ("k8s.container.name", ["K8S_CONTAINER_NAME", "CONTAINER_NAME"]),
];

/// Completes what the code says.
pub(crate) fn resolve(
    mut resource: v1::Resource,
    detects: bool,
    context: &ProcessContext,
    notice: &Notice,
) -> Result<v1::Resource, ConfigError> {
    if !resource.service.is_empty() && !is_service(&resource.service) {
        return Err(ConfigError::Service(resource.service));
    }
    for variable in [SERVICE, OTEL_SERVICE] {
        if let Some(service) = (context.variable)(variable) {
            set_service(&mut resource, service, variable, notice);
        }
    }
    for pair in (context.variable)(OTEL_RESOURCE).iter().flat_map(|list| list.split(',')) {
        match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                set_field(&mut resource, key.trim(), percent_decoded(value.trim()), notice);
            }
            _ if pair.trim().is_empty() => {}
            _ => notice(&format!("{OTEL_RESOURCE}: {pair:?} is not KEY=VALUE; left out")),
        }
    }
    set_if_empty(&mut resource.host, context.host.clone());
    let instance = instance_of(&resource.host, context.process_id);
    set_if_empty(&mut resource.instance, instance);
    // Last, so that whatever was given wins.
    if detects {
        detect(&mut resource, context);
    }
    fit(&mut resource);
    Ok(resource)
}

/// The same for a forked child, whose instance and number are its own.
pub(crate) fn for_child(resource: &mut v1::Resource, parent_id: u32, child_id: u32) {
    if resource.instance == instance_of(&resource.host, parent_id) {
        resource.instance = instance_of(&resource.host, child_id);
    }
    // Only if it was detected: a number that the program gave stays.
    let (of_parent, of_child) = [parent_id, child_id].map(process_id).into();
    for attribute in resource.attributes.iter_mut().filter(|found| **found == of_parent) {
        *attribute = of_child.clone();
    }
}

fn instance_of(host: &str, process_id: u32) -> String {
    format!("{host}:{process_id}")
}

fn process_id(number: u32) -> v1::Attribute {
    record::attribute(PROCESS_ID.into(), number.into())
}

/// Adds process, container and pod, unless they are given.
fn detect(resource: &mut v1::Resource, context: &ProcessContext) {
    set_attribute(resource, PROCESS_ID, context.process_id.into());
    if let Some(id) = container_id(context) {
        set_attribute(resource, "container.id", id.into());
    }
    if (context.variable)(KUBERNETES).is_none() {
        return;
    }
    for (key, variables) in POD {
        if let Some(value) = variables.iter().find_map(|name| (context.variable)(name)) {
            set_attribute(resource, key, value.into());
        }
    }
}

/// By the control group; where that is hidden from the container, by its mounts.
fn container_id(context: &ProcessContext) -> Option<String> {
    let read = |path| (context.file)(Path::new(path)).unwrap_or_default();
    let mounts = || {
        let text = read("/proc/self/mountinfo");
        text.split("/containers/").skip(1).find_map(|after| first_id(after.split('/').next()?))
    };
    first_id(&read("/proc/self/cgroup")).or_else(mounts)
}

/// The first word of just so many hexadecimal digits.
fn first_id(text: &str) -> Option<String> {
    let is_id = |word: &&str| {
        word.len() == CONTAINER_ID_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).find(is_id).map(ToOwned::to_owned)
}

fn set_field(resource: &mut v1::Resource, key: &str, value: String, notice: &Notice) {
    match key {
        "service.name" => set_service(resource, value, OTEL_RESOURCE, notice),
        "service.version" => set_if_empty(&mut resource.version, value),
        "service.instance.id" => set_if_empty(&mut resource.instance, value),
        "deployment.environment" | "deployment.environment.name" => {
            set_if_empty(&mut resource.environment, value);
        }
        "cloud.region" => set_if_empty(&mut resource.region, value),
        "host.name" => set_if_empty(&mut resource.host, value),
        _ => set_attribute(resource, key, value.into()),
    }
}

fn set_attribute(resource: &mut v1::Resource, key: &str, value: Value) {
    if resource.attributes.iter().all(|attribute| attribute.key != key) {
        resource.attributes.push(record::attribute(key.into(), value));
    }
}

fn set_if_empty(field: &mut String, value: String) {
    if field.is_empty() {
        *field = value;
    }
}

fn set_service(resource: &mut v1::Resource, service: String, source: &str, notice: &Notice) {
    if !resource.service.is_empty() {
        return;
    }
    if is_service(&service) {
        resource.service = service;
    } else {
        let error = ConfigError::Service(service);
        notice(&format!("{source}: {error}; going on with the token's service"));
    }
}

fn is_service(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    (1..=SERVICE_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Cuts the resource to the limits, as a log is.
fn fit(resource: &mut v1::Resource) {
    let v1::Resource { instance, environment, version, region, host, attributes, .. } = resource;
    for field in [instance, environment, version, region, host] {
        record::cut(field, NAME_BYTES_MAX);
    }
    // A log without anything else: its attributes are cut by the same code.
    let mut carrier =
        v1::LogRecord { attributes: std::mem::take(attributes), ..v1::LogRecord::default() };
    record::fit(&mut carrier);
    *attributes = carrier.attributes;
}

/// OpenTelemetry lets values be percent-encoded. What is not valid stays as it is.
fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        // Two digits must follow; otherwise it is a plain percent sign.
        let code = tail.get(..2).filter(|_| *first == b'%');
        let decoded = code.and_then(|code| hex::decode(str::from_utf8(code).ok()?));
        let [byte] = decoded.unwrap_or([*first]);
        bytes.push(byte);
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_its_own_instance_and_number() {
        let of = |number| v1::Resource {
            host: "h".into(),
            instance: format!("h:{number}"),
            attributes: vec![process_id(number)],
            ..v1::Resource::default()
        };
        let mut resource = of(17);
        for_child(&mut resource, 17, 18);
        assert_eq!(resource, of(18));
        let mut given = v1::Resource { instance: "i1".into(), ..of(1) };
        let before = given.clone();
        for_child(&mut given, 17, 18);
        assert_eq!(given, before);
    }
}
