//! Running SQL on connections of the page store.

mod bed;
mod running;
