//! What the mechanisms of AWS share: credentials, regions, signed requests.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferula_model::{Clock, SystemClock};
use ferula_net::client::sigv4::{self, Credentials};
use ferula_net::client::{ClientConfig, Request};
use ferula_yaml::Secret;
use http::{HeaderValue, Method};
use serde::Deserialize;

use crate::api::{Api, Form};
use crate::error::Error;
use crate::xml;

/// Where credentials and the region come from, as configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub region: String,
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: Secret,
    pub profile: String,
    pub role_arn: String,
}

/// Signs requests to one service.
pub(crate) struct Aws {
    settings: Settings,
    service: &'static str,
    http: ClientConfig,
    region: String,
    api: Option<Api>,
    held: Option<(Credentials, Option<Instant>)>,
}

/// Temporary credentials are renewed so long before they end.
const MARGIN: Duration = Duration::from_secs(5 * 60);
const METADATA: &str = "http://169.254.169.254";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Local services are asked without proxies, and must answer soon.
async fn local(request: Request) -> Result<Vec<u8>, Error> {
    let api = Api::new(&ClientConfig::default(), request.url.as_str())?;
    let asked = tokio::time::timeout(Duration::from_secs(5), api.send(request)).await;
    Ok(asked.unwrap_or_else(|_| Err(Error::Refresh("the metadata service does not answer".into())))?.1)
}

fn get(url: &str) -> Result<Request, Error> {
    Ok(Request::get(url.parse().map_err(|e| Error::Refresh(format!("invalid URL {url:?}: {e}")))?))
}

fn header(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| Error::Refresh("a credential holds a control character".into()))
}

/// What the instance metadata service has at `path`, by its version 2.
async fn metadata(path: &str) -> Result<String, Error> {
    let base = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| METADATA.to_owned());
    let base = base.trim_end_matches('/');
    let mut request = get(&format!("{base}/latest/api/token"))?;
    request.method = Method::PUT;
    request.headers.insert("x-aws-ec2-metadata-token-ttl-seconds", HeaderValue::from_static("60"));
    let token = String::from_utf8_lossy(&local(request).await?).into_owned();
    let mut request = get(&format!("{base}/latest/meta-data/{path}"))?;
    request.headers.insert("x-aws-ec2-metadata-token", header(&token)?);
    Ok(String::from_utf8_lossy(&local(request).await?).into_owned())
}

/// As the metadata services write them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Temporary {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    token: String,
}

impl Temporary {
    fn held(self) -> (Credentials, Option<Instant>) {
        let credentials = Credentials {
            access_key: self.access_key_id,
            secret_key: Secret::new(self.secret_access_key),
            session_token: Secret::new(self.token),
        };
        // They last for hours; asking again sooner costs little.
        (credentials, Some(Instant::now() + Duration::from_secs(15 * 60)))
    }
}

impl Aws {
    pub(crate) fn new(settings: Settings, service: &'static str, http: ClientConfig) -> Result<Aws, Error> {
        let region = settings.region.clone();
        let mut aws = Aws { settings, service, http, region, api: None, held: None };
        if !aws.region.is_empty() || !aws.settings.endpoint.is_empty() {
            aws.api = Some(aws.connect()?); // a bad configuration is refused at once
        }
        Ok(aws)
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    fn connect(&self) -> Result<Api, Error> {
        let endpoint = match self.settings.endpoint.as_str() {
            "" => format!("https://{}.{}.{}", self.service, self.region, domain(&self.region)),
            text if text.contains("://") => text.to_owned(),
            text => format!("https://{text}"),
        };
        Api::new(&self.http, &endpoint)
    }

    /// Sends a signed POST and returns the body of a good answer.
    pub(crate) async fn post(
        &mut self,
        content_type: &'static str,
        target: Option<&'static str>,
        body: String,
    ) -> Result<Vec<u8>, Error> {
        if self.region.is_empty() {
            self.region = match variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")) {
                Some(region) => region,
                None => metadata("placement/region").await?,
            };
        }
        let api = match self.api.take() {
            Some(api) => api,
            None => self.connect()?,
        };
        let credentials = self.credentials().await;
        let api = self.api.insert(api);
        let mut request = Request::post(api.url("/", &[]), content_type, body);
        if let Some(target) = target {
            request.headers.insert("x-amz-target", HeaderValue::from_static(target));
        }
        sigv4::sign(&mut request, &credentials?, &self.region, self.service, SystemClock.now_ms() / 1000)?;
        Ok(api.send(request).await?.1)
    }

    async fn credentials(&mut self) -> Result<Credentials, Error> {
        if let Some((credentials, until)) = &self.held
            && until.is_none_or(|until| Instant::now() + MARGIN < until)
        {
            return Ok(credentials.clone());
        }
        let mut held = self.base_credentials().await?;
        if !self.settings.role_arn.is_empty() {
            let form = [("Action", "AssumeRole"), ("RoleArn", &self.settings.role_arn)];
            held = self.assume(&form, Some(&held.0)).await?;
        }
        Ok(self.held.insert(held).0.clone())
    }

