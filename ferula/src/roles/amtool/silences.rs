//! `amtool silence`: query, add, expire, update, import.
use std::collections::BTreeMap;

use ferula_alertmanager::matcher::{self, MatchOp};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::alerts::{instant, pairs, with_alertname};
use super::args::{Settings, SilenceAdd, SilenceImport, SilenceQuery, SilenceUpdate};
use super::client::Call;
use super::table::{json, row, table};
use super::{Outcome, Output, Tool};

/// A silence as the API gives and takes it, its fields in the order Go prints them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Silence {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    updated_at: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    created_by: String,
    ends_at: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    matcher_sets: Vec<serde_json::Value>,
    #[serde(default)]
    matchers: Vec<ApiMatcher>,
    starts_at: String,
}
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Status {
    state: String,
}
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiMatcher {
    #[serde(default = "yes")]
    is_equal: bool,
    is_regex: bool,
    name: String,
    value: String,
}
fn yes() -> bool {
    true
}

impl ApiMatcher {
    fn text(&self) -> String {
        let op = match (self.is_equal, self.is_regex) {
            (true, false) => "=",
            (true, true) => "=~",
            (false, false) => "!=",
            (false, true) => "!~",
        };
        format!("{}{op}{}", self.name, serde_json::Value::String(self.value.clone()))
    }
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "silenceID")]
    id: String,
}

const GET: Call = Call { path: "/silence/{silenceID}", operation: "getSilence" };
const POST: Call = Call { path: "/silences", operation: "postSilences" };

fn duration(text: &str) -> Outcome<SignedDuration> {
    let ms = ferula_model::duration::parse_ms(text).map_err(|_| format!("not a valid duration string: {text:?}"))?;
    Ok(SignedDuration::from_millis(ms))
}

fn positive(text: &str) -> Outcome<SignedDuration> {
    let d = duration(text)?;
    if d.is_zero() { Err("silence duration must be greater than 0".to_owned()) } else { Ok(d) }
}

