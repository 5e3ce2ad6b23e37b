//! The keys that sign tokens, in a file of lines `kid secret`, newest first.
//!
//! The file is created on first use, readable by its owner only and never in part. To rotate, put a
//! new line first (see [`TokenKeys::rotated`]); remove an old line once its tokens may end. A
//! server looks at the file again while it runs; if it is not valid then, the last keys stay in
//! use.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jsonwebtoken::{DecodingKey, EncodingKey};

/// Bytes of a key: as many as the hash has, the least for HS256 (RFC 7518, 3.2).
const SECRET_BYTES: usize = 32;
/// Keys in the file; each token names its own, so more only mean that old ones were never removed.
const KEYS_MAX: usize = 64;

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeysError {
    /// The file cannot be read or written.
    #[error("the token keys in {} cannot be read or created", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("the token keys in {} are not valid: line {line} {what}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it, and what to do.
        what: &'static str,
    },
    /// Others could read the keys and issue tokens.
    #[error("others may read the token keys in {path}: run `chmod 600 {path}`", path = .0.display())]
    Exposed(PathBuf),
}

/// The keys.
#[derive(Clone)]
pub struct TokenKeys {
    /// Newest first; at least one.
    keys: Vec<TokenKey>,
    /// Where they come from, if from a file.
    source: Option<Source>,
}

#[derive(Clone)]
struct Source {
    path: PathBuf,
    text: String,
}

#[derive(Clone)]
pub(crate) struct TokenKey {
    pub(crate) kid: String,
    pub(crate) encoding: EncodingKey,
    pub(crate) decoding: DecodingKey,
}

impl TokenKey {
    fn new(kid: &str, secret: &[u8]) -> Self {
        let (encoding, decoding) =
            (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Self { kid: kid.to_owned(), encoding, decoding }
    }
}

impl TokenKeys {
    /// Reads the keys, creating the file with a random key if there is none.
    pub fn open_or_create(path: &Path) -> Result<Self, TokenKeysError> {
        if !path.exists() {
            let created = create(path, &random_line());
            created.map_err(|source| TokenKeysError::Io { path: path.to_owned(), source })?;
        }
        Self::parse(path, read(path)?)
    }

    /// What is in the file now, if that is something else.
    pub(crate) fn reread(&self) -> Result<Option<Self>, TokenKeysError> {
        let Some(Source { path, text }) = &self.source else { return Ok(None) };
        let now = read(path)?;
        if now == *text { Ok(None) } else { Self::parse(path, now).map(Some) }
    }

    /// A key file's text with a new key before the old ones.
    pub fn rotated(text: &str) -> String {
        format!("{}{text}", random_line())
    }

    /// One random key that is written nowhere.
    pub fn generate() -> Self {
        let key = TokenKey::new(&random_kid(), &rand::random::<[u8; SECRET_BYTES]>());
        Self { keys: vec![key], source: None }
    }

    pub(crate) fn newest(&self) -> &TokenKey {
        self.keys.first().expect("there is at least one key")
    }

    pub(crate) fn get(&self, kid: &str) -> Option<&TokenKey> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    fn parse(path: &Path, text: String) -> Result<Self, TokenKeysError> {
        let mut keys: Vec<TokenKey> = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let invalid =
                |what| TokenKeysError::Invalid { path: path.to_owned(), line: number + 1, what };
            let (kid, secret) =
                line.trim().split_once(' ').ok_or_else(|| invalid("is not `kid secret`"))?;
            let mut bytes = [0; SECRET_BYTES];
            hex::decode_to_slice(secret, &mut bytes)
                .map_err(|_| invalid("has a secret that is not 64 hexadecimal digits"))?;
            if keys.iter().any(|key| key.kid == kid) {
                return Err(invalid("repeats a kid: give each key its own"));
            }
            if keys.len() == KEYS_MAX {
                return Err(invalid("is one too many: remove old keys"));
            }
            keys.push(TokenKey::new(kid, &bytes));
        }
        // An empty file is what a full disk leaves. To make a new key there in silence would end
        // every token that is in use.
        if keys.is_empty() {
            let what = "is missing: restore the file, or delete it to make a new key";
            return Err(TokenKeysError::Invalid { path: path.to_owned(), line: 1, what });
        }
        Ok(Self { keys, source: Some(Source { path: path.to_owned(), text }) })
    }
}

fn read(path: &Path) -> Result<String, TokenKeysError> {
    let io_error = |source| TokenKeysError::Io { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(io_error)?.permissions().mode();
    // As ssh treats its keys: whoever reads this file can issue a token for any tenant and role.
    if mode & 0o077 != 0 {
        return Err(TokenKeysError::Exposed(path.to_owned()));
    }
    fs::read_to_string(path).map_err(io_error)
}

fn random_kid() -> String {
    hex::encode(rand::random::<[u8; 4]>())
}

fn random_line() -> String {
    format!("{} {}\n", random_kid(), hex::encode(rand::random::<[u8; SECRET_BYTES]>()))
}

/// Writes the whole file aside and links it into place, so that of two processes that start at once
/// one wins and both read the same key, and a crash leaves no half of it.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", random_kid()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // A link fails where the name exists already; a rename would replace the other process's key,
    // and the tokens that it has just issued would be worth nothing.
    let linked = match fs::hard_link(&aside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    fs::remove_file(&aside)?;
    linked?;
    // The folder too, or a power cut forgets the name, and with it every token issued since.
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_created_once_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token_keys");
        let first = TokenKeys::open_or_create(&path).unwrap();
        let again = TokenKeys::open_or_create(&path).unwrap();
        assert_eq!(first.newest().kid, again.newest().kid);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_key_signs_and_the_old_one_still_verifies() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token_keys");
        let old = TokenKeys::open_or_create(&path).unwrap().newest().kid.clone();
        fs::write(&path, TokenKeys::rotated(&fs::read_to_string(&path).unwrap())).unwrap();
        let keys = TokenKeys::open_or_create(&path).unwrap();
        assert_ne!(keys.newest().kid, old);
        assert!(keys.get(&old).is_some());
    }

    #[test]
    fn an_exposed_or_damaged_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token_keys");
        let secret = "ab".repeat(SECRET_BYTES);
        for (text, expected) in [
            ("", "restore the file"),
            ("abc", "line 1 is not `kid secret`"),
            ("a 00ff", "64 hexadecimal digits"),
            (&format!("a {secret}\na {secret}"), "line 2 repeats a kid"),
        ] {
            create(&path, text).unwrap();
            let error = TokenKeys::open_or_create(&path).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
            fs::remove_file(&path).unwrap();
        }
        create(&path, &random_line()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = TokenKeys::open_or_create(&path).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
