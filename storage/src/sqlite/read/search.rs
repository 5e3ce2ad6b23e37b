//! Finding logs: walks the blocks by time, passes over those that cannot hold a match, and stops as
//! soon as no block left can improve the page, or its limits are met. Holds a page of logs and one
//! block at most. A snapshot that gets old is let go; the walk then goes on, in a new one, from the
//! time that it has come to, so that blocks may be merged meanwhile.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use logweir_core::{
    filter::{CompiledFilter, Expression, Filter, Required, Term, TextField},
    identity::{LogId, Service, Tenant},
    record::StoredLog,
    timestamp::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};

use super::readers::Caller;
use crate::sqlite::read::rows;
use crate::sqlite::{
    blocks::ANOMALY_BIT,
    errors::Fault,
    ids::{find_service, find_tenant},
    template_aliases,
};
use crate::{
    LogWithNeighbours, StorageError,
    block::{self, Block, BlockError, Window},
    query::{Order, SearchLimits, SearchPage, SearchQuery, TimeRange},
    template_aliases::of_logs,
};

/// A page of matches in the order given.
pub(crate) fn search(
    db: &Connection,
    caller: &Caller,
    tenant: &Tenant,
    query: SearchQuery,
    order: Order,
) -> Result<SearchPage, Fault> {
    let mut walk = Walk::new(tenant.clone(), query, order);
    loop {
        if let Some(page) = walk.go_on(db, caller)? {
            return Ok(page);
        }
    }
}

/// A search on its way, between one snapshot and the next.
pub(crate) struct Walk {
    tenant: Tenant,
    filter: Filter,
    way: Way,
}

impl Walk {
    pub(crate) fn new(tenant: Tenant, query: SearchQuery, order: Order) -> Self {
        let page = Page::new(order, &query);
        let mut range = query.range;
        page.narrow_to_cursor(&mut range);
        let (seen, limits) = (HashSet::new(), query.limits);
        let way = Way { range, page, seen, has_moved: false, limits, left: limits };
        Self { tenant, filter: query.filter, way }
    }

    /// Goes on in one snapshot until that is old; the page, once it is final.
    pub(crate) fn go_on(
        &mut self,
        db: &Connection,
        caller: &Caller,
    ) -> Result<Option<SearchPage>, Fault> {
        let expanded = template_aliases::expanded(db, &self.tenant, &self.filter)?;
        let filter = CompiledFilter::from(expanded.unwrap_or_else(|| self.filter.clone()));
        let required = filter.filter().required();
        let scope = Scope { tenant: &self.tenant, filter: &filter, required: &required };
        let reached = self.way.step(db, caller, &scope)?;
        if reached.is_some() && !self.way.left.are_met_after(Duration::ZERO) {
            return Ok(None);
        }
        let mut page = self.way.page.finish(reached);
        template_aliases::show(db, &self.tenant, &of_logs(&page.logs), &mut page.logs)?;
        Ok(Some(page))
    }
}

/// One log with those around it.
pub(crate) fn get(
    db: &Connection,
    caller: &Caller,
    tenant: &Tenant,
    id: LogId,
    neighbours: usize,
) -> Result<LogWithNeighbours, Fault> {
    let found = find(db, tenant, id)?;
    let mut log = found.ok_or_else(|| StorageError::NotFound(format!("log {id}")))?;
    template_aliases::show(db, tenant, &of_logs([&log]), [&mut log])?;
    if neighbours == 0 {
        return Ok(LogWithNeighbours { log, before: Vec::new(), after: Vec::new() });
    }
    let service = Term::Text(TextField::Service, log.service.to_string());
    let around = SearchQuery {
        filter: Filter { expression: Expression::Term(service) },
        range: TimeRange::ALL,
        cursor: Some(id),
        page_size: neighbours,
        limits: SearchLimits::NONE,
    };
    let mut before = search(db, caller, tenant, around.clone(), Order::NewestFirst)?.logs;
    before.reverse();
    let after = search(db, caller, tenant, around, Order::OldestFirst)?.logs;
    Ok(LogWithNeighbours { log, before, after })
}

