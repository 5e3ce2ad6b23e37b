//! Who calls, and what they may do.
//!
//! A token is a JWT signed with HMAC-SHA-256 by a key of 256 random bits. The algorithm is fixed
//! here and never taken from the token; its `kid` selects the key, so that keys rotate by adding
//! one. It is verified without the database; only the ids of revoked tokens and the keys are
//! polled. A token seen before is found in a bounded cache, so that its signature is computed once
//! and not for every request; expiry, revocation and whether its key is still there are looked at
//! every time.

pub(crate) mod layer;
pub(crate) mod token_keys;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use logweir_core::{
    identity::{BatchId, Role, ServiceScope, Tenant},
    runtime::clock::Clock,
    timestamp::Timestamp,
};
use logweir_storage::TokenRecord;
use metrics::counter;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::token_keys::{TokenKeys, TokenKeysError};
use crate::status::Refusal;

const ISSUER: &str = "logweir";
const AUDIENCE: &str = "logweir";
/// Bytes of a token: those issued here have some hundreds, and a longer one is refused before its
/// text is decoded. Bounds the cache too, whose keys are tokens.
const TOKEN_BYTES_MAX: usize = 2_048;
/// Tokens whose signature was verified and is not verified again. At the bound the cache is
/// emptied: a signature costs microseconds.
const CACHED_TOKENS_MAX: usize = 4_096;
/// How often an open stream looks whether its token still holds.
const RECHECK_EVERY: Duration = Duration::from_secs(1);
/// How often a key that is not known is looked for in the file of keys.
const SEEK_KEYS_EVERY: Duration = Duration::from_secs(1);
/// Parts of a JWT between its points (RFC 7515, 7.1).
const JWT_PARTS: usize = 3;
/// Where a token may stand in place of `Authorization`, as some senders of logs have it.
pub(crate) const API_KEY_HEADER: &str = "x-api-key";
const KEY_UNKNOWN: &str = "TOKEN_KEY_UNKNOWN";

/// The claims of a token, by their names in RFC 7519 and three of our own.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    jti: String,
    iat: i64,
    exp: i64,
    tenant: String,
    service: String,
    role: Role,
}

/// Issues a token: its description, to be recorded in storage, and the token itself. It lives from
/// `now` for `ttl`, in whole seconds.
pub fn issue(
    keys: &TokenKeys,
    tenant: &Tenant,
    service: &ServiceScope,
    role: Role,
    ttl: Duration,
    now: Timestamp,
) -> (TokenRecord, String) {
    let token_id = hex::encode(rand::random::<[u8; 8]>());
    // A JWT counts whole seconds (RFC 7519, NumericDate); the record keeps the same ones, so that
    // what is listed is what is checked.
    let iat = now.as_unix_seconds();
    let exp = iat.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    let claims = Claims {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        jti: token_id.clone(),
        iat,
        exp,
        tenant: tenant.to_string(),
        service: service.to_string(),
        role,
    };
    let key = keys.newest();
    let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::HS256) };
    let jwt = encode(&header, &claims, &key.encoding).expect("HMAC takes any key and any text");
    let record = TokenRecord {
        token_id,
        service: service.clone(),
        role,
        issued_at: Timestamp::from_unix_seconds(iat),
        expires_at: Timestamp::from_unix_seconds(exp),
        revoked_at: None,
    };
    (record, jwt)
}

/// The holder of a verified token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    pub(crate) scope: ServiceScope,
    pub(crate) role: Role,
    token_id: String,
    kid: String,
    expires_at: Timestamp,
}

impl Caller {
    /// The token's id.
    pub(crate) fn token_id(&self) -> &str {
        &self.token_id
    }

    /// The id of a part of a request of this caller's that has none of its own.
    pub(crate) fn part_id(&self, request: [u8; 16], part: u32) -> BatchId {
        BatchId::of_part(&self.tenant, &self.token_id, request, part)
    }
}

/// Which part of the contract is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Ingest,
    Query,
    Admin,
}

impl Access {
    fn allowed_to(self, role: Role) -> bool {
        match role {
            Role::Ingest => self == Self::Ingest,
            Role::Viewer => self == Self::Query,
            Role::Admin => true,
        }
    }

    fn needed_role(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Query => "viewer",
            Self::Admin => "admin",
        }
    }

    fn needed_roles(self) -> &'static str {
        match self {
            Self::Ingest => "ingest or admin",
            Self::Query => "viewer or admin",
            Self::Admin => "admin",
        }
    }
}

