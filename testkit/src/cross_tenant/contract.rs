//! What can be called, as the descriptors tell it: a new rpc is here without any work.

use logweir_proto::v1;
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};

/// The packages whose rpcs need a token. What stands outside them is open to everybody, like health.
const PACKAGES: [&str; 2] = ["logweir.v1", OTLP_PACKAGE];
/// Of what OpenTelemetry has services for, logs alone are taken.
const OTLP: &str = "opentelemetry.";
const OTLP_PACKAGE: &str = "opentelemetry.proto.collector.logs.v1";
/// OTLP's one rpc, which brings logs.
const EXPORT: &str = "Export";
/// First words of the names of rpcs that change what is stored. A walk of what a tenant sees calls
/// the others only; one that changes something and is not here shows, as two walks then differ.
const CHANGING: [&str; 13] = [
    "Act", "Delete", "Discard", "Give", "Ingest", "Issue", "Mark", "Promote", "Put", "Replay",
    "Revoke", "RollBack", "Train",
];

/// Every rpc of a server.
pub(super) struct Contract {
    pub(super) methods: Vec<Method>,
}

/// One rpc.
#[derive(Clone)]
pub(super) struct Method {
    pub(super) descriptor: MethodDescriptor,
    /// Such as `/logweir.v1.QueryService/GetLog`.
    pub(super) path: String,
}

impl Contract {
    /// Ours, health and reflection: what the server has registered.
    pub(super) fn read() -> Self {
        let mut pool = DescriptorPool::new();
        let sets = [
            v1::FILE_DESCRIPTOR_SET,
            opentelemetry_proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ];
        for set in sets {
            pool.decode_file_descriptor_set(set).expect("the descriptors are compiled in");
        }
        let is_served = |service: &ServiceDescriptor| {
            let package = service.package_name();
            package == OTLP_PACKAGE || !package.starts_with(OTLP)
        };
        let services: Vec<_> = pool.services().filter(is_served).collect();
        let methods = services.iter().flat_map(|service| service.methods());
        Self { methods: methods.map(Method::new).collect() }
    }

    /// The rpc of a name.
    pub(super) fn method(&self, name: &str) -> &Method {
        let mut named = self.methods.iter().filter(|method| method.name() == name);
        named.next().unwrap_or_else(|| panic!("there is an rpc {name}"))
    }

    /// All of them, those that take things away last: or there would be nothing to ask the others about.
    pub(super) fn giving_first(&self) -> Vec<&Method> {
        let takes = |method: &&Method| {
            ["Delete", "Discard", "Revoke"].iter().any(|word| method.name().starts_with(word))
        };
        let (taking, mut giving): (Vec<_>, Vec<_>) = self.methods.iter().partition(takes);
        giving.extend(taking);
        giving
    }

    /// Full names of the services.
    pub(super) fn services(&self) -> Vec<String> {
        let name = |method: &Method| method.descriptor.parent_service().full_name().to_owned();
        let mut names: Vec<String> = self.methods.iter().map(name).collect();
        names.dedup();
        names
    }
}

impl Method {
    fn new(descriptor: MethodDescriptor) -> Self {
        let service = descriptor.parent_service().full_name();
        let path = format!("/{service}/{}", descriptor.name());
        Self { path, descriptor }
    }

    pub(super) fn name(&self) -> &str {
        self.descriptor.name()
    }

    /// Whether it needs no token.
    pub(super) fn is_public(&self) -> bool {
        !PACKAGES.contains(&self.descriptor.parent_service().package_name())
    }

    /// Whether it changes what is stored.
    pub(super) fn changes(&self) -> bool {
        self.name() == EXPORT || CHANGING.iter().any(|word| self.name().starts_with(word))
    }

    /// Whether its stream may stay open for as long as the caller likes.
    pub(super) fn is_stream(&self) -> bool {
        self.descriptor.is_server_streaming() || self.descriptor.is_client_streaming()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_there() {
        let contract = Contract::read();
        for name in ["Ingest", "SearchLogs", "IssueToken", "PutRule", "TrainModel", "Check"] {
            assert_eq!(contract.method(name).name(), name);
        }
        assert!(contract.method("PutRule").changes() && !contract.method("GetLog").changes());
        assert!(contract.method("Check").is_public() && !contract.method("Ingest").is_public());
        assert!(contract.method(EXPORT).changes() && !contract.method("ExportLogs").changes());
        assert_eq!(contract.services().len(), 8);
    }
}
