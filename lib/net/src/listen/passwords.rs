//! Basic authentication against bcrypt hashes, whose cost is kept off the async threads and paid once per password.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use base64::Engine;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Verdicts remembered; an attacker's guesses must not fill the memory.
const REMEMBERED_MAX: usize = 100;
/// Longer credentials are nobody's.
const CREDENTIALS_BYTES_MAX: usize = 8 << 10;
/// What an unknown user's password is compared with, so that both take as long: the hash of nobody's password.
const NOBODY: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

#[derive(Debug, Default)]
pub(super) struct Passwords {
    /// By a digest of user, hash and password.
    verdicts: Mutex<HashMap<Vec<u8>, bool>>,
    /// One at a time: guesses may take one core, not all.
    turn: Arc<tokio::sync::Mutex<()>>,
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > CREDENTIALS_BYTES_MAX {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

impl Passwords {
    pub(super) async fn accepts(&self, users: &BTreeMap<String, String>, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else { return false };
        let (hash, is_known) = match users.get(&user) {
            Some(hash) => (hash.clone(), true),
            None => (NOBODY.to_owned(), false),
        };
        let key = {
            let mut context = digest::Context::new(&digest::SHA256);
            for part in [&user, &hash, &password] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part.as_bytes());
            }
            context.finish().as_ref().to_vec()
        };
        let remembered = self.verdicts().get(&key).copied();
        let verdict = match remembered {
            Some(verdict) => verdict,
            None => {
                let turn = Arc::clone(&self.turn).lock_owned().await;
                let checked = tokio::task::spawn_blocking(move || {
                    let matches = bcrypt::verify(password, &hash).unwrap_or(false);
                    drop(turn); // even if the client left meanwhile, the next one waits for this
                    matches
                });
                let verdict = checked.await.unwrap_or(false);
                let mut verdicts = self.verdicts();
                if verdicts.len() >= REMEMBERED_MAX {
                    // Good passwords are few: forgetting wrong ones first keeps them cheap.
                    let victim = verdicts.iter().find(|(_, good)| !**good).or_else(|| verdicts.iter().next());
                    let victim = victim.map(|(key, _)| key.clone());
                    if let Some(victim) = victim {
                        verdicts.remove(&victim);
                    }
                }
                verdicts.insert(key, verdict);
                verdict
            }
        };
        verdict && is_known
    }

    fn verdicts(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, bool>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
