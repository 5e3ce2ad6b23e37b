//! The templates of one service.
//!
//! A message's id is a hash of its masked text alone. Which ids are one pattern is another
//! question, answered by [`MergeRules`] over all signatures known, whenever enough of them are new.
//! That is
//! *merging*. The ids stay; each gets an alias, the id of the merged pattern. A merged pattern that
//! is itself outgrown gets one too, so that an id once shown leads on for ever.
//!
//! What is learnt of a pattern is kept once for all ids that are one. It is never parted again,
//! even if more signatures should put their patterns apart.
//!
//! Bounded: a pattern keeps [`MEMBERS_MAX`] signatures; what follows it beyond them, or when there
//! is no room for more, gets the merged pattern's id. What follows none that is known gets, when
//! there is no room, a catch-all's; unless room is made, by forgetting the rarest patterns.

use std::{cmp::Reverse, collections::BinaryHeap, mem, sync::Arc};

use logweir_core::{
    identity::{Service, TemplateId, Tenant},
    record::Template,
};

use super::{
    HashedMap, catch_all, glob, is_catch_all, mask, merge::MergeRules, merger_id, pattern_hash,
    service_seed, template_id,
};
use crate::room::Size;

/// Signatures kept of one pattern.
const MEMBERS_MAX: u32 = 1_000;
// A merge looks at all signatures of the service, 70 ms for 9,000 of them (docs/detection.md), on
// the thread that scores. By share, all merges together cost no more than a fixed number of looks
// at each signature, however many there come to be.
/// Patterns are merged anew when one signature in so many is new.
const NEW_SHARE: usize = 16;

/// What is learnt of a pattern.
pub(crate) trait PatternState: Default {
    /// Takes in what was learnt of a pattern that turned out to be the same.
    fn absorb(&mut self, other: Self);

    /// How many logs followed it.
    fn logs(&self) -> u64;
}

/// The templates of one service, the patterns that they belong to by now, and what was learnt of
/// each pattern (`S`).
pub(crate) struct Catalogue<S> {
    tenant: Tenant,
    service: Service,
    seed: u64,
    by_id: HashedMap<u32>,
    known: Vec<KnownSignature>,
    /// How many of `known` are catch-alls.
    catch_alls: usize,
    /// Bytes of the patterns of all `known`.
    bytes: usize,
    learnt: Vec<S>,
    rules: MergeRules,
    /// The patterns, by a hash of their text.
    heads: HashedMap<Head>,
    /// Templates whose ids were made by an earlier mask version.
    outdated: Vec<Outdated>,
    /// Signatures that came since patterns were last merged.
    new: usize,
    /// Whether what was learnt of several patterns became one, and nobody asked yet.
    absorbed: bool,
    /// Templates whose alias storage does not know yet.
    changes: HashedMap<Arc<Template>>,
}

struct KnownSignature {
    template: Arc<Template>,
    /// Where what was learnt of it lies.
    learnt: u32,
    /// The pattern that it belongs to, itself if it is alone.
    head: u32,
}

struct Outdated {
    template: Arc<Template>,
    /// What its pattern is under the present masks.
    successor: u64,
}

#[derive(Clone, Copy)]
struct Head {
    known: u32,
    members: u32,
}

/// Where a message belongs; until the catalogue is asked for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PatternHandle(u32);

/// What is asked of a catalogue.
pub(crate) struct PatternRequest<'a> {
    pub(crate) message: &'a str,
    /// The masked message.
    pub(crate) signature: &'a [u8],
    /// The number of its words.
    pub(crate) words: usize,
    /// Whether a new signature may be kept.
    pub(crate) has_room: bool,
}

impl<S: PatternState> Catalogue<S> {
    pub(crate) fn new(tenant: Tenant, service: Service) -> Self {
        Self {
            seed: service_seed(&tenant, &service),
            tenant,
            service,
            by_id: HashedMap::default(),
            known: Vec::new(),
            catch_alls: 0,
            bytes: 0,
            learnt: Vec::new(),
            rules: MergeRules::default(),
            heads: HashedMap::default(),
            outdated: Vec::new(),
            new: 0,
            absorbed: false,
            changes: HashedMap::default(),
        }
    }

    /// Signatures and merged patterns known.
    pub(crate) fn len(&self) -> usize {
        self.known.len() - self.catch_alls
    }

