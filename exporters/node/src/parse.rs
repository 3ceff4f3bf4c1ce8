//! The line grammars that several files of /proc share.
use nom::branch::alt;
use nom::bytes::complete::{tag, take_till1, take_while, take_while1};
use nom::character::complete::{char, space0, space1};
use nom::combinator::{map, opt, rest, value};
use nom::multi::separated_list1;
use nom::number::complete::double;
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

/// `MemTotal:  16 kB` or `pgfault 12`: key, number, unit (may be empty).
pub(crate) fn key_value(line: &str) -> Option<(&str, f64, &str)> {
    let key = take_till1(|c: char| c == ':' || c.is_ascii_whitespace());
    let parsed: IResult<&str, _> = (key, opt(char(':')), space1, double, space0, rest).parse(line);
    let (_, (key, _, _, number, _, unit)) = parsed.ok()?;
    Some((key, number, unit.trim_end()))
}

/// `some avg10=0.10 avg60=2.00 avg300=3.85 total=15`: first word and the value of `total`.
pub(crate) fn pressure(line: &str) -> Option<(&str, f64)> {
    let word = || take_while1(|c: char| c.is_ascii_alphanumeric());
    let pairs = separated_list1(space1, separated_pair(word(), char('='), double));
    let parsed: IResult<&str, _> = separated_pair(word(), space1, pairs).parse(line);
    let (_, (kind, pairs)) = parsed.ok()?;
    pairs.into_iter().find(|(name, _)| *name == "total").map(|(_, total)| (kind, total))
}

/// One line of `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub major: String,
    pub minor: String,
    pub mount_point: String,
    pub options: String,
    pub fs_type: String,
    pub source: String,
    pub super_options: String,
}

pub(crate) fn mount(line: &str) -> Option<Mount> {
    let word = || take_while1(|c: char| c != ' ');
    let device = separated_pair(take_while1(|c: char| c.is_ascii_digit()), char(':'), word());
    let before = (word(), preceded(char(' '), word()), preceded(char(' '), device), preceded(char(' '), word()));
    let parsed: IResult<&str, _> = (before, preceded(char(' '), word()), preceded(char(' '), word())).parse(line);
    let (tail, ((_, _, (major, minor), _), mount_point, options)) = parsed.ok()?;
    // Optional fields, as many as there are, end at a lone hyphen. The source may be empty.
    let (_, after) = tail.split_once(" - ")?;
    let field = || take_while(|c: char| c != ' ');
    let parsed: IResult<&str, _> = (word(), preceded(char(' '), field()), opt(preceded(char(' '), rest))).parse(after);
    let (_, (fs_type, source, super_options)) = parsed.ok()?;
    Some(Mount {
        major: major.to_owned(),
        minor: minor.to_owned(),
        mount_point: unescape(mount_point),
        options: options.to_owned(),
        fs_type: fs_type.to_owned(),
        source: unescape(source),
        super_options: super_options.unwrap_or_default().to_owned(),
    })
}

/// The kernel writes space, tab, newline and backslash as octal numbers here.
fn unescape(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut input = s;
    while !input.is_empty() {
        let escape: IResult<&str, char> = alt((
            value(' ', tag("\\040")),
            value('\t', tag("\\011")),
            value('\n', tag("\\012")),
            value('\\', tag("\\134")),
            map(nom::character::complete::anychar, |c| c),
        ))
        .parse(input);
        let Ok((tail, c)) = escape else { break };
        out.push(c);
        input = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_values() {
        assert_eq!(key_value("MemTotal:       3742148 kB"), Some(("MemTotal", 3_742_148.0, "kB")));
        assert_eq!(key_value("Active(anon):  1 kB"), Some(("Active(anon)", 1.0, "kB")));
        assert_eq!(key_value("pgfault 7"), Some(("pgfault", 7.0, "")));
        assert_eq!(key_value("nonsense"), None);
        assert_eq!(key_value(""), None);
    }

    #[test]
    fn pressures() {
        assert_eq!(pressure("some avg10=0.10 avg60=2.00 avg300=3.85 total=15"), Some(("some", 15.0)));
        assert_eq!(pressure("some avg10"), None);
    }

    #[test]
    fn mounts() {
        let m = mount(r"29 1 8:4 / /a\040b\134 rw,relatime shared:1 master:2 - ext4 /dev/sda4 rw,errors=x").unwrap();
        assert_eq!((m.major.as_str(), m.minor.as_str(), m.mount_point.as_str()), ("8", "4", "/a b\\"));
        assert_eq!((m.options.as_str(), m.super_options.as_str()), ("rw,relatime", "rw,errors=x"));
        assert_eq!((m.fs_type.as_str(), m.source.as_str()), ("ext4", "/dev/sda4"));
        let m = mount("1 2 0:3 / /run rw - tmpfs  rw").unwrap();
        assert_eq!((m.source.as_str(), m.super_options.as_str()), ("", "rw"));
        for bad in ["", "1 2 3", "1 2 8:4 / /a rw shared:1", "1 2 84 / /a rw - ext4 x y"] {
            assert_eq!(mount(bad), None, "{bad}");
        }
    }
}
