//! No public signature names a library that stays inside: openraft and bincode are pinned exactly and may be replaced.
//!
//! Read from the sources, by `syn`: every `pub` item outside of tests, its fields, variants, methods, bounds and derives,
//! and what traits are implemented for public types. Names are followed through `use`, `type` and re-exports of the same
//! crate ([`names`]). `pub` means public to the world here: the lint `unreachable_pub` keeps it so.
//!
//! It doesn't see what a macro of the crate's own makes; a macro of such a library that makes something public is found.

mod names;

use crate::tree::{SourceFile, Tree};
use names::{Names, is_inside};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Field, Fields, ImplItem, Item, ItemImpl, ItemMacro, ItemTrait, Path, Type, UseTree,
    Visibility,
};

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for name in tree.crates() {
        let folder = format!("crates/{name}/src/");
        let files = tree.rust().filter(|file| file.path.starts_with(&folder));
        match parse(files) {
            Ok(files) => check_crate(&files, &mut problems),
            Err(problem) => problems.push(problem),
        }
    }
    problems
}

/// A source file, understood.
struct Parsed<'a> {
    path: &'a str,
    items: Vec<Item>,
}

fn parse<'a>(files: impl Iterator<Item = &'a SourceFile>) -> Result<Vec<Parsed<'a>>, String> {
    files
        .map(|file| match syn::parse_file(&file.text) {
            Ok(parsed) => Ok(Parsed {
                path: &file.path,
                items: parsed.items,
            }),
            Err(error) => Err(format!("{}: {error}", file.path)),
        })
        .collect()
}

fn check_crate(files: &[Parsed<'_>], problems: &mut Vec<String>) {
    let aliases = names::aliases(files.iter().map(|file| file.items.as_slice()));
    let public: BTreeSet<String> = files
        .iter()
        .flat_map(|file| names::public_types(&file.items))
        .collect();
    for file in files {
        let names = Names::of(&file.items, &aliases);
        let mut look = Look {
            names: &names,
            public: &public,
            found: BTreeSet::new(),
        };
        look.items(&file.items);
        let told = look.found.into_iter();
        problems.extend(told.map(|what| format!("{}: {what}", file.path)));
    }
}

/// A look at one file's public items.
struct Look<'a> {
    names: &'a Names,
    /// Public types of the crate, by name.
    public: &'a BTreeSet<String>,
    found: BTreeSet<String>,
}