    /// How many they are, and the bytes of their patterns.
    pub(crate) fn size(&self) -> Size {
        Size { templates: self.len(), bytes: self.bytes }
    }

    /// The place of a message with this signature, if it is known: one look-up.
    #[inline]
    pub(crate) fn find(&self, signature: &[u8]) -> Option<PatternHandle> {
        let id = template_id(self.seed, signature);
        self.by_id.get(&id.0).copied().map(PatternHandle)
    }

    /// The place of a message whose signature is not known.
    pub(crate) fn admit(&mut self, asked: &PatternRequest<'_>) -> PatternHandle {
        let signature = String::from_utf8_lossy(asked.signature).into_owned();
        let hash = pattern_hash(&self.rules.pattern(&signature));
        let head = self.heads.get(&hash).copied();
        // A pattern with so many signatures shows that its words vary: more of them would teach
        // nothing and take memory.
        let is_full = head.is_some_and(|head| head.members >= MEMBERS_MAX);
        if !asked.has_room || is_full {
            return head
                .map_or_else(|| self.catch_all(asked.words), |head| PatternHandle(head.known));
        }
        let id = template_id(self.seed, asked.signature);
        let sharer = match head {
            Some(head) => Some(head.known),
            None => self.successor_of_outdated(asked.message),
        };
        let at = self.insert(id, signature, sharer);
        let head = self.heads.entry(hash).or_insert(Head { known: at, members: 0 });
        head.members += 1;
        let head = head.known;
        self.join(at, head);
        self.new += 1;
        if self.new * NEW_SHARE > self.known.len() {
            self.merge_patterns();
        }
        PatternHandle(self.by_id[&id.0])
    }

    /// Takes over a template from storage. To be followed by [`Self::merge_patterns`].
    pub(crate) fn preload(&mut self, template: Template, learnt: S) {
        let (id, is_merger) = (template.template_id, template.is_merger);
        if self.by_id.contains_key(&id.0) {
            return;
        }
        let expected = if is_merger {
            merger_id(self.seed, &template.pattern)
        } else {
            template_id(self.seed, template.pattern.as_bytes())
        };
        // The id is a hash of the text and the mask version: one that does not fit its text was
        // made by other masks.
        if id != expected {
            return self.preload_outdated(template, learnt);
        }
        let is_catch_all = is_catch_all(&template.pattern);
        self.push(Arc::new(template), learnt);
        self.catch_alls += usize::from(is_catch_all);
        self.new += usize::from(!is_merger && !is_catch_all);
    }

    fn preload_outdated(&mut self, template: Template, learnt: S) {
        let mut signature = Vec::new();
        mask(&template.pattern, &mut signature);
        let successor = template_id(self.seed, &signature);
        match self.by_id.get(&successor.0) {
            Some(&at) => {
                let at = self.known[at as usize].learnt as usize;
                self.learnt[at].absorb(learnt);
            }
            None => {
                let signature = String::from_utf8_lossy(&signature).into_owned();
                let successor = self.template(successor, signature);
                self.changes.insert(successor.template_id.0, Arc::clone(&successor));
                self.push(successor, learnt);
                self.new += 1;
            }
        }
        let template = Arc::new(template);
        self.outdated.push(Outdated { template, successor: successor.0 });
    }

    /// A pattern of an earlier mask version that the message follows is no new one.
    fn successor_of_outdated(&self, message: &str) -> Option<u32> {
        let follows = |old: &&Outdated| glob::captures(&old.template.pattern, message).is_some();
        let old = self.outdated.iter().find(follows)?;
        self.by_id.get(&old.successor).copied()
    }

    fn catch_all(&mut self, words: usize) -> PatternHandle {
        let pattern = catch_all(words);
        let id = template_id(self.seed, pattern.as_bytes());
        // Kept though there is no room: there are only as many as numbers of words.
        let known = self.by_id.get(&id.0).copied();
        PatternHandle(known.unwrap_or_else(|| {
            self.catch_alls += 1;
            self.insert(id, pattern, None)
        }))
    }

    fn insert(&mut self, id: TemplateId, pattern: String, sharer: Option<u32>) -> u32 {
        let template = self.template(id, pattern);
        let Some(sharer) = sharer else { return self.push(template, S::default()) };
        let at = self.known.len() as u32;
        let learnt = self.known[sharer as usize].learnt;
        self.bytes += template.pattern.len();
        self.known.push(KnownSignature { template, learnt, head: at });
        self.by_id.insert(id.0, at);
        at
    }

