//! The links of a file: soft ones are followed; external ones, those that lead nowhere, and cycles
//! are refused, so that no element is lost without a word.

use super::limits::{MAX_DEPTH, unsupported};
use super::raw::{Link, Patches, Raw, Scan};
use slaf_core::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::RwLock;

/// How many soft links may follow each other.
const HOPS: u32 = 32;
/// A file may show its groups again and again through links, but not this often.
const MAX_PLACES: u64 = 1 << 20;

/// Every group of the file that can be reached, by the address of its header.
pub(super) struct Tree {
    groups: HashMap<u64, BTreeMap<String, Link>>,
    root: u64,
}

impl Tree {
    /// Reads and checks the links; `patches` gets what the parser must see instead of soft ones.
    ///
    /// # Errors
    /// `unsupported-input` that names a link; `malformed-input` for damage.
    pub(super) fn read(raw: &Raw, base: u64, root: u64, patches: &RwLock<Patches>) -> Result<Tree> {
        let scan = Scan { raw, base };
        let mut tree = Tree { groups: HashMap::new(), root };
        let mut places = vec![(String::new(), root)];
        while let Some((path, address)) = places.pop() {
            let shown = || if path.is_empty() { "/" } else { &path };
            if tree.groups.contains_key(&address) {
                continue;
            }
            let damaged = || Error::malformed("HDF5: the header of the object is damaged").at(shown());
            let (links, seen_instead) = scan.object(address, root).ok_or_else(damaged)?;
            if let Ok(mut patches) = patches.write() {
                patches.extend(seen_instead);
            }
            let Some(links) = links else { continue };
            for (name, link) in &links.all {
                match link {
                    Link::Hard(child) => places.push((format!("{path}/{name}"), *child)),
                    Link::Soft(_) => {}
                    Link::External => {
                        return Err(unsupported(format!(
                            "\"{name}\" is a link to another file; copy the element into this file"
                        ))
                        .at(shown()));
                    }
                }
            }
            tree.groups.insert(address, links.all.into_iter().collect());
        }
        let mut sizes = HashMap::new();
        tree.check(root, "", &mut sizes)?;
        Ok(tree)
    }

    /// The links of a group.
    pub(super) fn links(&self, address: u64) -> Option<&BTreeMap<String, Link>> {
        self.groups.get(&address)
    }

    /// The address behind a path from a group; `None` where it leads nowhere.
    fn resolve(&self, group: u64, path: &str, hops: u32) -> Option<u64> {
        let mut at = if path.starts_with('/') { self.root } else { group };
        for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
            at = match self.groups.get(&at)?.get(part)? {
                Link::Hard(address) => *address,
                Link::Soft(target) => self.resolve(at, target, hops.checked_sub(1)?)?,
                Link::External => return None,
            };
        }
        Some(at)
    }

    /// The address that a link leads to.
    pub(super) fn target(&self, group: u64, link: &Link) -> Option<u64> {
        match link {
            Link::Hard(address) => Some(*address),
            Link::Soft(path) => self.resolve(group, path, HOPS),
            Link::External => None,
        }
    }

    /// How many places there are in and below a group; 0 marks one whose check is under way.
    fn check(&self, address: u64, path: &str, sizes: &mut HashMap<u64, u64>) -> Result<u64> {
        let shown = if path.is_empty() { "/" } else { path };
        match sizes.get(&address) {
            Some(0) => return Err(unsupported("a cycle of links").at(shown)),
            Some(n) => return Ok(*n),
            None => {}
        }
        let Some(links) = self.groups.get(&address) else { return Ok(1) };
        if path.matches('/').count() > MAX_DEPTH {
            let top: Vec<&str> = path.splitn(4, '/').take(3).collect();
            let message = format!("groups within groups, more than {MAX_DEPTH} of them: too deep to be read back");
            return Err(unsupported(message).at(top.join("/")));
        }
        sizes.insert(address, 0);
        let mut n = 1_u64;
        for (name, link) in links {
            let child = self.target(address, link).ok_or_else(|| {
                let to = if let Link::Soft(to) = link { to } else { "" };
                unsupported(format!("\"{name}\" is a soft link to \"{to}\", which is not in the file")).at(shown)
            })?;
            n = n.saturating_add(self.check(child, &format!("{path}/{name}"), sizes)?);
        }
        if n > MAX_PLACES.max(16 * self.groups.len() as u64) && n > self.all() {
            return Err(unsupported("links show the same groups again and again").at(shown));
        }
        sizes.insert(address, n);
        Ok(n)
    }

    /// Links in all groups.
    fn all(&self) -> u64 {
        self.groups.values().map(|g| g.len() as u64 + 1).sum()
    }
}