/// The ids of revoked tokens.
#[derive(Default)]
struct Revoked {
    /// As storage last listed them.
    listed: HashSet<String>,
    /// Those that were revoked here, with the number of lists that came since: one that was being
    /// read while they were revoked does not have them.
    added: HashMap<String, u32>,
}

impl Revoked {
    fn contains(&self, token_id: &str) -> bool {
        self.listed.contains(token_id) || self.added.contains_key(token_id)
    }

    fn replace(&mut self, listed: HashSet<String>) {
        self.listed = listed;
        self.added.retain(|_, lists| {
            *lists += 1;
            *lists < 2
        });
    }
}

/// Verifies tokens.
pub(crate) struct Auth {
    keys: RwLock<TokenKeys>,
    clock: Clock,
    validation: Validation,
    revoked: RwLock<Revoked>,
    /// When the keys were last read for a token whose key is not known.
    keys_sought: Mutex<Option<Instant>>,
    verified: RwLock<HashMap<Box<str>, Arc<Caller>>>,
}

impl Auth {
    pub(crate) fn new(keys: TokenKeys, clock: Clock) -> Self {
        // The algorithm comes from here and not from the token's header, or a token that says
        // "none" would need no signature (RFC 8725, 2.1).
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Expiry is checked against our own clock, and on every request: a token found in the cache
        // is not decoded again. The crate would also let an expired one in for another minute.
        validation.validate_exp = false;
        let (revoked, keys_sought, verified) = Default::default();
        Self { keys: RwLock::new(keys), clock, validation, revoked, keys_sought, verified }
    }

    pub(crate) fn keys(&self) -> TokenKeys {
        self.keys.read().clone()
    }

    /// Takes the keys that are in their file now; whether they changed.
    pub(crate) fn reload_keys(&self) -> Result<bool, TokenKeysError> {
        let Some(keys) = self.keys().reread()? else { return Ok(false) };
        let mut current = self.keys.write();
        *current = keys;
        // Before the keys are let go, lest a token be remembered that only the old ones verify.
        self.verified.write().clear();
        Ok(true)
    }

    /// The caller behind a request that has its token in `authorization` or in `x-api-key`. Of both, gRPC
    /// takes the first: gateways add keys of their own to what SDKs send.
    pub(crate) fn admit_request(
        &self,
        headers: &HeaderMap,
        access: Access,
    ) -> Result<Arc<Caller>, Refusal> {
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        match (authorization, headers.get(API_KEY_HEADER)) {
            (authorization, None) => self.admit(authorization, access),
            (Some(authorization), Some(_)) if is_grpc(headers) => {
                self.admit(Some(authorization), access)
            }
            (None, Some(key)) => self.admit_token(text(key.as_bytes())?, access),
            (Some(_), Some(_)) => Err(token_twice("`authorization` and one in `x-api-key`")),
        }
    }

    /// The caller behind an `authorization` header, if it may use this part of the contract.
    pub(crate) fn admit(
        &self,
        authorization: Option<&[u8]>,
        access: Access,
    ) -> Result<Arc<Caller>, Refusal> {
        self.admit_token(&bearer(authorization)?, access)
    }

    /// The holder of a token, if it may use this part of the contract.
    pub(crate) fn admit_token(&self, token: &str, access: Access) -> Result<Arc<Caller>, Refusal> {
        let caller = self.verify(token)?;
        self.check_current(&caller)?;
        if access.allowed_to(caller.role) {
            return Ok(caller);
        }
        let message = format!(
            "the token has role {}, this needs {}: issue one with \
             `logweir token issue --role {}`",
            caller.role.as_str(),
            access.needed_roles(),
            access.needed_role(),
        );
        Err(Refusal::PermissionDenied { reason: "ROLE_INSUFFICIENT", message })
    }

    /// Whether the token has neither expired nor been revoked, and its key is still there.
    pub(crate) fn check_current(&self, caller: &Caller) -> Result<(), Refusal> {
        if (self.clock)() >= caller.expires_at {
            let expired = caller.expires_at.to_rfc3339_seconds();
            let message = format!(
                "the token expired at {expired}: issue a new one with `logweir token issue`"
            );
            return Err(Refusal::Unauthenticated { reason: "TOKEN_EXPIRED", message });
        }
        if self.revoked.read().contains(&caller.token_id) {
            let message = format!(
                "token {} was revoked: issue a new one with `logweir token issue`",
                caller.token_id
            );
            return Err(Refusal::Unauthenticated { reason: "TOKEN_REVOKED", message });
        }
        if self.keys.read().get(&caller.kid).is_none() {
            return Err(key_unknown());
        }
        Ok(())
    }