/// The log with this id; none if the tenant has none such.
// An id holds its time, so that no index over logs is needed: few blocks cover one moment.
fn find(db: &Connection, tenant: &Tenant, id: LogId) -> Result<Option<StoredLog>, Fault> {
    let snapshot = db.unchecked_transaction()?;
    let Some(tenant_id) = find_tenant(&snapshot, tenant)? else { return Ok(None) };
    let mut select = snapshot.prepare_cached(
        "SELECT block_id FROM blocks WHERE tenant_id = ?1
           AND time_max_unix_nano >= ?2 AND time_min_unix_nano <= ?2",
    )?;
    let mut candidates = select.query(params![tenant_id, id.time.as_unix_nanos()])?;
    while let Some(candidate) = candidates.next()? {
        let found = with_body(&snapshot, candidate.get(0)?, |block| {
            block.find(id)?.map(|row| block.log(row)).transpose()
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The matches found so far: the best `size` and one more, which tells that there are more.
struct Page {
    order: Order,
    size: usize,
    cursor: Option<LogId>,
    best: BTreeMap<LogId, StoredLog>,
}

impl Page {
    fn new(order: Order, query: &SearchQuery) -> Self {
        Self { order, size: query.page_size.max(1), cursor: query.cursor, best: BTreeMap::new() }
    }

    fn narrow_to_cursor(&self, range: &mut TimeRange) {
        if let Some(cursor) = self.cursor {
            self.order.narrow(range, cursor);
        }
    }

    /// The worst of the matches, if there are enough of them: only better ones count from now on.
    fn bar(&self) -> Option<LogId> {
        let worst = match self.order {
            Order::NewestFirst => self.best.first_key_value(),
            Order::OldestFirst => self.best.last_key_value(),
        };
        worst.map(|(id, _)| *id).filter(|_| self.best.len() > self.size)
    }

    /// Whether blocks whose nearest time is this, and all after them, have nothing for the page.
    fn is_settled_before(&self, nearest: Timestamp) -> bool {
        // Strictly: a block that begins at the very time of the worst match may have a better id.
        self.bar().is_some_and(|bar| match self.order {
            Order::NewestFirst => nearest < bar.time,
            Order::OldestFirst => nearest > bar.time,
        })
    }

    fn window(&self, range: TimeRange) -> Window {
        match self.order {
            Order::NewestFirst => Window { range, after: self.bar(), before: self.cursor },
            Order::OldestFirst => Window { range, after: self.cursor, before: self.bar() },
        }
    }

    /// Takes in the matches of a block.
    fn take(
        &mut self,
        block: &Block<'_>,
        filter: &CompiledFilter,
        range: TimeRange,
        caller: &Caller,
    ) -> Result<(), BlockError> {
        let rows = block.matching(filter, &self.window(range), &|| !caller.is_gone())?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            found.push((block.id(row)?, row));
        }
        // Best first, so that putting logs together, which is what costs, ends at the first that is
        // worse than a full page.
        found.sort_unstable();
        if self.order == Order::NewestFirst {
            found.reverse();
        }
        for (id, row) in found {
            let is_worse = |bar: LogId| match self.order {
                Order::NewestFirst => id < bar,
                Order::OldestFirst => id > bar,
            };
            if self.bar().is_some_and(is_worse) {
                break;
            }
            self.best.insert(id, block.log(row)?);
            if self.best.len() > self.size + 1 {
                match self.order {
                    Order::NewestFirst => self.best.pop_first(),
                    Order::OldestFirst => self.best.pop_last(),
                };
            }
        }
        Ok(())
    }

    /// The page; of a walk that did not come to its end, up to where it came.
    fn finish(&mut self, reached: Option<Timestamp>) -> SearchPage {
        if let Some(reached) = reached {
            self.forget_beyond(reached);
        }
        let has_more = self.best.len() > self.size;
        let mut logs: Vec<StoredLog> = std::mem::take(&mut self.best).into_values().collect();
        if self.order == Order::NewestFirst {
            logs.reverse();
        }
        logs.truncate(self.size);
        let next = logs.last().map(|log| log.id).filter(|_| has_more);
        let going_on = reached.map(|reached| self.order.cursor_before(reached));
        SearchPage {
            logs,
            is_partial: next.is_none() && reached.is_some(),
            next: next.or(going_on),
        }
    }

    /// Drops the matches that are not final.
    fn forget_beyond(&mut self, reached: Timestamp) {
        // Blocks come by their nearest time, so all that lies on this side of `reached` is final:
        // blocks that the walk has not come to have no log there.
        match self.order {
            Order::NewestFirst => self.best.retain(|id, _| id.time > reached),
            Order::OldestFirst => self.best.retain(|id, _| id.time < reached),
        }
    }
}

/// What is searched for, and whose.
struct Scope<'a> {
    tenant: &'a Tenant,
    filter: &'a CompiledFilter,
    required: &'a Required<'a>,
}

impl Scope<'_> {
    /// Whether a block with this content mask may hold a match.
    fn allows(&self, content_mask: u8) -> bool {
        let anomalies = content_mask & ANOMALY_BIT != 0 || self.required.anomaly != Some(true);
        anomalies && content_mask & self.required.level_mask != 0
    }
}

/// How far a search has come.
struct Way {
    /// What is still to be walked.
    range: TimeRange,
    page: Page,
    /// Blocks that are done with. In the next snapshot one of them may be part of a merged block;
    /// what that has again is the same match and not another.
    seen: HashSet<i64>,
    /// Whether it has left the place where it began.
    has_moved: bool,
    limits: SearchLimits,
    /// What the search may still take.
    left: SearchLimits,
}

impl Way {
    /// Walks within one snapshot. Returns the time to go on from, or nothing if the page is done.
    fn step(
        &mut self,
        db: &Connection,
        caller: &Caller,
        scope: &Scope<'_>,
    ) -> Result<Option<Timestamp>, Fault> {
        // What every match must have, so that a filter that names a time, a service or a level
        // leads the walk as well as the query's own range does.
        let (from, to) = scope.required.time;
        self.range = TimeRange { from: self.range.from.max(from), to: self.range.to.min(to) };
        let (started, mut uncounted) = (Instant::now(), Duration::ZERO);
        let snapshot = db.unchecked_transaction()?;
        let Some((sql, scope_id)) = walk(&snapshot, scope, self.page.order)? else {
            return Ok(None);
        };
        let mut select = snapshot.prepare_cached(sql)?;
        let (from, to) = (self.range.from.as_unix_nanos(), self.range.to.as_unix_nanos());
        let mut candidates = select.query(params![scope_id, from, to])?;
        while let Some(candidate) = candidates.next()? {
            let nearest = rows::timestamp(candidate, 1)?;
            if self.page.is_settled_before(nearest) || caller.is_gone() {
                break;
            }
            let work = started.elapsed();
            let moves = self.has_moved_to(nearest);
            if moves && !std::mem::replace(&mut self.has_moved, true) {
                // Blocks that reach beyond where it began are passed with each page. What they took
                // does not count, or a page might get on by one block only.
                (self.left, uncounted) = (self.limits, work);
            }
            let counted = work - uncounted;
            let is_to_stop = caller.is_to_pause(work) || self.left.are_met_after(counted);
            if is_to_stop && moves {
                self.left.work = self.left.work.saturating_sub(counted);
                self.page.order.narrow(&mut self.range, self.page.order.cursor_before(nearest));
                return Ok(Some(nearest));
            }
            let (block_id, content_mask) = (candidate.get(0)?, candidate.get(2)?);
            if self.seen.insert(block_id) && scope.allows(content_mask) {
                self.look_into(&snapshot, block_id, caller, scope)?;
            }
        }
        Ok(None)
    }

    /// Whether the walk has moved: from where it began it would make the same step for ever.
    fn has_moved_to(&self, nearest: Timestamp) -> bool {
        match self.page.order {
            Order::NewestFirst => nearest.next() < self.range.to,
            Order::OldestFirst => nearest > self.range.from,
        }
    }

    fn look_into(
        &mut self,
        db: &Connection,
        block_id: i64,
        caller: &Caller,
        scope: &Scope<'_>,
    ) -> Result<(), Fault> {
        // Cheapest first: the word filter is a kilobyte or a few, the body tens of them.
        if !may_match(db, block_id, scope.filter.filter())? {
            return Ok(());
        }
        with_body(db, block_id, |block| {
            self.left.bytes = self.left.bytes.saturating_sub(block.byte_count());
            self.page.take(block, scope.filter, self.range, caller)
        })
    }
}

/// Blocks that may hold a match, in the order of the walk: id, nearest time, content mask.
// Each is answered by one index alone (`blocks_newest` and so on hold all of these columns) and
// comes sorted from it, so that a walk that stops after three blocks has looked at three entries.
const NEWEST_BLOCKS: &str = "SELECT block_id, time_max_unix_nano, content_mask FROM blocks
    WHERE tenant_id = ?1 AND time_max_unix_nano >= ?2 AND time_min_unix_nano < ?3
    ORDER BY time_max_unix_nano DESC";
const OLDEST_BLOCKS: &str = "SELECT block_id, time_min_unix_nano, content_mask FROM blocks
    WHERE tenant_id = ?1 AND time_max_unix_nano >= ?2 AND time_min_unix_nano < ?3
    ORDER BY time_min_unix_nano";
const NEWEST_OF_SERVICE: &str =
    "SELECT block_id, time_max_unix_nano, content_mask FROM block_services
    WHERE service_id = ?1 AND time_max_unix_nano >= ?2 AND time_min_unix_nano < ?3
    ORDER BY time_max_unix_nano DESC";
const OLDEST_OF_SERVICE: &str =
    "SELECT block_id, time_min_unix_nano, content_mask FROM block_services
    WHERE service_id = ?1 AND time_max_unix_nano >= ?2 AND time_min_unix_nano < ?3
    ORDER BY time_min_unix_nano";

/// The statement that lists candidates and its first parameter; nothing if there can be none.
fn walk(
    db: &Connection,
    scope: &Scope<'_>,
    order: Order,
) -> Result<Option<(&'static str, i64)>, Fault> {
    let Some(tenant_id) = find_tenant(db, scope.tenant)? else { return Ok(None) };
    let Some(name) = scope.required.service else {
        let sql = if order == Order::NewestFirst { NEWEST_BLOCKS } else { OLDEST_BLOCKS };
        return Ok(Some((sql, tenant_id)));
    };
    // A filter may ask for any text; what cannot be a service's name has no logs.
    let Ok(service) = Service::new(name) else { return Ok(None) };
    let sql = if order == Order::NewestFirst { NEWEST_OF_SERVICE } else { OLDEST_OF_SERVICE };
    Ok(find_service(db, tenant_id, &service)?.map(|service_id| (sql, service_id)))
}

fn may_match(db: &Connection, block_id: i64, filter: &Filter) -> Result<bool, Fault> {
    let mut select = db.prepare_cached("SELECT words FROM block_words WHERE block_id = ?1")?;
    let words = |row: &rusqlite::Row<'_>| Ok(block::may_match(row.get_ref(0)?.as_blob()?, filter));
    let found = select.query_row([block_id], words).optional()?;
    found.ok_or_else(|| Fault::corrupt(format!("block {block_id} has no word filter")))
}

/// Opens a block and reads in it; the body is not copied out of SQLite's memory.
pub(crate) fn with_body<T>(
    db: &Connection,
    block_id: i64,
    read: impl FnOnce(&Block<'_>) -> Result<T, BlockError>,
) -> Result<T, Fault> {
    let mut select = db.prepare_cached("SELECT body FROM block_bodies WHERE block_id = ?1")?;
    let mut rows = select.query([block_id])?;
    let damaged =
        |error: &dyn std::fmt::Display| Fault::corrupt(format!("block {block_id}: {error}"));
    let row = rows.next()?.ok_or_else(|| damaged(&"it has no body"))?;
    let body = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
    let block = Block::open(body).map_err(|error| damaged(&error))?;
    read(&block).map_err(|error| damaged(&error))
}
