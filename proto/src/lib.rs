//! The wire contract: types, clients and servers generated from `logweir/v1/*.proto`. No logic.
//! The meaning, unit and limit of every field stand in those files.

/// Version 1 of the contract.
#[allow(missing_docs, reason = "generated; the .proto files are linted for comments instead")]
pub mod v1 {
    #[cfg(feature = "generate")]
    tonic::include_proto!("logweir.v1");
    #[cfg(all(feature = "messages", not(feature = "generate")))]
    include!(concat!(env!("OUT_DIR"), "/messages/logweir.v1.rs"));
    #[cfg(not(feature = "messages"))]
    include!("generated/logweir.v1.rs");

    /// The encoded `FileDescriptorSet`, for server reflection.
    #[cfg(feature = "generate")]
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
}

/// What processes say to each other through a message broker; no part of the public contract.
#[cfg(feature = "generate")]
pub mod queue {
    /// Version 1 of the envelopes.
    #[allow(missing_docs, reason = "generated; the .proto files are linted for comments instead")]
    pub mod v1 {
        tonic::include_proto!("logweir.queue.v1");
    }
}