    /// Resolves when the token is no longer valid, with the refusal; for streams that stay open.
    pub(crate) async fn ended(&self, caller: &Caller) -> Refusal {
        // Polled and not notified: expiry comes by the clock, and one look a second for each stream
        // is nothing beside what a stream carries.
        loop {
            if let Err(refusal) = self.check_current(caller) {
                return refusal;
            }
            tokio::time::sleep(RECHECK_EVERY).await;
        }
    }

    /// Replaces the ids of revoked tokens.
    pub(crate) fn set_revoked(&self, token_ids: Vec<String>) {
        self.revoked.write().replace(token_ids.into_iter().collect());
    }

    /// Adds one, ahead of the next poll.
    pub(crate) fn add_revoked(&self, token_id: String) {
        self.revoked.write().added.insert(token_id, 0);
    }

    fn verify(&self, token: &str) -> Result<Arc<Caller>, Refusal> {
        // Only tokens with a valid signature are in here, so nobody without one can fill the cache
        // and push the others out.
        if let Some(caller) = self.verified.read().get(token) {
            return Ok(Arc::clone(caller));
        }
        counter!("logweir_token_verifications_total").increment(1);
        match self.verify_and_remember(token) {
            Err(refusal) if refusal.reason() == KEY_UNKNOWN && self.may_seek_keys() => {
                // Its key may have come just now: the token need not wait for the next look. What
                // is wrong with the file is told by those who look at it in turn.
                drop(self.reload_keys());
                self.verify_and_remember(token)
            }
            verified => verified,
        }
    }

    /// Whether a key that is not known may be looked for in the file. Not each time: whoever sends
    /// forged tokens would have it read as often.
    fn may_seek_keys(&self) -> bool {
        let mut sought = self.keys_sought.lock();
        let may = sought.is_none_or(|sought| sought.elapsed() >= SEEK_KEYS_EVERY);
        if may {
            *sought = Some(Instant::now());
        }
        may
    }

    fn verify_and_remember(&self, token: &str) -> Result<Arc<Caller>, Refusal> {
        // Held until the token is remembered: no key is exchanged meanwhile.
        let keys = self.keys.read();
        let caller = Arc::new(self.verify_signature(&keys, token)?);
        let mut verified = self.verified.write();
        // Emptied and not trimmed: to know the oldest would take a lock for writing on every hit.
        if verified.len() >= CACHED_TOKENS_MAX {
            verified.clear();
        }
        verified.insert(token.into(), Arc::clone(&caller));
        Ok(caller)
    }

    fn verify_signature(&self, keys: &TokenKeys, token: &str) -> Result<Caller, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let header = decode_header(token).map_err(|_| malformed("it is not a JWT"))?;
        let kid = header.kid.ok_or_else(|| malformed("it names no key"))?;
        let key = keys.get(&kid).ok_or_else(key_unknown)?;
        // One text for every cause: which part of a forged token was wrong helps only a forger.
        let claims = decode::<Claims>(token, &key.decoding, &self.validation)
            .map_err(|_| malformed("its signature or claims are not valid"))?
            .claims;
        Ok(Caller {
            tenant: Tenant::new(&claims.tenant)
                .map_err(|_| malformed("its tenant is not valid"))?,
            scope: claims.service.parse().map_err(|_| malformed("its service is not valid"))?,
            role: claims.role,
            token_id: claims.jti,
            kid,
            expires_at: Timestamp::from_unix_seconds(claims.exp),
        })
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    content_type.starts_with(b"application/grpc")
}

/// Two tokens in one request, in the places that are named.
pub(crate) fn token_twice(places: &str) -> Refusal {
    let message = format!("the request has a token in {places}: send one of them");
    Refusal::Unauthenticated { reason: "TOKEN_TWICE", message }
}

