//! What stands at the port: connections, TLS, browsers, and bodies that are read under bounds.

pub(crate) mod connection;
pub(crate) mod decoded_size;
pub(crate) mod grpc_web;
pub(crate) mod health;
pub(crate) mod inflate;
pub(crate) mod message_body;
pub(crate) mod response_body;
pub(crate) mod seat;
pub(crate) mod tls;
pub(crate) mod unknown_path;
pub(crate) mod whole_body;
