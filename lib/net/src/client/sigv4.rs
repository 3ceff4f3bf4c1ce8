//! AWS Signature Version 4: a request signed with an access key.
use aws_lc_rs::{digest, hmac};
use ferula_yaml::Secret;
use http::HeaderValue;
use http::header::{AUTHORIZATION, HOST};

use super::Request;
use super::error::Error;

/// An access key, with a token where it is a temporary one.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: Secret,
    pub session_token: Secret,
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}"); // writing to a String cannot fail
        out
    })
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn mac(key: &[u8], data: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data.as_bytes()).as_ref().to_vec()
}

fn escape(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

/// `20130524T000000Z` of a time in seconds since 1970.
fn stamp(now_s: i64) -> String {
    let (days, second) = (now_s.div_euclid(86_400), now_s.rem_euclid(86_400));
    // Days since 0000-03-01, so that a leap day ends its year.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Signs `request` as it is: its URL, its headers and its body must not change afterwards. `now_s` counts seconds since
/// 1970; a server refuses signatures more than minutes off.
pub fn sign(
    request: &mut Request,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now_s: i64,
) -> Result<(), Error> {
    let date = stamp(now_s);
    let day = date.get(..8).unwrap_or_default();
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Error::Config("sigv4: invalid header".into()));
    let host = request.url.host_str().unwrap_or("");
    let host = request.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    request.headers.insert(HOST, value(&host)?);
    request.headers.insert("x-amz-date", value(&date)?);
    if !credentials.session_token.is_empty() {
        let mut token = value(credentials.session_token.expose())?;
        token.set_sensitive(true);
        request.headers.insert("x-amz-security-token", token);
    }
    let mut headers: Vec<(&str, String)> = Vec::new();
    for (name, value) in &request.headers {
        headers.push((name.as_str(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned()));
    }
    headers.sort();
    let signed = headers.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(";");
    let listed: String = headers.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
    let mut query: Vec<(String, String)> = request.url.query_pairs().map(|(n, v)| (escape(&n), escape(&v))).collect();
    query.sort();
    let query = query.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("&");
    // The path is escaped twice: once in the URL already.
    let path = request.url.path().split('/').map(escape).collect::<Vec<_>>().join("/");
    let canonical = format!("{}\n{path}\n{query}\n{listed}\n{signed}\n{}", request.method, sha256(&request.body));
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{}", credentials.secret_key.expose()).into_bytes();
    for part in [day, region, service, "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &to_sign));
    let text = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
        credentials.access_key
    );
    let mut text = value(&text)?;
    text.set_sensitive(true);
    request.headers.insert(AUTHORIZATION, text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_documentation_does() {
        // The example of AWS's documentation: ListUsers of IAM.
        let mut request =
            Request::get("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08".parse().unwrap());
        let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        request.headers.insert("content-type", form);
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            ..Credentials::default()
        };
        sign(&mut request, &credentials, "us-east-1", "iam", 1_440_938_160).unwrap();
        assert_eq!(request.headers["x-amz-date"], "20150830T123600Z");
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                        SignedHeaders=content-type;host;x-amz-date, \
                        Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert_eq!(request.headers[AUTHORIZATION], expected);
    }

    #[test]
    fn stamps_know_leap_years() {
        for (now_s, expected) in
            [(0, "19700101T000000Z"), (951_782_400, "20000229T000000Z"), (1_709_164_799, "20240228T235959Z")]
        {
            assert_eq!(stamp(now_s), expected);
        }
    }
}
