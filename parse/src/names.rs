//! The one table of field names. Pure.
//!
//! Names are compared without case and without `_`, `.`, `-` and blanks: `trace.id`, `traceId` and
//! `TRACE_ID` are one name. They are those of Elastic's common schema, OpenTelemetry, Google Cloud,
//! journald, GELF, Serilog, MongoDB, and of the loggers of Go, Java, .NET, Node, PHP, Python, Ruby
//! and Rust.

/// Longest name in the table, bytes.
const NAME_BYTES_MAX: usize = 40;

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
fn fold<'a>(key: &str, folded: &'a mut [u8; NAME_BYTES_MAX]) -> Option<&'a [u8]> {
    let mut length = 0;
    for byte in key.bytes().filter(|byte| !matches!(byte, b'_' | b'.' | b'-' | b' ')) {
        *folded.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    Some(&folded[..length])
}

fn of_folded(name: &[u8]) -> Role {
    match name {
        b"time"
        | b"ts"
        | b"timestamp"
        | b"@timestamp"
        | b"@t"
        | b"t"
        | b"datetime"
        | b"date"
        | b"asctime"
        | b"timemillis"
        | b"timestampms"
        | b"timems"
        | b"timeunixnano"
        | b"eventtime"
        | b"logtime"
        | b"timelocal"
        | b"timeiso8601"
        | b"msec"
        | b"starttime"
        | b"requestreceivedtimestamp"
        | b"instant"
        | b"realtimetimestamp"
        | b"isotime"
        | b"localtime"
        | b"utctime"
        | b"recordtimetimestamp" => Role::Time,
        b"service" | b"servicename" => Role::Service(0),
        b"syslogidentifier"
        | b"kuberneteslabelsapp"
        | b"kuberneteslabelsappkubernetesio/name"
        | b"resourcelabelsservicename"
        | b"resourcelabelsservice"
        | b"resourcelabelsfunctionname" => Role::Service(1),
        b"systemdunit" | b"kubernetescontainername" | b"resourcelabelscontainername" => {
            Role::Service(2)
        }
        b"comm" => Role::Service(3),
        b"kubernetespodname" | b"resourcelabelspodname" => Role::Service(4),
        b"level" | b"lvl" | b"@l" | b"@level" | b"severity" | b"severitytext" | b"sev"
        | b"loglevel" | b"levelname" | b"logseverity" | b"leveltext" | b"recordlevelname" => {
            Role::Level
        }
        b"l" | b"s" => Role::LevelLetter,
        b"severitynumber" => Role::SeverityNumber,
        b"priority" | b"syslogseverity" => Role::SyslogSeverity,
        b"message" | b"fieldsmessage" | b"jsonpayloadmessage" | b"recordmessage" => {
            Role::Message(0)
        }
        b"msg" | b"m" | b"propertiesmessage" => Role::Message(1),
        b"@m" | b"@message" | b"renderedmessage" | b"shortmessage" | b"textpayload" => {
            Role::Message(2)
        }
        b"@mt" | b"messagetemplate" | b"logmessage" | b"body" => Role::Message(3),
        b"log" => Role::Message(4),
        b"event" => Role::Message(5),
        b"text" | b"resultdescription" => Role::Message(6),
        b"operationname" => Role::Message(7),
        _ => of_request(name),
    }
}

/// What says of which request, where and how well.
fn of_request(name: &[u8]) -> Role {
    match name {
        b"traceid"
        | b"tracetraceid"
        | b"@tr"
        | b"logging/trace"
        | b"logginggoogleapiscom/trace" => Role::Trace,
        b"spanid" | b"tracespanid" | b"@sp" | b"logginggoogleapiscom/spanid" => Role::Span,
        b"traceparent" => Role::TraceParent,
        b"logger"
        | b"loggername"
        | b"loglogger"
        | b"target"
        | b"@module"
        | b"channel"
        | b"sourcecontext"
        | b"recordname"
        | b"propertiessourcecontext" => Role::Logger,
        b"statuscode"
        | b"httpstatuscode"
        | b"httpresponsestatuscode"
        | b"httpstatus"
        | b"resstatuscode"
        | b"responsestatuscode"
        | b"responsestatus" => Role::Status,
        b"eventduration" => Role::DurationNanos,
        b"attributes" | b"resourceattributes" => Role::Attributes,
        b"trace" | b"span" | b"http" | b"httpresponse" | b"response" | b"res" | b"fields"
        | b"jsonpayload" | b"kubernetes" | b"kuberneteslabels" | b"resource"
        | b"resourcelabels" | b"record" | b"recordlevel" | b"recordtime" | b"properties"
        | b"context" | b"contextexception" => Role::Group,
        _ => of_exception(name),
    }
}

fn of_exception(name: &[u8]) -> Role {
    match name {
        b"errortype"
        | b"thrownname"
        | b"contextexceptionclass"
        | b"errorname"
        | b"errorclass"
        | b"errtype"
        | b"errname"
        | b"exceptiontype"
        | b"exceptionname"
        | b"exceptionclass"
        | b"exceptionclassname"
        | b"errorkind"
        | b"exctype" => Role::ExceptionType,
        b"errormessage"
        | b"errmessage"
        | b"exceptionmessage"
        | b"errormsg"
        | b"exceptionexceptionmessage" => Role::ExceptionMessage,
        b"stack"
        | b"stacktrace"
        | b"@x"
        | b"excinfo"
        | b"exctext"
        | b"traceback"
        | b"backtrace"
        | b"errorstack"
        | b"errorstacktrace"
        | b"errstack"
        | b"exceptionstack"
        | b"errorverbose"
        | b"exceptionstacktrace" => Role::ExceptionTrace,
        b"error" | b"err" | b"exception" | b"thrown" => Role::Exception,
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
