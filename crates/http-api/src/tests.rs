//! The whole front against a database of fixed answers: requests in, bytes and what was asked of the database out.

mod keys;
mod limits;
mod mock;
mod outcomes;
mod parameters;
mod sessions;
mod sockets;
mod vectors;
