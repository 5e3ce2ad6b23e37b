//! The judgement: templates and scores, as pure computation.