/// The token in an `authorization` header.
fn bearer(authorization: Option<&[u8]>) -> Result<Cow<'_, str>, Refusal> {
    let Some(value) = authorization else {
        let message = "the request has no token: send `authorization: Bearer TOKEN`, with a token \
                       from `logweir token issue`";
        return Err(Refusal::Unauthenticated { reason: "TOKEN_MISSING", message: message.into() });
    };
    let value = text(value)?;
    // The scheme's name is compared without regard to case (RFC 9110, 11.1): some proxies send
    // `bearer`.
    let (scheme, credentials) = value.split_once(' ').unwrap_or_default();
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Cow::Borrowed(credentials));
    }
    if scheme.eq_ignore_ascii_case("basic") || scheme.eq_ignore_ascii_case("apikey") {
        return second_part(credentials);
    }
    Err(malformed("the header is not `Bearer TOKEN`"))
}

/// The token in `NAME:TOKEN` in base64, which is all that many log shippers can send: as a password (RFC
/// 7617, 2) or as an API key of Elasticsearch. The name is not looked at.
fn second_part(credentials: &str) -> Result<Cow<'_, str>, Refusal> {
    // A key is also given as it is.
    if credentials.split('.').count() == JWT_PARTS {
        return Ok(Cow::Borrowed(credentials));
    }
    // Before it takes memory.
    if credentials.len() > 2 * TOKEN_BYTES_MAX {
        return Err(malformed("it is too long"));
    }
    let decoded = BASE64.decode(credentials).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let token = decoded.as_ref().and_then(|pair| pair.split_once(':')).map(|(_, token)| token);
    match token {
        Some(token) => Ok(Cow::Owned(token.to_owned())),
        None => Err(malformed("what is behind `Basic` or `ApiKey` is not NAME:TOKEN in base64")),
    }
}

fn text(value: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(value).map_err(|_| malformed("it is not text"))
}

fn key_unknown() -> Refusal {
    let message = "the token is signed with a key that this server does not have: issue a new one \
                   here with `logweir token issue`";
    Refusal::Unauthenticated { reason: KEY_UNKNOWN, message: message.into() }
}