    fn push(&mut self, template: Arc<Template>, learnt: S) -> u32 {
        let at = self.known.len() as u32;
        self.by_id.insert(template.template_id.0, at);
        self.bytes += template.pattern.len();
        self.known.push(KnownSignature { template, learnt: self.learnt.len() as u32, head: at });
        self.learnt.push(learnt);
        at
    }

    fn template(&self, template_id: TemplateId, pattern: String) -> Arc<Template> {
        let (tenant, service) = (self.tenant.clone(), self.service.clone());
        let (merged_into, is_merger) = (None, false);
        Arc::new(Template { template_id, tenant, service, pattern, merged_into, is_merger })
    }

    /// Makes a template a member of a merged pattern. That of two that are alone comes to be when
    /// they settle.
    fn join(&mut self, at: u32, head: u32) {
        let merger = &self.known[head as usize].template;
        if merger.is_merger {
            let merged_into = Some(merger.template_id);
            let known = &mut self.known[at as usize];
            known.template = Arc::new(Template { merged_into, ..(*known.template).clone() });
            known.head = head;
        }
    }
}

/// Finding out which signatures are one pattern, and leading all earlier ids to it.
impl<S: PatternState> Catalogue<S> {
    /// Finds out anew which signatures are one pattern, if some are new.
    pub(crate) fn merge_patterns(&mut self) {
        if self.new == 0 {
            return;
        }
        self.new = 0;
        let signatures = (0..self.known.len() as u32).filter(|&at| self.is_signature(at));
        let signatures: Vec<u32> = signatures.collect();
        let former = self.members(&signatures);
        let texts = signatures.iter().map(|&at| &*self.known[at as usize].template.pattern);
        let (rules, patterns) = MergeRules::merge_patterns(texts);
        self.rules = rules;
        let mut groups: HashedMap<(String, Vec<u32>)> = HashedMap::default();
        for (at, pattern) in signatures.into_iter().zip(patterns) {
            let group = groups.entry(pattern_hash(&pattern));
            group.or_insert_with(|| (pattern, Vec::new())).1.push(at);
        }
        let mut unions = DisjointSets::new(self.learnt.len());
        self.heads.clear();
        for (hash, (pattern, members)) in groups {
            let head = self.head(pattern, &members);
            for &at in &members {
                unions.unite(self.known[at as usize].learnt, self.known[head as usize].learnt);
                self.set_head(at, head);
            }
            self.heads.insert(hash, Head { known: head, members: members.len() as u32 });
        }
        // In this order: aliases first, from the new to the old, then what was learnt is put
        // together, and only then are the merged patterns dropped that nothing leads to any more.
        self.lead_outgrown_on(&former, &mut unions);
        self.lead_outdated_on();
        self.absorb(unions);
        self.drop_outgrown();
    }

    fn is_signature(&self, at: u32) -> bool {
        let template = &self.known[at as usize].template;
        !template.is_merger && !is_catch_all(&template.pattern)
    }

    /// The template that stands for a group of signatures.
    fn head(&mut self, pattern: String, members: &[u32]) -> u32 {
        let [first, others @ ..] = members else { unreachable!("a group has a member") };
        if others.is_empty() {
            return *first;
        }
        // A hash of the text: the same pattern may be known from an earlier merge, or from storage,
        // where another process has put it.
        let id = merger_id(self.seed, &pattern);
        if let Some(&at) = self.by_id.get(&id.0) {
            return at;
        }
        let at = self.insert(id, pattern, Some(*first));
        let known = &mut self.known[at as usize];
        known.template = Arc::new(Template { is_merger: true, ..(*known.template).clone() });
        self.changes.insert(id.0, Arc::clone(&known.template));
        at
    }

    fn set_head(&mut self, at: u32, head: u32) {
        let head_id = self.known[head as usize].template.template_id;
        let known = &mut self.known[at as usize];
        known.head = head;
        if let Some(changed) = aliased(&known.template, head_id) {
            self.changes.insert(changed.template_id.0, Arc::clone(&changed));
            known.template = changed;
        }
    }

