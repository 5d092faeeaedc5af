//! Names that a destination can hold: length in bytes, letters, case, collisions.
//! Names are assigned for a whole list at once, so that two that would collide are
//! told apart the same way in every run.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// How a system treats identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamePolicy {
    pub max_bytes: usize,
    /// Two names that differ only in case are the same name there.
    pub case_insensitive: bool,
}

impl NamePolicy {
    pub const fn new(max_bytes: usize, case_insensitive: bool) -> Self {
        NamePolicy {
            max_bytes,
            case_insensitive,
        }
    }
}

/// The sync's `normalize_names`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Lower case; everything but letters, digits and `_` becomes `_`.
    #[default]
    Enabled,
    /// As the source spells them, as far as the destination can hold that.
    Disabled,
    /// As `Enabled`, but case is kept.
    Legacy,
}

/// One destination name per given name, in order; all different under `policy`.
/// The same list gives the same names always. A name keeps its natural form if it is
/// the first to claim it; later ones get a short hash of their original name.
pub fn assign<'a>(
    names: impl IntoIterator<Item = &'a str>,
    normalize: Normalize,
    policy: NamePolicy,
) -> Vec<String> {
    let mut taken = HashSet::new();
    names
        .into_iter()
        .map(|original| {
            let natural = normalized(original, normalize);
            let mut candidate = fit(&natural, original, policy.max_bytes, false);
            let mut round = 0_u32;
            while !taken.insert(folded(&candidate, policy)) {
                let salted = if round == 0 {
                    original.to_owned()
                } else {
                    format!("{original}#{round}")
                };
                candidate = fit(&natural, &salted, policy.max_bytes, true);
                round += 1;
            }
            candidate
        })
        .collect()
}

/// One name per given one, for a table that goes with it: the name with a suffix, unlike all
/// given ones and each other. `names` have been assigned under `policy`.
pub fn companions(names: &[String], suffix: &str, policy: NamePolicy) -> Vec<String> {
    let wanted: Vec<String> = names.iter().map(|name| format!("{name}{suffix}")).collect();
    let all = names.iter().chain(&wanted).map(String::as_str);
    let mut all = assign(all, Normalize::Disabled, policy);
    all.split_off(names.len())
}

fn folded(name: &str, policy: NamePolicy) -> String {
    if policy.case_insensitive {
        name.to_lowercase()
    } else {
        name.to_owned()
    }
}

fn normalized(name: &str, normalize: Normalize) -> String {
    let kept = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            c
        } else {
            '_'
        }
    };
    let cleaned: String = match normalize {
        Normalize::Disabled => name.replace('\0', "_"),
        Normalize::Legacy => name.chars().map(kept).collect(),
        Normalize::Enabled => name
            .chars()
            .map(kept)
            .flat_map(char::to_lowercase)
            .collect(),
    };
    if cleaned.is_empty() {
        "_".to_owned()
    } else {
        cleaned
    }
}

/// Cuts `name` at a character boundary so that it has at most `max_bytes`, and ends
/// it in a hash of `original` if it was cut or `hashed` asks for it.
fn fit(name: &str, original: &str, max_bytes: usize, hashed: bool) -> String {
    if name.len() <= max_bytes && !hashed {
        return name.to_owned();
    }
    let suffix = format!("_{:08x}", xxh3_64(original.as_bytes()) as u32);
    let mut end = name.len().min(max_bytes.saturating_sub(suffix.len()));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POSTGRES: NamePolicy = NamePolicy::new(63, false);
    const DUCKDB: NamePolicy = NamePolicy::new(255, true);

    #[test]
    fn plain_names_stay_as_they_are() {
        assert_eq!(
            assign(["id", "email"], Normalize::Enabled, POSTGRES),
            ["id", "email"]
        );
        assert_eq!(
            assign(["Id", "E-Mail"], Normalize::Enabled, POSTGRES),
            ["id", "e_mail"]
        );
        assert_eq!(
            assign(["Id", "E-Mail"], Normalize::Disabled, POSTGRES),
            ["Id", "E-Mail"]
        );
    }

    #[test]
    fn long_names_with_a_common_beginning_stay_apart() {
        let (a, b) = ("x".repeat(70) + "a", "x".repeat(70) + "b");
        let names = assign([a.as_str(), b.as_str()], Normalize::Enabled, POSTGRES);
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.len() <= 63));
    }

    #[test]
    fn companions_go_out_of_the_way_of_the_tables() {
        let names = ["t", "t_history", "u"].map(str::to_owned);
        let companions = companions(&names, "_history", POSTGRES);
        assert_ne!(companions[0], "t_history");
        assert_eq!(companions[1..], ["t_history_history", "u_history"]);
    }

    proptest! {
        #[test]
        fn assigned_names_fit_and_differ(names in prop::collection::hash_set(".{0,80}", 1..30)) {
            let names: Vec<String> = names.into_iter().collect();
            for policy in [POSTGRES, DUCKDB] {
                for normalize in [Normalize::Enabled, Normalize::Disabled, Normalize::Legacy] {
                    let assigned = assign(names.iter().map(String::as_str), normalize, policy);
                    let distinct: HashSet<String> =
                        assigned.iter().map(|name| folded(name, policy)).collect();
                    prop_assert_eq!(distinct.len(), names.len());
                    prop_assert!(assigned.iter().all(|n| !n.is_empty() && n.len() <= policy.max_bytes));
                    prop_assert_eq!(
                        assigned, assign(names.iter().map(String::as_str), normalize, policy)
                    );
                }
            }
        }
    }
}
