//! Planted violations of each kind are found, and what stays inside isn't.

use super::*;

/// What is found in a crate of these files.
fn found(texts: &[&str]) -> Vec<String> {
    let file = |(number, text): (usize, &&str)| SourceFile {
        path: format!("{number}.rs"),
        text: (*text).to_owned(),
    };
    let files: Vec<SourceFile> = texts.iter().enumerate().map(file).collect();
    let mut problems = Vec::new();
    check_crate(&parse(files.iter()).unwrap(), &mut problems);
    problems
}

#[test]
fn every_kind_of_public_item_is_looked_at() {
    for planted in [
        "pub fn a(entry: openraft::Entry<C>) {}",
        "pub fn a() -> Result<(), bincode::error::DecodeError> { todo() }",
        "pub fn a<T>() where T: openraft::RaftTypeConfig {}",
        "pub fn a() -> impl Iterator<Item = Vec<openraft::LogId>> {}",
        "pub struct A { pub id: openraft::LogId }",
        "pub struct A(pub Option<openraft::LogId>);",
        "pub struct A<T: openraft::RaftTypeConfig>(T);",
        "#[derive(Debug, bincode::Encode)] pub struct A;",
        "use bincode::Encode; #[derive(Encode)] pub enum A { B }",
        "pub enum A { B(openraft::LogId) }",
        "pub union A { b: openraft::LogId }",
        "pub trait A { fn a(&self, id: openraft::LogId); }",
        "pub trait A: openraft::RaftTypeConfig {}",
        "pub trait A { type B: openraft::RaftTypeConfig; }",
        "pub type A = openraft::LogId;",
        "pub const A: Option<openraft::LogId> = None;",
        "pub static A: Option<openraft::LogId> = None;",
        "pub use openraft::LogId;",
        "pub use openraft::{self as raft, raft::*};",
        "pub use bincode;",
        "pub extern crate openraft;",
        "pub mod inner { pub fn a(id: openraft::LogId) {} }",
        "pub struct A; impl A { pub fn a(&self) -> openraft::LogId { self.0 } }",
        "pub struct A; impl From<openraft::LogId> for A { fn from(id: openraft::LogId) -> Self { A } }",
        "pub struct A; impl Iterator for A { type Item = openraft::LogId; }",
        "impl From<openraft::LogId> for String { fn from(id: openraft::LogId) -> Self { x } }",
        "openraft::declare_raft_types!(pub Config: D = u8);",
        "#[macro_export] macro_rules! a { () => { $crate::openraft::new() } }",
    ] {
        assert!(!found(&[planted]).is_empty(), "not found: {planted}");
    }
}

#[test]
fn names_are_followed_through_imports_and_aliases() {
    for planted in [
        &["use openraft::LogId; pub fn a(id: LogId) {}"][..],
        &["use openraft::LogId as Id; pub fn a(id: Id) {}"],
        &["use openraft::{raft::{self, X}}; pub fn a(id: raft::Request) {}"],
        &["use openraft as raft; pub fn a(id: raft::LogId) {}"],
        &["type Id = Vec<openraft::LogId>; pub struct A { pub id: Id }"],
        &["pub fn a(id: Id) {} type Id = Other; type Other = openraft::LogId;"],
        &[
            "pub(crate) type Id = openraft::LogId;",
            "use crate::Id; pub fn a(id: Id) {}",
        ],
        &[
            "pub(crate) type Id = openraft::LogId;",
            "use crate::Id as Mark; pub fn a(id: Mark) {}",
        ],
        &[
            "pub(crate) use openraft::LogId;",
            "pub fn a(id: crate::LogId) {}",
        ],
        &[
            "pub(crate) use openraft::LogId;",
            "use super::*; pub trait A { fn a(id: LogId); }",
        ],
        &[
            "pub fn a(id: crate::third::Far) {}",
            "pub(crate) use openraft::LogId as Near;",
            "use crate::second::Near; pub(crate) type Far = Near;",
        ],
        &[
            "pub(crate) use openraft::LogId;",
            "pub use crate::first::LogId;",
        ],
    ] {
        assert!(!found(planted).is_empty(), "not found: {planted:?}");
    }
}

#[test]
fn what_stays_inside_is_no_problem() {
    for fine in [
        &["use openraft::LogId; fn a(id: LogId) {} pub(crate) fn b(id: LogId) {}"][..],
        &["pub fn a() { let id: openraft::LogId = b(); }"],
        &["pub struct A { id: openraft::LogId, pub(crate) other: openraft::LogId }"],
        &["pub trait A { fn a() { let id: openraft::LogId = b(); } }"],
        &["pub struct A; impl A { fn a(&self) -> openraft::LogId { b() } }"],
        &["struct A; impl From<openraft::LogId> for A { fn from(id: openraft::LogId) -> A { A } }"],
        &["pub(crate) enum A { B(bincode::error::DecodeError) }"],
        &["openraft::declare_raft_types!(pub(crate) Config: D = u8);"],
        &["#[cfg(test)] mod tests { pub fn a(id: openraft::LogId) {} }"],
        &[
            "mod own { pub struct Entry; }",
            "use openraft::Entry; fn a(e: Entry) {}",
        ],
    ] {
        assert!(found(fine).is_empty(), "{fine:?}: {:?}", found(fine));
    }
}

/// The project itself is clean, and the check looks at the crate that all of it is about.
#[test]
fn the_project_keeps_to_it() {
    let tree = Tree::read();
    assert!(tree.crates().contains(&"core"));
    assert_eq!(check(&tree), Vec::<String>::new());
}
