//! What upstream lacks: why an alert is told or not, a trial of a receiver, a preview of a template.
use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::alerts::{pairs, with_alertname};
use super::args::ReceiverTest;
use super::client::Call;
use super::table::json;
use super::{Outcome, Output, Tool};

impl Tool {
    #[allow(clippy::print_stdout)]
    pub(super) async fn explain(&self, matchers: &[String]) -> Outcome {
        let matchers = with_alertname(matchers.to_vec());
        let query: Vec<(&str, &str)> = matchers.iter().map(|m| ("filter", m.as_str())).collect();
        let alerts = self.alerts(&query).await?;
        if alerts.is_empty() {
            return Err("no such alert".to_owned());
        }
        for alert in alerts {
            let call = Call { path: "/alerts/{fingerprint}/explain", operation: "explainAlert" };
            let why: Value = self.client.get(&call, &format!("alerts/{}/explain", alert.fingerprint), &[]).await?;
            if self.output == Output::Json {
                print!("{}", json(&why)?);
                continue;
            }
            println!("{}  {}", alert.fingerprint, why["labels"].as_str().unwrap_or(""));
            let list = |v: &Value| {
                v.as_array()
                    .map(|a| a.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
                    .unwrap_or_default()
            };
            for (name, field) in [("silenced by", "silencedBy"), ("inhibited by", "inhibitedBy")] {
                let by = list(&why[field]);
                if !by.is_empty() {
                    println!("  {name} {by}");
                }
            }
            for route in why["routes"].as_array().into_iter().flatten() {
                println!(
                    "  route {}  receiver {}",
                    route["route"].as_str().unwrap_or(""),
                    route["receiver"].as_str().unwrap_or("")
                );
                let muted = list(&route["mutedBy"]);
                if !muted.is_empty() {
                    println!("    muted by {muted}");
                }
                for i in route["integrations"].as_array().into_iter().flatten() {
                    let told = i["lastToldAt"]
                        .as_str()
                        .map_or("never told".to_owned(), |t| format!("last told {}", self.date(t)));
                    println!("    {} {told}", i["integration"].as_str().unwrap_or(""));
                }
            }
            for d in why["recentDeliveries"].as_array().into_iter().flatten() {
                let outcome = match d["isDelivered"].as_bool() {
                    Some(true) => "delivered".to_owned(),
                    _ => format!("failed: {}", d["error"].as_str().unwrap_or("")),
                };
                println!(
                    "  {} {} to {} {}: {outcome} ({} attempts)",
                    self.date(d["at"].as_str().unwrap_or("")),
                    d["reason"].as_str().unwrap_or(""),
                    d["receiver"].as_str().unwrap_or(""),
                    d["integration"].as_str().unwrap_or(""),
                    d["attempts"]
                );
            }
        }
        Ok(())
    }

    /// Fails if an integration did.
    #[allow(clippy::print_stdout)]
    pub(super) async fn test_receiver(&self, t: ReceiverTest) -> Outcome<ExitCode> {
        #[derive(Serialize)]
        struct Trial {
            labels: BTreeMap<String, String>,
            annotations: BTreeMap<String, String>,
            resolved: bool,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Tried {
            integration: String,
            index: u32,
            is_delivered: bool,
            #[serde(default)]
            error: String,
        }
        let trial = Trial {
            labels: pairs(&with_alertname(t.labels), "labels")?,
            annotations: pairs(&t.annotation, "annotations")?,
            resolved: t.resolved,
        };
        let call = Call { path: "/receivers/{name}/test", operation: "testReceiver" };
        let answer = self.client.post(&call, &format!("receivers/{}/test", t.receiver), &trial).await?;
        let tried: Vec<Tried> = serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
        for i in &tried {
            let outcome = if i.is_delivered { "delivered".to_owned() } else { format!("failed: {}", i.error) };
            println!("{}[{}]  {outcome}", i.integration, i.index);
        }
        Ok(if tried.iter().all(|i| i.is_delivered) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn preview(&self, text: &str, html: bool) -> Outcome {
        let call = Call { path: "/templates/render", operation: "renderTemplate" };
        let asked = serde_json::json!({"template": text, "html": html});
        let answer = self.client.post(&call, "templates/render", &asked).await?;
        let rendered: Value = serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
        print!("{}", rendered["text"].as_str().unwrap_or(""));
        Ok(())
    }
}