    /// In the SDK's order: configuration, environment, files, web identity, container, instance.
    async fn base_credentials(&self) -> Result<(Credentials, Option<Instant>), Error> {
        let s = &self.settings;
        if !s.access_key.is_empty() {
            let credentials = Credentials {
                access_key: s.access_key.clone(),
                secret_key: s.secret_key.clone(),
                ..Credentials::default()
            };
            return Ok((credentials, None));
        }
        if s.profile.is_empty()
            && let (Some(key), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
        {
            let credentials = Credentials {
                access_key: key,
                secret_key: Secret::new(secret),
                session_token: Secret::new(variable("AWS_SESSION_TOKEN").unwrap_or_default()),
            };
            return Ok((credentials, None));
        }
        if let Some(credentials) = from_file(&s.profile) {
            return Ok((credentials, Some(Instant::now() + 2 * MARGIN)));
        }
        if let (Some(file), Some(role)) = (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
            let token = std::fs::read_to_string(&file)
                .map_err(|e| Error::Refresh(format!("unable to read file {file}: {e}")))?;
            let form =
                [("Action", "AssumeRoleWithWebIdentity"), ("RoleArn", &role), ("WebIdentityToken", token.trim())];
            return self.assume(&form, None).await;
        }
        let relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|p| format!("http://169.254.170.2{p}"));
        if let Some(url) = relative.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            let mut request = get(&url)?;
            let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
                Some(file) => std::fs::read_to_string(&file).ok(),
                None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
            };
            if let Some(token) = token {
                request.headers.insert(http::header::AUTHORIZATION, header(token.trim())?);
            }
            let temporary: Temporary = crate::api::read("container credentials", &local(request).await?)?;
            return Ok(temporary.held());
        }
        let none = |e| Error::Refresh(format!("no AWS credentials found: {e}"));
        let role = metadata("iam/security-credentials/").await.map_err(none)?;
        let role = role.lines().next().unwrap_or_default();
        let text = metadata(&format!("iam/security-credentials/{role}")).await.map_err(none)?;
        let temporary: Temporary = crate::api::read("instance credentials", text.as_bytes())?;
        Ok(temporary.held())
    }

    /// Asks the security token service for temporary credentials.
    async fn assume(
        &self,
        form: &[(&str, &str)],
        signed_by: Option<&Credentials>,
    ) -> Result<(Credentials, Option<Instant>), Error> {
        let endpoint = variable("AWS_ENDPOINT_URL_STS")
            .unwrap_or_else(|| format!("https://sts.{}.{}", self.region, domain(&self.region)));
        let api = Api::new(&self.http, &endpoint)?;
        let mut body = Form::default();
        form.iter().for_each(|(n, v)| {
            body.append_pair(n, v);
        });
        body.append_pair("Version", "2011-06-15").append_pair("RoleSessionName", "prometheus");
        let mut request = Request::post(api.url("/", &[]), FORM, body.finish());
        if let Some(credentials) = signed_by {
            sigv4::sign(&mut request, credentials, &self.region, "sts", SystemClock.now_ms() / 1000)?;
        }
        let (_, body) = api.send(request).await?;
        let answer = xml::parse(&String::from_utf8_lossy(&body)).map_err(Error::Refresh)?;
        let result = answer.children.iter().find_map(|r| r.child("Credentials"));
        let given = result.ok_or_else(|| Error::Refresh("the token service gave no credentials".into()))?;
        let temporary = Temporary {
            access_key_id: given.at(&["AccessKeyId"]).to_owned(),
            secret_access_key: given.at(&["SecretAccessKey"]).to_owned(),
            token: given.at(&["SessionToken"]).to_owned(),
        };
        Ok(temporary.held())
    }
}

pub(crate) const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// China has a partition of its own.
fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// The keys of a profile in the shared credentials file.
fn from_file(profile: &str) -> Option<Credentials> {
    let path = variable("AWS_SHARED_CREDENTIALS_FILE")
        .or_else(|| variable("HOME").map(|home| format!("{home}/.aws/credentials")))?;
    let text = std::fs::read_to_string(path).ok()?;
    let wanted = Some(profile.to_owned()).filter(|p| !p.is_empty()).or_else(|| variable("AWS_PROFILE"));
    profile_of(&text, wanted.as_deref().unwrap_or("default"))
}

fn profile_of(text: &str, profile: &str) -> Option<Credentials> {
    let mut section = "";
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.trim();
        } else if let Some((key, value)) = line.split_once('=').filter(|_| section == profile) {
            found.insert(key.trim(), value.trim());
        }
    }
    Some(Credentials {
        access_key: (*found.get("aws_access_key_id")?).to_owned(),
        secret_key: Secret::new(*found.get("aws_secret_access_key")?),
        session_token: Secret::new(found.get("aws_session_token").copied().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_profiles() {
        let text = "[default]\naws_access_key_id = a\naws_secret_access_key=b\n# x\n[other]\naws_access_key_id=c\n\
                    aws_secret_access_key = d\naws_session_token = e\n";
        let of = |p: &str| profile_of(text, p).map(|c| (c.access_key.clone(), c.secret_key.expose().to_owned()));
        assert_eq!(of("default"), Some(("a".into(), "b".into())));
        assert_eq!(of("other"), Some(("c".into(), "d".into())));
        assert_eq!(of("absent"), None);
    }
}
