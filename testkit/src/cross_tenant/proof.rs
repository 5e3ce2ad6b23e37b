//! That the checks check something: every rpc is served at least once for a tenant about its own,
//! and the tokens that are used are good.

use std::cell::RefCell;

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, Value};

use super::{
    contract::{Contract, Method},
    report::Report,
    requests::{one_by_one, whole},
    tenant::{Tenant, decoded},
    values::Values,
};

/// Rpcs that a tenant cannot have served about its own, and why.
const UNSERVED: [(&str, &str); 0] = [];
/// Messages that are tried until one is served.
const TRIES: usize = 60;
/// Times that each rpc is to be served.
const SERVED: usize = 3;

/// Calls every rpc with one's own values until it was served.
pub(super) async fn serve_all(tenant: &Tenant<'_>, report: &RefCell<Report>) {
    for method in tenant.contract.giving_first() {
        let descriptor = method.descriptor.input();
        let own = tenant.values.borrow().clone();
        let mut messages = tenant.valid(method);
        messages.extend((0..6).map(|turn| whole(&descriptor, &own, turn)));
        messages.push(DynamicMessage::new(descriptor.clone()));
        messages.extend(singles(&descriptor, &own));
        let within = messages[..messages.len().min(2)].to_vec();
        messages.extend(one_by_one(&descriptor, &own, &within).into_iter().take(TRIES));
        let mut served = 0;
        for message in messages.iter().filter(|message| !tenant.would_end_itself(message)) {
            let answer = tenant.call_and_note(method, message).await;
            served += usize::from(answer.succeeded(method.is_stream()));
            report.borrow_mut().count(method, &answer, true);
            if served == SERVED {
                break;
            }
        }
    }
}

/// Each value that fits a field, alone: a name is one of many things' that are called so.
fn singles(descriptor: &MessageDescriptor, own: &Values) -> Vec<DynamicMessage> {
    let single = |field: &FieldDescriptor, value: Value| {
        let mut message = DynamicMessage::new(descriptor.clone());
        message.try_set_field(field, value).is_ok().then_some(message)
    };
    let of = |field: FieldDescriptor| {
        let values = own.fitting(&field);
        values.into_iter().filter_map(|value| single(&field, value)).collect::<Vec<_>>()
    };
    descriptor.fields().flat_map(of).collect()
}

/// Every rpc that was never served about the caller's own would prove nothing.
pub(super) fn none_is_vacuous(contract: &Contract, report: &RefCell<Report>) {
    let is_excused = |method: &Method| UNSERVED.iter().any(|(path, _)| *path == method.path);
    for method in contract.methods.iter().filter(|method| !is_excused(method)) {
        let served = report.borrow().served(&method.path);
        if served == 0 {
            let finding = format!("{} was never served: nothing is proved of it", method.path);
            report.borrow_mut().find(finding);
        }
    }
}

/// A tenant's tokens still open what they opened.
pub(super) async fn tokens_hold(tenant: &Tenant<'_>, report: &RefCell<Report>) {
    let listed = tenant.call(tenant.contract.method("ListTokens"), vec![Bytes::new()]).await;
    if !listed.is_ok() {
        let finding = format!("{} is not let in any more: {}", tenant.name, listed.text);
        report.borrow_mut().find(finding);
    }
}

/// Asks the server itself which services it has: one that is not in the descriptors here would go
/// untested. What it answers is open to all.
pub(super) async fn services(tenant: &Tenant<'_>, report: &RefCell<Report>) -> Values {
    let method = tenant.contract.method("ServerReflectionInfo");
    let mut message = DynamicMessage::new(method.descriptor.input());
    message.set_field_by_name("list_services", Value::String("*".to_owned()));
    let answer = tenant.call(method, vec![message.encode_to_vec().into()]).await;
    let mut public = Values::default();
    for said in decoded(&method.descriptor, &answer) {
        public.take(&said);
    }
    let known = tenant.contract.services();
    let is_service = |text: &&str| text.contains('.');
    let served: Vec<&str> = public.texts().filter(is_service).collect();
    for service in served.iter().filter(|service| !known.iter().any(|one| one == **service)) {
        report.borrow_mut().find(format!("the server has {service}, which is not tested"));
    }
    if served.is_empty() {
        report.borrow_mut().find(format!("reflection lists nothing: {}", answer.text));
    }
    public
}