    /// Merged patterns that are a group's no longer become members of what they grew into.
    fn lead_outgrown_on(&mut self, former: &HashedMap<u32>, unions: &mut DisjointSets) {
        for at in 0..self.known.len() as u32 {
            let KnownSignature { template, learnt, .. } = &self.known[at as usize];
            if !template.is_merger {
                continue;
            }
            let of = |pattern: &str| self.heads.get(&pattern_hash(pattern)).map(|head| head.known);
            let head = of(&template.pattern)
                .or_else(|| of(&self.rules.pattern(&template.pattern)))
                .or_else(|| Some(self.known[*former.get(&template.template_id.0)? as usize].head));
            if let Some(head) = head {
                unions.unite(*learnt, self.known[head as usize].learnt);
                self.set_head(at, head);
            }
        }
    }

    /// Of each merged pattern, the signature with the lowest id that belongs to it.
    fn members(&self, signatures: &[u32]) -> HashedMap<u32> {
        let mut members: HashedMap<u32> = HashedMap::default();
        let id = |at: u32| self.known[at as usize].template.template_id;
        for &at in signatures {
            if let Some(merger) = self.known[at as usize].template.merged_into {
                let member = members.entry(merger.0).or_insert(at);
                if id(at) < id(*member) {
                    *member = at;
                }
            }
        }
        members
    }

    fn lead_outdated_on(&mut self) {
        for outdated in &mut self.outdated {
            let Some(&at) = self.by_id.get(&outdated.successor) else { continue };
            let head = self.known[at as usize].head;
            let head_id = self.known[head as usize].template.template_id;
            if let Some(changed) = aliased(&outdated.template, head_id) {
                self.changes.insert(changed.template_id.0, Arc::clone(&changed));
                outdated.template = changed;
            }
        }
    }

    /// Puts together what was learnt of patterns that are one.
    fn absorb(&mut self, mut unions: DisjointSets) {
        let mut moved_to = vec![u32::MAX; self.learnt.len()];
        let mut kept: Vec<S> = Vec::with_capacity(self.learnt.len());
        for (at, learnt) in mem::take(&mut self.learnt).into_iter().enumerate() {
            let root = unions.root(at as u32) as usize;
            if moved_to[root] == u32::MAX {
                moved_to[root] = kept.len() as u32;
                kept.push(learnt);
            } else {
                kept[moved_to[root] as usize].absorb(learnt);
                self.absorbed = true;
            }
            moved_to[at] = moved_to[root];
        }
        self.learnt = kept;
        for known in &mut self.known {
            known.learnt = moved_to[known.learnt as usize];
        }
    }

    /// Forgets merged patterns that lead on to others: storage knows where.
    fn drop_outgrown(&mut self) {
        let is_outgrown = |known: &KnownSignature| {
            known.template.is_merger && known.template.merged_into.is_some()
        };
        if !self.known.iter().any(is_outgrown) {
            return;
        }
        self.retain(|known| !is_outgrown(known));
    }

    /// Drops templates.
    fn retain(&mut self, is_kept: impl Fn(&KnownSignature) -> bool) {
        // What is dropped shifts all places behind it. That is why a handle holds only until the
        // catalogue is asked for another.
        let mut moved_to = Vec::with_capacity(self.known.len());
        let mut kept = 0;
        for known in &self.known {
            moved_to.push(kept);
            let is_kept = is_kept(known);
            kept += u32::from(is_kept);
            self.bytes -= if is_kept { 0 } else { known.template.pattern.len() };
        }
        self.by_id.retain(|_, at| is_kept(&self.known[*at as usize]));
        self.by_id.values_mut().for_each(|at| *at = moved_to[*at as usize]);
        self.heads.retain(|_, head| is_kept(&self.known[head.known as usize]));
        self.heads.values_mut().for_each(|head| head.known = moved_to[head.known as usize]);
        self.known.retain(is_kept);
        let last = kept.saturating_sub(1);
        for known in &mut self.known {
            known.head = moved_to[known.head as usize].min(last);
        }
    }
}

/// Making room.
impl<S: PatternState> Catalogue<S> {
    /// Whether a message with this signature follows a merged pattern, which takes it in without
    /// room.
    pub(crate) fn follows_known(&self, signature: &[u8]) -> bool {
        let signature = String::from_utf8_lossy(signature);
        self.heads.contains_key(&pattern_hash(&self.rules.pattern(&signature)))
    }

