//! The doors: native gRPC and HTTP, authentication, limits, ingest, query, admin.
