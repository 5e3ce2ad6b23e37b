//! That nothing is stored twice or counted twice, whatever upkeep does with producers in between.

use logweir_core::record::ScoredBatch;
use proptest::prelude::*;

use super::*;
use crate::{WriteOutcome, producer_totals::Unlisted, sqlite::write::producers};

#[derive(Debug, Clone)]
enum Step {
    /// A batch of a producer, by its sequence: for the first time, or again.
    Send(u8, u64),
    /// So many hours pass, and upkeep follows.
    Maintain(u32),
    /// So many producers leave the list.
    Unlist(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u8, 1..8_u64).prop_map(|(producer, sequence)| Step::Send(producer, sequence)),
        2 => (1..60_u32).prop_map(Step::Maintain),
        2 => (1..5_usize).prop_map(Step::Unlist),
    ]
}

fn sent(producer: u8, sequence: u64) -> ScoredBatch {
    let name = ["payments", "orders"][usize::from(producer % 2)];
    let number = u64::from(producer) * 100 + sequence;
    let mut sent = by(producer, sequence, sequence * 3, batch(number, name, 2, Duration::ZERO));
    // An id of version 4: one of version 7 says when it was minted, and might be too young.
    sent.batch_id.0[6] = 0x40;
    sent
}

async fn check(directory: &TempDir, steps: Vec<Step>) {
    let storage = open(directory.path()).unwrap();
    let (mut seen, mut now) = (std::collections::BTreeSet::new(), NOW);
    for step in steps {
        match step {
            Step::Send(producer, sequence) => {
                let outcomes = storage.write(vec![sent(producer, sequence)].into()).await.unwrap();
                let is_new = seen.insert((producer, sequence));
                let expected =
                    if is_new { WriteOutcome::stored(2, 0) } else { WriteOutcome::Duplicate };
                assert_eq!(outcomes, [expected]);
            }
            Step::Maintain(hours) => {
                now += HOUR * hours;
                maintain(&storage, now).await;
            }
            Step::Unlist(count) => {
                let of = Unlisted { tenant: 1, service: None, count };
                let unlist =
                    move |writer: &mut Writer| writer.free(|db, _| Ok(producers::unlist(db, &of)?));
                storage.writer.run(unlist).await.unwrap();
            }
        }
    }
    let sums = storage.producer_totals(&tenant(), None).await.unwrap();
    let stored: u64 = sums.iter().map(|of| of.stored).sum();
    assert_eq!(stored, 2 * seen.len() as u64);
    let producers: std::collections::BTreeSet<u8> = seen.iter().map(|(by, _)| *by).collect();
    assert_eq!(sums.iter().map(|of| of.producers).sum::<u64>(), producers.len() as u64);
    assert_eq!(search_all(&storage, &tenant(), "", 1_000).await.len(), 2 * seen.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_batch_is_stored_and_counted_once(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(check(&TempDir::new().unwrap(), steps));
    }
}
