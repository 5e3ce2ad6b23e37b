//! Very many calls of one tenant, in every role and with tokens that open nothing, about what
//! another tenant has.
//!
//! What a call sends follows from the seed, its rpc and its number alone, so that a seed repeats a
//! finding however many other calls were made.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use rand::{
    RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _, seq::SliceRandom as _,
};
use tonic::Code;

use super::{
    call::{Answer, Question},
    contract::Method,
    marks::Marks,
    report::Report,
    requests::{Sources, by_chance, one_by_one},
    tenant::Tenant,
    values::Values,
    web,
};

/// Calls under way at once.
const AT_ONCE: usize = 16;
/// Streams, and calls that are never ended, are let go after this.
const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);
/// An rpc whose calls take longer than this on average is called so many times more rarely.
const SLOW: Duration = Duration::from_millis(40);
const RARER: u32 = 12;
/// One call in so many goes over gRPC-Web, is left open, and sends a message too many.
const WEB: u32 = 6;
const HALF_OPEN: u32 = 24;
const TWICE: u32 = 24;

/// Who calls.
pub(super) struct Role {
    pub(super) name: String,
    pub(super) token: Option<String>,
    /// Whether the token opens anything.
    pub(super) is_valid: bool,
}

/// A rpc with what is to be sent to it, in order, before chance goes on.
struct Target {
    method: Method,
    prepared: Vec<DynamicMessage>,
    weight: u32,
}

/// All that a call is made of.
pub(super) struct Intrusion<'a> {
    pub(super) intruder: &'a Tenant<'a>,
    pub(super) roles: &'a [Role],
    pub(super) theirs: &'a Values,
    pub(super) marks: &'a Marks,
    pub(super) seed: u64,
    pub(super) report: &'a RefCell<Report>,
}

impl Intrusion<'_> {
    /// So many calls, from this number on.
    pub(super) async fn make(&self, first: u64, calls: u64) {
        let own = self.intruder.values.borrow().clone();
        let targets = self.targets(&own);
        let weights: Vec<usize> = targets
            .iter()
            .enumerate()
            .flat_map(|(at, target)| std::iter::repeat_n(at, target.weight as usize))
            .collect();
        let (targets, weights, own) = (&targets, &weights, &own);
        let made = stream::iter(first..first + calls).map(|number| async move {
            let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(number));
            let place = weights[random.random_range(0..weights.len())];
            self.one(&targets[place], number, own, &mut random).await;
        });
        made.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    fn targets(&self, own: &Values) -> Vec<Target> {
        let methods = &self.intruder.contract.methods;
        let target = |(place, method): (usize, &Method)| {
            let descriptor = method.descriptor.input();
            let mut within = vec![DynamicMessage::new(descriptor.clone())];
            within.extend(self.intruder.valid(method).into_iter().take(2));
            let mut prepared = one_by_one(&descriptor, self.theirs, &within);
            prepared.extend(one_by_one(&descriptor, own, &within[..1]));
            prepared.shuffle(&mut StdRng::seed_from_u64(self.seed ^ place as u64));
            let mean = self.report.borrow().mean(&method.path);
            let weight = if mean > SLOW { 1 } else { RARER };
            Target { method: method.clone(), prepared, weight }
        };
        methods.iter().enumerate().map(target).collect()
    }

    async fn one(&self, target: &Target, number: u64, own: &Values, random: &mut StdRng) {
        let method = &target.method;
        let sources = Sources { theirs: self.theirs, own };
        let message =
            if random.random_ratio(1, 2) { target.prepared.choose(random).cloned() } else { None };
        let message =
            message.unwrap_or_else(|| by_chance(&method.descriptor.input(), &sources, random));
        // Then nothing would be left to look at what the others bring about.
        if self.intruder.would_end_itself(&message) {
            return;
        }
        let role = self.roles.choose(random).expect("there are roles");
        let bytes = Bytes::from(message.encode_to_vec());
        self.marks.note_sent(&bytes);
        let count = if random.random_ratio(1, TWICE) { 2 } else { 1 };
        let half_open = random.random_ratio(1, HALF_OPEN);
        let is_short = half_open || method.is_stream();
        let question = Question {
            path: &method.path,
            token: role.token.as_deref(),
            messages: vec![bytes; count],
            half_open,
            deadline: if is_short { SHORT } else { LONG },
        };
        let caller = self.intruder.caller();
        let answer = if random.random_ratio(1, WEB) {
            web::ask(&caller.address, question).await
        } else {
            caller.ask(question).await
        };
        self.look_at(&answer, target, role, number, &message);
    }

    fn look_at(
        &self,
        answer: &Answer,
        target: &Target,
        role: &Role,
        number: u64,
        message: &DynamicMessage,
    ) {
        let method = &target.method;
        let mut report = self.report.borrow_mut();
        report.count(method, answer, role.is_valid);
        let asked = || format!("call {number}, {} as {}: {message}", method.path, role.name);
        let leaked = self.marks.leaked(answer);
        if !leaked.is_empty() {
            report.find(format!("an answer holds {leaked:?}; {}", asked()));
        }
        let is_let_in = !role.is_valid
            && !method.is_public()
            && answer.is_said
            && answer.code != Some(Code::Unauthenticated);
        if is_let_in {
            report.find(format!("let in with {:?}; {}", answer.code, asked()));
        }
    }
}
