//! Patterns that were merged: what is stored stays, what is shown is the merged pattern.

use std::{sync::Arc, time::Duration};

use logweir_core::{identity::TemplateId, record::Template, timestamp::Timestamp};

use super::{
    NOW, StorageUnderTest,
    sample::{HOUR, empty_batch, push, query, store, tenant},
};
use crate::{AggregateQuery, GroupBy, Storage, query::TimeRange};

const MERGER: TemplateId = TemplateId(u64::MAX - 7);
const WIDER: TemplateId = TemplateId(5);
const WIDEST: TemplateId = TemplateId(6);

pub(super) async fn merged_patterns_are_shown_as_one(test: &impl StorageUnderTest) {
    let storage = test.open().await;
    let mut written = empty_batch(1, "payments");
    (0..60).for_each(|index| push(&mut written, index, NOW - Duration::from_nanos(index.into())));
    let mut others = empty_batch(2, "users");
    (0..6).for_each(|index| push(&mut others, index, NOW - Duration::from_nanos(index.into())));
    let mut templates: Vec<Template> =
        written.templates.values().map(|template| (**template).clone()).collect();
    templates.sort_by_key(|template| template.template_id);
    store(&*storage, &[written, others]).await;
    let all = shown(&*storage, "service:payments").await;
    let [first, second, kept, ..] = &templates[..] else { panic!("{templates:?}") };
    let of = |id: TemplateId| all.iter().filter(|shown| **shown == id).count();
    let merged = of(first.template_id) + of(second.template_id);

    let merger = |id, pattern: &str| Template {
        template_id: id,
        pattern: pattern.into(),
        is_merger: true,
        ..first.clone()
    };
    let into = |template: &Template, id| Template { merged_into: Some(id), ..template.clone() };
    let narrow = merger(MERGER, "payments <*>");
    save(&*storage, [into(first, MERGER), narrow.clone(), into(second, MERGER)]).await;
    for id in [first.template_id, second.template_id, MERGER] {
        assert_eq!(shown(&*storage, &format!("template:{id}")).await, vec![MERGER; merged]);
    }
    let rest = shown(&*storage, &format!("-template:{MERGER} service:payments")).await;
    assert_eq!((rest.len(), rest.contains(&MERGER)), (60 - merged, false));
    counts_are_of(&*storage, MERGER, "payments <*>", merged as u64).await;

    // The merged pattern is outgrown, and takes those along that were merged into it.
    let wider = merger(WIDER, "<*>");
    save(&*storage, [wider, into(&narrow, WIDER), into(kept, WIDER)]).await;
    let merged = merged + of(kept.template_id);
    for id in [first.template_id, kept.template_id, MERGER, WIDER] {
        assert_eq!(shown(&*storage, &format!("template:{id}")).await, vec![WIDER; merged]);
    }
    counts_are_of(&*storage, WIDER, "<*>", merged as u64).await;
    nothing_leads_in_a_circle(&*storage, &narrow, merged).await;
    let all_merged = [first, second, &narrow, kept];
    an_old_end_is_gone_whatever_the_order(&*storage, all_merged, merged).await;
    a_log_is_shown_with_the_merged_pattern(&*storage).await;
    what_is_loaded_is_what_was_saved(&*storage, first, kept).await;
}

/// One that knows less says the opposite.
async fn nothing_leads_in_a_circle(storage: &dyn Storage, narrow: &Template, merged: usize) {
    let wider = Template { template_id: WIDER, pattern: "<*>".into(), ..narrow.clone() };
    save(storage, [Template { merged_into: Some(MERGER), ..wider.clone() }]).await;
    let found = shown(storage, &format!("template:{WIDER}")).await;
    assert_eq!(found.len(), merged);
    assert!(found.iter().all(|id| *id == found[0]));
    save(storage, [wider, Template { merged_into: Some(WIDER), ..narrow.clone() }]).await;
    assert_eq!(shown(storage, &format!("template:{MERGER}")).await, vec![WIDER; merged]);
}

