//! The real amtool and ours, the same commands on equal servers and files: the same output and exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::process::Command;

use ferula_testkit::{Peer, Running, WebhookSink, skipped};
use support::{FERULA, named};

const CONFIG: &str = r#"
global:
  smtp_auth_password: hunter2
route:
  receiver: default
  group_by: [alertname]
  routes:
  - matchers: [team="db", 'env=~"prod|stage"']
    receiver: db
    continue: true
    routes:
    - matchers: [a="b"]
      receiver: web
  - match: {team: web}
    receiver: web
receivers:
- name: default
- name: db
  webhook_configs: [{url: "http://127.0.0.1:1/secret-path"}]
- name: web
  email_configs: [{to: a@b.c, from: x@y.z, smarthost: "localhost:25"}]
inhibit_rules:
- source_matchers: [severity="critical"]
  target_matchers: [severity="warning"]
  equal: [alertname]
"#;

/// `ID1` stands for the first silence that was added, and so on.
const ONLINE: &[&str] = &[
    "alert query",
    "alert add alertname=Disk team=db env=prod severity=critical --annotation=summary=full --annotation=b=c --generator-url=http://p/g --start=2026-11-20T10:00:00Z",
    "alert add Disk severity=warning --start=2026-11-20T10:00:01Z --end=2099-01-01T00:00:00Z",
    "alert add bad --start=2026-11-20T11:00:00Z",
    "alert add bad --end=2020-11-20T11:00:00Z --start=2021-11-20T11:00:00Z",
    "alert add a=~b",
    "alert",
    "alert -o extended",
    "-o json alert query",
    "alert query -i",
    "alert query -o extended --inhibited --active severity=~.+",
    "alert query -r db",
    "alert query nothing",
    "-o json alert query nothing",
    "--date.format=15h04 alert query bad",
    "silence add -a me -c why alertname=bad --start=2030-01-01T00:00:00Z",
    "silence add -a me -c maintenance Disk a=~b.* c!=d e!~f.* -d 2h --start=2030-01-02T00:00:00Z --annotation=x=y",
    "silence add -a you -c now bad -d 1h",
    "alert query",
    "alert query -s",
    "silence add -c c",
    "silence add bad",
    "silence add -c c --end=2020-01-01T00:00:00Z a=b",
    "silence add -c c -d xx a=b",
    "silence add -c c -d 0s a=b",
    "silence add -c c --end=foo a=b",
    "silence add -a me -c c a=~.*",
    "silence",
    "-o extended silence query",
    "-o json silence query",
    "silence query -q Disk",
    "silence query --within 3h",
    "silence query --created-by you",
    "silence query --id ID2",
    "silence query --id nope",
    "silence update -d 3h -c longer ID2",
    "silence update --start=2040-01-01T00:00:00Z -d 5m ID2",
    "silence update --end 2020-01-01T00:00:00Z ID2",
    "silence update",
    "silence update 717b1400-4189-4752-af4b-000000000000",
    "silence expire",
    "silence expire 717b1400-4189-4752-af4b-000000000000",
    "silence expire ID3",
    "silence expire ID3",
    "silence query --expired",
    "silence query --expired --within 1h",
    "silence import silences.json",
    "silence import -f silences.json",
    "silence import nofile",
    "silence import damaged.json",
    "silence query -o extended",
    "cluster show",
    "cluster -o extended",
    "-o json cluster show",
    "config",
    "config show -o json",
    "config routes",
    "config routes test team=db env=prod",
    "config routes test --tree team=db env=prod a=b",
    "config routes test --verify.receivers=web,db team=web",
    "config routes test --verify.receivers=web team=web",
    "config routes test team",
];

const OFFLINE: &[&str] = &[
    "check-config good.yml",
    "check-config bad.yml good.yml",
    "check-config templates.yml",
    "check-config broken-template.yml",
    "check-config nofile",
    "check-config .",
    "config routes show --config.file=good.yml",
    "config routes test --config.file=good.yml --tree",
    "config routes test --config.file=good.yml x=~y",
    "config routes test --config.file=nofile a=b",
    "template render --template.glob=*.tmpl --template.text={{template|\"x\"|.}}",
    "template render --template.glob=*.tmpl --template.type=html --template.text={{template|\"x\"|.}}",
    "template render --template.glob=good.tmpl --template.text={{.GroupLabels.SortedPairs}}|{{printf|\"%v\"|.CommonLabels}}",
    "template render --template.glob=good.tmpl --template.text={{template|\"none\"|.}}",
    "template render --template.glob=good.tmpl --template.text=x --template.data=nofile",
    "template render --template.glob=good.tmpl --template.text=x --template.data=damaged.json",
    "template render --template.glob=good.tmpl --template.text={{.CommonLabels.job}} --template.data=data.json",
];

