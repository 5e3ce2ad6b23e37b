//! The description of the JSON API (OpenAPI 3.1). A test compares it with the routes, and another one
//! each answer of a running server with what it says.

pub(super) const PATH: &str = "/api/openapi.json";
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::http::{read::READS, routes, websocket};

    /// The names of the parameters of a path.
    fn documented<'a>(document: &'a Value, path: &str) -> BTreeSet<&'a str> {
        let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap();
        let name = |parameter: &'a Value| {
            let reference = parameter["$ref"].as_str().unwrap().trim_start_matches('#');
            document.pointer(reference).unwrap()["name"].as_str().unwrap()
        };
        parameters.iter().map(name).collect()
    }

    #[test]
    fn it_takes_what_its_texts_promise() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let is_taken = |schema: &str, value: Value| {
            let mut schema = document.pointer(schema).unwrap().clone();
            schema["components"] = document["components"].clone();
            let options = jsonschema::options().should_validate_formats(true);
            options.build(&schema).unwrap().is_valid(&value)
        };
        for moment in ["2026-01-02T15:04:05Z", "2026-01-02 15:04", "2026-01-02", "now", "-1h30m"] {
            assert!(is_taken("/components/schemas/Moment", moment.into()), "{moment}");
        }
        assert!(!is_taken("/components/schemas/Moment", "yesterday".into()));
        for level in ["error", "ERROR", "Warning"] {
            assert!(is_taken("/components/parameters/level/schema", level.into()), "{level}");
        }
        let measured = document.pointer("/components/schemas/Measured/properties/now").unwrap();
        assert_eq!(measured["type"], serde_json::json!(["number", "null"]));
        for path in ["/api/logs", "/logs", "/ingest", "/api/ingest"] {
            assert!(document["paths"][path]["post"].is_object(), "{path}");
        }
    }

    #[test]
    fn it_has_every_path_that_reads_with_every_parameter_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let reading = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, path)| !path["get"].is_null());
        let described: BTreeSet<&str> = reading.map(|(path, _)| path.as_str()).collect();
        let served: BTreeSet<&str> = routes().into_iter().map(|(path, _)| path).collect();
        assert_eq!(described, served);
        let tail = (websocket::PATH, &websocket::PARAMETERS[..]);
        for (path, known) in READS.iter().map(|read| (read.path, read.parameters)).chain([tail]) {
            assert_eq!(documented(&document, path), known.iter().copied().collect(), "{path}");
        }
    }
}
