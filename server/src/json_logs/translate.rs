//! What becomes of a body: each of its records is a log, exactly as the same line in a file. Pure.

use logweir_core::timestamp::Timestamp;
use logweir_parse::Context;

use super::records::records;
use crate::{
    listener::message_body::malformed,
    receiver::{
        Batches, Format, Translation, json,
        record::{logs, record, service_of},
    },
    status::Refusal,
};

/// A body of records.
pub(super) struct Records {
    pub(super) is_by_lines: bool,
    pub(super) now: Timestamp,
}

impl Format for Records {
    type Kept = ();

    fn read_as(&self) -> Vec<&str> {
        vec!["json", if self.is_by_lines { "by lines" } else { "" }]
    }

    fn weigh(&self) -> fn(&[u8]) -> usize {
        json::structure_bytes
    }

    fn translate(self, message: &[u8], unnamed: &str) -> Result<(Translation, ()), Refusal> {
        let records = records(message, self.is_by_lines).map_err(malformed)?;
        let (mut batches, context) = (Batches::default(), Context::at(self.now));
        for (place, sent) in (0..).zip(records) {
            for mut parsed in logs(&mut batches, place, sent, &context) {
                let named = parsed.service.take();
                let mut record = record(parsed);
                let service = service_of(&mut record, named, unnamed);
                let group = batches.group_of_service(service);
                batches.add(group, place, record);
            }
        }
        Ok((batches.finish()?, ()))
    }
}

#[cfg(test)]
mod tests {
    use logweir_proto::v1;

    use super::*;
    use crate::receiver::record::{DAMAGED_JSON, ORIGINAL_SERVICE};

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_323_045);

    fn translated(body: &str) -> Translation {
        let records = Records { is_by_lines: false, now: NOW };
        records.translate(body.as_bytes(), "own").unwrap().0
    }

    fn one(body: &str) -> (String, v1::LogRecord) {
        let mut translation = translated(body);
        assert_eq!(translation.rejected.logs(), 0, "{body}");
        let mut group = translation.groups.remove(0);
        (group.resource.service, group.parts.remove(0).records.remove(0))
    }

    #[test]
    fn a_record_is_understood_as_a_line_of_a_file() {
        let (service, record) = one(
            r#"{"ts":"2026-01-02T03:04:05.678Z","service":"auth","level":"info","msg":"User logged in",
                "latency_ms":120,"user":{"id":7}}"#,
        );
        assert_eq!((service.as_str(), record.message.as_str()), ("auth", "User logged in"));
        assert_eq!(record.level(), v1::Level::Info);
        assert_eq!(record.time_unix_nano, 1_767_323_045_678_000_000);
        assert_eq!(record.latency_ms, Some(120.0));
        assert_eq!(record.attributes[0].key, "user");
        let (service, record) = one(
            r#"{"log":"level=warn msg=slow\n","stream":"stderr","time":"2026-01-02T03:04:05Z"}"#,
        );
        assert_eq!((service.as_str(), record.message.as_str()), ("own", "slow"));
        assert_eq!(record.level(), v1::Level::Warn);
    }

    #[test]
    fn what_is_nearly_json_is_read_and_marked() {
        let (_, record) = one(r#"{"message":"m","x":NaN}"#);
        assert_eq!(record.message, "m");
        assert!(record.attributes.iter().any(|attribute| attribute.key == DAMAGED_JSON));
        let (_, record) = one(r#"{"message":"a \ud800 b"}"#);
        assert!(record.message.starts_with("a "), "{record:?}");
    }

    #[test]
    fn the_same_bytes_by_lines_are_another_request() {
        let read_as = |is_by_lines| Records { is_by_lines, now: NOW }.read_as().concat();
        assert_ne!(read_as(true), read_as(false));
    }

    #[test]
    fn a_bad_record_takes_no_other_along() {
        let found =
            translated(r#"[{"message":"1"}, 7, "text", null, , {"message":"2"}, [{}], nope]"#);
        assert_eq!(found.rejected.places, [1, 2, 3, 4, 6, 7]);
        assert!(found.rejected.told[0].detail.ends_with("no JSON object: 7"), "{found:?}");
        assert_eq!(found.groups[0].parts[0].places, [0, 5]);
        let body = [&b"{\"message\":\"1\"}\n{\"message\":\"\xff\"}\n"[..], b"{\"message\":\"3\"}"]
            .concat();
        let records = Records { is_by_lines: true, now: NOW };
        let found = records.translate(&body, "").unwrap().0;
        assert_eq!(found.rejected.places, [1]);
    }

    #[test]
    fn logs_of_a_service_come_together_and_keep_its_name() {
        let found = translated(
            r#"[{"service":"a","m":"1"},{"m":"2"},{"service":"b c","m":"3"},{"service":"a","m":"4"}]"#,
        );
        let groups: Vec<_> = found
            .groups
            .iter()
            .map(|group| (group.resource.service.as_str(), &group.parts[0].places[..]))
            .collect();
        assert_eq!(groups, [("a", &[0, 3][..]), ("own", &[1]), ("b_c", &[2])]);
        let original = &found.groups[2].parts[0].records[0].attributes[0];
        assert_eq!(original.key, ORIGINAL_SERVICE);
    }

    #[test]
    fn a_repeat_is_told_by_times_and_content() {
        for (body, expected) in [
            (r#"{"message":"m"}"#, false),
            (r#"{"message":"m","time":"2026-01-02T03:04:05Z"}"#, false),
            (r#"{"message":"m","time":"2026-01-02T03:04:05.1Z"}"#, true),
            (
                r#"[{"message":"m","time":"2026-01-02T03:04:05Z"},{"message":"n","time":"2026-01-02T03:04:05Z"}]"#,
                true,
            ),
            (r#"[{"message":"m","time":"2026-01-02T03:04:05.1Z"},{"message":"n"}]"#, false),
        ] {
            assert_eq!(translated(body).can_be_told, expected, "{body}");
        }
    }

    #[test]
    fn an_envelope_of_logs_gives_them_all_but_not_without_bound() {
        let envelope = |padding: usize, logs: usize| {
            let logs = vec![r#"{"body":{"stringValue":"m"}}"#; logs].join(",");
            let resource = format!(
                r#"{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}},{{"key":"k","value":{{"stringValue":"{}"}}}}]}}"#,
                "x".repeat(padding)
            );
            format!(
                r#"{{"resourceLogs":[{{"resource":{resource},"scopeLogs":[{{"logRecords":[{logs}]}}]}}]}}"#
            )
        };
        let found = translated(&envelope(1, 3));
        assert_eq!(found.groups[0].resource.service, "shop");
        assert_eq!(found.groups[0].parts[0].places, [0, 0, 0]);
        let swollen = vec![envelope(10_000, 1_000); 10].join("\n");
        let found = translated(&swollen);
        assert_eq!(found.rejected.places, [6, 7, 8, 9], "each is 10 MB of the 64 MiB");
    }

    #[test]
    fn deep_and_wide_records_are_read() {
        let deep =
            format!(r#"{{"message":"m","x":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
        let (_, record) = one(&deep);
        assert_eq!(record.message, "m");
        let wide: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":{n}")).collect();
        let (_, record) = one(&format!("{{\"message\":\"m\",{}}}", wide.join(",")));
        assert_eq!(record.attributes.len(), 100_000);
    }
}
