//! Which names of a file lead into a library that stays inside, by `use`, by `type`, or by a re-export of the crate.
//!
//! Careful on the safe side: a name counts for its whole file, an alias for its whole crate where a path or an import
//! ends with it.

use std::collections::BTreeSet;
use syn::{Attribute, Item, ItemUse, UseTree, visit::Visit};

/// Libraries that no public signature names.
const INSIDE: [&str; 4] = ["openraft", "openraft_rt", "openraft_rt_tokio", "bincode"];

/// Whether it is such a library's name.
pub(super) fn is_inside(name: &str) -> bool {
    INSIDE.contains(&name)
}

/// Whether it is compiled for tests only.
pub(super) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|one| {
        one.path().is_ident("cfg")
            && one
                .parse_args::<syn::Ident>()
                .is_ok_and(|word| word == "test")
    })
}

/// What a file's names mean.
#[derive(Default)]
pub(super) struct Names {
    /// Names that stand for something of such a library, here.
    here: BTreeSet<String>,
    /// Names that do so anywhere in the crate.
    aliases: BTreeSet<String>,
    /// Types that this file defines.
    defined: BTreeSet<String>,
}

impl Names {
    /// Of a file in a crate with `aliases`.
    pub(super) fn of(items: &[Item], aliases: &BTreeSet<String>) -> Self {
        let mut names = Self {
            aliases: aliases.clone(),
            ..Self::default()
        };
        names.gather(items);
        names
    }

    /// Whether a path leads into such a library. `*` at the end stands for all.
    pub(super) fn is_inside_path(&self, path: &[&str]) -> bool {
        let Some((first, rest)) = path.split_first() else {
            return false;
        };
        let first_is = is_inside(first) || self.here.contains(*first);
        first_is || rest.iter().any(|name| self.aliases.contains(*name))
    }

    /// Whether the type is defined in this file.
    pub(super) fn is_defined(&self, name: &str) -> bool {
        self.defined.contains(name)
    }

    fn gather(&mut self, items: &[Item]) {
        // An alias may stand before what it is an alias of.
        for _ in 0..2 {
            for item in items {
                self.gather_item(item);
            }
        }
    }

    fn gather_item(&mut self, item: &Item) {
        match item {
            Item::Use(uses) => self.gather_use(uses),
            Item::Type(alias) if self.is_inside_type(&alias.ty) => {
                self.here.insert(alias.ident.to_string());
            }
            Item::Struct(one) => drop(self.defined.insert(one.ident.to_string())),
            Item::Enum(one) => drop(self.defined.insert(one.ident.to_string())),
            Item::Mod(module) if !is_test(&module.attrs) => {
                let inner = module.content.as_ref().map_or(&[][..], |(_, items)| items);
                self.gather(inner);
            }
            _ => {}
        }
    }

    fn gather_use(&mut self, uses: &ItemUse) {
        for (path, name) in leaves(&uses.tree) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let own = ["crate", "self", "super"].contains(&path[0]);
            if path.last() == Some(&"*") && own {
                self.here.extend(self.aliases.iter().cloned());
            } else if self.is_inside_path(&path) {
                self.here.insert(name);
            }
        }
    }

    fn is_inside_type(&self, of: &syn::Type) -> bool {
        let mut mentions = super::Mentions {
            names: self,
            found: BTreeSet::new(),
        };
        mentions.visit_type(of);
        !mentions.found.is_empty()
    }
}

/// Names that `type` or a re-export gives to something of such a library, anywhere in a crate.
pub(super) fn aliases<'a>(files: impl Iterator<Item = &'a [Item]> + Clone) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    loop {
        let mut more = known.clone();
        for items in files.clone() {
            let names = Names::of(items, &known);
            names.given(items, &mut more);
        }
        if more == known {
            return known;
        }
        known = more;
    }
}

impl Names {
    /// Adds the names that these items give away to other files.
    fn given(&self, items: &[Item], to: &mut BTreeSet<String>) {
        for item in items {
            match item {
                Item::Type(alias) if self.here.contains(&alias.ident.to_string()) => {
                    to.insert(alias.ident.to_string());
                }
                Item::Use(uses) if !matches!(uses.vis, syn::Visibility::Inherited) => {
                    let names = leaves(&uses.tree).into_iter().map(|(_, name)| name);
                    to.extend(names.filter(|name| self.here.contains(name)));
                }
                Item::Mod(module) => {
                    self.given(module.content.as_ref().map_or(&[], |(_, items)| items), to);
                }
                _ => {}
            }
        }
    }
}

/// Names of the public types of a file.
pub(super) fn public_types(items: &[Item]) -> Vec<String> {
    let public = |vis: &syn::Visibility| matches!(vis, syn::Visibility::Public(_));
    items
        .iter()
        .flat_map(|item| match item {
            Item::Struct(one) if public(&one.vis) => vec![one.ident.to_string()],
            Item::Enum(one) if public(&one.vis) => vec![one.ident.to_string()],
            Item::Union(one) if public(&one.vis) => vec![one.ident.to_string()],
            Item::Mod(module) => {
                public_types(module.content.as_ref().map_or(&[], |(_, items)| items))
            }
            _ => Vec::new(),
        })
        .collect()
}

/// Each path that a `use` brings in, and the name it has here.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    let one = |name: &syn::Ident, as_name: &syn::Ident| {
        vec![(vec![name.to_string()], as_name.to_string())]
    };
    match tree {
        UseTree::Path(step) => {
            let first = step.ident.to_string();
            let add = |(path, name): (Vec<String>, String)| {
                let name = if name == "self" { first.clone() } else { name };
                ([vec![first.clone()], path].concat(), name)
            };
            leaves(&step.tree).into_iter().map(add).collect()
        }
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        UseTree::Name(name) => one(&name.ident, &name.ident),
        UseTree::Rename(name) => one(&name.ident, &name.rename),
        UseTree::Glob(_) => vec![(vec!["*".to_owned()], "*".to_owned())],
    }
}
