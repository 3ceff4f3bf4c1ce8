//! `amtool check-config`, `config`, `cluster` and `template render`.
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ferula_alertmanager::check;
use ferula_alertmanager::config::Config;
use ferula_model::{Labels, SystemClock};
use serde::{Deserialize, Serialize};

use super::alerts::pairs;
use super::args::{RoutesTest, TemplateRender};
use super::client::Call;
use super::table::{json, table};
use super::{Outcome, Output, Tool};

/// `/status`, its fields in the order Go prints them.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    cluster: Cluster,
    config: Original,
    uptime: String,
    version_info: Version,
}
#[derive(Deserialize, Serialize)]
struct Original {
    original: String,
}
#[derive(Deserialize, Serialize)]
struct Cluster {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default)]
    peers: Vec<Peer>,
    status: String,
}
#[derive(Deserialize, Serialize)]
struct Peer {
    address: String,
    name: String,
}
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    branch: String,
    build_date: String,
    build_user: String,
    go_version: String,
    revision: String,
    version: String,
}

pub(super) fn existing(file: &Path) -> Outcome {
    let name = file.display();
    match std::fs::metadata(file) {
        Err(_) => Err(format!("path '{name}' does not exist")),
        Ok(m) if m.is_dir() => Err(format!("'{name}' is a directory")),
        Ok(_) => Ok(()),
    }
}

#[allow(clippy::print_stdout)]
pub(super) fn check(files: &[PathBuf]) -> Outcome {
    use std::io::IsTerminal;
    files.iter().try_for_each(|f| existing(f))?;
    let stdin = [PathBuf::from("/dev/stdin")];
    let files = match files {
        [] if std::io::stdin().is_terminal() => return Err("Failed to read from standard input".to_owned()),
        [] => &stdin[..],
        given => given,
    };
    let mut failed = 0;
    for file in files {
        print!("Checking '{}'", file.display());
        let checked = check::check_parts(file, Arc::new(SystemClock));
        failed += usize::from(!checked.is_valid());
        match &checked.found {
            Err(reason) => println!("  FAILED: {reason}"),
            Ok(found) => print!("  SUCCESS\n{found}"),
        }
        match &checked.templates {
            Some(Ok(())) => println!("  SUCCESS"),
            Some(Err(reason)) => println!("  FAILED: {reason}"),
            None => {}
        }
        println!();
    }
    if failed > 0 { Err(format!("failed to validate {failed} file(s)")) } else { Ok(()) }
}

