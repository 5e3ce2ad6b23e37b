//! `Idempotency-Key`: what a sender calls its request, by which a repeat of it is told
//! (draft-ietf-httpapi-idempotency-key-header). Pure.

use hyper::HeaderMap;
use sha2::{Digest, Sha256};

use crate::status::Refusal;

const HEADER: &str = "idempotency-key";
/// Bytes of a key: a UUID in quotes has 38.
const KEY_BYTES_MAX: usize = 255;
/// Keeps keys apart from hashes of content, whose place they take.
const DOMAIN: &[u8] = b"idempotency-key\0";

/// What the request is called, as a hash; none if its sender gave it no name.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Refusal> {
    let mut sent = headers.get_all(HEADER).iter();
    let Some(value) = sent.next() else { return Ok(None) };
    let key = value.as_bytes().trim_ascii();
    // A string of structured fields (RFC 8941, 3.3.3); many send it without the quotes.
    let key = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")).unwrap_or(key);
    if sent.next().is_some() || key.is_empty() || key.len() > KEY_BYTES_MAX {
        let why = format!("must be one key of 1 to {KEY_BYTES_MAX} bytes, such as a UUID");
        return Err(Refusal::invalid("Idempotency-Key", why));
    }
    let hash: [u8; 32] = Sha256::new().chain_update(DOMAIN).chain_update(key).finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    Ok(Some(half))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Result<Option<[u8; 16]>, Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_str(value).unwrap());
        }
        idempotency_key(&headers)
    }

    #[test]
    fn a_key_is_one_text_with_or_without_quotes() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["a-1"]), of(&["\"a-1\""]));
        assert_ne!(of(&["a-1"]), of(&["a-2"]));
        for bad in [&[""][..], &["\"\""], &["a", "b"], &[&"x".repeat(256)]] {
            assert_eq!(of(bad).unwrap_err().reason(), "INVALID_FIELD", "{bad:?}");
        }
    }
}
