//! A queue whose tenants are served by turns, so that a flood waits behind itself. Pure.
//!
//! It is deficit round robin (Shreedhar and Varghese, "Efficient Fair Queuing using Deficit Round
//! Robin", 1995): tenants stand in a ring, each turn earns the same amount of cost, and what one
//! could not spend, because its next item costs more, is kept for its next turn.

use std::collections::{HashMap, VecDeque};

use crate::identity::Tenant;

/// An item costs no more than this many turns earn: that bounds the turns until it is served.
const TURNS_MAX: u64 = 1_000;

/// Items that wait, by tenant. Of one tenant the first to come is the first to go.
#[derive(Debug)]
pub struct FairQueue<T> {
    quantum: u64,
    lanes: HashMap<Tenant, Lane<T>>,
    /// The tenants with a lane, the one whose turn it is first.
    turns: VecDeque<Tenant>,
}

#[derive(Debug)]
struct Lane<T> {
    /// With their costs; never empty.
    items: VecDeque<(u64, T)>,
    /// What it may still spend in this turn.
    deficit: u64,
}

impl<T> FairQueue<T> {
    /// An empty queue. A tenant's turn earns `quantum`, in the unit of the costs and at least 1:
    /// about the cost of an ordinary item. Much less makes more turns than items, much more lets the
    /// others wait for one tenant's many.
    pub fn new(quantum: u64) -> Self {
        Self { quantum: quantum.max(1), lanes: HashMap::new(), turns: VecDeque::new() }
    }

    /// Puts an item behind the others of its tenant. A cost above a thousand turns counts as that.
    pub fn push(&mut self, tenant: Tenant, cost: u64, item: T) {
        let cost = cost.min(self.quantum.saturating_mul(TURNS_MAX));
        let lane = self.lanes.entry(tenant).or_insert_with_key(|tenant| {
            self.turns.push_back(tenant.clone());
            Lane { items: VecDeque::new(), deficit: self.quantum }
        });
        lane.items.push_back((cost, item));
    }

    /// The next item; none if nothing waits.
    pub fn pop(&mut self) -> Option<T> {
        loop {
            let tenant = self.turns.front()?;
            let lane = self.lanes.get_mut(tenant)?;
            if let Some(item) = lane.spend() {
                if lane.items.is_empty() {
                    // What it has left goes with it: nobody saves up while it does not wait.
                    self.lanes.remove(tenant);
                    self.turns.pop_front();
                }
                return Some(item);
            }
            lane.deficit += self.quantum;
            self.turns.rotate_left(1);
        }
    }
}

impl<T> FairQueue<T> {
    /// Takes out all items that are of a kind, in their order by tenant; the others keep their places.
    pub fn extract(&mut self, is_of_kind: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for tenant in std::mem::take(&mut self.turns) {
            let Some(lane) = self.lanes.get_mut(&tenant) else { continue };
            let (of_kind, others) =
                lane.items.drain(..).partition::<Vec<_>, _>(|(_, item)| is_of_kind(item));
            taken.extend(of_kind.into_iter().map(|(_, item)| item));
            lane.items = others.into();
            if lane.items.is_empty() {
                self.lanes.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
        taken
    }
}

impl<T> Lane<T> {
    /// The first item, if its cost can be spent.
    fn spend(&mut self) -> Option<T> {
        let (cost, _) = self.items.front()?;
        self.deficit = self.deficit.checked_sub(*cost)?;
        self.items.pop_front().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 3] = ["a", "b", "c"];
    const QUANTUM: u64 = 10;
    const COST_MAX: u64 = 35;

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    #[test]
    fn a_flood_waits_behind_itself() {
        let mut queue = FairQueue::new(QUANTUM);
        for number in 0..100 {
            queue.push(tenant("b"), QUANTUM, ("b", number));
        }
        queue.push(tenant("a"), QUANTUM, ("a", 0));
        let order: Vec<_> = (0..3).filter_map(|_| queue.pop()).collect();
        assert_eq!(order, [("b", 0), ("a", 0), ("b", 1)]);
    }

    #[test]
    fn an_item_of_any_cost_gets_its_turn() {
        let mut queue = FairQueue::new(1);
        queue.push(tenant("b"), u64::MAX, "dear");
        for _ in 0..TURNS_MAX {
            queue.push(tenant("a"), 1, "cheap");
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order.len() as u64, TURNS_MAX + 1);
        assert!(order.contains(&"dear"));
        assert!(queue.lanes.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn what_is_taken_out_leaves_the_others_in_their_places() {
        let mut queue = FairQueue::new(QUANTUM);
        for (name, number) in [("b", 1), ("a", 2), ("b", 3), ("c", 4)] {
            queue.push(tenant(name), QUANTUM, number);
        }
        assert_eq!(queue.extract(|number| number % 2 == 0), [2, 4]);
        assert!(queue.extract(|_| false).is_empty());
        queue.push(tenant("a"), QUANTUM, 6);
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [1, 6, 3]);
        assert!(queue.lanes.is_empty() && queue.turns.is_empty());
    }

    /// What each tenant has waiting, in order.
    type Model = [VecDeque<(u64, usize)>; NAMES.len()];

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_tenants_items_keep_their_order(
            steps in prop::collection::vec((0..NAMES.len(), 0..COST_MAX, any::<bool>()), 0..300),
        ) {
            let (mut queue, mut model) = (FairQueue::new(QUANTUM), Model::default());
            for (number, (at, cost, pushes)) in steps.into_iter().enumerate() {
                if pushes {
                    queue.push(tenant(NAMES[at]), cost, (at, number));
                    model[at].push_back((cost, number));
                } else if let Some((at, number)) = queue.pop() {
                    prop_assert_eq!(model[at].pop_front().map(|(_, number)| number), Some(number));
                } else {
                    prop_assert!(model.iter().all(VecDeque::is_empty));
                }
            }
        }

        /// The bound is theorem 4.4 of the paper.
        #[test]
        fn those_that_wait_all_the_time_are_served_alike(
            items in prop::collection::vec((0..NAMES.len(), 0..COST_MAX), 0..300),
        ) {
            let (mut queue, mut waiting) = (FairQueue::new(QUANTUM), [0; NAMES.len()]);
            for (at, cost) in items {
                queue.push(tenant(NAMES[at]), cost, (at, cost));
                waiting[at] += 1;
            }
            let mut served = [0_u64; NAMES.len()];
            while waiting.iter().all(|count| *count > 0) {
                let (at, cost) = queue.pop().expect("all wait");
                waiting[at] -= 1;
                served[at] += cost;
                let (least, most) = (served.iter().min(), served.iter().max());
                let apart = most.zip(least).map_or(0, |(most, least)| most - least);
                prop_assert!(apart <= QUANTUM + 2 * COST_MAX, "{served:?}");
            }
        }
    }
}
