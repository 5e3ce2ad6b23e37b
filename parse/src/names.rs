//! The one table of field names. Pure.
//!
//! Names are compared without case and without `_`, `.`, `-` and blanks: `trace.id`, `traceId` and
//! `TRACE_ID` are one name. They are those of Elastic's common schema, OpenTelemetry, Google Cloud,
//! journald, GELF, Serilog, MongoDB, and of the loggers of Go, Java, .NET, Node, PHP, Python, Ruby
//! and Rust.

/// Longest name in the table, bytes.
const NAME_BYTES_MAX: usize = 32;

/// What a field of a structured log means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its event time.
    Time,
    /// Its service; of several names the lower rank counts.
    Service(u8),
    /// Its level, by word or number.
    Level,
    /// Its level by a letter, as MongoDB writes it behind the time.
    LevelLetter,
    /// OpenTelemetry's severity number.
    SeverityNumber,
    /// Syslog's severity, 0 to 7.
    SyslogSeverity,
    /// Its message; of several names the lower rank counts.
    Message(u8),
    /// Its trace id.
    Trace,
    /// Its span id.
    Span,
    /// Both, as W3C writes them.
    TraceParent,
    /// Its logger.
    Logger,
    /// A status of HTTP.
    Status,
    /// How long it took, nanoseconds (Elastic's `event.duration`).
    DurationNanos,
    /// An exception's class.
    ExceptionType,
    /// An exception's message.
    ExceptionMessage,
    /// An exception's trace.
    ExceptionTrace,
    /// An exception: an object of its parts, or a text.
    Exception,
    /// Further attributes.
    Attributes,
    /// An object whose members have meanings of their own.
    Group,
    /// None of these: an attribute.
    Other,
}

impl Role {
    /// The role of a field; of a member of an object by both names, `error.type`.
    pub(crate) fn of(key: &str) -> Self {
        let mut folded = [0; NAME_BYTES_MAX];
        fold(key, &mut folded).map_or(Self::Other, of_folded)
    }
}

/// The name without what is not compared; none if it is longer than any in the table.
fn fold<'a>(key: &str, folded: &'a mut [u8; NAME_BYTES_MAX]) -> Option<&'a str> {
    let mut length = 0;
    for byte in key.bytes().filter(|byte| !matches!(byte, b'_' | b'.' | b'-' | b' ')) {
        *folded.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    std::str::from_utf8(&folded[..length]).ok()
}

fn of_folded(name: &str) -> Role {
    match name {
        "time" | "ts" | "timestamp" | "@timestamp" | "@t" | "t" | "datetime" | "date"
        | "asctime" | "timemillis" | "timestampms" | "timems" | "timeunixnano" | "eventtime"
        | "logtime" | "instant" | "realtimetimestamp" | "isotime" | "localtime" | "utctime" => {
            Role::Time
        }
        "service" | "servicename" => Role::Service(0),
        "syslogidentifier" => Role::Service(1),
        "systemdunit" => Role::Service(2),
        "comm" => Role::Service(3),
        "level" | "lvl" | "@l" | "@level" | "severity" | "severitytext" | "sev" | "loglevel"
        | "levelname" | "logseverity" | "leveltext" => Role::Level,
        "l" | "s" => Role::LevelLetter,
        "severitynumber" => Role::SeverityNumber,
        "priority" | "syslogseverity" => Role::SyslogSeverity,
        "message" | "fieldsmessage" => Role::Message(0),
        "msg" | "m" => Role::Message(1),
        "@m" | "@message" | "renderedmessage" | "shortmessage" | "textpayload" => Role::Message(2),
        "@mt" | "messagetemplate" | "logmessage" | "body" => Role::Message(3),
        "log" => Role::Message(4),
        "event" => Role::Message(5),
        "text" => Role::Message(6),
        "traceid" | "tracetraceid" | "logging/trace" | "logginggoogleapiscom/trace" => Role::Trace,
        "spanid" | "tracespanid" | "logginggoogleapiscom/spanid" => Role::Span,
        "traceparent" => Role::TraceParent,
        "logger" | "loggername" | "loglogger" | "target" | "@module" | "channel"
        | "sourcecontext" => Role::Logger,
        "statuscode"
        | "httpstatuscode"
        | "httpresponsestatuscode"
        | "httpstatus"
        | "resstatuscode"
        | "responsestatuscode"
        | "responsestatus" => Role::Status,
        "eventduration" => Role::DurationNanos,
        "errortype" | "errorname" | "errorclass" | "errtype" | "errname" | "exceptiontype"
        | "exceptionname" | "exceptionclass" | "exceptionclassname" | "errorkind" | "exctype" => {
            Role::ExceptionType
        }
        "errormessage"
        | "errmessage"
        | "exceptionmessage"
        | "errormsg"
        | "exceptionexceptionmessage" => Role::ExceptionMessage,
        "stack"
        | "stacktrace"
        | "@x"
        | "excinfo"
        | "exctext"
        | "traceback"
        | "backtrace"
        | "errorstack"
        | "errorstacktrace"
        | "errstack"
        | "exceptionstack"
        | "errorverbose"
        | "exceptionstacktrace" => Role::ExceptionTrace,
        "error" | "err" | "exception" | "thrown" => Role::Exception,
        "attributes" => Role::Attributes,
        "trace" | "span" | "http" | "httpresponse" | "response" | "res" | "fields" => Role::Group,
        _ => Role::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_however_it_is_written() {
        for key in ["trace.id", "traceId", "TRACE_ID", "trace-id"] {
            assert_eq!(Role::of(key), Role::Trace, "{key}");
        }
        assert_eq!(Role::of("log.level"), Role::Level);
        assert_eq!(Role::of("__REALTIME_TIMESTAMP"), Role::Time);
        assert_eq!(Role::of(&"x".repeat(99)), Role::Other);
        assert_eq!(Role::of("order"), Role::Other);
    }
}
