//! The platform's gate for the versions of SDKs.

use std::str::FromStr;

/// A lowest version. Pre-releases of it are below it; those of a later version are not.
pub(super) type Minimum = [u64; 3];

/// From which version on the platform talks to maps and sources made with the SDK of a language; `None` where it does not
/// look at versions.
pub(super) fn lowest(language: &str) -> Option<Minimum> {
    match language {
        "rust" => Some([0, 2, 0]),
        "go" | "java" | "python" => Some([0, 9, 0]),
        _ => None,
    }
}

/// From which version on the platform calls `NackFn`; for other languages it never does.
pub(super) fn lowest_with_nack(language: &str) -> Option<Minimum> {
    match language {
        "rust" => Some([0, 4, 0]),
        "go" | "java" | "python" => Some([0, 11, 0]),
        _ => None,
    }
}

/// Whether the gate lets this version of a language's SDK through.
pub(super) fn passes(language: &str, version: &str, minimum: Minimum) -> bool {
    if language == "python" { passes_pep_440(version, minimum) } else { passes_semantic(version, minimum) }
}

fn passes_semantic(version: &str, minimum: Minimum) -> bool {
    let Ok(version) = semver::Version::parse(version.trim_start_matches('v')) else { return false };
    let numbers = [version.major, version.minor, version.patch];
    numbers > minimum || (numbers == minimum && version.pre.is_empty())
}

/// Python's versions: `0.9` is `0.9.0`, and pre-releases are written without a hyphen.
fn passes_pep_440(version: &str, [major, minor, patch]: Minimum) -> bool {
    use pep440_rs::Version;
    // What the platform compares with, for no release candidate ever has such a number.
    let minimum = Version::from_str(&format!("{major}.{minor}.{patch}rc100"));
    matches!((Version::from_str(version), minimum), (Ok(version), Ok(minimum)) if version >= minimum)
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn semantic_versions_are_three_numbers() {
        const MINIMUM: [u64; 3] = [0, 4, 0];
        for version in ["0.4.0", "v0.5.0", "0.10.0", "1.0.0-alpha", "0.4.1-rc1"] {
            assert!(passes("rust", version, MINIMUM), "{version}");
        }
        for version in ["0.3.9", "0.4.0-alpha.1", "0.6", "0.6.0.1", "dev", "0.04.0", "+1.0.0", ""] {
            assert!(!passes("rust", version, MINIMUM), "{version}");
        }
    }

    #[test]
    fn python_versions_go_by_pep_440() {
        const MINIMUM: [u64; 3] = [0, 9, 0];
        for version in ["0.9.0", "0.9", "0.14.0", "0.9.1rc1", "0.10.0.dev1", "1.0a1", "0.9.0.post1"] {
            assert!(passes("python", version, MINIMUM), "{version}");
        }
        for version in ["0.8.9", "0.9.0rc1", "0.9.0a1", "0.9.0.dev3", "one", "0.9.0-z", ""] {
            assert!(!passes("python", version, MINIMUM), "{version}");
        }
    }
}