impl Look<'_> {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            self.item(item);
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Mod(module) if !names::is_test(&module.attrs) => {
                self.items(module.content.as_ref().map_or(&[], |(_, items)| items));
            }
            Item::Impl(block) => self.block(block),
            Item::Macro(call) => self.macro_call(call),
            Item::Use(uses) if is_public(&uses.vis) => self.re_export(&uses.tree, &mut Vec::new()),
            Item::ExternCrate(one) if is_public(&one.vis) && is_inside(&one.ident.to_string()) => {
                self.tell("pub extern crate", &one.ident);
            }
            Item::Fn(one) if is_public(&one.vis) => {
                let named = self.mentions(|look| look.visit_signature(&one.sig));
                self.tell_all(&format!("pub fn {}", one.sig.ident), named);
            }
            Item::Struct(one) if is_public(&one.vis) => {
                let named = self.mentions(|look| look.visit_generics(&one.generics));
                let place = format!("pub struct {}", one.ident);
                self.tell_all(&place, named);
                self.fields(&place, &one.fields, false);
                self.derives(&place, &one.attrs);
            }
            Item::Union(one) if is_public(&one.vis) => {
                let named = self.mentions(|look| look.visit_item_union(one));
                self.tell_all(&format!("pub union {}", one.ident), named);
            }
            Item::Enum(one) if is_public(&one.vis) => {
                let named = self.mentions(|look| look.visit_generics(&one.generics));
                let place = format!("pub enum {}", one.ident);
                self.tell_all(&place, named);
                for variant in &one.variants {
                    self.fields(&place, &variant.fields, true);
                }
                self.derives(&place, &one.attrs);
            }
            Item::Type(one) if is_public(&one.vis) => {
                let named = self.mentions(|look| look.visit_item_type(one));
                self.tell_all(&format!("pub type {}", one.ident), named);
            }
            Item::Const(one) if is_public(&one.vis) => {
                let named = self.mentions(|look| look.visit_type(&one.ty));
                self.tell_all(&format!("pub const {}", one.ident), named);
            }
            Item::Static(one) if is_public(&one.vis) => {
                let named = self.mentions(|look| look.visit_type(&one.ty));
                self.tell_all(&format!("pub static {}", one.ident), named);
            }
            Item::Trait(one) if is_public(&one.vis) => self.contract(one),
            _ => {}
        }
    }

    /// A trait's items are as public as the trait; bodies of default methods aren't seen by anyone.
    fn contract(&mut self, contract: &ItemTrait) {
        let mut bare = contract.clone();
        for item in &mut bare.items {
            if let syn::TraitItem::Fn(method) = item {
                method.default = None;
            }
        }
        let named = self.mentions(|look| look.visit_item_trait(&bare));
        self.tell_all(&format!("pub trait {}", contract.ident), named);
    }

    fn fields(&mut self, place: &str, fields: &Fields, all: bool) {
        let shown = |field: &&Field| all || is_public(&field.vis);
        for field in fields.iter().filter(shown) {
            let named = self.mentions(|look| look.visit_type(&field.ty));
            self.tell_all(place, named);
        }
    }

    /// What is implemented for a public type can be called by whoever has one.
    fn block(&mut self, block: &ItemImpl) {
        let Some(of) = last_of(&block.self_ty) else {
            return;
        };
        let hidden = !self.public.contains(&of) && self.names.is_defined(&of);
        if hidden || names::is_test(&block.attrs) {
            return;
        }
        let head = self.mentions(|look| {
            look.visit_generics(&block.generics);
            look.visit_type(&block.self_ty);
            if let Some((_, path, _)) = &block.trait_ {
                look.visit_path(path);
            }
        });
        self.tell_all(&format!("impl for {of}"), head);
        for item in &block.items {
            self.block_item(&of, block.trait_.is_some(), item);
        }
    }

    fn block_item(&mut self, of: &str, is_trait: bool, item: &ImplItem) {
        let shown = |vis: &Visibility| is_trait || is_public(vis);
        let named = match item {
            ImplItem::Fn(one) if shown(&one.vis) => {
                self.mentions(|look| look.visit_signature(&one.sig))
            }
            ImplItem::Const(one) if shown(&one.vis) => {
                self.mentions(|look| look.visit_type(&one.ty))
            }
            ImplItem::Type(one) if shown(&one.vis) => {
                self.mentions(|look| look.visit_type(&one.ty))
            }
            _ => BTreeSet::new(),
        };
        self.tell_all(&format!("impl of {of}"), named);
    }

    fn re_export(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(step) => {
                before.push(step.ident.to_string());
                self.re_export(&step.tree, before);
                before.pop();
            }
            UseTree::Group(group) => {
                for one in &group.items {
                    self.re_export(one, before);
                }
            }
            UseTree::Name(name) => self.re_exported(before, &name.ident.to_string()),
            UseTree::Rename(name) => self.re_exported(before, &name.ident.to_string()),
            UseTree::Glob(_) => self.re_exported(before, "*"),
        }
    }

    fn re_exported(&mut self, before: &[String], name: &str) {
        let path: Vec<&str> = before.iter().map(String::as_str).chain([name]).collect();
        if self.names.is_inside_path(&path) {
            self.tell("pub use", path.join("::"));
        }
    }

    fn derives(&mut self, place: &str, attributes: &[Attribute]) {
        for attribute in attributes
            .iter()
            .filter(|one| one.path().is_ident("derive"))
        {
            let list = attribute.parse_args_with(
                syn::punctuated::Punctuated::<Path, syn::Token![,]>::parse_terminated,
            );
            for path in list.into_iter().flatten() {
                let named = self.mentions(|look| look.visit_path(&path));
                self.tell_all(place, named);
            }
        }
    }

    /// A macro of such a library that makes a public item, or a public macro that names one.
    fn macro_call(&mut self, call: &ItemMacro) {
        let words = words(call.mac.tokens.clone());
        let exported = call
            .attrs
            .iter()
            .any(|one| one.path().is_ident("macro_export"));
        let made = words.windows(2).any(|two| two[0] == "pub" && two[1] != "(");
        let path = self.mentions(|look| look.visit_path(&call.mac.path));
        if made {
            self.tell_all("a macro makes something public", path);
        }
        for word in words.iter().filter(|word| exported && is_inside(word)) {
            self.tell("#[macro_export]", word);
        }
    }

    /// The paths into such a library that `visit` meets.
    fn mentions(&self, visit: impl FnOnce(&mut Mentions<'_>)) -> BTreeSet<String> {
        let mut mentions = Mentions {
            names: self.names,
            found: BTreeSet::new(),
        };
        visit(&mut mentions);
        mentions.found
    }

    fn tell_all(&mut self, place: &str, named: BTreeSet<String>) {
        for path in named {
            self.tell(place, path);
        }
    }

    fn tell(&mut self, place: &str, named: impl std::fmt::Display) {
        self.found
            .insert(format!("{place} names {named}, which stays inside"));
    }
}

/// Collects paths into a library that stays inside.
struct Mentions<'a> {
    names: &'a Names,
    found: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Mentions<'_> {
    fn visit_path(&mut self, path: &'ast Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|one| one.ident.to_string())
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if self.names.is_inside_path(&segments) {
            self.found.insert(segments.join("::"));
        }
        visit::visit_path(self, path);
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// The name that a type ends with: `Vec` of `std::vec::Vec<T>`, that behind a reference too.
fn last_of(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        Type::Reference(to) => last_of(&to.elem),
        _ => None,
    }
}

/// Words of a token stream, with `(` where a parenthesis opens.
fn words(tokens: TokenStream) -> Vec<String> {
    tokens.into_iter().flat_map(words_of).collect()
}

fn words_of(token: TokenTree) -> Vec<String> {
    match token {
        TokenTree::Group(group) => {
            let opens = match group.delimiter() {
                proc_macro2::Delimiter::Parenthesis => "(",
                _ => "{",
            };
            let inner = words(group.stream());
            [opens.to_owned()].into_iter().chain(inner).collect()
        }
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests;
