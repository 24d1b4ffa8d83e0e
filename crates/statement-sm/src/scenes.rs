//! What the statements of a session see as now and as random, drawn where the session lives.
//!
//! Time goes on within a session, and from the version that it began on: by the rule of entries (safety rule 39).

use crate::StatementError;
use crate::side::Side;
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
    /// `side` is the mode's side state of the version that the session sees.
    ///
    /// # Errors
    ///
    /// State of another release.
    pub fn begin(env: &Env, side: &[u8]) -> Result<Self, StatementError> {
        let last = Side::decode(side)?.last_stamp;
        let env = env.clone();
        Ok(Self { env, last })
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
        let side = Side {
            last_stamp: UnixMillis(env.clock.wall().0 + 5_000),
            ..Side::default()
        };
        let mut scenes = Scenes::begin(&env, &side.encode()).unwrap();
        let (one, two) = (scenes.draw(), scenes.draw());
        assert_eq!((one.now, two.now), (side.last_stamp, side.last_stamp));
        assert_ne!(one.seed, two.seed);
        assert!(Scenes::begin(&env, &[9]).is_err());
    }
}
