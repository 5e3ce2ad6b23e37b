//! The receiver of Elasticsearch's bulk requests, which Filebeat, Logstash, Fluent Bit and Vector speak.
//!
//! `bulk` reads the pairs of lines that a request is made of and says what becomes of each; `answer` says
//! it to the sender, item by item. `http` is the way in, `probes` what senders ask before they send.
//! Everything else is what every receiver has in common.

mod answer;
mod bulk;
pub(crate) mod http;
mod probes;
