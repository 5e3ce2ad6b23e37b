//! Patterns that were merged: rows keep the id that they were stored with, a reader is shown the
//! merged pattern's. So a filter for one pattern becomes one for all that are the same, and ids are
//! replaced in answers.

use std::collections::{BTreeSet, HashMap};

use logweir_core::{
    filter::{Expression, Filter, Term, TextField},
    identity::{Service, TemplateId},
    record::StoredLog,
};

/// The patterns that are the same as one asked for, itself among them, all of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) service: Service,
    pub(crate) members: Vec<TemplateId>,
}

/// The patterns that a filter asks for.
pub(crate) fn asked_for(expression: &Expression) -> BTreeSet<TemplateId> {
    let mut found = BTreeSet::new();
    collect(expression, &mut found);
    found
}

fn collect(expression: &Expression, found: &mut BTreeSet<TemplateId>) {
    match expression {
        Expression::And(parts) | Expression::Or(parts) => {
            parts.iter().for_each(|part| collect(part, found));
        }
        Expression::Not(negated) => collect(negated, found),
        Expression::Term(Term::Template(template_id)) => {
            found.insert(*template_id);
        }
        Expression::Term(_) => {}
    }
}

/// The filter that asks for families in place of their members.
pub(crate) fn expanded(filter: &Filter, families: &HashMap<TemplateId, Family>) -> Filter {
    Filter { expression: expand(&filter.expression, families) }
}

fn expand(expression: &Expression, families: &HashMap<TemplateId, Family>) -> Expression {
    let all = |parts: &[Expression]| parts.iter().map(|part| expand(part, families)).collect();
    match expression {
        Expression::And(parts) => Expression::And(all(parts)),
        Expression::Or(parts) => Expression::Or(all(parts)),
        Expression::Not(negated) => Expression::Not(Box::new(expand(negated, families))),
        Expression::Term(Term::Template(template_id)) => match families.get(template_id) {
            Some(family) => family.expression(),
            None => expression.clone(),
        },
        Expression::Term(_) => expression.clone(),
    }
}

impl Family {
    /// The service is named too: it leads to fewer logs.
    fn expression(&self) -> Expression {
        let member = |id: &TemplateId| Expression::Term(Term::Template(*id));
        let service = Term::Text(TextField::Service, self.service.to_string());
        Expression::And(vec![
            Expression::Term(service),
            Expression::Or(self.members.iter().map(member).collect()),
        ])
    }
}

/// The patterns of logs.
pub(crate) fn of_logs<'a>(logs: impl IntoIterator<Item = &'a StoredLog>) -> BTreeSet<TemplateId> {
    logs.into_iter().map(|log| log.scored.template_id).collect()
}

/// Shows logs with the ids of the merged patterns.
pub(crate) fn show<'a>(
    logs: impl IntoIterator<Item = &'a mut StoredLog>,
    merged_into: &HashMap<TemplateId, TemplateId>,
) {
    for log in logs {
        if let Some(merger) = merged_into.get(&log.scored.template_id) {
            log.scored.template_id = *merger;
        }
    }
}
