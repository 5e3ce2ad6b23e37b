//! Tokens that open nothing.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// The claims of a token.
fn claims(token: &str) -> Value {
    let mut parts = token.split('.');
    let claims = parts.nth(1).expect("a JWT has three parts");
    serde_json::from_slice(&from_base64(claims)).expect("claims are JSON")
}

/// A token's id.
pub(super) fn token_id(token: &str) -> String {
    claims(token)["jti"].as_str().expect("it has an id").to_owned()
}

/// When a token was issued, seconds since 1970-01-01: the server's clock at that moment.
pub(super) fn issued_at(token: &str) -> u64 {
    claims(token)["iat"].as_u64().expect("it has a time")
}

/// The token as it would be if it had ended long ago: rightly signed.
pub(super) fn expired(token: &str, (name, secret): &(String, Vec<u8>)) -> String {
    let mut claims = claims(token);
    claims["iat"] = json!(1_000_000_000);
    claims["exp"] = json!(1_100_000_000);
    signed(&claims, name, secret)
}

/// Tokens that claim to be this one and are not signed by the key that they name: by another key, by
/// none, and with another one's signature.
pub(super) fn forged(token: &str, other: &str, name: &str) -> Vec<String> {
    let wrong_key = signed(&claims(token), name, &[7; 32]);
    let [head, claims, _] = parts(token);
    let [_, _, signature] = parts(other);
    // `{"alg":"none","typ":"JWT"}`
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
    vec![wrong_key, unsigned, format!("{head}.{claims}.{signature}")]
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().expect("a JWT has three parts")
}

fn signed(claims: &Value, name: &str, secret: &[u8]) -> String {
    let header = Header { kid: Some(name.to_owned()), ..Header::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(secret)).expect("HMAC takes any text")
}

/// Reads the alphabet of RFC 4648, 5, without padding.
fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        _ => 63,
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0_u32);
    for byte in text.bytes() {
        held = (held << 6) | u32::from(digit(byte));
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_apart_and_put_together() {
        let key = ("k".to_owned(), vec![1; 32]);
        let token = signed(&json!({"jti": "0a?>", "iat": 5, "exp": 9}), &key.0, &key.1);
        assert_eq!((token_id(&token), issued_at(&token)), ("0a?>".to_owned(), 5));
        let old = expired(&token, &key);
        assert_eq!(claims(&old)["exp"], 1_100_000_000);
        let forged = forged(&token, &old, &key.0);
        assert!(forged.iter().all(|one| *one != token && token_id(one) == "0a?>"));
    }
}
