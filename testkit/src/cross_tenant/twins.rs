//! Two tenants that do the very same, one before another tenant grows and one after: they must be
//! answered the same, down to every number that is minted for them.

use prost_reflect::DynamicMessage;
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::{
    contract::Method,
    requests::{one_by_one, whole},
    tenant::Tenant,
    values::Values,
    view::{Masks, View, is_momentary, shown},
};

/// Messages for each rpc: of one's own values, and of another tenant's.
const OF_OWN: usize = 3;
const OF_OTHERS: usize = 5;

/// Calls every rpc some times with what it takes, one call after the other; what was answered.
pub(super) async fn transcript(
    twin: &Tenant<'_>,
    theirs: &Values,
    masks: &Masks,
    seed: u64,
) -> View {
    let masks = Masks { hides_ids: true, ..masks.clone() };
    let mut said = View::new();
    let methods = twin.contract.giving_first();
    for (place, method) in methods.iter().filter(|method| !method.is_public()).enumerate() {
        let mut random = StdRng::seed_from_u64(seed ^ place as u64);
        for (turn, message) in messages(method, twin, theirs, &mut random).into_iter().enumerate() {
            if twin.would_end_itself(&message) || is_momentary(&message) {
                continue;
            }
            let answer = twin.call_and_note(method, &message).await;
            let answered = shown(method, &answer, &masks).replace(&twin.name, "<tenant>");
            said.insert(format!("{place:03} {turn:03} {}", method.path), answered);
        }
    }
    said
}

fn messages(
    method: &Method,
    twin: &Tenant<'_>,
    theirs: &Values,
    random: &mut StdRng,
) -> Vec<DynamicMessage> {
    let descriptor = method.descriptor.input();
    let mut made = vec![DynamicMessage::new(descriptor.clone())];
    made.extend(twin.valid(method).into_iter().take(OF_OWN));
    let own = twin.values.borrow().clone();
    made.extend((0..OF_OWN).map(|turn| whole(&descriptor, &own, turn)));
    let mut others = one_by_one(&descriptor, theirs, &made[..made.len().min(2)]);
    others.shuffle(random);
    others.truncate(OF_OTHERS);
    made.extend(others);
    made
}