    /// Whether a pattern was followed by no more than one log.
    pub(crate) fn has_one_off(&self) -> bool {
        self.known.iter().any(|known| {
            !is_catch_all(&known.template.pattern) && self.learnt[known.learnt as usize].logs() <= 1
        })
    }

    /// Forgets the rarest patterns, of equally rare ones the oldest, until at least so many
    /// templates with so many bytes are gone; returns what was learnt of them. All that is one
    /// pattern goes together. An id is a hash: a message that comes again gets the same, and what
    /// is stored under it is its own still.
    pub(crate) fn forget_rarest(&mut self, templates: usize, bytes: usize) -> Vec<S> {
        let mut rarest = self.by_rarity();
        let mut sizes = vec![(0, 0); self.learnt.len()];
        for known in &self.known {
            let (templates, bytes) = &mut sizes[known.learnt as usize];
            *templates += 1;
            *bytes += known.template.pattern.len();
        }
        let mut is_gone = vec![false; self.learnt.len()];
        let mut gone = (0, 0);
        while gone.0 < templates || gone.1 < bytes {
            let Some(Reverse((_, at))) = rarest.pop() else { break };
            is_gone[at as usize] = true;
            let (templates, bytes) = sizes[at as usize];
            gone = (gone.0 + templates, gone.1 + bytes);
        }
        self.retain(|known| !is_gone[known.learnt as usize]);
        self.take_learnt(&is_gone)
    }

    /// Where what was learnt of each pattern lies, with how many logs followed it, the rarest on
    /// top. Catch-alls are none of them.
    fn by_rarity(&self) -> BinaryHeap<Reverse<(u64, u32)>> {
        let mut is_pattern = vec![false; self.learnt.len()];
        for known in &self.known {
            is_pattern[known.learnt as usize] |= !is_catch_all(&known.template.pattern);
        }
        let learnt = (0..).zip(&self.learnt).filter(|&(at, _)| is_pattern[at as usize]);
        learnt.map(|(at, learnt)| Reverse((learnt.logs(), at))).collect()
    }

    /// Takes out what was learnt of patterns whose templates are dropped.
    fn take_learnt(&mut self, is_gone: &[bool]) -> Vec<S> {
        let mut moved_to = Vec::with_capacity(self.learnt.len());
        let (mut kept, mut gone) = (Vec::with_capacity(self.learnt.len()), Vec::new());
        for (learnt, &is_gone) in mem::take(&mut self.learnt).into_iter().zip(is_gone) {
            moved_to.push(kept.len() as u32);
            if is_gone { gone.push(learnt) } else { kept.push(learnt) }
        }
        self.learnt = kept;
        for known in &mut self.known {
            known.learnt = moved_to[known.learnt as usize];
        }
        gone
    }
}

/// Looking up what is known of a message, a pattern, or all of them.
impl<S> Catalogue<S> {
    /// The template whose id the message has for ever.
    pub(crate) fn template_of(&self, place: PatternHandle) -> &Arc<Template> {
        &self.known[place.0 as usize].template
    }

    /// Whether it is no pattern's, for lack of room.
    pub(crate) fn is_catch_all(&self, place: PatternHandle) -> bool {
        is_catch_all(&self.template_of(place).pattern)
    }

    /// The pattern that it belongs to by now, and what was learnt of it.
    pub(crate) fn learnt(&mut self, place: PatternHandle) -> (&str, &mut S) {
        let KnownSignature { learnt, head, .. } = self.known[place.0 as usize];
        let pattern = &self.known[head as usize].template.pattern;
        (pattern, &mut self.learnt[learnt as usize])
    }

    /// The pattern that an id belongs to by now.
    pub(crate) fn pattern(&self, template_id: TemplateId) -> Option<&str> {
        let &at = self.by_id.get(&template_id.0)?;
        let head = self.known[at as usize].head;
        Some(&self.known[head as usize].template.pattern)
    }

    /// What was learnt of all patterns.
    pub(crate) fn all_learnt(&mut self) -> impl Iterator<Item = &mut S> {
        self.learnt.iter_mut()
    }

    /// Whether what was learnt of several patterns became one since this was last asked.
    pub(crate) fn take_absorbed(&mut self) -> bool {
        mem::take(&mut self.absorbed)
    }

