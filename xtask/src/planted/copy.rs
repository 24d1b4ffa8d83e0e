//! A copy of the project that bugs may be planted in. What is equal isn't written again, so that cargo builds only what changed.

use super::patch::Patch;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Hidden folders that a build needs.
const HIDDEN: [&str; 1] = [".cargo"];

/// The copy.
pub(super) struct Copy {
    from: PathBuf,
    to: PathBuf,
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

impl Copy {
    /// Makes the folder `to` equal to the project.
    pub(super) fn of(from: &Path, to: &Path) -> Result<Self, String> {
        let copy = Self {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
        };
        copy.folder_of(Path::new(""))?;
        Ok(copy)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.to
    }

    fn folder_of(&self, below: &Path) -> Result<(), String> {
        let to = self.to.join(below);
        fs::create_dir_all(&to).map_err(|error| told(&to, &error))?;
        let wanted = names(&self.from.join(below))?;
        let wanted: BTreeSet<_> = wanted.into_iter().filter(|name| is_copied(name)).collect();
        for gone in names(&to)?.difference(&wanted) {
            remove(&to.join(gone))?;
        }
        for name in wanted {
            let path = below.join(name);
            if self.from.join(&path).is_dir() {
                self.folder_of(&path)?;
            } else {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&self, path: &Path) -> Result<(), String> {
        let from = self.from.join(path);
        let bytes = fs::read(&from).map_err(|error| told(&from, &error))?;
        self.write(path, &bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        let to = self.to.join(path);
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        fs::write(&to, bytes).map_err(|error| told(&to, &error))
    }

    /// Plants a bug.
    pub(super) fn patch(&self, patch: &Patch) -> Result<(), String> {
        let text = |path: &str| fs::read_to_string(self.to.join(path)).ok();
        for (path, text) in patch.changed(text)? {
            self.write(Path::new(path), text.as_bytes())?;
        }
        Ok(())
    }

    /// Takes it back, and what its test may have left.
    pub(super) fn restore(&self, patch: &Patch) -> Result<(), String> {
        patch
            .paths()
            .try_for_each(|path| self.file(Path::new(path)))?;
        self.folder_of(Path::new(""))
    }
}

/// Build output and version control aren't the project.
fn is_copied(name: &str) -> bool {
    !name.starts_with("target") && (!name.starts_with('.') || HIDDEN.contains(&name))
}

fn names(folder: &Path) -> Result<BTreeSet<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| told(folder, &error))?;
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    Ok(entries.flatten().map(name).collect())
}

fn remove(path: &Path) -> Result<(), String> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(|error| told(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_what_changed_and_loses_what_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let put = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(&from.join("a/b.rs"), "old\n");
        put(&from.join(".git/x"), "");
        put(&from.join("target/x"), "");
        let copy = Copy::of(&from, &to).unwrap();
        assert_eq!(names(&to).unwrap(), BTreeSet::from(["a".to_owned()]));
        let text = || fs::read_to_string(to.join("a/b.rs")).unwrap();
        let bug = Patch::parse("--- a/a/b.rs\n+++ b/a/b.rs\n@@\n-old\n+new\n").unwrap();
        copy.patch(&bug).unwrap();
        assert_eq!(text(), "new\n");
        put(&to.join("a/left.txt"), "by a test");
        copy.restore(&bug).unwrap();
        assert_eq!(text(), "old\n");
        assert_eq!(names(&to.join("a")).unwrap().len(), 1);
    }
}
