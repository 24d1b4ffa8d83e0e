//! What the statements of a session see as now and as random, drawn where the session lives.
//!
//! Time goes on within a session, and from the version that it began on: by the rule of entries (safety rule 39).

use crate::stamp::stamp;
use sqlrep_env::{Env, UnixMillis};
use sqlrep_sql::Scene;

/// Draws one scene after the other.
#[derive(Clone, Debug)]
pub struct Scenes {
    env: Env,
    last: UnixMillis,
}

impl Scenes {
    /// `last` is the last stamp of the version that the session sees.
    #[must_use]
    pub fn begin(env: &Env, last: UnixMillis) -> Self {
        let env = env.clone();
        Self { env, last }
    }

    /// For the next statement.
    pub fn draw(&mut self) -> Scene {
        self.last = stamp(self.env.clock.wall(), self.last).at;
        Scene {
            now: self.last,
            seed: self.env.entropy.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 39: a session's time doesn't go back behind the version that it sees.
    #[test]
    fn time_goes_on_from_the_version() {
        let env = Env::inline(1);
        let last = UnixMillis(env.clock.wall().0 + 5_000);
        let mut scenes = Scenes::begin(&env, last);
        let (one, two) = (scenes.draw(), scenes.draw());
        assert_eq!((one.now, two.now), (last, last));
        assert_ne!(one.seed, two.seed);
    }
}