impl Tool {
    async fn status(&self) -> Outcome<Status> {
        self.client.get(&Call { path: "/status", operation: "getStatus" }, "status", &[]).await
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn show_config(&self) -> Outcome {
        let status = self.status().await?;
        match self.output {
            Output::Simple => println!("{}", status.config.original),
            Output::Json => print!("{}", json(&status)?),
            Output::Extended => {
                let v = &status.version_info;
                println!("{}", status.config.original);
                for (name, value) in [
                    ("buildUser", &v.build_user),
                    ("goVersion", &v.go_version),
                    ("revision", &v.revision),
                    ("version", &v.version),
                    ("branch", &v.branch),
                    ("buildDate", &v.build_date),
                    ("uptime", &status.uptime),
                ] {
                    println!("{name} {value}");
                }
            }
        }
        Ok(())
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn show_cluster(&self) -> Outcome {
        let cluster = self.status().await?.cluster;
        if self.output == Output::Json {
            print!("{}", json(&cluster)?);
            return Ok(());
        }
        println!("Cluster Status:  {}\nNode Name:       {}", cluster.status, cluster.name);
        if self.output == Output::Extended {
            let rows: Vec<Vec<String>> =
                cluster.peers.iter().map(|p| vec![p.address.clone(), p.name.clone()]).collect();
            let width = cluster.peers.iter().map(|p| p.address.chars().count()).max().unwrap_or(0).max(7) + 2;
            let padded: Vec<Vec<String>> =
                rows.into_iter().map(|r| vec![format!("{:<1$}", r[0], width - 2), r[1].clone()]).collect();
            print!("\n{:<width$}Name\n{}", "Address", table(&padded));
        }
        Ok(())
    }

    /// The configuration of a file, or of the Alertmanager.
    async fn configuration(&self, file: Option<&Path>) -> Outcome<Config> {
        let (name, text) = match file {
            Some(file) => {
                existing(file)?;
                eprintln!("Warning: --config.file flag overrides the --alertmanager.url.");
                (file.display().to_string(), std::fs::read_to_string(file).map_err(|e| e.to_string())?)
            }
            None => ("the running configuration".to_owned(), self.status().await?.config.original),
        };
        Config::check(&name, &text).map_err(|e| e.reason())
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn show_routes(&self, file: Option<&Path>) -> Outcome {
        println!("{}", check::routes(&self.configuration(file).await?));
        Ok(())
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn test_routes(&self, file: Option<&Path>, t: RoutesTest) -> Outcome<ExitCode> {
        let config = self.configuration(file).await?;
        let labels = pairs(&t.labels, "Labels")
            .map_err(|e| if e.starts_with("Labels must") { e } else { format!("Failed to parse labels: {e}") })?;
        let labels = Labels::from_pairs(&labels);
        if t.tree {
            println!("Matching routes:\n{}\n", check::matching_routes(&config, &labels));
        }
        let receivers = check::receivers_of(&config, &labels).join(",");
        println!("{receivers}");
        if !t.verify.is_empty() && t.verify != receivers {
            println!("WARNING: Expected receivers did not match resolved receivers.");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[allow(clippy::print_stdout)]
pub(super) fn render(r: TemplateRender) -> Outcome {
    let data: serde_json::Value = match &r.data {
        None => sample(),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|e| {
                format!(
                    "open {}: {}",
                    file.display(),
                    if e.kind() == std::io::ErrorKind::NotFound {
                        "no such file or directory".to_owned()
                    } else {
                        e.to_string()
                    }
                )
            })?;
            serde_json::from_str(&text).map_err(|e| match e.is_eof() {
                true => "unexpected end of JSON input".to_owned(),
                false => e.to_string(),
            })?
        }
    };
    let text =
        check::render(&r.glob, &r.text, &data, r.kind == "html", Arc::new(SystemClock)).map_err(|e| e.to_string())?;
    print!("{text}");
    Ok(())
}

/// What is rendered where no data are given: the names upstream's documentation shows.
fn sample() -> serde_json::Value {
    let now = jiff::Timestamp::now();
    let in_minutes =
        |m: i64| now.saturating_add(jiff::SignedDuration::from_mins(m)).map(|t| t.to_string()).unwrap_or_default();
    let common = serde_json::json!({"commonlabelkey1": "commonlabelvalue1", "commonlabelkey2": "commonlabelvalue2"});
    let annotations = serde_json::json!({"commonannotationkey1": "commonannotationvalue1", "commonannotationkey2": "commonannotationvalue2"});
    let with = |base: &serde_json::Value, more: &[(&str, &str)]| {
        let mut all = base.clone();
        more.iter().for_each(|(n, v)| all[*n] = (*v).into());
        all
    };
    serde_json::json!({
        "receiver": "receiver", "status": "alertstatus", "notification_reason": "", "externalURL": "https://example.com",
        "groupLabels": {"grouplabelkey1": "grouplabelvalue1", "grouplabelkey2": "grouplabelvalue2"},
        "commonLabels": common, "commonAnnotations": annotations,
        "alerts": [
            {"status": "firing", "generatorURL": "https://generatorurl.com", "fingerprint": "fingerprint1",
             "labels": with(&common, &[("instance", "foo.bar:1234"), ("label1", "value1"), ("label2", "value2")]),
             "annotations": with(&annotations, &[("annotation1", "value1"), ("annotation2", "value2")]),
             "startsAt": in_minutes(0), "endsAt": in_minutes(5)},
            {"status": "resolved", "generatorURL": "https://generatorurl.com", "fingerprint": "fingerprint2",
             "labels": with(&common, &[("foo", "bar"), ("baz", "qux")]),
             "annotations": with(&annotations, &[("aaa", "bbb"), ("ccc", "ddd")]),
             "startsAt": in_minutes(-5), "endsAt": in_minutes(5)},
        ],
    })
}
