//! The services as a client meets them: a real client, a real port, a real queue and a real
//! storage.

#![allow(clippy::unwrap_used, reason = "tests")]

mod abuse;
mod admin;
mod alerts;
mod api;
mod grpc_web;
mod harness;
mod http;
mod ingest;
mod models;
mod otlp;
mod query;
mod receivers;
mod tls;
mod websocket;
