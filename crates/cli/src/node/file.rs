//! The configuration file: TOML with the flags' names as keys. An unknown key is refused by its name, so that a
//! misspelt setting is never silently its default.

use super::arguments::NodeArguments;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Far above any real file; a device or a database given by mistake ends here.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file.
///
/// # Errors
///
/// It can't be read, or what it says can't be used: with line, key and what to do.
pub(super) fn read(path: &Path) -> Result<NodeArguments, String> {
    let name = path.display();
    let text = text(path).map_err(|error| {
        format!("the configuration file {name} can't be read: {error}; check --config")
    })?;
    parse(&text).map_err(|error| format!("the configuration file {name} can't be used: {error}"))
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<NodeArguments, toml::de::Error> {
    toml::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_names_its_mistakes() {
        for (text, says) in [
            ("http-address = \"a:1\"", "unknown field `http-address`"),
            ("mode = \"paper\"", "unknown variant `paper`"),
            ("http-addr = \"a\"", "add a port"),
            ("node-id = -1", "choose a number from 0"),
            ("page-size = \"big\"", "expected u32"),
            ("setting = [\"steps\"]", "no NAME=VALUE"),
            ("config = \"other\"", "unknown field `config`"),
            ("mode = ", "line 1"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_complete_file_is_read() {
        let read = parse(
            "mode = 'statement'\nnode-id = 7\njoin = ['a:1', 'b:1']\nnon-voter = true\nsetting = ['x=1']\n",
        );
        let read = read.unwrap();
        assert_eq!(read.node_id.map(u64::from), Some(7));
        assert_eq!((read.join.len(), read.non_voter), (2, Some(true)));
        assert_eq!(read.setting[0].name, "x");
    }

    #[test]
    fn a_missing_or_endless_file_is_refused() {
        let missing = read(Path::new("/nonexistent/sqlrep.toml")).unwrap_err();
        assert!(missing.contains("check --config"), "{missing}");
        let endless = read(Path::new("/dev/zero")).unwrap_err();
        assert!(endless.contains("1 MiB"), "{endless}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,80}|([a-z-]{1,12} = [0-9\"'a-z\\[\\]]{0,12}\n){0,4}") {
            parse(&text).ok();
        }
    }
}
