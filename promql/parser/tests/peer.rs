//! The real Prometheus as referee: thousands of damaged real expressions, each verdict and message compared.
//!
//! Needs `PEERS` (a folder with `prometheus` 3.5) and `FERULA_CORPUS`. `FERULA_SEED` and `FERULA_ROUNDS` choose others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use ferula_promql_parser::{ParseOptions, parse_expr_with, pretty};
use serde_json::Value;

struct Peer {
    child: Child,
    address: String,
    dir: std::path::PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Peer {
    fn start(name: &str) -> Option<Peer> {
        let Some(peers) = std::env::var_os("PEERS") else {
            println!("SKIPPED promql-parser peer: PEERS is not set");
            return None;
        };
        let program = std::path::Path::new(&peers).join("prometheus");
        if !program.exists() {
            println!("SKIPPED promql-parser peer: no prometheus in PEERS");
            return None;
        }
        let version = Command::new(&program).arg("--version").output().unwrap();
        let version = String::from_utf8_lossy(&version.stdout).into_owned() + &String::from_utf8_lossy(&version.stderr);
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if (major, minor) < (3, 5) {
            println!("SKIPPED promql-parser peer: prometheus {major}.{minor} is older than 3.5");
            return None;
        }
        println!("promql-parser peer: {}", version.lines().next().unwrap_or(""));
        let dir = std::env::temp_dir().join(format!("ferula-parser-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("p.yml"), "global: {scrape_interval: 1h}\n").unwrap();
        let mut child = Command::new(program)
            .args([
                "--web.listen-address=127.0.0.1:0",
                "--enable-feature=promql-experimental-functions,promql-duration-expr",
            ])
            .arg(format!("--config.file={}", dir.join("p.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut address, mut line) = (String::new(), String::new());
        let mut is_ready = false;
        // The two lines come from different goroutines, in either order.
        while (address.is_empty() || !is_ready) && log.read_line(&mut line).unwrap() > 0 {
            if let Some((_, found)) = line.split_once("msg=\"Listening on\"") {
                address = found.split_once("address=").unwrap().1.trim().to_owned();
            }
            is_ready |= line.contains("Server is ready");
            line.clear();
        }
        assert!(is_ready && !address.is_empty(), "the peer did not start");
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Peer { child, address, dir })
    }

    fn post(&self, path: &str, query: &str) -> Value {
        let escaped: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
        let body = format!("query={escaped}");
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "POST {path} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(json).unwrap_or_else(|e| panic!("{query:?}: {e}: {json}"))
    }

    /// The formatted query, or the message.
    fn format(&self, query: &str) -> Result<String, String> {
        let v = self.post("/api/v1/format_query", query);
        match v["data"].as_str() {
            Some(formatted) => Ok(formatted.to_owned()),
            None => Err(v["error"].as_str().unwrap().trim_start_matches("invalid parameter \"query\": ").to_owned()),
        }
    }

    /// What `label_replace` makes of `text`: the expanded template, or nothing where the pattern does not match.
    fn replace(&self, pattern: &str, template: &str, text: &str) -> Option<String> {
        let [pattern, template, text] = [pattern, template, text].map(ferula_model::labels::quoted);
        let inner = format!("label_replace(vector(1), \"a\", {text}, \"\", \"\")");
        let v = self.post("/api/v1/query", &format!("label_replace({inner}, \"m\", {template}, \"a\", {pattern})"));
        v["data"]["result"][0]["metric"]["m"].as_str().map(str::to_owned)
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

/// A small generator: the tests are to be repeatable everywhere.
struct Dice(u64);
impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

const PIECES: &str = "( ) { } [ ] , : = == != =~ !~ < <= > >= + - * / % ^ @ # ! ~ ; ? & . $ a b:c job up 1 2.5 0x1f 1e3 1_000 5m 1h30m 5mm 1s1s \
    .5 1. 0x 1e 08 'x' \"y\" `z` '\\n' '\\q' 'open on ignoring by without group_left group_right bool offset and or unless atan2 sum avg count min \
    topk quantile count_values stddev group limitk rate( abs( time() label_replace( histogram_quantile( vector( scalar( absent( \
    round( sort_by_label( info( inf NaN Inf +Inf start() end() @start() [5m] [5m:1m] [1h:] offset1m on(a) by(b) __name__ é \u{fffd}";

fn pieces(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for c in text.chars() {
        let word = c.is_alphanumeric() || c == '_';
        match out.last_mut() {
            Some(last) if word && last.ends_with(|l: char| l.is_alphanumeric() || l == '_') => last.push(c),
            _ => out.push(c.to_string()),
        }
    }
    out
}

fn damage(text: &str, dice: &mut Dice) -> String {
    let mut list = pieces(text);
    let vocabulary: Vec<&str> = PIECES.split_whitespace().collect();
    for _ in 0..1 + dice.below(2) {
        let at = dice.below(list.len().max(1)).min(list.len().saturating_sub(1));
        match dice.below(5) {
            0 if !list.is_empty() => drop(list.remove(at)),
            1 if !list.is_empty() => list.insert(at, list[at].clone()),
            2 if at + 1 < list.len() => list.swap(at, at + 1),
            3 if !list.is_empty() => list[at] = vocabulary[dice.below(vocabulary.len())].to_owned(),
            _ => list.insert(at, format!(" {} ", vocabulary[dice.below(vocabulary.len())])),
        }
    }
    list.concat()
}

/// Where 3.14, which is followed, and 3.5 differ on purpose: words of durations, and what came since.
fn is_known_difference(text: &str, ours: &Result<String, String>, theirs: &Result<String, String>) -> bool {
    let lower = text.to_lowercase();
    let newer = [
        "</",
        ">/",
        "fill",
        "anchored",
        "smoothed",
        "step",
        "range",
        "min_of",
        "max_of",
        "start",
        "end",
        "first_over_time",
        "ts_of",
        "histogram_quantiles",
    ];
    // It names an `@` by number, calls any letter in brackets a colon, and faults after `sum(a and )`.
    let odd = ["<Item ", "unexpected colon", "unexpected error"];
    let durations = ["subquery", "offset, expected", "duration"];
    let told = |r: &Result<String, String>| r.as_ref().is_err_and(|e| durations.iter().any(|w| e.contains(w)));
    // Labels of a grouping are quoted since 3.6 where they need it.
    let unquoted = |r: &Result<String, String>| r.clone().unwrap_or_default().replace('"', "").replace("\\n", "\n");
    // Parentheses around a lone number of a duration are kept since.
    let bare = |r: &Result<String, String>| r.clone().unwrap_or_default().replace(['(', ')'], "");
    (ours.is_ok() && theirs.is_ok() && bare(ours) == bare(theirs))
        // It prints an offset's doubled sign as it is written.
        || lower.contains("--")
        || (ours.is_ok() && theirs.is_ok() && unquoted(ours) == unquoted(theirs))
        || ours.as_ref().is_err_and(|e| e.ends_with("expected ':'"))
        || theirs.as_ref().is_err_and(|e| odd.iter().any(|w| e.contains(w)))
        || newer.iter().any(|w| lower.contains(w))
        || (told(ours) && told(theirs))
}

#[test]
fn says_what_the_peer_says() {
    let Some(dir) = std::env::var_os("FERULA_CORPUS") else {
        println!("SKIPPED promql-parser peer: FERULA_CORPUS is not set");
        return;
    };
    let Some(peer) = Peer::start("queries") else { return };
    let (seed, rounds) = (number("FERULA_SEED", 0x5eed), number("FERULA_ROUNDS", 1500));
    let mut text = String::new();
    for file in ["promqltest.jsonl.gz", "realworld.jsonl.gz"] {
        let packed = std::fs::File::open(std::path::Path::new(&dir).join("exprs").join(file)).unwrap();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    }
    let sources: Vec<String> = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["expr"].as_str().unwrap().to_owned())
        .filter(|e| e.len() < 300)
        .collect();
    let options = ParseOptions { experimental_functions: true, ..ParseOptions::default() };
    let mut dice = Dice(seed | 1);
    let (mut equal, mut refused, mut known) = (0, 0, 0);
    let mut wrong = Vec::new();
    for _ in 0..rounds {
        let query = damage(&sources[dice.below(sources.len())], &mut dice);
        let ours = parse_expr_with(&query, &options).map(|e| pretty(&e)).map_err(|e| e.to_string());
        let theirs = peer.format(&query);
        if ours == theirs {
            equal += 1;
            refused += usize::from(ours.is_err());
        } else if is_known_difference(&query, &ours, &theirs) {
            known += 1;
        } else {
            wrong.push(format!("{query}\n ours   {ours:?}\n theirs {theirs:?}"));
        }
    }
    println!(
        "promql-parser peer: seed {seed}, {equal} of {rounds} verdicts equal ({refused} refusals, word for word), {known} known differences of 3.14, {} wrong",
        wrong.len()
    );
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong[..wrong.len().min(40)].join("\n"));
}

/// The same referee on regular expressions: random ones made of what the dialects read differently.
#[test]
fn takes_the_expressions_the_peer_takes() {
    const PIECES: &str = r"a b 0 1 é - ^ $ . | * + ? *? ** ( ) (?: (?i) (?i: (?s) (?ii) (?i-i) (?-si:a) (?U) (?m) (?P<n> (?<n> (?x) (?= (?<= [ ] [^ [[ [] [a-c] [^a] [a-] \
        [z-a] [--a] [&& ~~ [: :] [:alpha:] [:^alpha:] [:foo:] {2} {,2} {2,} {1,3} {1001} {2 {a} } {02} \d \D \w \s \b \B \A \z \Z \C \Q \E \
        \pL \p{Greek} \p{greek} \P{^Lu} \p{Foo} \p \1 \0 \123 \x41 \x{41} \x{110000} \xg \u0041 \- \< \é \\ (a{500}){3} , : = & ~ #";
    let Some(peer) = Peer::start("expressions") else { return };
    let (seed, rounds) = (number("FERULA_SEED", 0x5eed), number("FERULA_ROUNDS", 1500));
    let vocabulary: Vec<&str> = PIECES.split_whitespace().filter(|p| *p != "\\").collect();
    let mut dice = Dice(seed | 1);
    let (mut equal, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for _ in 0..rounds {
        let pattern: String = (0..1 + dice.below(5)).map(|_| vocabulary[dice.below(vocabulary.len())]).collect();
        let query = format!("{{a=\"b\",c=~{}}}", ferula_model::labels::quoted(&pattern));
        let ours = parse_expr_with(&query, &ParseOptions::default()).map(|e| pretty(&e)).map_err(|e| e.to_string());
        let theirs = peer.format(&query);
        if ours == theirs {
            equal += 1;
            refused += usize::from(ours.is_err());
        } else {
            wrong.push(format!("{pattern}\n ours   {ours:?}\n theirs {theirs:?}"));
        }
    }
    println!(
        "promql-parser peer: seed {seed}, {equal} of {rounds} regular expressions judged alike ({refused} refusals, word for word)"
    );
    assert!(wrong.is_empty(), "{} wrong, seed {seed}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

/// And on what they match, and what their groups hold.
#[test]
fn matches_what_the_peer_matches() {
    const PIECES: &str = r"a b c é . .* .+ a* b+ c? a*? [ab] [^a] [a-c]+ (a) (b|c) (a|ab)(c|bcd) (?i)A (?i:B) (?-s:.) (?P<n>b) (?U) | ^ $ \b \B \d \w \W \s \S \pL \PL \x61
        {2} (ab)* (?:b) [[:alpha:]] [^\w] (a|b)*";
    let Some(peer) = Peer::start("matches") else { return };
    let (seed, rounds) = (number("FERULA_SEED", 0x5eed), number("FERULA_ROUNDS", 1500));
    let patterns: Vec<&str> = PIECES.split_whitespace().collect();
    let texts = ["a", "b", "c", "ab", "B", "A", "é", " ", "\n", "1", "_", "É", "\u{212a}", "\u{17f}"];
    let mut dice = Dice(seed | 1);
    let (mut alike, mut matched) = (0, 0);
    let mut wrong = Vec::new();
    while ((alike + wrong.len()) as u64) < rounds {
        let pattern: String = (0..1 + dice.below(4)).map(|_| patterns[dice.below(patterns.len())]).collect();
        let text: String = (0..dice.below(5)).map(|_| texts[dice.below(texts.len())]).collect();
        let Ok(re) = ferula_regex::Regex::anchored(&pattern) else { continue };
        let template = "<$0|$1|${2}|$n>";
        let ours = re.captures(&text).map(|c| {
            let mut out = String::new();
            ferula_regex::expand(template, &c, &mut out);
            out
        });
        assert_eq!(ours.is_some(), re.is_match(&text), "{pattern} on {text:?}");
        let theirs = peer.replace(&pattern, template, &text);
        if ours == theirs {
            alike += 1;
            matched += usize::from(ours.is_some());
        } else {
            wrong.push(format!("{pattern} on {text:?}\n ours   {ours:?}\n theirs {theirs:?}"));
        }
    }
    println!(
        "promql-parser peer: seed {seed}, {alike} of {rounds} texts matched alike ({matched} matches, groups compared)"
    );
    assert!(wrong.is_empty(), "{} wrong, seed {seed}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}
