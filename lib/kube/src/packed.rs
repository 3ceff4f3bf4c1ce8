//! Objects as they are kept: the JSON of their slim form with what all of it repeats written in one byte.
//!
//! A third of what the same takes as strings, lists and maps, and equal objects are equal bytes. The codes are bytes that
//! UTF-8 never has, so that a text, whatever is in it, comes back as it was.
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One object.
pub(crate) type Packed = Arc<[u8]>;

/// What is worth a byte, by how much it saves in a pod: longer ones before those that are part of them.
const PHRASES: [(u8, &str); 13] = [
    (0xc0, r#""ownerReferences":[{"apiVersion":"","controller":true,"kind":""#),
    (0xc1, r#"","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":""#),
    (0xf5, r#"","containerID":"containerd://"#),
    (0xf6, r#"{"metadata":{"annotations":{""#),
    (0xf7, r#","protocol":"TCP"}"#),
    (0xf8, r#"","containerPort":"#),
    (0xf9, r#"","ports":[{"name":""#),
    (0xfa, r#""},"labels":{""#),
    (0xfb, r#"{"type":"Ready","status":""#),
    (0xfc, r#"","namespace":""#),
    (0xfd, r#"","image":""#),
    (0xfe, r#"{"name":""#),
    (0xff, r#"":"#),
];

/// Strings, lists and maps always have a JSON form.
pub(crate) fn pack<K: Serialize>(object: &K) -> Option<Packed> {
    let json = serde_json::to_vec(object).ok()?;
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json.as_slice();
    while let Some((first, after)) = rest.split_first() {
        let starts = |phrase: &str| rest.starts_with(phrase.as_bytes());
        // All phrases begin with a mark of JSON's: letters, most of the text, are passed over.
        let phrase = if first.is_ascii_alphanumeric() { None } else { PHRASES.iter().find(|(_, p)| starts(p)) };
        match phrase {
            Some((code, phrase)) => {
                out.push(*code);
                rest = rest.get(phrase.len()..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    Some(Arc::from(out))
}

pub(crate) fn unpack<K: DeserializeOwned>(packed: &[u8]) -> Option<K> {
    let mut json = Vec::with_capacity(packed.len() * 2);
    for b in packed {
        // Codes are high: nearly all bytes are below them.
        let phrase = if *b < 0xc0 { None } else { PHRASES.iter().find(|(code, _)| code == b) };
        match phrase {
            Some((_, phrase)) => json.extend_from_slice(phrase.as_bytes()),
            None => json.push(*b),
        }
    }
    serde_json::from_slice(&json).ok()
}

/// Leaves out what only the watch needs, or nobody.
pub(crate) fn prune(meta: &mut ObjectMeta) {
    meta.resource_version = None;
    if let Some(owners) = &mut meta.owner_references {
        owners.retain(|o| o.controller == Some(true));
        for owner in owners {
            owner.uid.clear();
            owner.api_version.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pod;

    #[test]
    fn comes_back_as_it_was() {
        for (name, value) in
            [("a", "b"), ("ä\u{10ffff}ÿ", "\"},\"labels\":{\""), ("", "\\\":{\"name\":\""), ("\u{c0}", "\u{ff}")]
        {
            let mut pod = Pod::default();
            pod.metadata.name = Some(value.to_owned());
            pod.metadata.labels = Some([(name.to_owned(), value.to_owned())].into());
            pod.metadata.annotations = pod.metadata.labels.clone();
            pod.spec.node_name = name.to_owned();
            let packed = pack(&pod).unwrap();
            let back: Pod = unpack(&packed).unwrap();
            assert_eq!(serde_json::to_string(&back).unwrap(), serde_json::to_string(&pod).unwrap());
            assert!(packed.len() < serde_json::to_vec(&pod).unwrap().len());
        }
        assert!(unpack::<Pod>(&[0xc0, 0xff]).is_none(), "never made here, and no panic");
    }

    #[test]
    fn codes_are_no_part_of_any_text() {
        for (code, phrase) in PHRASES {
            assert!(matches!(code, 0xc0 | 0xc1 | 0xf5..=0xff), "{code:x}");
            assert!(!phrase.starts_with(|c: char| c.is_ascii_alphanumeric()), "{phrase}");
        }
    }
}