/// What was led on is led on no more, though what is merged into it is told first.
async fn an_old_end_is_gone_whatever_the_order(
    storage: &dyn Storage,
    templates: [&Template; 4],
    merged: usize,
) {
    let [first, second, narrow, kept] = templates;
    let wider = Template { template_id: WIDER, pattern: "<*>".into(), ..narrow.clone() };
    let widest = Template { template_id: WIDEST, pattern: "<*> <*>".into(), ..narrow.clone() };
    save(storage, [widest, Template { merged_into: Some(WIDEST), ..wider.clone() }]).await;
    assert_eq!(shown(storage, &format!("template:{WIDER}")).await, vec![WIDEST; merged]);
    let into_wider = |of: &Template| Template { merged_into: Some(WIDER), ..of.clone() };
    let [first, second, narrow, kept] = [first, second, narrow, kept].map(into_wider);
    save(storage, [first, second, narrow, kept, wider]).await;
    assert_eq!(shown(storage, &format!("template:{WIDER}")).await, vec![WIDER; merged]);
}

async fn a_log_is_shown_with_the_merged_pattern(storage: &dyn Storage) {
    let page = storage.search(&tenant(), query(&format!("template:{WIDER}"), 1_000)).await.unwrap();
    let found = storage.get(&tenant(), page.logs[0].id, 1).await.unwrap();
    assert_eq!(found.log, page.logs[0]);
    let exported =
        storage.export(&tenant(), query(&format!("template:{WIDER}"), 1_000)).await.unwrap();
    assert!(exported.logs.iter().all(|log| log.scored.template_id == WIDER));
}

async fn what_is_loaded_is_what_was_saved(
    storage: &dyn Storage,
    first: &Template,
    kept: &Template,
) {
    let loaded = storage.load_templates().await.unwrap();
    let find = |id| {
        let (template, count) = loaded.iter().find(|(of, _)| of.template_id == id).unwrap();
        (template.merged_into, template.is_merger, template.pattern.as_str(), *count > 0)
    };
    assert_eq!(find(WIDER), (None, true, "<*>", false));
    assert_eq!(find(MERGER), (Some(WIDER), true, "payments <*>", false));
    assert_eq!(find(first.template_id), (Some(WIDER), false, first.pattern.as_str(), true));
    assert_eq!(find(kept.template_id), (Some(WIDER), false, kept.pattern.as_str(), true));
}

async fn counts_are_of(storage: &dyn Storage, id: TemplateId, pattern: &str, count: u64) {
    let last_hours = TimeRange { from: NOW - 2 * HOUR, to: Timestamp::MAX };
    for range in [TimeRange::ALL, last_hours] {
        let listed = storage.list_templates(&tenant(), None, range, 100).await.unwrap();
        let of_it = listed.iter().find(|summary| summary.template_id == id).unwrap();
        assert_eq!((of_it.pattern.as_str(), of_it.count), (pattern, count));
        assert_eq!(listed.iter().map(|summary| summary.count).sum::<u64>(), 66);
    }
    let by_template = AggregateQuery {
        range: last_hours,
        bucket_seconds: HOUR.as_secs() as u32,
        group_by: GroupBy::Template,
        service: None,
    };
    let end = NOW.floor(HOUR) + HOUR;
    let range = TimeRange { from: end - 3 * HOUR, to: end };
    let by_template = AggregateQuery { range, ..by_template };
    let series = storage.aggregate(&tenant(), by_template).await.unwrap();
    let of_it = series.iter().find(|series| series.group == id.to_string()).unwrap();
    assert_eq!(of_it.points.iter().map(|point| point.total).sum::<u64>(), count);
}

async fn save<const N: usize>(storage: &dyn Storage, templates: [Template; N]) {
    storage.save_templates(templates.into_iter().map(Arc::new).collect()).await.unwrap();
}

/// The patterns of the logs that a filter finds.
async fn shown(storage: &dyn Storage, filter: &str) -> Vec<TemplateId> {
    let page = storage.search(&tenant(), query(filter, 1_000)).await.unwrap();
    page.logs.iter().map(|log| log.scored.template_id).collect()
}
