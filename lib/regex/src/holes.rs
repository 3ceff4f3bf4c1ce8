//! Sets of texts with holes: lists such as `10.0.0.1:9100|10.0.0.2:9100`, whose dots mean any character.
//!
//! Texts are grouped by their length and by where their holes are; a text is looked up once per group, with its own
//! characters there blotted out. Cost: groups of that length times the text, whatever the number of texts.
use std::collections::{BTreeMap, HashSet};

use crate::literals::HOLE;

/// More groups than this are left to an automaton.
const GROUPS_MAX: usize = 64;

#[derive(Debug)]
pub struct Holes {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    characters: usize,
    /// Positions counted in characters, rising.
    holes: Vec<usize>,
    texts: HashSet<String>,
}

impl Holes {
    /// `None` where the texts have too many forms.
    pub fn new(texts: Vec<String>) -> Option<Holes> {
        let mut groups: BTreeMap<(usize, Vec<usize>), HashSet<String>> = BTreeMap::new();
        for text in texts {
            let holes = text.chars().enumerate().filter(|(_, c)| *c == HOLE).map(|(i, _)| i).collect();
            groups.entry((text.chars().count(), holes)).or_default().insert(text);
            if groups.len() > GROUPS_MAX {
                return None;
            }
        }
        let group = |((characters, holes), texts)| Group { characters, holes, texts };
        Some(Holes { groups: groups.into_iter().map(group).collect() })
    }

    pub fn is_match(&self, text: &str) -> bool {
        let characters = text.chars().count();
        self.groups.iter().filter(|g| g.characters == characters).any(|g| {
            let mut holes = g.holes.iter().copied().peekable();
            let blot = |(i, c)| if holes.next_if_eq(&i).is_some() { HOLE } else { c };
            let blotted: String = text.chars().enumerate().map(blot).collect();
            g.texts.contains(&blotted)
        })
    }
}
