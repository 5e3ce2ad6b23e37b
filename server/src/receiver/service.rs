//! The name of a service, from what others call theirs. Pure.

use logweir_core::limits::SERVICE_BYTES_MAX;

/// What SDKs of OpenTelemetry call a service that was given no name.
pub(crate) const UNKNOWN_SERVICE: &str = "unknown_service";

/// The service that logs without one belong to: the token's, or a name that says that it is not known.
pub(crate) fn unnamed(is_for_any_service: bool) -> &'static str {
    if is_for_any_service { UNKNOWN_SERVICE } else { "" }
}

/// Any text as the name of a service: others have no rule for it. What a name cannot have becomes
/// `_`, or where it is beyond ASCII its number, lest all names of another script be one.
pub(crate) fn service_name(sent: &str) -> String {
    let mut name = String::with_capacity(sent.len().min(SERVICE_BYTES_MAX));
    for character in sent.chars().take(SERVICE_BYTES_MAX) {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '/' | '-' => name.push(character),
            _ if character.is_ascii() => name.push('_'),
            _ => name.push_str(&format!("u{:04x}", u32::from(character))),
        }
    }
    name.truncate(SERVICE_BYTES_MAX);
    name
}
