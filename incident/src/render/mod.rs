//! A notification in words: what each part says, how a channel's own templates are filled, and how
//! hostile text is cleaned and cut.

pub mod template;
pub mod text;
pub mod view;
