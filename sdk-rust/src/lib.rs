//! The Rust client library of Logweir.
