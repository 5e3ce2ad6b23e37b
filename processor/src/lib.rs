//! Consume, enrich, template, score, write, acknowledge.
