//! The `sqlrep` program: everything is in the library, so that tests run the very same code.
fn main() {}
