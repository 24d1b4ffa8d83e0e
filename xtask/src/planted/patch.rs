//! Patches as `diff -u` and `git diff` write them, applied to texts: by what they take away and leave, not by line numbers,
//! and only where that is in a file exactly once.

use std::collections::BTreeMap;

/// Lines of one file that become others.
#[derive(Debug, PartialEq, Eq)]
struct Hunk {
    path: String,
    before: String,
    after: String,
}

/// A patch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patch(Vec<Hunk>);

impl Patch {
    /// Reads one; what stands before the first file is for readers.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut hunks, mut path): (Vec<Hunk>, Option<&str>) = (Vec::new(), None);
        for line in text.lines() {
            if line.starts_with("--- ") {
                path = None;
            } else if let Some(file) = line.strip_prefix("+++ b/") {
                path = Some(file);
            } else if let (Some(path), true) = (path, line.starts_with("@@")) {
                hunks.push(Hunk {
                    path: path.to_owned(),
                    before: String::new(),
                    after: String::new(),
                });
            } else if let (Some(_), Some(hunk)) = (path, hunks.last_mut()) {
                hunk.take(line)?;
            }
        }
        if hunks.is_empty() {
            return Err("it changes nothing".to_owned());
        }
        Ok(Self(hunks))
    }

    /// The files that it changes, as they are behind it.
    pub(super) fn changed(
        &self,
        text: impl Fn(&str) -> Option<String>,
    ) -> Result<BTreeMap<&str, String>, String> {
        let mut changed = BTreeMap::new();
        for Hunk {
            path,
            before,
            after,
        } in &self.0
        {
            let known = changed.remove(path.as_str());
            let now = known.or_else(|| text(path));
            let now: String = now.ok_or_else(|| format!("there is no {path}"))?;
            let count = now.matches(before.as_str()).count();
            if count != 1 {
                return Err(format!(
                    "what it changes is in {path} {count} times:\n{before}"
                ));
            }
            changed.insert(path.as_str(), now.replacen(before.as_str(), after, 1));
        }
        Ok(changed)
    }

    /// The files that it changes.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|hunk| hunk.path.as_str())
    }
}

impl Hunk {
    fn take(&mut self, line: &str) -> Result<(), String> {
        let (kind, text) = line.split_at_checked(1).unwrap_or((" ", ""));
        if matches!(kind, " " | "-") {
            self.before.push_str(text);
            self.before.push('\n');
        }
        if matches!(kind, " " | "+") {
            self.after.push_str(text);
            self.after.push('\n');
        }
        match kind {
            " " | "-" | "+" => Ok(()),
            _ => Err(format!("a line that is in no patch: {line}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "Why.\n\n--- a/x.rs\n+++ b/x.rs\n@@ -1,3 +1,3 @@ fn f\n one\n-two\n+zwei\n three\n@@ -9 +9 @@\n-nine\n--- a/y.rs\n+++ b/y.rs\n@@ -1 +1,2 @@\n a\n+b\n";

    fn file(path: &str) -> Option<String> {
        match path {
            "x.rs" => Some("zero\none\ntwo\nthree\nnine\n".to_owned()),
            "y.rs" => Some("a\n".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn hunks_are_found_by_their_lines() {
        let patch = Patch::parse(PATCH).unwrap();
        let changed = patch.changed(file).unwrap();
        assert_eq!(changed["x.rs"], "zero\none\nzwei\nthree\n");
        assert_eq!(changed["y.rs"], "a\nb\n");
        assert!(patch.paths().eq(["x.rs", "x.rs", "y.rs"]));
    }

    #[test]
    fn what_is_not_there_once_is_refused() {
        let patch = Patch::parse(PATCH).unwrap();
        let twice = |path: &str| file(path).map(|text| text.repeat(2));
        assert!(patch.changed(twice).unwrap_err().contains("2 times"));
        let gone = |path: &str| file(path).map(|text| text.replace("two", "2"));
        assert!(patch.changed(gone).unwrap_err().contains("0 times"));
        assert!(patch.changed(|_| None).is_err());
        assert!(Patch::parse("nothing\n").is_err());
        assert!(Patch::parse("--- a/x\n+++ b/x\n@@\n?\n").is_err());
    }
}
