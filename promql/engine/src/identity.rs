//! Who a series is while it flows through the operators: a view of its labels, perhaps with the metric's name hidden.
use std::cmp::Ordering;
use std::sync::Arc;

use ferula_model::labels::METRIC_NAME;
pub(crate) use ferula_model::labels::{METRIC_TYPE as TYPE_LABEL, METRIC_UNIT as UNIT_LABEL};
use ferula_model::{LabelView, Labels, LabelsBuilder};

/// Which labels name the metric rather than the target: they go when a value is no longer that metric's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hidden {
    #[default]
    Nothing,
    /// `__name__`
    Name,
    /// `__name__`, `__type__` and `__unit__`
    NameTypeUnit,
}

impl Hidden {
    pub fn hides(self, name: &str) -> bool {
        match self {
            Hidden::Nothing => false,
            Hidden::Name => name == METRIC_NAME,
            Hidden::NameTypeUnit => matches!(name, METRIC_NAME | TYPE_LABEL | UNIT_LABEL),
        }
    }
}

/// Labels as storage gave them, with what is hidden. Cloning is one reference count.
#[derive(Clone)]
pub(crate) struct Identity {
    view: Arc<dyn LabelView>,
    hidden: Hidden,
}

impl Identity {
    pub fn new(view: Arc<dyn LabelView>) -> Identity {
        Identity { view, hidden: Hidden::Nothing }
    }
    pub fn owned(labels: Labels) -> Identity {
        Identity { view: Arc::new(labels), hidden: Hidden::Nothing }
    }
    pub fn hide(&mut self, hidden: Hidden) {
        if self.hidden != Hidden::NameTypeUnit {
            self.hidden = hidden;
        }
    }
    pub fn get(&self, name: &str) -> &str {
        if self.hidden.hides(name) {
            return "";
        }
        self.view.get(name).unwrap_or("")
    }
    /// A label's value even where it is hidden, for texts.
    pub fn raw(&self, name: &str) -> &str {
        self.view.get(name).unwrap_or("")
    }
    pub fn each(&self, f: &mut dyn FnMut(&str, &str)) {
        let hidden = self.hidden;
        self.view.each(&mut |n, v| {
            if !hidden.hides(n) {
                f(n, v);
            }
        });
    }
    pub fn to_labels(&self) -> Labels {
        if self.hidden == Hidden::Nothing {
            return self.view.to_labels();
        }
        self.builder().labels()
    }
    pub fn builder(&self) -> LabelsBuilder {
        let mut b = LabelsBuilder::from_view(&*self.view);
        b.retain(|n, _| !self.hidden.hides(n));
        b
    }
    /// Bytes that are equal exactly when the chosen labels are.
    pub fn key_into(&self, key: &mut Vec<u8>, keep: impl Fn(&str) -> bool) {
        key.clear();
        self.each(&mut |n, v| {
            if keep(n) {
                push_pair(key, n, v);
            }
        });
    }
    /// Interned ids of all labels, the hidden ones too, where the store has them; with what is hidden.
    pub fn interned(&self) -> Option<InternedIds<'_>> {
        self.view.interned().map(|(table, ids)| InternedIds { table, hidden: self.hidden, ids })
    }
    /// The name of the `i`-th label, hidden or not.
    pub fn name_at(&self, i: usize) -> &str {
        self.view.pair(i).0
    }
    pub fn hides(&self, name: &str) -> bool {
        self.hidden.hides(name)
    }
    pub fn compare(&self, other: &Identity) -> Ordering {
        if self.hidden == Hidden::Nothing && other.hidden == Hidden::Nothing {
            ferula_model::labels::compare(&*self.view, &*other.view)
        } else {
            self.to_labels().cmp(&other.to_labels())
        }
    }
}

/// See [`Identity::interned`].
pub(crate) struct InternedIds<'v> {
    pub table: u64,
    pub hidden: Hidden,
    /// Name and value of each label.
    pub ids: &'v [(u32, u32)],
}

/// Appends a pair unambiguously: 0xff occurs in no UTF-8 text.
pub(crate) fn push_pair(key: &mut Vec<u8>, name: &str, value: &str) {
    key.extend_from_slice(name.as_bytes());
    key.push(0xff);
    key.extend_from_slice(value.as_bytes());
    key.push(0xff);
}