fn server() -> Running {
    Running::start(Path::new(FERULA), "/-/ready", |p| {
        vec![
            "alertmanager".into(),
            format!("--config.file={}", p.file("alertmanager.yml", CONFIG)),
            format!("--storage.path={}", p.dir.join("data").display()),
            format!("--web.listen-address={}", p.addr),
            "--cluster.listen-address=".into(),
        ]
    })
}

fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let route = "route: {receiver: x}\nreceivers: [{name: x}]\n";
    let silence = r#"[{"id":"717b1400-4189-4752-af4b-000000000001","comment":"c","createdBy":"m","startsAt":"2030-01-01T00:00:00Z",
        "endsAt":"2031-01-01T00:00:00Z","matchers":[{"isEqual":true,"isRegex":false,"name":"a","value":"b"}]}]"#;
    let data = r#"{"status":"firing","receiver":"r","externalURL":"","groupLabels":{},"commonLabels":{"job":"j"},"commonAnnotations":{},"alerts":[]}"#;
    for (name, text) in [
        ("good.yml", CONFIG),
        ("bad.yml", "route: {receiver: nobody}\n"),
        ("templates.yml", &format!("{route}templates: [good.tmpl, 'none*.tmpl']\n")),
        ("broken-template.yml", &format!("{route}templates: [broken.txt]\n")),
        ("good.tmpl", "{{ define \"x\" }}hi {{ .Status }} {{ .CommonLabels }} {{ .Alerts | len }}<b>{{ end }}"),
        ("broken.txt", "{{ if }}"),
        ("silences.json", silence),
        ("damaged.json", "["),
        ("data.json", data),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// What one program did with all commands.
struct Run {
    dir: tempfile::TempDir,
    url: String,
    ids: Vec<String>,
}

impl Run {
    fn command(&mut self, mut program: Command, line: &str) -> String {
        let mut args: Vec<String> = line.split(' ').map(|a| a.replace('|', " ")).collect();
        for a in &mut args {
            if let Some(n) = a.strip_prefix("ID").and_then(|n| n.parse::<usize>().ok()) {
                a.clone_from(&self.ids[n - 1]);
            }
        }
        if !self.url.is_empty() {
            program.arg(format!("--alertmanager.url={}", self.url));
        }
        let out = program.args(&args).current_dir(self.dir.path()).env("HOME", self.dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if line.starts_with("silence add") && out.status.success() {
            self.ids.push(text.trim().to_owned());
        }
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        let errors: Vec<&str> = errors.lines().filter(|l| !l.is_empty() && !l.starts_with("time=")).collect();
        plain(&format!("{text}{}\nexit {:?}", errors.join("\n"), out.status.code()), &self.ids)
    }
}

/// Without what differs from run to run: ids and times. Columns keep their width.
fn plain(text: &str, ids: &[String]) -> String {
    let mut out = text.to_owned();
    for (i, id) in ids.iter().enumerate() {
        out = out.replace(id, &format!("<silence {i:026}>"));
    }
    let is_shape = |s: &[u8], shape: &[u8]| {
        s.len() >= shape.len()
            && s.iter().zip(shape).all(|(c, p)| match p {
                b'0' => c.is_ascii_digit(),
                b'x' => c.is_ascii_hexdigit(),
                b'?' => *c == b' ' || *c == b'T',
                p => c == p,
            })
    };
    let mut bytes = out.into_bytes();
    for i in 0..bytes.len() {
        for shape in [&b"0000-00-00?00:00:00"[..], b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", b".000Z"] {
            if is_shape(&bytes[i..], shape) {
                bytes[i..i + shape.len()].fill(b'#');
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn ours_prints_what_the_real_one_prints() {
    let peer = match Peer::find("amtool", (0, 28, 0)) {
        Ok(p) => p,
        Err(why) => return skipped("amtool, side by side", &why),
    };
    let servers = [server(), server()];
    let url = |s: &Running| format!("http://{}", s.addr);
    let run = |s: &Running| Run { dir: files(), url: url(s), ids: Vec::new() };
    let (mut theirs, mut ours) = (run(&servers[0]), run(&servers[1]));
    let our_command = || {
        let mut c = Command::new(FERULA);
        c.arg("amtool");
        c
    };
    let mut different = Vec::new();
    let mut compare = |theirs: &mut Run, ours: &mut Run, lines: &[&str]| {
        for line in lines {
            let (want, got) = (theirs.command(peer.command(), line), ours.command(our_command(), line));
            if want != got {
                different.push(format!("amtool {line}\n--- real\n{want}\n--- ours\n{got}"));
            }
        }
    };
    compare(&mut theirs, &mut ours, ONLINE);
    (theirs.url, ours.url) = (String::new(), String::new());
    compare(&mut theirs, &mut ours, OFFLINE);
    println!(
        "amtool: {} of {} commands as the real one",
        ONLINE.len() + OFFLINE.len() - different.len(),
        ONLINE.len() + OFFLINE.len()
    );
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

#[test]
fn a_receiver_is_tried_a_template_previewed_and_an_alert_explained() {
    let dir = tempfile::tempdir().unwrap();
    let amtool = named(dir.path(), "amtool");
    let hook = WebhookSink::start();
    let server = Running::start(Path::new(FERULA), "/-/ready", |p| {
        let config = format!(
            "route: {{receiver: r, group_wait: 1ms}}\nreceivers: [{{name: r, webhook_configs: [{{url: '{}'}}]}}]\n",
            hook.url("/")
        );
        vec![
            "alertmanager".into(),
            format!("--config.file={}", p.file("alertmanager.yml", &config)),
            format!("--storage.path={}", p.dir.join("data").display()),
            format!("--web.listen-address={}", p.addr),
            "--cluster.listen-address=".into(),
        ]
    });
    // The address comes from the user's configuration file here.
    std::fs::create_dir_all(dir.path().join(".config/amtool")).unwrap();
    let settings = format!("alertmanager.url: http://{}\noutput: simple\nauthor: from-the-file\n", server.addr);
    std::fs::write(dir.path().join(".config/amtool/config.yml"), settings).unwrap();
    let run = |args: &[&str]| {
        let out = Command::new(&amtool).args(args).env("HOME", dir.path()).output().unwrap();
        let text = support::stdout(&out) + &support::stderr(&out);
        (out.status.code(), text)
    };
    assert_eq!(run(&["receiver", "test", "r", "team=x"]), (Some(0), "webhook[0]  delivered\n".to_owned()));
    let body = hook.wait_for(1, std::time::Duration::from_secs(10))[0].json();
    assert_eq!((body["receiver"].as_str(), body["alerts"][0]["labels"]["team"].as_str()), (Some("r"), Some("x")));
    let (code, text) = run(&["receiver", "test", "nobody"]);
    assert!(code == Some(1) && text.contains("no receiver"), "{text}");
    let title = "{{ template \"slack.default.title\" . }}";
    let (code, text) = run(&["template", "preview", "--template.text", title]);
    assert!(code == Some(0) && text.starts_with("[FIRING:1] TestNotification"), "{text}");
    assert_eq!(run(&["alert", "add", "Disk"]).0, Some(0));
    hook.wait_for(2, std::time::Duration::from_secs(10));
    let why = || run(&["alert", "explain", "Disk"]).1;
    let why = support::eventually("the outcome", 10, why, |t| t.contains("delivered"));
    assert!(why.contains("receiver r") && why.contains("webhook last told"), "{why}");
    assert_eq!(run(&["silence", "add", "-c", "c", "Disk"]).0, Some(0));
    assert!(run(&["silence"]).1.contains("from-the-file"));
    assert_eq!(run(&["--alertmanager.url=http://127.0.0.1:1", "alert"]).0, Some(1));
    assert!(run(&["alert", "--nope"]).1.starts_with("amtool: error: "), "{:?}", run(&["alert", "--nope"]));
    assert!(run(&["--version"]).1.starts_with("amtool, version 0.33.1"));
}
