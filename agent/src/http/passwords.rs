//! `basic_auth_users` of [`super::web`]: who may see the pages. Passwords are held as bcrypt hashes, which are slow on purpose;
//! what was found right is remembered, by a keyed digest, as long as the file does not change.

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bcrypt::HashParts;
use ring::{hmac, rand::SystemRandom};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::web::Web;

/// Most expensive hash: 2^15 rounds are two seconds of a core, for each wrong guess of anybody.
const MOST_COST: u32 = 15;

/// Logins remembered; beyond that all are forgotten, which costs each one more look.
const REMEMBERED: usize = 64;

/// Longest `Authorization` that is looked at, in bytes.
const HEADER_BYTES: usize = 1024;

/// Pages without a password: what kubelet asks, who has none. They say `ok`, or why not.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Users with their hashes.
pub(super) struct Passwords(Option<Arc<Users>>);

struct Users {
    hashes: BTreeMap<String, String>,
    key: hmac::Key,
    known: Mutex<HashSet<Vec<u8>>>,
    /// One guess at a time: guessing must not take the machine's cores.
    turn: Semaphore,
}

impl Passwords {
    /// Checks the hashes; the error says which is wrong and why.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, String> {
        if hashes.is_empty() {
            return Ok(Self(None));
        }
        for (user, hash) in &hashes {
            let parts = HashParts::from_str(hash).map_err(|_| {
                format!("basic_auth_users: the password of `{user}` is no bcrypt hash; `htpasswd -nBC 10 {user}` makes one")
            })?;
            if parts.get_cost() > MOST_COST {
                return Err(format!(
                    "basic_auth_users: the hash of `{user}` has the cost {}; the most is {MOST_COST}",
                    parts.get_cost()
                ));
            }
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the system has no random numbers".to_owned())?;
        Ok(Self(Some(Arc::new(Users {
            hashes,
            key,
            known: Mutex::default(),
            turn: Semaphore::new(1),
        }))))
    }
}

/// Lets requests pass that need no password, or have a right one.
pub(super) async fn admit(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let Some(users) = web.current().passwords.0.clone() else {
        return next.run(request).await;
    };
    let open = OPEN.contains(&request.uri().path());
    if open || users.admit(request.headers()).await {
        return next.run(request).await;
    }
    let challenge = [(
        header::WWW_AUTHENTICATE,
        "Basic realm=\"stormglass\", charset=\"UTF-8\"",
    )];
    (
        StatusCode::UNAUTHORIZED,
        challenge,
        "this agent asks for a user and a password\n",
    )
        .into_response()
}

impl Users {
    async fn admit(self: &Arc<Self>, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else {
            return false;
        };
        let mut both = user.clone().into_bytes();
        both.push(0);
        both.extend_from_slice(password.as_bytes());
        let digest = hmac::sign(&self.key, &both).as_ref().to_vec();
        if self.known().contains(&digest) {
            return true;
        }
        let Ok(_turn) = self.turn.acquire().await else {
            return false;
        };
        let users = Arc::clone(self);
        let right = spawn_blocking(move || users.is_right(&user, &password)).await;
        let right = right.unwrap_or(false);
        if right {
            let mut known = self.known();
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(digest);
        }
        right
    }

    /// Takes as long for a user that there is none of.
    fn is_right(&self, user: &str, password: &str) -> bool {
        let hash = self.hashes.get(user);
        let any = hash.or_else(|| self.hashes.values().next());
        let matches = any.is_some_and(|any| bcrypt::verify(password, any).unwrap_or(false));
        hash.is_some() && matches
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<Vec<u8>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    if value.len() > HEADER_BYTES {
        return None;
    }
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
