//! A tree of byte budgets, charged *before* allocating: process -> query, request, scrape.
//!
//! Cost: one atomic add per level and charge; charge in blocks (tens of KiB), not per sample.
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One node. Cloning shares it.
#[derive(Clone)]
pub struct Budget(Arc<Node>);

struct Node {
    name: &'static str,
    limit_bytes: u64,
    used_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    parent: Option<Budget>,
}

/// Which budget refused, for the error a user sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory budget \"{name}\" of {limit_bytes} bytes exceeded")]
pub struct BudgetExceeded {
    pub name: &'static str,
    pub limit_bytes: u64,
}

impl Budget {
    pub fn root(name: &'static str, limit_bytes: u64) -> Budget {
        Budget(Arc::new(Node {
            name,
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            parent: None,
        }))
    }
    pub fn unlimited() -> Budget {
        Budget::root("unlimited", u64::MAX)
    }
    /// A child: what it takes is also taken from every ancestor.
    pub fn child(&self, name: &'static str, limit_bytes: u64) -> Budget {
        Budget(Arc::new(Node {
            name,
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            parent: Some(self.clone()),
        }))
    }
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }
    pub fn peak_bytes(&self) -> u64 {
        self.0.peak_bytes.load(Ordering::Relaxed)
    }
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit_bytes
    }
    /// Takes `bytes` here and in all ancestors, or nothing at all. Dropping the [`Charge`] gives them back.
    pub fn charge(&self, bytes: u64) -> Result<Charge, BudgetExceeded> {
        self.take(bytes)?;
        Ok(Charge { budget: self.clone(), bytes })
    }
    fn take(&self, bytes: u64) -> Result<(), BudgetExceeded> {
        let node = &self.0;
        let before = node.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        let now = before.saturating_add(bytes);
        if now > node.limit_bytes {
            node.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(BudgetExceeded { name: node.name, limit_bytes: node.limit_bytes });
        }
        if let Some(p) = &node.parent
            && let Err(e) = p.take(bytes)
        {
            node.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(e);
        }
        node.peak_bytes.fetch_max(now, Ordering::Relaxed);
        Ok(())
    }
    fn give_back(&self, bytes: u64) {
        let mut node = Some(self);
        while let Some(b) = node {
            b.0.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
            node = b.0.parent.as_ref();
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({} {}/{})", self.0.name, self.used_bytes(), self.0.limit_bytes)
    }
}

/// Bytes taken from a budget until this is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    bytes: u64,
}

impl Charge {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Takes more under the same guard.
    pub fn grow(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        self.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_takes_from_its_parent_and_gives_back() {
        let root = Budget::root("process", 100);
        let (a, b) = (root.child("query", 80), root.child("query", 80));
        let held = a.charge(70).unwrap();
        assert_eq!(b.charge(40).unwrap_err().name, "process");
        assert_eq!(a.charge(20).unwrap_err().name, "query");
        assert_eq!((root.used_bytes(), a.used_bytes(), b.used_bytes()), (70, 70, 0));
        drop(held);
        assert_eq!((root.used_bytes(), root.peak_bytes()), (0, 70));
    }
}
