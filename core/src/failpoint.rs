//! Named places at which the tests make this process die, panic or stand still: moments
//! between two steps that must not be torn apart, which a kill at random hardly ever meets.
//!
//! `TIDEWAY_FAILPOINTS=load.finished=kill@2,unit.put=pause` names places, what happens there
//! and at which time of passing (the first, unless given). Only builds with debug assertions
//! have this: in a release [`reach`] is empty and the variable means nothing.

/// The place has been reached.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_place: &'static str) {}

#[cfg(debug_assertions)]
pub use armed::reach;

#[cfg(debug_assertions)]
mod armed {
    use std::{
        process::{Command, abort, id},
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering::Relaxed},
        },
    };

    const VARIABLE: &str = "TIDEWAY_FAILPOINTS";

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Action {
        /// Ends the process as `kill -9` does.
        Kill,
        Panic,
        /// Stops the whole process, until somebody sends it SIGCONT.
        Pause,
    }

    #[derive(Debug)]
    struct Failpoint {
        place: String,
        action: Action,
        at: u32,
        passed: AtomicU32,
    }

    /// The place has been reached.
    #[allow(clippy::panic)] // what it is for
    pub fn reach(place: &'static str) {
        static FAILPOINTS: OnceLock<Vec<Failpoint>> = OnceLock::new();
        let failpoints = FAILPOINTS.get_or_init(|| {
            let said = std::env::var(VARIABLE).unwrap_or_default();
            parse(&said).unwrap_or_else(|wrong| panic!("{VARIABLE}: {wrong}"))
        });
        for failpoint in failpoints.iter().filter(|one| one.place == place) {
            if failpoint.passed.fetch_add(1, Relaxed) + 1 != failpoint.at {
                continue;
            }
            eprintln!("failpoint {place}: {:?}", failpoint.action);
            match failpoint.action {
                Action::Kill => {
                    signal("-KILL");
                    abort();
                }
                Action::Panic => panic!("failpoint {place}"),
                Action::Pause => signal("-STOP"),
            }
        }
    }

    fn signal(name: &str) {
        let _ = Command::new("kill")
            .args([name, &id().to_string()])
            .status();
    }

    fn parse(said: &str) -> Result<Vec<Failpoint>, String> {
        let said = said.split(',').map(str::trim);
        said.filter(|one| !one.is_empty()).map(one).collect()
    }

    fn one(said: &str) -> Result<Failpoint, String> {
        let wrong = || format!("{said:?} is not PLACE=kill|panic|pause, with @TIME or without");
        let (place, action) = said.split_once('=').ok_or_else(wrong)?;
        let (action, at) = action.split_once('@').unwrap_or((action, "1"));
        let action = match action {
            "kill" => Action::Kill,
            "panic" => Action::Panic,
            "pause" => Action::Pause,
            _ => return Err(wrong()),
        };
        Ok(Failpoint {
            place: place.to_owned(),
            action,
            at: at.parse().map_err(|_| wrong())?,
            passed: AtomicU32::new(0),
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn places_actions_and_times_are_read() {
            let read = parse("load.finished=kill@2, unit.put=pause").unwrap();
            let read: Vec<_> = read
                .iter()
                .map(|one| (&*one.place, one.action, one.at))
                .collect();
            assert_eq!(
                read,
                [
                    ("load.finished", Action::Kill, 2),
                    ("unit.put", Action::Pause, 1)
                ]
            );
            for wrong in ["load.finished", "a=explode", "a=kill@soon"] {
                assert!(parse(wrong).unwrap_err().contains(wrong));
            }
        }

        #[test]
        #[should_panic(expected = "failpoint core.test")]
        fn a_place_is_met_at_its_time() {
            // Read once per process: nothing else of this crate passes a failpoint.
            #[allow(unsafe_code)] // before any other thread of this test reads the environment
            unsafe {
                std::env::set_var(VARIABLE, "core.test=panic@2");
            }
            reach("core.test");
            reach("core.other");
            reach("core.test");
        }
    }
}
