//! OAuth 2.0 tokens: fetched when needed, kept until shortly before they expire (RFC 6749, 4.4; RFC 7523, 2.1).
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::body::BodyLimits;
use super::config::OAuth2;
use super::error::Error;
use super::{Client, Request, auth, jwt, proxy};

/// A token is not used in its last seconds: it would expire on the way.
const MARGIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 1 << 20;
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const FORM: &str = "application/x-www-form-urlencoded";

/// Where tokens come from, and the one at hand.
pub(super) struct TokenSource {
    config: OAuth2,
    url: Url,
    client: Box<Client>,
    /// One request at a time: many waiting targets need one token.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// How the server wants the secret, once it is known: as basic authentication, or else in the form.
    in_form: Option<bool>,
}

struct Token {
    authorization: HeaderValue,
    /// `None` lasts until the secret changes.
    expires: Option<Instant>,
    /// The secret that it was given for.
    secret: ferula_yaml::Secret,
}

impl TokenSource {
    pub(super) fn new(config: &OAuth2) -> Result<TokenSource, Error> {
        let url = Url::parse(&config.token_url)
            .map_err(|e| Error::Config(format!("invalid oauth2 token_url {:?}: {e}", config.token_url)))?;
        let client = Box::new(Client::new(&proxy::token_config(config))?);
        Ok(TokenSource { config: config.clone(), url, client, held: Mutex::default() })
    }

    /// The value of `Authorization`. Asks the token endpoint if there is no token that lasts; secret files are read at
    /// every call, and a changed secret means a new token.
    pub(super) async fn authorization(&self) -> Result<HeaderValue, Error> {
        let c = &self.config;
        let is_jwt = c.grant_type == JWT_BEARER;
        let secret = if is_jwt {
            auth::text_or_file(c.client_certificate_key.expose(), &c.client_certificate_key_file)?
        } else {
            auth::text_or_file(c.client_secret.expose(), &c.client_secret_file)?
        };
        let secret = ferula_yaml::Secret::new(secret);
        let mut held = self.held.lock().await;
        if let Some(token) = &held.token
            && token.secret == secret
            && token.expires.is_none_or(|at| Instant::now() + MARGIN < at)
        {
            return Ok(token.authorization.clone());
        }
        held.token = None;
        let answer = if is_jwt {
            self.ask(self.assertion(&secret)?, None).await?.into_token()?
        } else {
            self.client_credentials(&secret, &mut held.in_form).await?
        };
        let authorization = answer.header()?;
        let lifetime = answer.expires_in.seconds();
        let expires = (lifetime > 0).then(|| Instant::now() + Duration::from_secs(lifetime));
        held.token = Some(Token { authorization: authorization.clone(), expires, secret });
        Ok(authorization)
    }

    /// Which of the two ways to show the secret a server takes is found out once.
    async fn client_credentials(
        &self,
        secret: &ferula_yaml::Secret,
        in_form: &mut Option<bool>,
    ) -> Result<Answer, Error> {
        let ways: &[bool] = match in_form {
            Some(true) => &[true],
            Some(false) => &[false],
            None => &[false, true],
        };
        let mut last = Err(Error::Body("oauth2: no token".into()));
        for way in ways {
            let mut form = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
            if !self.config.scopes.is_empty() {
                form.push(("scope".to_owned(), self.config.scopes.join(" ")));
            }
            let basic = if *way {
                form.push(("client_id".to_owned(), self.config.client_id.clone()));
                form.push(("client_secret".to_owned(), secret.expose().to_owned()));
                None
            } else {
                let escape = |s: &str| form_urlencoded::byte_serialize(s.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", escape(&self.config.client_id), escape(secret.expose()));
                Some(format!("Basic {}", STANDARD.encode(pair)))
            };
            last = self.ask(form, basic).await?.into_token();
            if last.is_ok() {
                *in_form = Some(*way);
                break;
            }
        }
        last
    }

    fn assertion(&self, key: &ferula_yaml::Secret) -> Result<Vec<(String, String)>, Error> {
        let c = &self.config;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let or = |a: &str, b: &str| if a.is_empty() { b.to_owned() } else { a.to_owned() };
        let mut claims = serde_json::json!({
            "iss": or(&c.iss, &c.client_id),
            "aud": or(&c.audience, &c.token_url),
            "iat": now,
            "exp": now + 3600,
        });
        if !c.scopes.is_empty() {
            claims["scope"] = c.scopes.join(" ").into();
        }
        for (name, value) in &c.claims {
            claims[name.as_str()] = value.as_str().into();
        }
        let algorithm = or(&c.signature_algorithm, "RS256");
        let token = jwt::sign(&algorithm, &c.client_certificate_key_id, &claims, key.expose())?;
        Ok(vec![("grant_type".to_owned(), JWT_BEARER.to_owned()), ("assertion".to_owned(), token)])
    }

    async fn ask(&self, mut form: Vec<(String, String)>, basic: Option<String>) -> Result<Asked, Error> {
        form.extend(self.config.endpoint_params.iter().map(|(n, v)| (n.clone(), v.clone())));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
        let mut request = Request::post(self.url.clone(), FORM, body);
        if let Some(basic) = basic {
            let mut value = HeaderValue::from_str(&basic)
                .map_err(|_| Error::Config("oauth2: the secret holds a control character".into()))?;
            value.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, value);
        }
        // The inner client is of the same type as the one that waits for it.
        let response = Box::pin(self.client.send(request)).await?;
        let status = response.status;
        let is_form = response.content_type().starts_with(FORM);
        let limits = BodyLimits { bytes_max: ANSWER_BYTES_MAX, ..BodyLimits::unlimited() };
        let body = response.uncompressed(&limits).await?;
        Ok(Asked { status, is_form, body: body.bytes })
    }
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource").field("token_url", &self.config.token_url).finish_non_exhaustive()
    }
}

