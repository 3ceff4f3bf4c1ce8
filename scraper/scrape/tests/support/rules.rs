//! Random relabelling rules.

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.next(from.len())]
    }
}

pub const NAMES: [&str; 8] = ["a", "b", "zone", "__meta_x", "__meta_pod_label_app", "job", "__address__", "__param_m"];
pub const VALUES: [&str; 8] = ["x", "prod", "Web-1", "10", "true", "a;b", "ÄöÜ", "long.name.of.a.thing"];
const REGEXES: [&str; 14] = [
    "(.*)",
    "x",
    "p.*",
    "(?i)WEB-(\\\\d+)",
    "([^;]+);?(.*)",
    "[a-z]+",
    "(a)|(b)|(x)",
    "__meta_(.+)",
    "__meta_pod_(label)_(.+)",
    "job|zone",
    "(?P<n>[0-9]+)",
    ".+",
    "",
    "(\\\\w+)[.](\\\\w+).*",
];
const TEMPLATES: [&str; 8] = ["$1", "${1}", "k_$1", "fixed", "$1$2", "${n}", "${2}_$$", "$0"];
const TARGETS: [&str; 8] = ["a", "new", "zone", "job", "instance", "__param_m", "__metrics_path__", "t_${1}"];
const ACTIONS: [&str; 11] = [
    "replace",
    "keep",
    "drop",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
    "keepequal",
    "dropequal",
];

/// One rule in flow style; `names` are what it looks at.
pub fn rule(r: &mut Random, names: &[&str]) -> String {
    let action = r.pick(&ACTIONS);
    let sources: Vec<&str> = (0..=r.next(2)).map(|_| r.pick(names)).collect();
    let (sources, regex, target) = (sources.join(", "), r.pick(&REGEXES), r.pick(&TARGETS[..7]));
    let fields = match action {
        "replace" => {
            let (any_target, template) = (r.pick(&TARGETS), r.pick(&TEMPLATES));
            let separator = r.pick(&[";", "-", ""]);
            format!(
                "source_labels: [{sources}], regex: \"{regex}\", target_label: \"{any_target}\", replacement: \"{template}\", separator: \"{separator}\""
            )
        }
        "keep" | "drop" => format!("source_labels: [{sources}], regex: \"{regex}\""),
        "hashmod" => format!("source_labels: [{sources}], target_label: {target}, modulus: {}", 1 + r.next(9)),
        // Names that map to one and the same, or to nothing, have no defined outcome there.
        "labelmap" => format!(
            "regex: \"{}\", replacement: \"{}\"",
            r.pick(&["(a|b|zone)", "__meta_(.+)", "(.*)"]),
            r.pick(&["$1", "k_$1", "${1}_x"])
        ),
        "labeldrop" => format!("regex: \"{}\"", r.pick(&["a", "zone|b", "__meta.*", "__param_.+"])),
        "labelkeep" => "regex: \"__.*|job|a\"".to_owned(),
        _ => format!("source_labels: [{sources}], target_label: {target}"),
    };
    format!("{{action: {action}, {fields}}}")
}