fn malformed(what: &str) -> Refusal {
    let message = format!(
        "the token is not valid, {what}: check LOGWEIR_TOKEN, or issue a new one with \
         `logweir token issue`"
    );
    Refusal::Unauthenticated { reason: "TOKEN_MALFORMED", message }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use hyper::header::HeaderName;
    use logweir_core::identity::Service;
    use tonic::Code;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_760_000_000);

    struct Bench {
        auth: Auth,
        now: Arc<AtomicI64>,
    }

    impl Bench {
        fn new() -> Self {
            Self::with(TokenKeys::generate())
        }

        fn with(keys: TokenKeys) -> Self {
            let now = Arc::new(AtomicI64::new(NOW.as_unix_nanos()));
            let told = Arc::clone(&now);
            let clock: Clock =
                Arc::new(move || Timestamp::from_unix_nanos(told.load(Ordering::Relaxed)));
            Self { auth: Auth::new(keys, clock), now }
        }

        fn token(&self, role: Role) -> (TokenRecord, String) {
            let scope = ServiceScope::One(Service::new("payments").unwrap());
            let ttl = Duration::from_secs(60);
            issue(&self.auth.keys(), &Tenant::new("acme").unwrap(), &scope, role, ttl, NOW)
        }

        fn admit(&self, token: &str, access: Access) -> Result<Arc<Caller>, Refusal> {
            self.auth.admit_token(token, access)
        }
    }

    #[test]
    fn a_token_says_who_calls() {
        let bench = Bench::new();
        let (record, token) = bench.token(Role::Ingest);
        for _ in 0..2 {
            let caller = bench.admit(&token, Access::Ingest).unwrap();
            assert_eq!(caller.tenant.as_str(), "acme");
            assert_eq!(caller.scope.to_string(), "payments");
            assert_eq!(caller.token_id, record.token_id);
            assert_eq!(caller.expires_at, record.expires_at);
        }
    }

    #[test]
    fn roles_reach_their_own_services_only() {
        let bench = Bench::new();
        let services = [Access::Ingest, Access::Query, Access::Admin];
        for (role, open) in [
            (Role::Ingest, [true, false, false]),
            (Role::Viewer, [false, true, false]),
            (Role::Admin, [true, true, true]),
        ] {
            let (_, token) = bench.token(role);
            for (access, open) in services.into_iter().zip(open) {
                let code = bench.admit(&token, access).err().map(|refusal| refusal.code());
                assert_eq!(code, (!open).then_some(Code::PermissionDenied), "{role:?} {access:?}");
            }
        }
    }

    #[test]
    fn bad_tokens_are_told_what_to_do() {
        let bench = Bench::new();
        let (_, good) = bench.token(Role::Ingest);
        let (_, foreign) = Bench::new().token(Role::Ingest);
        let mut parts: Vec<&str> = good.split('.').collect();
        parts[2] = "AAAA";
        let forged = parts.join(".");
        for (header, reason) in [
            (None, "TOKEN_MISSING"),
            (Some("Basic abc".to_owned()), "TOKEN_MALFORMED"),
            (Some("Bearer".to_owned()), "TOKEN_MALFORMED"),
            (Some("Bearer abc".to_owned()), "TOKEN_MALFORMED"),
            (Some(format!("Bearer {forged}")), "TOKEN_MALFORMED"),
            (Some(format!("Bearer {}", "x".repeat(5_000))), "TOKEN_MALFORMED"),
            (Some(format!("Bearer {foreign}")), "TOKEN_KEY_UNKNOWN"),
        ] {
            let refusal =
                bench.auth.admit(header.as_deref().map(str::as_bytes), Access::Ingest).unwrap_err();
            assert_eq!((refusal.code(), refusal.reason()), (Code::Unauthenticated, reason));
            assert!(refusal.to_string().contains("logweir token issue"), "{refusal}");
        }
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let bench = Bench::new();
        let (_, good) = bench.token(Role::Admin);
        let kid = bench.auth.keys().newest().kid.clone();
        let header = format!(r#"{{"alg":"none","typ":"JWT","kid":"{kid}"}}"#);
        let claims = good.split('.').nth(1).unwrap();
        let unsigned = format!("{}.{claims}.", base64url(header.as_bytes()));
        let refusal = bench.admit(&unsigned, Access::Admin).unwrap_err();
        assert_eq!(refusal.reason(), "TOKEN_MALFORMED");
    }

    fn base64url(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
        let bits: Vec<u8> = bits.collect();
        let digit = |six: &[u8]| {
            let value = six.iter().fold(0, |sum, bit| sum << 1 | bit) << (6 - six.len());
            char::from(DIGITS[usize::from(value)])
        };
        bits.chunks(6).map(digit).collect()
    }

    #[test]
    fn a_token_stands_in_one_of_two_headers() {
        let bench = Bench::new();
        let (_, token) = bench.token(Role::Viewer);
        let (bearer, key) = (("authorization", format!("Bearer {token}")), ("x-api-key", token));
        let admit = |pairs: &[&(&'static str, String)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            });
            bench.auth.admit_request(&pairs.collect(), Access::Query)
        };
        assert!(admit(&[&bearer]).is_ok() && admit(&[&key]).is_ok());
        assert_eq!(admit(&[&bearer, &key]).unwrap_err().reason(), "TOKEN_TWICE");
        let grpc = ("content-type", "application/grpc+proto".to_owned());
        let foreign = ("x-api-key", "of a gateway".to_owned());
        assert!(admit(&[&bearer, &foreign, &grpc]).is_ok());
        assert_eq!(admit(&[&foreign, &grpc]).unwrap_err().reason(), "TOKEN_MALFORMED");
        assert_eq!(admit(&[]).unwrap_err().reason(), "TOKEN_MISSING");
    }

    #[test]
    fn a_token_ends_by_expiry_and_by_revocation_even_when_cached() {
        let bench = Bench::new();
        let (record, token) = bench.token(Role::Ingest);
        assert!(bench.admit(&token, Access::Ingest).is_ok());
        bench.auth.set_revoked(vec![record.token_id.clone()]);
        assert_eq!(bench.admit(&token, Access::Ingest).unwrap_err().reason(), "TOKEN_REVOKED");
        bench.auth.set_revoked(Vec::new());
        bench.now.store(record.expires_at.as_unix_nanos(), Ordering::Relaxed);
        let refusal = bench.admit(&token, Access::Ingest).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the token expired at 2025-10-09T08:54:20Z: issue a new one with `logweir token issue`"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_stream_learns_of_a_revocation() {
        let bench = Bench::new();
        let (record, token) = bench.token(Role::Ingest);
        let caller = bench.admit(&token, Access::Ingest).unwrap();
        let ended = bench.auth.ended(&caller);
        tokio::pin!(ended);
        assert!(futures::poll!(&mut ended).is_pending());
        bench.auth.add_revoked(record.token_id);
        let began = tokio::time::Instant::now();
        assert_eq!(ended.await.reason(), "TOKEN_REVOKED");
        assert!(began.elapsed() <= Duration::from_secs(2));
    }

    #[test]
    fn a_list_read_before_a_revocation_does_not_undo_it() {
        let bench = Bench::new();
        let (record, token) = bench.token(Role::Ingest);
        bench.auth.add_revoked(record.token_id.clone());
        bench.auth.set_revoked(Vec::new());
        assert_eq!(bench.admit(&token, Access::Ingest).unwrap_err().reason(), "TOKEN_REVOKED");
        bench.auth.set_revoked(vec![record.token_id]);
        assert_eq!(bench.admit(&token, Access::Ingest).unwrap_err().reason(), "TOKEN_REVOKED");
        assert!(bench.auth.revoked.read().added.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn forged_tokens_do_not_have_the_keys_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token_keys");
        let bench = Bench::with(TokenKeys::open_or_create(&path).unwrap());
        let (_, forged) = Bench::new().token(Role::Ingest);
        let refused = || bench.admit(&forged, Access::Ingest).unwrap_err().reason();
        assert_eq!(refused(), "TOKEN_KEY_UNKNOWN");
        let old_line = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, TokenKeys::rotated(&old_line)).unwrap();
        let other = Bench::with(TokenKeys::open_or_create(&path).unwrap());
        let (_, new) = other.token(Role::Ingest);
        assert!(bench.admit(&new, Access::Ingest).is_err(), "the file was read a moment ago");
        tokio::time::advance(SEEK_KEYS_EVERY).await;
        assert!(bench.admit(&new, Access::Ingest).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_come_and_go_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token_keys");
        let bench = Bench::with(TokenKeys::open_or_create(&path).unwrap());
        let old_line = std::fs::read_to_string(&path).unwrap();
        let (_, old) = bench.token(Role::Ingest);
        let caller = bench.admit(&old, Access::Ingest).unwrap();
        let stream = bench.auth.ended(&caller);
        tokio::pin!(stream);
        assert!(!bench.auth.reload_keys().unwrap());

        let both_lines = TokenKeys::rotated(&old_line);
        std::fs::write(&path, &both_lines).unwrap();
        let other = Bench::with(TokenKeys::open_or_create(&path).unwrap());
        let (_, new) = other.token(Role::Ingest);
        assert!(bench.admit(&new, Access::Ingest).is_ok());
        assert_ne!(decode_header(&old).unwrap().kid, decode_header(&new).unwrap().kid);
        for token in [&old, &new] {
            assert!(bench.admit(token, Access::Ingest).is_ok());
        }
        assert!(futures::poll!(&mut stream).is_pending());

        std::fs::write(&path, "half a li").unwrap();
        assert!(bench.auth.reload_keys().is_err());
        assert!(bench.admit(&old, Access::Ingest).is_ok());

        let new_line = both_lines.lines().next().unwrap();
        std::fs::write(&path, new_line).unwrap();
        assert!(bench.auth.reload_keys().unwrap());
        assert!(bench.admit(&new, Access::Ingest).is_ok());
        assert_eq!(bench.admit(&old, Access::Ingest).unwrap_err().reason(), "TOKEN_KEY_UNKNOWN");
        assert_eq!(stream.await.reason(), "TOKEN_KEY_UNKNOWN");

        // Another secret under the same name: what was remembered does not hold.
        let (kid, _) = new_line.split_once(' ').unwrap();
        std::fs::write(&path, format!("{kid} {}", "ab".repeat(32))).unwrap();
        assert!(bench.auth.reload_keys().unwrap());
        assert_eq!(bench.admit(&new, Access::Ingest).unwrap_err().reason(), "TOKEN_MALFORMED");
    }

    #[test]
    fn the_cache_is_bounded() {
        let bench = Bench::new();
        for _ in 0..CACHED_TOKENS_MAX + 10 {
            let (_, token) = bench.token(Role::Ingest);
            assert!(bench.admit(&token, Access::Ingest).is_ok());
        }
        assert!(bench.auth.verified.read().len() <= CACHED_TOKENS_MAX);
    }
}