    /// Moves the templates whose alias storage does not know yet.
    pub(crate) fn take_changes(&mut self, into: &mut Vec<Arc<Template>>) {
        into.extend(mem::take(&mut self.changes).into_values());
    }
}

/// The template with this alias, if that is a change. One that stands for itself has none.
fn aliased(template: &Arc<Template>, head: TemplateId) -> Option<Arc<Template>> {
    let merged_into = Some(head).filter(|&head| head != template.template_id);
    let changed = || Arc::new(Template { merged_into, ..(**template).clone() });
    (template.merged_into != merged_into).then(changed)
}

/// Sets that can be united.
struct DisjointSets(Vec<u32>);

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self((0..count as u32).collect())
    }

    fn root(&mut self, mut at: u32) -> u32 {
        // Each step halves the path for those that come later (Tarjan and van Leeuwen, 1984).
        while self.0[at as usize] != at {
            let above = self.0[self.0[at as usize] as usize];
            self.0[at as usize] = above;
            at = above;
        }
        at
    }

    fn unite(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        // The older one stays: what it has learnt is more, and the outcome does not depend on which
        // pair was united first.
        self.0[a.max(b) as usize] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default)]
    struct Count(u64);

    impl PatternState for Count {
        fn absorb(&mut self, other: Self) {
            self.0 += other.0;
        }

        fn logs(&self) -> u64 {
            self.0
        }
    }

    struct Bench {
        catalogue: Catalogue<Count>,
        stored: BTreeMap<u64, Arc<Template>>,
    }

    impl Bench {
        fn new() -> Self {
            let (tenant, service) = (Tenant::default(), Service::new("payments").unwrap());
            Self { catalogue: Catalogue::new(tenant, service), stored: BTreeMap::new() }
        }

        /// One that starts from what is stored.
        fn restarted(stored: &BTreeMap<u64, Arc<Template>>) -> Self {
            let mut bench = Self { stored: stored.clone(), ..Self::new() };
            for template in stored.values() {
                bench.catalogue.preload((**template).clone(), Count(1));
            }
            bench.merge_patterns();
            bench
        }

        fn log(&mut self, message: &str) -> Arc<Template> {
            self.log_with(message, true)
        }

        fn log_with(&mut self, message: &str, has_room: bool) -> Arc<Template> {
            let mut signature = Vec::new();
            let words = mask(message, &mut signature);
            let asked = PatternRequest { message, signature: &signature, words, has_room };
            let found = self.catalogue.find(&signature);
            let place = found.unwrap_or_else(|| self.catalogue.admit(&asked));
            self.catalogue.learnt(place).1.0 += 1;
            let template = Arc::clone(self.catalogue.template_of(place));
            self.stored.entry(template.template_id.0).or_insert_with(|| Arc::clone(&template));
            self.store();
            template
        }

        /// As storage does.
        fn store(&mut self) {
            let mut changes = Vec::new();
            self.catalogue.take_changes(&mut changes);
            self.stored.extend(changes.into_iter().map(|of| (of.template_id.0, of)));
        }

        fn merge_patterns(&mut self) {
            self.catalogue.merge_patterns();
            self.store();
        }

        /// What a reader is shown for an id.
        fn shown(&self, template: &Template) -> String {
            let mut template = &self.stored[&template.template_id.0];
            for _ in 0..10 {
                let Some(id) = template.merged_into else { return template.pattern.clone() };
                template = &self.stored[&id.0];
            }
            panic!("aliases lead in a circle")
        }

        fn counts(&mut self) -> BTreeSet<u64> {
            self.catalogue.all_learnt().map(|count| count.0).collect()
        }
    }

    #[test]
    fn ids_stay_and_lead_to_the_merged_pattern() {
        let mut bench = Bench::new();
        let names = ["ann", "bob", "cid", "dan", "eve"];
        let messages = names.map(|name| format!("user {name} has left"));
        let ids = messages.each_ref().map(|message| bench.log(message).template_id);
        let again = messages.each_ref().map(|message| bench.log(message));
        assert_eq!(again.each_ref().map(|template| template.template_id), ids);
        for template in &again {
            assert_eq!(bench.shown(template), "user <*> has left");
        }
        assert_eq!(bench.counts(), [10].into());
    }

    #[test]
    fn what_follows_a_merged_pattern_is_nothing_new() {
        let mut bench = Bench::new();
        for name in ["ann", "bob", "cid", "dan"] {
            bench.log(&format!("user {name} has left"));
        }
        let zoe = bench.log("user zoe has left");
        assert!(zoe.merged_into.is_some() && zoe.pattern == "user zoe has left");
        assert_eq!(bench.counts(), [5].into());
    }

    #[test]
    fn an_outgrown_pattern_leads_on() {
        let mut bench = Bench::new();
        let (names, ways) = (["ann", "bob", "cid", "dan"], ["left", "come", "paid", "sold"]);
        let mut log =
            |way: &str| names.map(|name| bench.log(&format!("user {name} has just {way}")));
        let narrow = log(ways[0])[0].merged_into;
        ways[1..].iter().for_each(|way| drop(log(way)));
        let narrow = Arc::clone(
            &bench.stored[&narrow
                .unwrap_or_else(|| {
                    bench
                        .stored
                        .values()
                        .find(|of| of.pattern == "user <*> has just left")
                        .unwrap()
                        .template_id
                })
                .0],
        );
        assert_eq!(bench.shown(&narrow), "user <*> has just <*>");
        assert_eq!(bench.counts(), [16].into());
    }

    #[test]
    fn without_room_a_message_joins_what_it_follows_or_the_catch_all() {
        let mut bench = Bench::new();
        for name in ["ann", "bob", "cid", "dan"] {
            bench.log(&format!("user {name} has left"));
        }
        let known = bench.catalogue.len();
        assert_eq!(bench.log_with("user zoe has left", false).pattern, "user <*> has left");
        assert_eq!(bench.log_with("something else", false).pattern, "<other: 2 words>");
        assert_eq!(bench.catalogue.len(), known);
        assert_eq!(bench.log_with("user ann has left", false).pattern, "user ann has left");
    }

    #[test]
    fn a_pattern_keeps_a_bounded_number_of_signatures() {
        let mut bench = Bench::new();
        let word = |n: u32| -> String {
            (0..4).map(|digit| char::from(b'a' + (n / 26_u32.pow(digit) % 26) as u8)).collect()
        };
        for n in 0..3_000 {
            bench.log(&format!("user {} has left", word(n)));
        }
        assert!(bench.catalogue.len() <= MEMBERS_MAX as usize + 5, "{}", bench.catalogue.len());
        assert_eq!(bench.counts(), [3_000].into());
    }

    #[test]
    fn the_rarest_are_forgotten_first_and_come_back_under_their_ids() {
        let mut bench = Bench::new();
        for name in ["ann", "bob", "cid", "dan"] {
            bench.log(&format!("user {name} has left"));
        }
        let [old, often, young] = ["disk is full", "no route to host", "a b"].map(|message| {
            bench.log(message);
            bench.log(message).template_id
        });
        bench.log("no route to host");
        bench.log_with("nobody has room for this", false);
        bench.catalogue.forget_rarest(1, 0);
        let is_known = |bench: &Bench, id: TemplateId| bench.catalogue.pattern(id).is_some();
        assert_eq!([old, young, often].map(|id| is_known(&bench, id)), [false, true, true]);
        let len = bench.catalogue.len();
        bench.catalogue.forget_rarest(2, 0);
        assert_eq!([young, often].map(|id| is_known(&bench, id)), [false; 2]);
        assert_eq!(bench.catalogue.len(), len - 2);
        assert!(bench.log("user zoe has left").merged_into.is_some());
        assert_eq!(bench.log("disk is full").template_id, old);
        bench.catalogue.forget_rarest(usize::MAX, 0);
        assert_eq!((bench.catalogue.len(), bench.catalogue.heads.len()), (0, 0));
        assert_eq!(bench.log_with("nobody has room for this", false).pattern, "<other: 5 words>");
        assert_eq!(bench.counts(), [2].into());
    }

    #[test]
    fn a_restart_finds_the_same_and_has_nothing_to_say() {
        let mut bench = Bench::new();
        for name in ["ann", "bob", "cid", "dan", "eve"] {
            bench.log(&format!("user {name} has left"));
        }
        bench.merge_patterns();
        let mut restarted = Bench::restarted(&bench.stored);
        assert_eq!(restarted.stored, bench.stored);
        assert_eq!(restarted.counts(), [6].into());
    }

    #[test]
    fn patterns_of_an_earlier_mask_version_are_nothing_new() {
        let mut bench = Bench::new();
        let old = |id, pattern: &str| Template {
            template_id: TemplateId(id),
            tenant: Tenant::default(),
            service: Service::new("payments").unwrap(),
            pattern: pattern.into(),
            merged_into: None,
            is_merger: false,
        };
        // One that the present masks leave, and one that they would have left more of.
        bench.catalogue.preload(old(1, "took <*> ms"), Count(10));
        bench.catalogue.preload(old(2, "link <*> is up"), Count(20));
        bench.merge_patterns();
        bench.log("took 7 ms");
        bench.log("link en0 is up");
        bench.merge_patterns();
        assert_eq!(bench.counts(), [11, 21].into());
        assert_eq!(bench.shown(&old(1, "")), "took <*> ms");
        assert_eq!(bench.shown(&old(2, "")), "link <*> is up");
    }

    fn message() -> impl Strategy<Value = String> {
        "[a-c]( [a-e]| [0-9]{1,3}|=[a-c]| ms){1,4}"
    }

    proptest! {
        #[test]
        fn whatever_is_forgotten_the_rest_stays_what_it_was(
            messages in prop::collection::vec((message(), 0..20_usize), 1..80)
        ) {
            let mut bench = Bench::new();
            for (message, forgotten) in &messages {
                if *forgotten < 3 {
                    bench.catalogue.forget_rarest(*forgotten, 0);
                }
                let id = bench.log(message).template_id;
                prop_assert_eq!(Bench::new().log(message).template_id, id);
                let Catalogue { known, by_id, learnt, bytes, .. } = &bench.catalogue;
                prop_assert_eq!(known.len(), by_id.len());
                prop_assert_eq!(known.iter().map(|of| of.template.pattern.len()).sum::<usize>(), *bytes);
                for (at, of) in (0_u32..).zip(known) {
                    prop_assert_eq!(by_id[&of.template.template_id.0], at);
                    prop_assert_eq!(known[of.head as usize].learnt, of.learnt);
                    prop_assert!((of.learnt as usize) < learnt.len());
                }
            }
        }

        #[test]
        fn an_id_depends_on_the_message_alone(messages in prop::collection::vec(message(), 1..80)) {
            let mut bench = Bench::new();
            let ids: Vec<_> = messages.iter().map(|message| bench.log(message).template_id).collect();
            bench.merge_patterns();
            for (message, id) in messages.iter().zip(ids).rev() {
                prop_assert_eq!(bench.log(message).template_id, id);
                prop_assert_eq!(Bench::new().log(message).template_id, id);
            }
            prop_assert_eq!(bench.counts().len() <= messages.len(), true);
        }

        #[test]
        fn settled_patterns_do_not_depend_on_the_order(
            (messages, shuffled) in prop::collection::vec(message(), 1..80)
                .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
        ) {
            let patterns = |messages: &[String]| -> BTreeMap<String, String> {
                let mut bench = Bench::new();
                let templates: Vec<_> = messages.iter().map(|message| bench.log(message)).collect();
                bench.merge_patterns();
                let shown = templates.iter().map(|template| bench.shown(template));
                messages.iter().cloned().zip(shown).collect()
            };
            prop_assert_eq!(patterns(&messages), patterns(&shuffled));
        }

        #[test]
        fn two_that_saw_a_part_each_agree_once_they_know_all(
            messages in prop::collection::vec((message(), any::<bool>()), 1..80)
        ) {
            let (mut a, mut b, mut whole) = (Bench::new(), Bench::new(), Bench::new());
            for (message, first) in &messages {
                if *first { a.log(message) } else { b.log(message) };
                whole.log(message);
            }
            [&mut a, &mut b, &mut whole].into_iter().for_each(Bench::merge_patterns);
            // They share one storage, in which the later word counts, and start again from it.
            a.stored.append(&mut b.stored);
            let stored = &a.stored;
            let (mut a, mut b) = (Bench::restarted(stored), Bench::restarted(stored));
            for bench in [&mut a, &mut b] {
                for (message, _) in &messages {
                    let template = bench.log(message);
                    let expected = whole.log(message);
                    prop_assert_eq!(template.template_id, expected.template_id);
                    prop_assert_eq!(bench.shown(&template), whole.shown(&expected));
                }
            }
        }
    }
}
