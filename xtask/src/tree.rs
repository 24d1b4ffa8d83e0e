//! The project's files, read once.

use std::fs;
use std::path::{Path, PathBuf};

/// One text file.
pub(crate) struct SourceFile {
    /// Relative to the project, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// The project's sources, manifests and documents.
pub(crate) struct Tree {
    /// The project's folder.
    pub(crate) root: PathBuf,
    /// Every `.rs`, `.toml` and `.md` file outside `target*` and hidden folders, by path.
    pub(crate) files: Vec<SourceFile>,
}

impl Tree {
    /// Reads the project that this program was built from.
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("xtask is a folder of the project");
        let mut files = Vec::new();
        read_folder(root, root, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(!files.is_empty(), "there is a project around xtask");
        Self {
            root: root.to_path_buf(),
            files,
        }
    }

    /// Rust sources.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
    }

    /// Names of the folders in `crates/`.
    pub(crate) fn crates(&self) -> Vec<&str> {
        let name = |file: &'_ SourceFile| -> Option<usize> {
            file.path
                .strip_prefix("crates/")?
                .strip_suffix("/Cargo.toml")
                .map(str::len)
        };
        self.files
            .iter()
            .filter_map(|file| name(file).map(|len| &file.path["crates/".len()..][..len]))
            .collect()
    }
}

fn read_folder(root: &Path, folder: &Path, files: &mut Vec<SourceFile>) {
    let entries = fs::read_dir(folder).expect("the project's folders are readable");
    for entry in entries {
        let path = entry.expect("the project's folders are readable").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !name.starts_with("target") {
                read_folder(root, &path, files);
            }
        } else if [".rs", ".toml", ".md"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let relative = path.strip_prefix(root).expect("found below the root");
            let path = relative.to_string_lossy().replace('\\', "/");
            files.push(SourceFile { path, text });
        }
    }
}