/// What the endpoint answered.
struct Asked {
    status: http::StatusCode,
    is_form: bool,
    body: Vec<u8>,
}

/// RFC 6749, 5.1 and 5.2.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    access_token: String,
    token_type: String,
    expires_in: Lifetime,
    error: String,
    error_description: String,
}

/// Some servers write the seconds as a string.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Lifetime {
    Seconds(f64),
    Text(String),
    #[default]
    Nothing,
}

impl Lifetime {
    /// 0 means that nothing is said. A century is long enough for anybody.
    fn seconds(&self) -> u64 {
        let seconds = match self {
            Lifetime::Seconds(s) => *s,
            Lifetime::Text(t) => t.parse().unwrap_or(0.0),
            Lifetime::Nothing => 0.0,
        };
        seconds.clamp(0.0, 3.2e9) as u64
    }
}

impl Asked {
    fn into_token(self) -> Result<Answer, Error> {
        let answer: Option<Answer> = if self.is_form {
            let mut answer = Answer::default();
            for (name, value) in form_urlencoded::parse(&self.body) {
                match name.as_ref() {
                    "access_token" => answer.access_token = value.into_owned(),
                    "token_type" => answer.token_type = value.into_owned(),
                    "expires_in" => answer.expires_in = Lifetime::Text(value.into_owned()),
                    "error" => answer.error = value.into_owned(),
                    _ => {}
                }
            }
            Some(answer)
        } else {
            serde_json::from_slice(&self.body).ok()
        };
        let shown = || -> String { String::from_utf8_lossy(&self.body).chars().take(200).collect() };
        if !self.status.is_success() {
            return Err(match answer.filter(|a| !a.error.is_empty()) {
                Some(a) => Error::Body(format!("oauth2: {:?} {:?}", short(&a.error), short(&a.error_description))),
                None => Error::Body(format!("oauth2: cannot fetch token: {}\nResponse: {}", self.status, shown())),
            });
        }
        match answer {
            None => Err(Error::Body("oauth2: cannot parse json".into())),
            Some(a) if !a.error.is_empty() => {
                Err(Error::Body(format!("oauth2: {:?} {:?}", short(&a.error), short(&a.error_description))))
            }
            Some(a) if a.access_token.is_empty() => {
                Err(Error::Body("oauth2: server response missing access_token".into()))
            }
            Some(a) => Ok(a),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

impl Answer {
    fn header(&self) -> Result<HeaderValue, Error> {
        let scheme = match self.token_type.to_ascii_lowercase().as_str() {
            "" | "bearer" => "Bearer".to_owned(),
            "mac" => "MAC".to_owned(),
            "basic" => "Basic".to_owned(),
            _ => self.token_type.clone(),
        };
        let mut value = HeaderValue::from_str(&format!("{scheme} {}", self.access_token))
            .map_err(|_| Error::Body("oauth2: the token holds a control character".into()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