fn after(t: Timestamp, d: SignedDuration) -> Outcome<Timestamp> {
    t.checked_add(d).map_err(|e| e.to_string())
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Tool {
    #[allow(clippy::print_stdout)]
    fn print_silences(&self, silences: &[Silence]) -> Outcome {
        if self.output == Output::Json {
            print!("{}", json(&silences)?);
            return Ok(());
        }
        let mut sorted: Vec<&Silence> = silences.iter().collect();
        sorted.sort_by_key(|s| time(&s.ends_at));
        let is_simple = self.output == Output::Simple;
        let mut rows = vec![match is_simple {
            true => row(&["ID", "Matchers", "Ends At", "Created By", "Comment"]),
            false => row(&["ID", "Matchers", "Starts At", "Ends At", "Updated At", "Created By", "Comment"]),
        }];
        for s in sorted {
            let matchers: Vec<String> = s.matchers.iter().map(ApiMatcher::text).collect();
            rows.push(match is_simple {
                true => vec![
                    s.id.clone(),
                    matchers.join(" "),
                    self.date(&s.ends_at),
                    s.created_by.clone(),
                    s.comment.clone(),
                ],
                false => vec![
                    s.id.clone(),
                    format!("{{{}}}", matchers.join(",")),
                    self.date(&s.starts_at),
                    self.date(&s.ends_at),
                    self.date(&s.updated_at),
                    s.created_by.clone(),
                    s.comment.clone(),
                ],
            });
        }
        print!("{}", table(&rows));
        Ok(())
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn query_silences(&self, q: SilenceQuery) -> Outcome {
        let matchers = with_alertname(q.matchers);
        let query: Vec<(&str, &str)> = matchers.iter().map(|m| ("filter", m.as_str())).collect();
        let call = Call { path: "/silences", operation: "getSilences" };
        let mut silences: Vec<Silence> = self.client.get(&call, "silences", &query).await?;
        let within = q.within.as_deref().map(duration).transpose()?.filter(|d| !d.is_zero());
        let now = Timestamp::now();
        silences.retain(|s| {
            let is_expired = s.status.as_ref().is_some_and(|s| s.state == "expired");
            let ends = time(&s.ends_at);
            is_expired == q.expired
                && within.is_none_or(|d| match q.expired {
                    true => ends >= now.checked_sub(d).unwrap_or(Timestamp::MIN),
                    false => ends <= now.checked_add(d).unwrap_or(Timestamp::MAX),
                })
                && q.created_by.as_ref().is_none_or(|by| *by == s.created_by)
                && q.id.as_ref().is_none_or(|id| *id == s.id)
        });
        if q.quiet {
            silences.iter().for_each(|s| println!("{}", s.id));
            return Ok(());
        }
        self.print_silences(&silences)
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn add_silence(&self, a: SilenceAdd, settings: &Settings) -> Outcome {
        let mut matchers = Vec::new();
        for word in with_alertname(a.matchers) {
            let m = matcher::parse_matcher(&word, "amtool").map_err(|e| e.to_string())?;
            matchers.push(ApiMatcher {
                is_equal: matches!(m.op, MatchOp::Equal | MatchOp::RegexMatch),
                is_regex: m.is_regex(),
                name: m.name.clone(),
                value: m.value.clone(),
            });
        }
        if matchers.is_empty() {
            return Err("no matchers specified".to_owned());
        }
        let annotations = pairs(&a.annotation, "annotations")?;
        let starts = a.start.as_deref().map_or(Ok(Timestamp::now()), instant)?;
        let ends = match &a.end {
            Some(end) => instant(end)?,
            None => after(starts, positive(&a.duration)?)?,
        };
        if starts > ends {
            return Err("silence cannot start after it ends".to_owned());
        }
        let is_required = ["require-comment", "comment_required"].iter().find_map(|n| settings.get(n));
        if a.comment.is_empty() && is_required.as_deref() != Some("false") {
            return Err("comment required by config".to_owned());
        }
        let user = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "root".to_owned());
        let silence = Silence {
            matchers,
            annotations,
            starts_at: starts.to_string(),
            ends_at: ends.to_string(),
            created_by: a.author.or(settings.get("author")).unwrap_or_else(user),
            comment: a.comment,
            ..Silence::default()
        };
        println!("{}", self.post_silence(&silence).await?);
        Ok(())
    }

    async fn post_silence(&self, silence: &Silence) -> Outcome<String> {
        let posted = Silence { status: None, updated_at: String::new(), ..silence.clone() };
        let answer = self.client.post(&POST, "silences", &posted).await?;
        serde_json::from_slice::<Created>(&answer).map(|c| c.id).map_err(|e| e.to_string())
    }

    pub(super) async fn expire_silences(&self, ids: &[String]) -> Outcome {
        if ids.is_empty() {
            return Err("no silence IDs specified".to_owned());
        }
        for id in ids {
            let call = Call { path: "/silence/{silenceID}", operation: "deleteSilence" };
            self.client.delete(&call, &format!("silence/{id}")).await?;
        }
        Ok(())
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn update_silences(&self, u: SilenceUpdate) -> Outcome {
        if u.ids.is_empty() {
            return Err("no silence IDs specified".to_owned());
        }
        let mut updated = Vec::new();
        for id in &u.ids {
            let mut silence: Silence = self.client.get(&GET, &format!("silence/{id}"), &[]).await?;
            let starts = u.start.as_deref().map_or(Ok(time(&silence.starts_at)), instant)?;
            let ends = match (&u.end, &u.duration) {
                (Some(end), _) => instant(end)?,
                (None, Some(d)) => after(starts, positive(d)?)?,
                (None, None) => time(&silence.ends_at),
            };
            if starts > ends {
                return Err("silence cannot start after it ends".to_owned());
            }
            (silence.starts_at, silence.ends_at) = (starts.to_string(), ends.to_string());
            silence.comment = u.comment.clone().unwrap_or(silence.comment);
            silence.id = self.post_silence(&silence).await?;
            updated.push(silence);
        }
        if u.quiet {
            updated.iter().for_each(|s| println!("{}", s.id));
            return Ok(());
        }
        self.print_silences(&updated)
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn import_silences(&self, i: SilenceImport) -> Outcome {
        let text = match &i.file {
            Some(file) => {
                super::config::existing(file)?;
                std::fs::read_to_string(file).map_err(|e| e.to_string())?
            }
            None => std::io::read_to_string(std::io::stdin()).map_err(|e| e.to_string())?,
        };
        let silences: Vec<Silence> = serde_json::from_str(&text)
            .map_err(|e| format!("couldn't unmarshal input data, is it JSON?: {}", reason(&e)))?;
        let mut failed = 0;
        for mut silence in silences {
            if i.force {
                silence.id.clear();
            } else if !silence.id.is_empty() {
                // A silence of another Alertmanager gets an id of its own here.
                let known = self.client.get::<Silence>(&GET, &format!("silence/{}", silence.id), &[]).await;
                if known.is_err_and(|e| e.contains("NotFound")) {
                    silence.id.clear();
                }
            }
            match self.post_silence(&silence).await {
                Ok(id) => println!("{id}"),
                Err(e) => {
                    eprintln!("Error adding silence id='{}': {e}", silence.id);
                    failed += 1;
                }
            }
        }
        if failed > 0 { Err(format!("couldn't import {failed} silences")) } else { Ok(()) }
    }
}

fn reason(e: &serde_json::Error) -> String {
    if e.is_eof() { "unexpected end of JSON input".to_owned() } else { e.to_string() }
}
